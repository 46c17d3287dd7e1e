"""What a run costs on a GPU: its tokens, by episodes that baselines play, and hours, by rates that were measured.

Where nothing was measured, nothing is said but how to measure it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any, NamedTuple

from chaosops_ray.config import Learner, Run
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.training import cards
from chaosops_ray.training.cards import Card
from chaosops_ray.training.footprint import CHARACTERS, Known, Shape
from chaosops_ray.training.transcripts import Range, Texts, chooses_whole_actions, texts

# A rate of one model is used for another whose number of weights differs by this factor at most.
FARTHEST = 3.0
_MEASURE = "python -m benchmarks.gpu --parts {part} --json chaosops_ray/training/measured_gpus.json"
_HOUR = 3600.0


def linear(shape: Shape) -> int:
    """Return the weights of the linear layers below the head."""
    attention = 2 * shape.heads * shape.head + 2 * shape.pairs * shape.head
    return shape.layers * (shape.hidden * attention + 3 * shape.hidden * shape.inner)


def flops(shape: Shape, rank: int, tokens: float, written: float, pairs: float) -> float:
    """Return the arithmetic of an update, as benchmarks/gpu.py counts it."""
    weights = tokens * (4.0 * linear(shape) + 6.0 * rank * shape.sides)
    attention = 6.0 * shape.layers * shape.heads * shape.head * (pairs + tokens)
    return weights + written * 4.0 * shape.hidden * shape.vocabulary + attention


class Rate(NamedTuple):
    """Seconds of an update for each FLOP, with the measured case that they come from."""

    seconds: float
    case: Mapping[str, Any]
    is_scaled: bool  # measured with a model of another size


def learner_rate(run: Run, shape: Shape, card: Card, cases: Sequence[Mapping[str, Any]], *, again: bool) -> Rate | str:
    """Return the rate of the measured case that is nearest to the run; or why there is none.

    `again` tells whether the learner will compute layers again.
    """
    near = _near(shape, cases)
    if isinstance(near, str):
        return near.format(card=card.title)

    def distance(case: Mapping[str, Any]) -> tuple[float, bool, float, float]:
        return (
            _apart(case["parameters"], shape.parameters),
            bool(case["checkpointing"]) != again,
            _apart(case["rank"], run.learner.lora_rank),
            _apart(case["tokens_per_forward"], run.learner.tokens_per_forward),
        )

    case = min(near, key=distance)
    worked = case["flops_per_token"] * case["lengths"]["tokens"]
    scoring = case["scoring_seconds"] / case["seconds"]
    times = 1.0
    if run.learner.recompute:
        times += scoring * (1 - 1 / run.learner.steps)  # the first step is made by the policy that scores
    if run.learner.kl_coefficient:
        times += scoring
    return Rate(times * case["seconds"] / worked, case, _is_scaled(shape, case))


def _near(shape: Shape, cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | str:
    """Return the cases whose model has a comparable size; or a text, with the card's name to put in."""
    if not cases:
        return "nothing was measured on {card}"
    near = [case for case in cases if _apart(case["parameters"], shape.parameters) <= log(FARTHEST)]
    if near:
        return near
    nearest = min(cases, key=lambda case: _apart(case["parameters"], shape.parameters))
    return (
        f"what was measured on {{card}} is too far from this model: {nearest['parameters'] / 1e9:.2f} billion weights "
        f"at the nearest, and it has {shape.parameters / 1e9:.2f} (a factor of {FARTHEST:g} is the most)"
    )


def _apart(one: float, other: float) -> float:
    return abs(log(one / other))


def _is_scaled(shape: Shape, case: Mapping[str, Any]) -> bool:
    return _apart(case["parameters"], shape.parameters) > log(1.02)


