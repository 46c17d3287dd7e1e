"""A warm start for a pretrained model: it is fine-tuned on transcripts of random play, before any reward.

The transcripts are those that the training run will have: its world, rules and style, its mixture of tiers, the seats
that learn and the baselines beside them. Every action is drawn among the permitted ones, a kind first and then one of
that kind. So the model learns to write what each seat may do, all of it equally likely, and nothing about what to do.
The result is a base model of its own. `warm_up.py` is something else: it makes the tiny models.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module, metadata
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from chaosops_ray import __version__
from chaosops_ray.agents.token_seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import ConfigError, Run
from chaosops_ray.sim import seats as seating
from chaosops_ray.sim.contract import AnyEnvironment, Kinds, Scenario
from chaosops_ray.sim.curriculum import Adaptive
from chaosops_ray.sim.episode import RunningEpisode
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.store import files, versions
from chaosops_ray.store.files import atomic_folder, make_folder, reason, remedy
from chaosops_ray.training import base_models, plan, tiny
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.plan import Plan
from chaosops_ray.wire import Ids, Sample

RECORD = "warm_start.json"
# Seeds of scenarios from here on; neither training nor evaluation draws them. Those of the measurement begin later.
FIRST_SEED = 1_000_000_000
FIRST_MEASURED_SEED = 2_000_000_000
# Turns on which the model is measured, before and after.
MEASURED = 24
_SFT = "chaosops_ray.learner.sft"  # loads torch and TRL
_LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers")
# The base model's files beside the weights, which are copied as they are.
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
_INDEX = "model.safetensors.index.json"
# Episodes in a row that may end before the policy has a turn.
_MOST_WITHOUT = 1000
# Stands for a probability of 0 in a logarithm.
_LEAST = 1e-300
Say: TypeAlias = Callable[[str], None]


class Recipe(NamedTuple):
    """The settings of a warm start that are not those of the run."""

    steps: int = 100
    transcripts: int = 16  # in each step
    learning_rate: float = 5e-4
    lora_rank: int = 16


class Drawn(NamedTuple):
    """A random turn: the completion's place in the transcript, and every permitted completion, kind by kind."""

    start: int
    end: int
    permitted: tuple[tuple[Ids, ...], ...]


class Transcript(NamedTuple):
    """One seat of a random episode, in tokens."""

    scenario: str
    rules: str
    role: str
    tokens: Ids
    turns: tuple[Drawn, ...]


class Play(NamedTuple):
    """What the episodes are drawn from."""

    run: Run
    environment: AnyEnvironment
    plan: Plan
    tiers: tuple[str, ...]  # the tiers of each update of the run, joined by a plus
    codec: Codec


def check(run: Run, environment: AnyEnvironment, recipe: Recipe) -> None:
    """Raise ConfigError or InputError for what cannot be warmed up; no model is loaded."""
    if run.model in tiny.RECIPES:
        raise ConfigError(f"model: {run.model} comes warmed up already; give the folder or hub name of another model")
    for name, value in recipe._asdict().items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"--{name.replace('_', '-')} must be above 0, got {value:g}")
    world = environment.start(environment.cases[0], environment.rules(run.rules))
    role = environment.acting(world)
    if role is not None and role not in run.colleagues:
        _permitted(environment, environment.view(world, role))


def prepared(run: Run, environment: AnyEnvironment, codec: Codec) -> Play:
    """Return what episodes are drawn from."""
    made, curriculum = plan.make(run, environment), plan.curriculum(run, environment)
    if isinstance(curriculum, Adaptive):  # nobody knows beforehand how long it stays on a tier
        return Play(run, environment, made, tuple(made.cases), codec)
    tiers: list[str] = []
    for _ in range(run.updates):
        tiers.append(curriculum.tier)
        curriculum = curriculum.after(())
    return Play(run, environment, made, tuple(tiers), codec)


def transcripts(play: Play, first_seed: int) -> Iterator[Transcript]:
    """Yield the transcript of each seat that learns, episode by episode, without an end."""
    without = 0
    for seed in count(first_seed):
        found = _episode(play, seed)
        yield from found
        without = 0 if found else without + 1
        if without == _MOST_WITHOUT:
            raise ConfigError(
                f"seats: {without} episodes in a row ended before a seat that learns had a turn; change them"
            )


