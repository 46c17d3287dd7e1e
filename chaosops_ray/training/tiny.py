"""The tiny base models: a Qwen2 of about two hundred thousand weights, and one of half as many, for any world.

A world can have one if it lists its permitted actions. The model is warmed up (`warm_up.py`) on transcripts of random
play, in a minute or two, and cached. It learns the format, the look of the world and the permitted actions, all equally
likely; it learns nothing about what to do. A cached model is found without torch and transformers.
"""

from __future__ import annotations

import json
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
from chaosops_ray.store.received import cache_folder
from chaosops_ray.training import making
from chaosops_ray.wire import Layout

STYLE: Style = "compact"
# A piece of text that is one token: characters other than digits, up to the end of the line; or one or two digits.
PIECES = r"[0-9]{1,2}|[^0-9\n]+\n?|\n"
LINE = "Ċ"  # the end of a line, as byte-level tokenizers write it
_STRICT = "strict"
# Seeds from here on; neither training nor evaluation draws them.
_FIRST_SEED = 1_000_000_000
_LIBRARIES = ("torch", "transformers", "tokenizers")
# Episodes whose texts go into the key: they cover each failure in each tier, and take a second or two.
_SAMPLED_EPISODES = 60
# Several times what a model takes, and asked for before the minute that it takes to make it.
_ROOM_BYTES = 1 << 23
_MAKER = "chaosops_ray.training.warm_up"


class Recipe(NamedTuple):
    """The figures that, with the world, determine the model."""

    version: int = 1
    hidden: int = 64
    layers: int = 2
    heads: int = 2  # vLLM on a CPU takes heads of 32 and more
    inner: int = 192
    # Deviation of the initial weights. At this width the usual .02 leaves the head's rows, one for each action, so
    # similar that an adapter below the head could not distinguish actions.
    spread: float = 0.1
    # Weight of an action's loss against an observed token's: actions are few, and their distribution is known exactly.
    action_weight: float = 40.0
    # Weight of telling, before an action, which pieces of text the role has read. Predicting the next token does not
    # teach a model of this size to remember a single line of the log until it acts.
    recall_weight: float = 1.0
    # The share of the steps after which this is no longer asked for, so that every action ends equally likely.
    recall_until: float = 0.9
    openings: int = 1500  # episodes that show which pieces of text, and which actions, are worth a token
    steps: int = 280
    episodes_per_step: int = 40
    learning_rate: float = 3e-3
    seed: int = 0


RECIPES = {
    "tiny": Recipe(),
    # Half the weights, to compare sizes of the base.
    "tiny-half": Recipe(hidden=32, heads=1, inner=96, spread=0.14),
}


def recipe(environment: AnyEnvironment, name: str) -> Recipe:
    """Return the recipe of the tiny model of this name for a world."""
    found, share = RECIPES[name], environment.practice_share
    return found._replace(
        openings=round(found.openings * share), episodes_per_step=round(found.episodes_per_step * share)
    )