def update_seconds(run: Run, shape: Shape, found: Texts, rate: Rate) -> Range:
    """Return the seconds of the learner in an update, with the scoring of the batch and the KL that it measures."""
    episodes = run.batch.scenarios * run.batch.group
    rank = run.learner.lora_rank
    work = Range(
        *[
            flops(shape, rank, episodes * tokens, episodes * written, episodes * pairs)
            for tokens, written, pairs in zip(found.tokens, found.written, found.pairs, strict=True)
        ]
    )
    case = rate.case
    rows = max(1.0, episodes * found.transcripts.most)
    measured = min(case["lengths"]["rows"], case["settings"].get("kl_rows", Learner().kl_rows))
    divergence = case["kl_seconds"] * case["lengths"]["rows"] / measured  # of all of its rows
    share = min(1.0, run.learner.kl_rows / rows) * divergence / (case["flops_per_token"] * case["lengths"]["tokens"])
    return work.times(rate.seconds + share)


class Sampling(NamedTuple):
    """Tokens a second of the engine, with the measured case that they come from."""

    read: float
    written: float
    case: Mapping[str, Any]
    is_scaled: bool


def sampling_rate(run: Run, shape: Shape, card: Card, cases: Sequence[Mapping[str, Any]]) -> Sampling | str:
    """Return the rate of the measured case that is nearest to the run; or why there is none."""
    if run.sampler != "torch":
        return f"the {run.sampler} engine was measured on no card"
    near = _near(shape, cases)
    if isinstance(near, str):
        return near.format(card=card.title)
    way = "free" if run.rollout.structured == "no" else "structured"

    def distance(case: Mapping[str, Any]) -> tuple[float, bool, float]:
        return (
            _apart(case["parameters"], shape.parameters),
            case["completions"] != way,
            _apart(case["cohort"], run.batch.group),
        )

    case = min(near, key=distance)
    scale = case["parameters"] / shape.parameters
    # The case's seconds hold the reading of its openings; what is left is the writing.
    reading = case["cohort"] * case["prompt"] / case["read_tokens_per_second"]
    writing = case["written"] / max(1e-9, case["seconds"] - reading)
    return Sampling(scale * case["read_tokens_per_second"], scale * writing, case, _is_scaled(shape, case))


def sampling_seconds(run: Run, found: Texts, rate: Sampling) -> Range:
    """Return the seconds of the engine in an update, without groups that are played again."""
    episodes = run.batch.scenarios * run.batch.group / run.resources.samplers
    least, most = [
        episodes * ((tokens - written) / rate.read + written / rate.written)
        for tokens, written in zip(found.tokens, found.written, strict=True)
    ]
    return Range(least, most)


# -- in words ----------------------------------------------------------------------------------------------------------


def explained(run: Run, environment: AnyEnvironment, model: Known, card: Card, *, again: bool, is_counted: bool) -> str:
    """Describe tokens and hours of the run on this card; `is_counted`: by the model's own tokenizer."""
    found = texts(run, environment, model)
    return "".join(
        [
            f"{line}\n"
            for line in [*_tokens(run, found, is_counted=is_counted), *_hours(run, model, found, card, again=again)]
        ]
    )


def _tokens(run: Run, found: Texts, *, is_counted: bool) -> list[str]:
    episodes = run.batch.scenarios * run.batch.group
    by = "counted with the model's tokenizer"
    if not is_counted:
        ratio = _to(*[f"{characters:g}" for characters in CHARACTERS])
        by = f"estimated from their characters, {ratio} for each, as the model's tokenizer is not here"
    update, written = found.tokens.times(episodes), found.written.times(episodes)
    played = f", played up to {1 + run.batch.refill} times (batch.refill)" if run.batch.refill else ""
    among = ", actions to choose among included" if chooses_whole_actions(run) else ""
    lines = [
        f"tokens, from {found.episodes} episodes that {' and '.join(found.players)} played, {by}:",
        f"  an update: {_span(update)} in {_span(found.transcripts.times(episodes))} transcripts of {episodes} episodes"
        f"{played}{among}; {_span(written)} of them written",
        f"  {run.updates:,} update{'s' if run.updates > 1 else ''}: {_span(update.times(run.updates))}, "
        f"{_span(written.times(run.updates))} of them written",
        f"  the longest transcript: {found.longest:,} at most; resources.context is {run.resources.context:,}",
        "  a trained policy's episodes may be shorter, or longer than these",
    ]
    if found.longest > run.resources.context:
        lines[3] += ", which is too little"
    return lines


