"""The tiny base models: a real Qwen2 of some two hundred thousand weights, and one of half as many, for any world.

Each is made here in a minute or two (`warm_up.py`), then cached. This module finds a model that is made already; it
needs neither torch nor transformers, and they are imported only when a model must be made.

A world can have one if its permitted actions can be written out, and if it renders in the compact style. The model is
warmed up on transcripts of random play (`conversations`). That teaches it the format, what the world looks like, and
which actions are permitted, all of them equally likely. What to do about an incident is nowhere in it.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from chaosops_ray.agents.seat import Seat
from chaosops_ray.agents.tokens import TOKENIZER_FILE
from chaosops_ray.config import ConfigError
from chaosops_ray.sim.contract import AnyEnvironment, Kinds, Scenario, Style
from chaosops_ray.sim.rng import stream
from chaosops_ray.store.files import atomic_folder
from chaosops_ray.wire import Layout

STYLE: Style = "compact"
# A piece of text that is one token: a run without digits, up to and with its line's end; or one or two digits.
PIECES = r"[0-9]{1,2}|[^0-9\n]+\n?|\n"
LINE = "Ċ"  # the end of a line, as byte-level tokenizers write it
_STRICT = "strict"
# Seeds from here on; neither training nor evaluation draws them.
_FIRST_SEED = 1_000_000_000
_LIBRARIES = ("torch", "transformers", "tokenizers")
# Of these, the key reads every text; so many cover each failure in each tier, and still take well under a second.
_SAMPLED_EPISODES = 60
_MAKER = "chaosops_ray.training.warm_up"


class Recipe(NamedTuple):
    """The figures that the model is a function of, besides the world."""

    version: int = 1
    hidden: int = 64
    layers: int = 2
    heads: int = 2  # vLLM on a CPU takes heads of 32 and more
    inner: int = 192
    # Of the initial weights. At this width the usual .02 would leave the rows of the head, one an action, so close to
    # each other that an adapter below it could never tell actions apart.
    spread: float = 0.1
    # Of an action's loss against an observed token's. Actions are few, and what they must be is known exactly.
    action_weight: float = 20.0
    openings: int = 1500  # episodes that show which pieces of text, and which actions, are worth a token
    steps: int = 280
    episodes_per_step: int = 40
    learning_rate: float = 3e-3
    seed: int = 0


RECIPES = {
    "tiny": Recipe(),
    # Half the weights, for what asks how much the size of the base matters.
    "tiny-half": Recipe(hidden=32, heads=1, inner=96, spread=0.14),
}


# -- the cache --------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the folder of made models: CHAOSOPS_CACHE, or one in the user's cache."""
    given = os.environ.get("CHAOSOPS_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chaosops_ray"


def key(environment: AnyEnvironment, recipe: Recipe) -> str:
    """Return a digest of everything the model is made of: recipe, libraries, world, rules, tokens, texts, actions.

    The texts are those of a fixed sample of episodes in every case of the world, so a changed wording gives another key
    unless none of them shows it.
    """
    rules = rules_of(environment)
    texts = sha256()
    for scenario in _sampled(environment):
        for conversation in conversations(environment, rules, scenario):
            texts.update(json.dumps([conversation.role, conversation.system_prompt]).encode())
            for turn in conversation.turns:
                actions = [[environment.format_action(action, STYLE) for action in kind] for kind in turn.permitted]
                texts.update(json.dumps([turn.text, turn.action, actions]).encode())
    made_of = {
        "recipe": recipe._asdict(),
        "pieces": PIECES,
        "layout": _laid_out(0),
        "world": [environment.name, rules, STYLE],
        "texts": texts.hexdigest(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
    }
    return sha256(json.dumps(made_of).encode()).hexdigest()[:12]


def find(environment: AnyEnvironment, recipe: Recipe) -> Path | None:
    """Return the cached model's folder; None if it is not made yet."""
    folder = _folder(environment, recipe)
    return folder if (folder / "complete").exists() else None


def ensure(
    environment: AnyEnvironment, recipe: Recipe, progress: Callable[[int, int], None] = lambda _done, _steps: None
) -> Path:
    """Return the model's folder; make the model if it is not cached. `progress` is told the steps done and in all."""
    folder = _folder(environment, recipe)
    if (folder / "complete").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_folder(folder, replace=False) as temporary:
            # Imported here: it loads torch and transformers, and a cached model needs neither.
            import_module(_MAKER).build(temporary, environment, recipe, progress)
            (temporary / "complete").touch()
    except FileExistsError:
        if not (folder / "complete").exists():  # otherwise another process made the same meanwhile
            raise
    return folder


def _folder(environment: AnyEnvironment, recipe: Recipe) -> Path:
    return cache_folder() / f"tiny-{key(environment, recipe)}"


def layout(model: Path) -> Layout:
    """Return the layout of a made model's transcripts."""
    line = Tokenizer.from_file(str(model / TOKENIZER_FILE)).token_to_id(LINE)
    if line is None:
        raise ConfigError(f"model: the tokenizer in {model} has no token for a line's end; delete the folder")
    return _laid_out(line)


def _laid_out(line: int) -> Layout:
    """One line after another; a completion is one token, so nothing has to end it."""
    return Layout(
        head=(), after_system_prompt=(line,), after_observation=(), after_stop=(line,), after_cut=(line,), stop=()
    )


# -- random play ------------------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """One turn of a role: what it read, what it did, what it was permitted to do."""

    text: str
    action: str
    permitted: Kinds[Any]


class Conversation(NamedTuple):
    """One role of a random episode."""

    role: str
    system_prompt: str
    turns: list[Turn]


def rules_of(environment: AnyEnvironment) -> str:
    """Return the rules of the warm-up: strict, under which only permitted actions count, or the world's default."""
    return _STRICT if _STRICT in environment.rule_sets else environment.rule_sets[0]


def check(environment: AnyEnvironment) -> None:
    """Raise ConfigError for a world whose actions cannot be written out."""
    rules = rules_of(environment)
    world = environment.start(_cases(environment)[0], rules)
    role = environment.acting(world)
    if role is not None:
        _permitted(environment, environment.view(world, role))


def scenario(environment: AnyEnvironment, recipe: Recipe, number: int) -> Scenario:
    """Return the scenario of a warm-up episode: tiers in turn, a random case of the tier, a seed of its own."""
    cases = _cases(environment)
    tiers = [tier for tier in environment.tiers if any(one.tier == tier for one in cases)]
    tier = tiers[number % len(tiers)]
    case = stream(recipe.seed, "warm-up", number).choice([one for one in cases if one.tier == tier])
    return environment.scenario(case._replace(seed=_FIRST_SEED + number).identity)


def conversations(environment: AnyEnvironment, rules: str, scenario: Scenario) -> list[Conversation]:
    """Play an episode at random, each kind of action alike, then its arguments; return what each role read and did."""
    draw = random.Random(scenario.seed)
    seats = {role: Seat(environment, role, rules, STYLE) for role in environment.roles}
    found = {role: Conversation(role, seat.system_prompt, []) for role, seat in seats.items()}
    world = environment.start(scenario, rules)
    while (role := environment.acting(world)) is not None:
        view = environment.view(world, role)
        kinds = _permitted(environment, view)
        text = seats[role].read(view)
        world, action, _, _ = environment.step(world, draw.choice(draw.choice(kinds)))
        found[role].turns.append(Turn(text, environment.format_action(action, STYLE), kinds))
    return list(found.values())


def _permitted(environment: AnyEnvironment, view: object) -> Kinds[Any]:
    kinds = environment.permitted(view)
    if not kinds:
        raise ConfigError(
            f"model: a tiny model needs permitted actions that can be written out, and world {environment.name} has "
            "none; give it a real model"
        )
    return kinds


def _cases(environment: AnyEnvironment) -> tuple[Scenario, ...]:
    """Return a scenario for each case of the world's largest evaluation set."""
    return _largest_set(environment)


@lru_cache(8)
def _largest_set(environment: AnyEnvironment) -> tuple[Scenario, ...]:
    return max([environment.scenarios(selection, [0]) for selection in environment.selections], key=len)


def _sampled(environment: AnyEnvironment) -> list[Scenario]:
    """Return the scenarios whose texts go into the key: each case as often as there is room, or every so-manyth."""
    cases = _cases(environment)
    stride = -(-len(cases) // _SAMPLED_EPISODES)
    seeds = [_FIRST_SEED + again for again in range(max(1, _SAMPLED_EPISODES // len(cases)))]
    return [environment.scenario(case._replace(seed=seed).identity) for seed in seeds for case in cases[::stride]]
