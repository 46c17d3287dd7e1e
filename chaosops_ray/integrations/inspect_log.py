"""Recorded episodes as logs of Inspect, the evaluation framework of the UK AI Security Institute.

A log has the episodes of one policy in one world under one rule set: Inspect knows one model for each log, and compares
models by showing their logs side by side. A sample is an episode. Its transcript has a span for each turn, under the
name of the seat, with a model event whose input is the whole conversation of this seat so far; its messages are the
conversations of all seats in the order of play.

Nothing in a log depends on when or where it was written. Ids are digests. Records have no times: a log is dated 1970,
and step n of an episode happens n seconds after its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any
from zipfile import ZipFile, ZipInfo

from inspect_ai.event import Event, InfoEvent, ModelEvent, SpanBeginEvent, SpanEndEvent, ToolEvent
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    HeadlineMetric,
    write_eval_log,
)
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    ModelConfig,
    ModelOutput,
    StopReason,
)
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall

from chaosops_ray import __version__, evaluate
from chaosops_ray.agents.seat import Message
from chaosops_ray.agents.session import OVER
from chaosops_ray.integrations import recorded
from chaosops_ray.integrations.recorded import EVAL, Conversation, Part, Source, Track, Turn
from chaosops_ray.resampling import Weigh
from chaosops_ray.sim import environment_named
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.store import files

ALL = "mean"
# Stands where the format wants a date and the record has none.
NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_IN_ZIP = (1980, 1, 1, 0, 0, 0)
_ID_LENGTH = 22
_LONGEST_NAME = 60
_MESSAGES: Mapping[str, type[ChatMessageSystem | ChatMessageUser | ChatMessageAssistant]] = MappingProxyType(
    {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
)


def export(source: Source, out: Path, style: Style, track: Track = iter) -> list[Path]:
    """Write a log for each part of a file; return the paths.

    If `out` ends in .eval, it is the log of the only part. Otherwise it is a new folder.
    """
    recorded.check_place(source, out, in_a_file=True)
    drafts = files.temporary_folder()

    def write(part: Part, target: Path) -> None:
        conversations = track(recorded.conversations(source, style, part))
        _write(log(source, part, style, conversations), drafts / f"draft{EVAL}", target)

    if out.suffix == EVAL:
        with files.atomic_file(out) as temporary:
            write(source.parts[0], temporary)
        return [out]
    names = [f"{number}-{_file_name(part)}{EVAL}" for number, part in enumerate(source.parts, start=1)]
    with files.atomic_folder(out, replace=False) as folder:
        for part, name in zip(source.parts, names, strict=True):
            write(part, folder / name)
    return [out / name for name in names]


def _file_name(part: Part) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{part.world}-{part.policy}")[:_LONGEST_NAME]


def log(source: Source, part: Part, style: Style, conversations: Iterable[Conversation]) -> EvalLog:
    """Return the log of a part of a file."""
    environment, run, selection = environment_named(part.world), _identity(source.digest), source.recording.selection
    samples: list[EvalSample] = []
    results: list[evaluate.Result] = []
    epochs: dict[str, int] = {}
    seats: dict[str, list[str]] = {}
    for one in conversations:
        scenario = one.recorded.scenario
        epochs[scenario] = epochs.get(scenario, 0) + 1
        result = evaluate.result(environment, part.policy, one.episode)
        samples.append(_sample(one, result, epochs[scenario], _identity(run, style, str(one.recorded.number))))
        results.append(result)
        for role, player in one.players.items():
            if player not in seats.setdefault(role, []):
                seats[role].append(player)
    model = dict(source.recording.models.get(part.policy, {}))
    evaluated = evaluate.summary(environment, results, part.rules, selection, None, models={part.policy: model})
    headline = environment.headline_name
    return EvalLog(
        status="success",
        eval=EvalSpec(
            eval_id=_identity(run, style, *part),
            run_id=run,
            created=NO_DATE.isoformat(),
            task=part.world,
            # Two logs of one task id are taken for attempts at the same thing, of which only the last is listed.
            task_id=_identity(run, "task", style, *part),
            task_version=part.rules,
            task_display_name=environment.title,
            task_args={"rules": part.rules, "set": selection, "style": style},
            dataset=EvalDataset(name=selection or None, samples=len(epochs), sample_ids=list(epochs)),
            model=part.policy,
            model_args=model,
            model_roles=_model_roles(seats) if len(environment.roles) > 1 else None,
            config=EvalConfig(epochs=max(epochs.values())),
            packages={"chaosops_ray": __version__},
            metadata={"world": part.world, "rules": part.rules, "set": selection, "policy": part.policy}
            | ({"model": model} if model else {}),
            headline_metric=HeadlineMetric(score=headline, metric=ALL),
        ),
        results=EvalResults(
            total_samples=len(samples),
            completed_samples=len(samples),
            scores=_scores(environment, results, evaluate.weighed(environment, part.rules)),
            headline=HeadlineMetric(scorer=headline, score=headline, metric=ALL),
            metadata={"evaluation": evaluated},
        ),
        stats=EvalStats(started_at=NO_DATE.isoformat(), completed_at=NO_DATE.isoformat()),
        samples=samples,
    )


def _model_roles(seats: Mapping[str, Sequence[str]]) -> dict[str, ModelConfig | list[ModelConfig]]:
    """Return the players of each seat as Inspect has them: one, or a list where they differ between episodes."""
    of_each = {role: [ModelConfig(model=player) for player in players] for role, players in seats.items()}
    return {role: models[0] if len(models) == 1 else models for role, models in of_each.items()}


def _figures(environment: AnyEnvironment, found: evaluate.Result) -> dict[str, float]:
    """Return the headline score and the metrics that are defined for this episode, by name."""
    return {environment.headline_name: found.headline} | {
        name: value for name, value in found.metrics.items() if value is not None
    }


def _scores(environment: AnyEnvironment, results: Sequence[evaluate.Result], weigh: Weigh) -> list[EvalScore]:
    """Return the weighted mean of each figure, over all episodes and by tier."""
    figures = [(found.scenario.tier, weigh(found.scenario), _figures(environment, found)) for found in results]
    scores = []
    for name in [environment.headline_name, *[metric.name for metric in environment.metrics]]:
        by_tier = {
            tier: [(of_one[name], weight) for played, weight, of_one in figures if played == tier and name in of_one]
            for tier in environment.tiers
        }
        everything = [value for values in by_tier.values() for value in values]
        metrics = [EvalMetric(name=ALL, value=_mean(everything))] if everything else []
        metrics += [
            EvalMetric(name=tier, group="tier", value=_mean(values)) for tier, values in by_tier.items() if values
        ]
        scores.append(
            EvalScore(
                name=name,
                scorer=name,
                scored_samples=len(everything),
                unscored_samples=len(results) - len(everything),
                metrics={metric.name: metric for metric in metrics},
            )
        )
    return scores


def _mean(weighted: Sequence[tuple[float, float]]) -> float:
    values, weights = zip(*weighted, strict=True)
    return fmean(values, weights)


def _sample(one: Conversation, result: evaluate.Result, epoch: int, identity: str) -> EvalSample:
    environment, scenario = one.environment, one.episode.scenario
    events, messages = _transcript(one, identity)
    return EvalSample(
        id=scenario.identity,
        epoch=epoch,
        input=f"{scenario.identity}\n\n{one.turns[0].text}",
        target="",
        messages=messages,
        output=[event.output for event in events if isinstance(event, ModelEvent)][-1],
        scores={name: Score(value=value) for name, value in _figures(environment, result).items()},
        metadata={
            "episode": one.recorded.number,
            "tier": scenario.tier,
            environment.grouping: scenario.group,
            "seed": scenario.seed,
            "rules": one.recorded.rules,
            "steps": len(one.turns),
            "return": one.episode.total,
            "seats": one.players,
        },
        events=events,
        uuid=identity,
        turn_count=len(one.turns),
    )


def _transcript(one: Conversation, identity: str) -> tuple[list[Event], list[ChatMessage]]:
    """Return the events of an episode, and the messages of all its seats in the order of play."""
    has_seats = len(one.environment.roles) > 1
    events: list[Event] = []
    everything: list[ChatMessage] = []
    heard: dict[str, list[ChatMessage]] = {}  # by role, what the seat has been told and has said so far
    for turn in one.turns:
        seat, name = heard.setdefault(turn.role, []), f"{identity}-{turn.step}"
        about = {"seat": turn.role} if has_seats else None
        told = _told(one, turn, seat, name, about)
        answer = ChatMessageAssistant(
            id=f"{name}-action",
            content=turn.said,
            tool_calls=None if turn.call is None else [ToolCall(f"{name}-call", turn.call.tool, turn.call.arguments)],
            source="generate",
            model=turn.player,
            metadata=about,
        )
        took_place = _events(turn, [*seat, *told], answer, name)
        events += _in_span(turn, took_place, name) if has_seats else took_place
        seat += [*told, answer]
        everything += [*told, answer]
    return events, everything


def _told(
    one: Conversation, turn: Turn, heard: Sequence[ChatMessage], name: str, about: dict[str, str] | None
) -> list[ChatMessage]:
    """Return what a seat is told in a turn; if its last action was a call, this is the call's result."""
    told = [] if heard else _begun(one.beginnings[turn.role], name, about)
    made = heard[-1].tool_calls if heard and isinstance(heard[-1], ChatMessageAssistant) else None
    if made:
        (call,) = made
        about_call: dict[str, Any] = {"tool_call_id": call.id, "function": call.function}
        told.append(ChatMessageTool(id=f"{name}-text", content=turn.text, metadata=about, **about_call))
    else:
        told.append(ChatMessageUser(id=f"{name}-text", content=turn.text, source="input", metadata=about))
    return told