def _episode(play: Play, seed: int) -> list[Transcript]:
    run, environment, codec = play.run, play.environment, play.codec
    draw = stream(run.seed, "warm start", seed)
    rules = play.plan.rules(draw.below(run.updates))
    scenario = _scenario(play, seed, draw)
    colleagues = seating.built(environment, plan.trained_beside(run, environment), scenario, rules)
    running: RunningEpisode[Any, Any, Any] = RunningEpisode(environment, scenario, rules, colleagues)
    seats: dict[str, TokenSeat] = {}
    permitted: dict[str, list[tuple[tuple[Ids, ...], ...]]] = {}
    while (role := running.acting) is not None:
        if role not in seats:
            seats[role] = TokenSeat(environment, role, running.rules, run.rendering, codec)
            permitted[role] = []
        view = environment.view(running.world, role)
        kinds = _permitted(environment, view)
        seats[role].observe(view)
        spelt = iter(codec.choices(environment.format_action, run.rendering, kinds))
        completions = tuple([tuple([next(spelt) for _ in kind]) for kind in kinds])
        chosen = draw.choice(draw.choice(completions))
        # As a sampler would have answered; the seat reads the action from it as it will in training.
        action = seats[role].answer(Sample(chosen, (0.0,) * len(chosen), 0, "", stopped=True))
        permitted[role].append(completions)
        running.take(view, action)
    found = []
    for role, seat in seats.items():
        turns = [Drawn(turn.start, turn.end, kinds) for turn, kinds in zip(seat.turns, permitted[role], strict=True)]
        _check_lengths(run, role, seat.tokens, turns)
        found.append(Transcript(scenario.identity, running.rules, role, seat.tokens, tuple(turns)))
    return found


def _scenario(play: Play, seed: int, draw: Stream) -> Scenario:
    tier = draw.choice(draw.choice(play.tiers).split("+"))
    case = draw.choice(play.plan.cases[tier])
    return draw.choice(play.environment.partners(play.environment.scenario(case._replace(seed=seed).identity)))


def _permitted(environment: AnyEnvironment, view: object) -> Kinds[Any]:
    kinds = environment.permitted(view)
    if not kinds:
        raise ConfigError(
            f"world: {environment.name} does not list its permitted actions, so none can be drawn at random; "
            "give another world, or train the model as it is"
        )
    return kinds


def _check_lengths(run: Run, role: str, tokens: Ids, turns: Sequence[Drawn]) -> None:
    longest = max([len(choice) for turn in turns for kind in turn.permitted for choice in kind])
    if longest > run.rollout.max_tokens:
        raise ConfigError(
            f"rollout.max_tokens: an action of {role} has {longest} tokens in the {run.rendering} style, more than "
            f"{run.rollout.max_tokens}; raise it"
        )
    if len(tokens) > run.resources.context:
        raise ConfigError(
            f"resources.context: a transcript of {role} has {len(tokens)} tokens in the {run.rendering} style, more "
            f"than {run.resources.context}; raise it"
        )


def targets(turn: Drawn, tokens: Ids) -> Iterator[tuple[int, Ids, tuple[float, ...]]]:
    """Yield the place of each token of a completion, and the tokens that could have been drawn there with their shares.

    These are the shares among the completions that begin as this one does so far.
    """
    left = [(choice, 1 / len(turn.permitted) / len(kind)) for kind in turn.permitted for choice in kind]
    for place in range(turn.end - turn.start):
        shares: Counter[int] = Counter()
        for choice, share in left:
            shares[choice[place]] += share  # type: ignore[assignment]
        total = sum(shares.values())
        yield turn.start + place, tuple(shares), tuple([share / total for share in shares.values()])
        token = tokens[turn.start + place]
        left = [(choice, share) for choice, share in left if choice[place] == token]


class Figures(NamedTuple):
    """How near a model's actions are to random play, as means over held-out turns.

    `permitted` is the probability that a free completion is a permitted action, spelt as the world spells it. The
    divergences are from random play to the model's choice among the permitted actions, in nats; `apart` is the share
    of probability by which the two choices differ.
    """

    turns: int
    permitted: float
    kl_of_kinds: float
    kl_of_actions: float
    apart: float


def measured(play: Play, path: Path, chosen: Sequence[Transcript], say: Say = lambda _text: None) -> Figures:
    """Measure the model in a folder on one turn of each transcript."""
    sft = import_module(_SFT)
    sft.prepare(play.run.resources.learner_threads)
    model = sft.loaded(path)
    rows = []
    for number, transcript in enumerate(chosen):
        say(f"measuring {number + 1}/{len(chosen)}")
        # Early turns and late ones.
        turn = transcript.turns[number % len(transcript.turns)]
        choices = [choice for kind in turn.permitted for choice in kind]
        prompt = transcript.tokens[: turn.start]
        found = sft.scores(model, prompt, choices, play.run.learner.tokens_per_forward)
        rows.append(figures(turn, found))
    return Figures(len(rows), *[sum(column) / len(rows) for column in zip(*rows, strict=True)])