def key(environment: AnyEnvironment, recipe: Recipe) -> str:
    """Return a digest of everything the model is made of: recipe, libraries, world, rules, tokens, texts, actions.

    The texts come from a fixed sample of episodes: a changed wording gives another key if one of them shows it.
    """
    rules = rules_of(environment)
    texts = sha256()
    for scenario in _sampled(environment):
        for conversation in conversations(environment, rules, scenario):
            texts.update(json.dumps([conversation.role, conversation.system_prompt]).encode())
            for turn in conversation.turns:
                actions = [[environment.format_action(action, STYLE) for action in kind] for kind in turn.permitted]
                texts.update(json.dumps([turn.text, turn.action, actions]).encode())
    if not environment.practice_shows_all:
        texts.update(json.dumps([environment.vocabulary(role) for role in environment.roles]).encode())
    made_of = {
        "recipe": recipe._asdict(),
        "pieces": PIECES,
        "layout": _laid_out(0),
        "world": [environment.name, rules, STYLE],
        "texts": texts.hexdigest(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
    }
    return sha256(json.dumps(made_of).encode()).hexdigest()[:12]


def folder(environment: AnyEnvironment, recipe: Recipe) -> Path:
    """Return where the model is, or will be once it is made."""
    return cache_folder() / f"tiny-{key(environment, recipe)}"


def ensure(
    environment: AnyEnvironment, recipe: Recipe, progress: Callable[[int, int], None] = lambda _done, _steps: None
) -> Path:
    """Return the model's folder; make the model if it is not cached. `progress` receives steps done and in total."""

    def build(temporary: Path) -> None:
        # Imported here: it loads torch and transformers, which a cached model does not need.
        import_module(_MAKER).build(temporary, environment, recipe, progress)

    return making.once(folder(environment, recipe), _ROOM_BYTES, build)


def layout(model: Path) -> Layout:
    """Return the layout of a made model's transcripts."""
    line = Tokenizer.from_file(str(model / TOKENIZER_FILE)).token_to_id(LINE)
    if line is None:
        raise ConfigError(f"model: the tokenizer in {model} has no token for the end of a line; delete the folder")
    return _laid_out(line)


def _laid_out(line: int) -> Layout:
    """Return a layout of lines; a completion is one token, so nothing has to end it."""
    return Layout(
        head=(), after_system_prompt=(line,), after_observation=(), after_stop=(line,), after_cut=(line,), stop=()
    )


class Turn(NamedTuple):
    """One turn of a role: the text it read, its action, the permitted actions."""

    text: str
    action: str
    permitted: Kinds[Any]


class Conversation(NamedTuple):
    """One role of a random episode."""

    role: str
    system_prompt: str
    turns: list[Turn]


def rules_of(environment: AnyEnvironment) -> str:
    """Return the rules of the warm-up: the present version of strict, or else the world's default."""
    strict = [name for name in environment.rule_sets if name.partition("/")[0] == _STRICT]
    return (strict or environment.rule_sets)[0]


def check(environment: AnyEnvironment) -> None:
    """Raise ConfigError for a world whose actions cannot be written out."""
    world = environment.start(_cases(environment)[0], rules_of(environment))
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
    """Play an episode at random: draw a kind of action, then one of that kind; return each role's conversation."""
    draw = random.Random(scenario.seed)
    seats = {role: Seat(environment, role, rules, STYLE) for role in environment.roles}
    found = {role: Conversation(role, seat.system_prompt, []) for role, seat in seats.items()}
    world = environment.start(scenario, rules)
    while (role := environment.acting(world)) is not None:
        view = environment.view(world, role)
        kinds = _permitted(environment, view)
        text = seats[role].read(view)
        # As it was chosen: a step may take an action as another one.
        chosen = draw.choice(draw.choice(kinds))
        world = environment.step(world, chosen).world
        found[role].turns.append(Turn(text, environment.format_action(chosen, STYLE), kinds))
    return list(found.values())


def _permitted(environment: AnyEnvironment, view: object) -> Kinds[Any]:
    kinds = environment.permitted(view)
    if not kinds:
        raise ConfigError(
            f"model: world {environment.name} does not list its permitted actions; give another than tiny"
        )
    return kinds


@lru_cache(8)
def _cases(environment: AnyEnvironment) -> tuple[Scenario, ...]:
    """Return a scenario for each case that the world is practised on."""
    return environment.scenarios(environment.practice, [0])


def _sampled(environment: AnyEnvironment) -> list[Scenario]:
    """Return the scenarios whose texts go into the key: each case as often as there is room, or every n-th case."""
    cases = _cases(environment)
    stride = -(-len(cases) // _SAMPLED_EPISODES)
    seeds = [_FIRST_SEED + again for again in range(max(1, _SAMPLED_EPISODES // len(cases)))]
    return [environment.scenario(case._replace(seed=seed).identity) for seed in seeds for case in cases[::stride]]