def _begun(given: Sequence[Message], name: str, about: dict[str, str] | None) -> list[ChatMessage]:
    """Return the messages that a seat was given before its first turn."""
    made: list[ChatMessage] = []
    for number, message in enumerate(given):
        kind = _MESSAGES[message["role"]]
        made.append(kind(id=f"{name}-given-{number}", content=message["content"], source="input", metadata=about))
    return made


def _events(turn: Turn, asked: list[ChatMessage], answer: ChatMessageAssistant, identity: str) -> list[Event]:
    """Return what took place in a turn: the model was asked, a tool called, and it was worth something."""
    when = _when(turn)
    reason: StopReason = "stop" if turn.call is None else "tool_calls"
    events: list[Event] = [
        ModelEvent(
            uuid=f"{identity}-model",
            model=turn.player,
            role=turn.role,
            input=asked,
            tools=[],
            tool_choice="none",
            config=GenerateConfig(),
            output=ModelOutput(model=turn.player, choices=[ChatCompletionChoice(message=answer, stop_reason=reason)]),
            metadata={"version": turn.version, "digest": turn.digest} if turn.digest else None,
            **when,
        )
    ]
    if turn.call is not None:
        events.append(
            ToolEvent(
                uuid=f"{identity}-tool",
                id=f"{identity}-call",
                function=turn.call.tool,
                arguments=turn.call.arguments,
                result=OVER if turn.answer is None else turn.answer,
                **when,
            )
        )
    return [*events, InfoEvent(uuid=f"{identity}-info", source="chaosops", data=turn.consequences, **when)]