def figures(turn: Drawn, scores: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the figures of one turn, from the log-probabilities of the permitted completions in their order."""
    highest = max(scores)
    among = [math.exp(score - highest) for score in scores]
    total = sum(among)
    each = iter([found / total for found in among])
    by_kind = [[next(each) for _ in kind] for kind in turn.permitted]
    count = len(by_kind)
    of_kinds = of_actions = apart = 0.0
    for kind in by_kind:
        of_kinds -= math.log(max(sum(kind) * count, _LEAST)) / count
        for found in kind:
            share = 1 / count / len(kind)
            of_actions -= share * math.log(max(found / share, _LEAST))
            apart += abs(found - share) / 2
    return math.exp(highest) * total, of_kinds, of_actions, apart


def make(
    run: Run,
    environment: AnyEnvironment,
    recipe: Recipe,
    out: Path,
    say: Say = lambda _text: None,
    step: Callable[[int, float], None] = lambda _done, _apart: None,
    turns: int = MEASURED,
) -> dict[str, Any]:
    """Fine-tune the run's model and write the new one into the folder; return what its record holds.

    It is measured on so many held-out turns, before and after.
    """
    base = base_models.prepare(run.model, run.world, say)
    _check_room(out, base)
    play = prepared(run, environment, Codec(base.path, base.layout))
    say("playing episodes")
    wanted = recipe.steps * recipe.transcripts
    drawn = list(islice(transcripts(play, FIRST_SEED), wanted))
    held_out = list(islice(transcripts(play, FIRST_MEASURED_SEED), turns))
    say("loading libraries")
    sft = import_module(_SFT)
    rows = [_row(sft, one) for one in drawn]
    before = measured(play, base.path, held_out, say)
    say("fine-tuning")
    settings = sft.Settings(
        recipe.steps,
        recipe.transcripts,
        recipe.learning_rate,
        recipe.lora_rank,
        run.learner.tokens_per_forward,
        run.learner.checkpointing,
        run.resources.learner_threads,
        run.seed,
    )
    model, curve = sft.fine_tuned(base.path, rows, settings, step)
    say("writing")
    try:
        make_folder(out.resolve().parent)
        with atomic_folder(out, replace=False) as temporary:
            sft.save(model, base.path, temporary)
            del model
            _copy_others(base.path, temporary)
            # As others will load it, and in the precision that it was written in.
            after = measured(play, temporary, held_out, say)
            record = described(run, environment, recipe, base, versions.base_digest(temporary))
            record |= {
                "drawn": {"transcripts": wanted, "turns": sum([len(one.turns) for one in drawn])},
                "curve": [round(value, 6) for value in curve],
                "before": before._asdict(),
                "after": after._asdict(),
            }
            files.write_json(temporary / RECORD, record)
    except FileExistsError:
        raise InputError(f"{out} exists and is not an empty folder; name another with --out") from None
    except OSError as error:
        raise InputError(f"cannot write {out}: {reason(error)}; {remedy(error) or 'name another with --out'}") from None
    return record


def check_place(out: Path) -> None:
    """Raise InputError for a folder that is taken or cannot be made."""
    files.check_free_folder(out)
    files.check_folder(_there(out))


def _there(out: Path) -> Path:
    return next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())


def _check_room(out: Path, base: BaseModel) -> None:
    needed = sum([file.stat().st_size for file in base.path.iterdir()])
    free = shutil.disk_usage(_there(out)).free
    if free < needed:
        raise InputError(
            f"cannot write {out}: the new model takes {needed / 1e9:.1f} GB, free are {free / 1e9:.1f}; make room there"
        )


def described(run: Run, environment: AnyEnvironment, recipe: Recipe, base: BaseModel, digest: str) -> dict[str, Any]:
    """Return what a model was made from; with the same libraries, a CPU makes the same model of it again."""
    beside = plan.trained_beside(run, environment)
    return {
        "digest": digest,
        "base": {"name": base.public_name, "digest": base.digest},
        "world": run.world,
        "rules": environment.rules(run.rules),
        "style": run.rendering,
        "seats": {role: beside.get(role, "learn") for role in environment.roles},
        "recipe": {**recipe._asdict(), "seed": run.seed, "tokens_per_forward": run.learner.tokens_per_forward},
        "seeds": {"trained": FIRST_SEED, "measured": FIRST_MEASURED_SEED},
        "versions": {"chaosops_ray": __version__, **{name: metadata.version(name) for name in _LIBRARIES}},
    }


def in_words(record: Mapping[str, Any]) -> list[str]:
    """Return the lines that compare the two measurements of a record."""
    return [
        f"{when}: a free completion is a permitted action with probability {found['permitted']:.3f}; from random play "
        f"{found['kl_of_kinds']:.3f} nats in kinds, {found['kl_of_actions']:.3f} in actions"
        for when, found in (("before", record["before"]), ("after", record["after"]))
    ]


def _row(sft: Any, transcript: Transcript) -> Any:
    found = [sft.Target(*one) for turn in transcript.turns for one in targets(turn, transcript.tokens)]
    return sft.Row(transcript.tokens, len(transcript.turns), tuple(found))


def _copy_others(path: Path, folder: Path) -> None:
    """Copy what belongs to the base model beside its weights: configuration, tokenizer, chat template, licence."""
    for pattern in _COPIED:
        for file in sorted(path.glob(pattern)):
            if file.name not in (_INDEX, RECORD):
                shutil.copyfile(file, folder / file.name)
