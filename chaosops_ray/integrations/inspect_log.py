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
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias
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
from chaosops_ray.agents.session import OVER
from chaosops_ray.integrations import recorded
from chaosops_ray.integrations.recorded import Conversation, Part, Turn
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files
from chaosops_ray.store.episodes import Recording, read_recording

SUFFIX = ".eval"
ALL = "mean"
# Stands where the format wants a date and the record has none.
NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_IN_ZIP = (1980, 1, 1, 0, 0, 0)
_ID_LENGTH = 22
_LONGEST_NAME = 60

Track: TypeAlias = Callable[[Iterator[Conversation]], Iterable[Conversation]]


def export(path: Path, out: Path, style: Style, policy: str | None, track: Track = iter) -> list[Path]:
    """Write the episodes of a file, or of one policy in it, as logs; return the paths.

    If `out` ends in .eval, it is the only log. Otherwise it is a new folder with a log for each policy.
    """
    recording, source = read_recording(path), files.digest(path)
    chosen = recorded.parts(path, policy)
    if out.suffix == SUFFIX and len(chosen) > 1:
        listed = "; ".join([f"{part.policy} in {part.world} under {part.rules}" for part in chosen])
        raise InputError(f"{path} makes {len(chosen)} logs ({listed}); name a new folder, or one policy with --policy")
    drafts = files.temporary_folder()

    def write(part: Part, target: Path) -> None:
        conversations = list(track(recorded.conversations(path, style, part)))
        _write(log(recording, source, part, style, conversations), drafts / f"draft{SUFFIX}", target)

    if out.suffix == SUFFIX:
        with files.atomic_file(out) as temporary:
            write(chosen[0], temporary)
        return [out]
    files.check_new_folder(out)
    names = [f"{number}-{_file_name(part)}{SUFFIX}" for number, part in enumerate(chosen, start=1)]
    with files.atomic_folder(out, replace=False) as folder:
        for part, name in zip(chosen, names, strict=True):
            write(part, folder / name)
    return [out / name for name in names]


def _file_name(part: Part) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{part.world}-{part.policy}")[:_LONGEST_NAME]


def log(recording: Recording, source: str, part: Part, style: Style, conversations: Sequence[Conversation]) -> EvalLog:
    """Return the log of some episodes of one policy, of a file with this digest."""
    environment = conversations[0].environment
    run = _identity(source)
    epochs: dict[str, int] = {}
    samples = []
    for one in conversations:
        scenario = one.recorded.scenario
        epochs[scenario] = epochs.get(scenario, 0) + 1
        samples.append(_sample(one, epochs[scenario], _identity(run, style, *part, scenario, str(epochs[scenario]))))
    results = [evaluate.result(environment, part.policy, one.episode) for one in conversations]
    evaluated = evaluate.summary(environment, results, part.rules, recording.selection, None, models=recording.models)
    model = dict(recording.models.get(part.policy, {}))
    headline = _headline(environment)
    seats = {role: player for one in conversations for role, player in one.players.items()}
    has_seats = len(environment.roles) > 1
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
            task_args={"rules": part.rules, "set": recording.selection, "style": style},
            dataset=EvalDataset(name=recording.selection or None, samples=len(epochs), sample_ids=list(epochs)),
            model=part.policy,
            model_args=model,
            model_roles={role: ModelConfig(model=player) for role, player in seats.items()} if has_seats else None,
            config=EvalConfig(epochs=max(epochs.values())),
            packages={"chaosops_ray": __version__},
            metadata={"world": part.world, "rules": part.rules, "set": recording.selection, "policy": part.policy}
            | ({"model": model} if model else {}),
            headline_metric=HeadlineMetric(score=headline, metric=ALL),
        ),
        results=EvalResults(
            total_samples=len(samples),
            completed_samples=len(samples),
            scores=_scores(environment, results),
            headline=HeadlineMetric(scorer=headline, score=headline, metric=ALL),
            metadata={"evaluation": evaluated},
        ),
        stats=EvalStats(started_at=NO_DATE.isoformat(), completed_at=NO_DATE.isoformat()),
        samples=samples,
    )


def _headline(environment: AnyEnvironment) -> str:
    return environment.headline_name


def _figures(environment: AnyEnvironment, found: evaluate.Result) -> dict[str, float]:
    """Return the headline score and the metrics that are defined for this episode, by name."""
    return {_headline(environment): found.headline} | {
        name: value for name, value in found.metrics.items() if value is not None
    }


def _scores(environment: AnyEnvironment, results: Sequence[evaluate.Result]) -> list[EvalScore]:
    """Return the mean of each figure, over all episodes and by tier."""
    figures = [(found.scenario.tier, _figures(environment, found)) for found in results]
    scores = []
    for name in [_headline(environment), *[metric.name for metric in environment.metrics]]:
        by_tier = {
            tier: [of_one[name] for played, of_one in figures if played == tier and name in of_one]
            for tier in environment.tiers
        }
        everything = [value for values in by_tier.values() for value in values]
        metrics = [EvalMetric(name=ALL, value=fmean(everything))] if everything else []
        metrics += [
            EvalMetric(name=tier, group="tier", value=fmean(values)) for tier, values in by_tier.items() if values
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


def _sample(one: Conversation, epoch: int, identity: str) -> EvalSample:
    environment, scenario = one.environment, one.episode.scenario
    events, messages = _transcript(one, identity)
    figures = _figures(environment, evaluate.result(environment, one.recorded.policy, one.episode))
    first = one.turns[0]
    return EvalSample(
        id=scenario.identity,
        epoch=epoch,
        input=f"{scenario.identity}\n\n{first.text}",
        target="",
        messages=messages,
        output=[event.output for event in events if isinstance(event, ModelEvent)][-1],
        scores={name: Score(value=value) for name, value in figures.items()},
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
            content=turn.action,
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
    told: list[ChatMessage] = []
    if not heard:
        prompt = one.system_prompts[turn.role]
        told.append(ChatMessageSystem(id=f"{name}-system", content=prompt, source="input", metadata=about))
    made = heard[-1].tool_calls if heard and isinstance(heard[-1], ChatMessageAssistant) else None
    if made:
        (call,) = made
        about_call: dict[str, Any] = {"tool_call_id": call.id, "function": call.function}
        told.append(ChatMessageTool(id=f"{name}-text", content=turn.text, metadata=about, **about_call))
    else:
        told.append(ChatMessageUser(id=f"{name}-text", content=turn.text, source="input", metadata=about))
    return told


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