def _in_span(turn: Turn, events: Sequence[Event], identity: str) -> list[Event]:
    """Put the events of a turn into a span under the name of the seat."""
    span, when = f"{identity}-span", _when(turn)
    return [
        SpanBeginEvent(uuid=f"{identity}-begin", id=span, span_id=span, name=turn.role, **when),
        *[event.model_copy(update={"span_id": span}) for event in events],
        SpanEndEvent(uuid=f"{identity}-end", id=span, span_id=span, **when),
    ]


def _when(turn: Turn) -> dict[str, Any]:
    return {"timestamp": NO_DATE + timedelta(seconds=turn.step), "working_start": float(turn.step)}


def _identity(*named: str) -> str:
    """Return an id that depends on nothing but these names."""
    return sha256("\0".join(named).encode()).hexdigest()[:_ID_LENGTH]


def _write(found: EvalLog, draft: Path, target: Path) -> None:
    """Write a log into `target`, by way of a draft: Inspect dates the members of its archive, and the copy does not."""
    write_eval_log(found, draft)
    with ZipFile(draft) as drafted, ZipFile(target, "w") as archive:
        for member in drafted.infolist():
            archive.writestr(
                ZipInfo(member.filename, _EARLIEST_IN_ZIP), drafted.read(member), compress_type=member.compress_type
            )