def _hours(run: Run, model: Known, found: Texts, card: Card, *, again: bool) -> list[str]:
    lines = [f"hours on {card.title}:"]
    hours: list[Range] = []
    if run.resources.learner_gpus:
        rate = learner_rate(run, model.shape, card, cards.cases(card, "a"), again=again)
        if isinstance(rate, str):
            lines.append(f"  learner: unknown, {rate}; {_measure(card, 'a')}")
        else:
            seconds = update_seconds(run, model.shape, found, rate)
            hours.append(seconds.times(run.updates / _HOUR))
            basis = _basis(run, rate.case, again=again)
            lines.append(f"  learner: {_in_hours(hours[-1])}, {_seconds(seconds)} an update; {basis}")
            if rate.is_scaled:
                lines[-1] += f"; by arithmetic from there to {model.shape.parameters / 1e9:.2f} billion weights"
    else:
        lines.append("  learner: unknown, it runs on a CPU")
    if run.resources.sampler_gpus:
        engine = sampling_rate(run, model.shape, card, cards.cases(card, "c"))
        if isinstance(engine, str):
            remedy = _measure(card, "c") if run.sampler == "torch" else _TRY
            lines.append(f"  sampling: unknown, {engine}; {remedy}")
        else:
            seconds = sampling_seconds(run, found, engine)
            hours.append(seconds.times(run.updates / _HOUR))
            case = engine.case
            lines.append(
                f"  sampling: {_in_hours(hours[-1])}, {_seconds(seconds)} an update, without refills and evaluations; "
                f"measured with {case['completions']} completions of {case['cohort']} rows, {_model(case)}"
            )
            if engine.is_scaled:
                lines[-1] += f"; by the number of weights from there to {model.shape.parameters / 1e9:.2f} billion"
    else:
        lines.append("  sampling: unknown, it runs on a CPU")
    both = 2
    if len(hours) == both:
        whole = Range(*[max(pair) if run.schedule == "pipelined" else sum(pair) for pair in zip(*hours, strict=True)])
        lines.append(f"  together: {_in_hours(whole)}, {run.schedule}")
    lines.append("  not counted: worlds, refills, evaluations, publishing and proof of versions, checkpoints")
    return lines


_TRY = "a run of a few updates tells it: --set updates=3, then `time` in its metrics.jsonl"


def _measure(card: Card, part: str) -> str:
    if not card.word:
        return f"name the card, one of {', '.join([one.name for one in cards.CARDS])}"
    return f"measure it on such a card: {_MEASURE.format(part=part)}"


def _model(case: Mapping[str, Any]) -> str:
    return f"{case['parameters'] / 1e9:.2f} billion weights, on {case['card']}"


def _basis(run: Run, case: Mapping[str, Any], *, again: bool) -> str:
    how = "with" if case["checkpointing"] else "without"
    said = (
        f"measured {case['tokens_per_second']:,.0f} tokens/s {how} checkpointing, rank {case['rank']}, "
        f"tokens_per_forward {case['tokens_per_forward']:,}, {_model(case)}"
    )
    pairs = {
        "checkpointing": (bool(case["checkpointing"]), again),
        "lora_rank": (case["rank"], run.learner.lora_rank),
        "tokens_per_forward": (case["tokens_per_forward"], run.learner.tokens_per_forward),
    }
    differs = [name for name, (measured, asked) in pairs.items() if measured != asked]
    return f"{said}; this run's {' and '.join(differs)} differ{'' if len(differs) > 1 else 's'}" if differs else said


def _span(found: Range) -> str:
    """Write a number of tokens or transcripts in two digits or so."""
    return _to(_count(found.least), _count(found.most))


def _to(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _count(value: float) -> str:
    for size, word in ((1e9, " billion"), (1e6, " million")):
        if value >= size:
            return f"{value / size:.3g}{word}"
    digits = 100 if value >= 10_000 else 1  # three digits or so
    return f"{round(value / digits) * digits:,}"


def _in_hours(found: Range) -> str:
    return f"{_to(f'{found.least:.3g}', f'{found.most:.3g}')} h"


def _seconds(found: Range) -> str:
    return f"{_to(f'{found.least:.3g}', f'{found.most:.3g}')} s"
