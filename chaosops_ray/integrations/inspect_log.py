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
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from statistics import fmean
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
)
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall

from chaosops_ray import __version__, evaluate
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


def export(
    path: Path, out: Path, style: Style, policy: str | None, track: Callable[[Iterator[Conversation]], Any]
) -> list[Path]:
    """Write the episodes of a file as logs; return the paths.

    If `out` ends in .eval, it is the log of the one part that the file or the policy has. Otherwise it is a new folder
    with a log for each.
    """
    recording, source = read_recording(path), files.digest(path)
    chosen = _chosen(path, policy)

    def write(part: Part, target: Path) -> None:
        _write(log(recording, source, part, style, list(track(recorded.conversations(path, style, part)))), target)

    if out.suffix == SUFFIX:
        if len(chosen) > 1:
            listed = ", ".join([f"{part.policy} in {part.world} under {part.rules}" for part in chosen])
            raise InputError(f"{path} makes {len(chosen)} logs ({listed}); name a new folder, not {out.name}")
        with files.atomic_file(out) as temporary:
            write(chosen[0], temporary)
        return [out]
    files.check_new_folder(out)
    names = [f"{number}-{_file_name(part)}{SUFFIX}" for number, part in enumerate(chosen, start=1)]
    with files.atomic_folder(out, replace=False) as folder:
        for part, name in zip(chosen, names, strict=True):
            write(part, folder / name)
    return [out / name for name in names]


def _chosen(path: Path, policy: str | None) -> list[Part]:
    found = recorded.parts(path)
    if not found:
        raise InputError(f"{path} has no episodes; give a file that evaluate --episodes wrote")
    chosen = [part for part in found if policy in (None, part.policy)]
    if not chosen:
        known = ", ".join(dict.fromkeys(part.policy for part in found))
        raise InputError(f"{path} has no episodes of policy {policy!r}; it has {known}")
    return chosen


def _file_name(part: Part) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{part.world}-{part.policy}")[:_LONGEST_NAME]


def log(
    recording: Recording, source: str, part: Part, style: Style, conversations: Sequence[Conversation]
) -> EvalLog:
    """Return the log of some episodes of one policy, of a file with this digest."""
    environment = conversations[0].environment
    run = _identity(source)
    epochs: dict[str, int] = {}
    samples = []
    for one in conversations:
        scenario = one.recorded.scenario
        epochs[scenario] = epochs.get(scenario, 0) + 1
        samples.append(_sample(one, epochs[scenario], _identity(run, style, str(one.recorded.number))))
    results = [evaluate.result(environment, part.policy, one.episode) for one in conversations]
    evaluated = evaluate.summary(environment, results, part.rules, recording.selection, None, models=recording.models)
    model = dict(recording.models.get(part.policy, {}))
    task_id = _identity(part.world, part.rules, recording.selection)
    headline = _headline(environment)
    seats = {role: player for one in conversations for role, player in one.players.items()}
    return EvalLog(
        status="success",
        eval=EvalSpec(
            eval_id=_identity(run, style, *part),
            run_id=run,
            created=NO_DATE.isoformat(),
            task=part.world,
            task_id=task_id,
            task_version=part.rules,
            task_display_name=environment.title,
            task_args={"rules": part.rules, "set": recording.selection, "style": style},
            dataset=EvalDataset(name=recording.selection or None, samples=len(epochs), sample_ids=list(epochs)),
            model=part.policy,
            model_args=model,
            model_roles={role: ModelConfig(model=player) for role, player in seats.items()} if len(seats) > 1 else None,
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
        output=_output(one.turns[-1], messages[-1]),
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
    events: list[Event] = []
    everything: list[ChatMessage] = []
    heard: dict[str, list[ChatMessage]] = {}  # by role, what the seat has been told and has said so far
    calls: dict[str, ToolCall] = {}  # by role, the call that its next text answers
    for turn in one.turns:
        seat = heard.setdefault(turn.role, [])
        begun = len(seat)
        about: dict[str, Any] = {"metadata": {"seat": turn.role}}

        def name(of: str, turn: Turn = turn) -> str:
            return f"{identity}-{turn.step}-{of}"

        if not seat:
            prompt = one.system_prompts[turn.role]
            seat.append(ChatMessageSystem(id=name("system"), content=prompt, source="input", **about))
        seat.append(_told(turn, calls.pop(turn.role, None), name("text"), about))
        asked = list(seat)
        said = ChatMessageAssistant(
            id=name("action"), content=turn.action, source="generate", model=turn.player, **about
        )
        if turn.call is not None:
            calls[turn.role] = ToolCall(id=name("call"), function=turn.call.tool, arguments=turn.call.arguments)
            said.tool_calls = [calls[turn.role]]
        seat.append(said)
        everything += seat[begun:]
        span = name("span")
        when: dict[str, Any] = {
            "timestamp": NO_DATE + timedelta(seconds=turn.step),
            "working_start": float(turn.step),
            "span_id": span,
        }
        model = ModelEvent(
            uuid=name("model"),
            model=turn.player,
            role=turn.role,
            input=asked,
            tools=[],
            tool_choice="none",
            config=GenerateConfig(),
            output=_output(turn, said),
            metadata={"version": turn.version, "digest": turn.digest} if turn.digest else None,
            **when,
        )
        events += [SpanBeginEvent(uuid=name("begin"), id=span, type="agent", name=turn.role, **when), model]
        if turn.call is not None:
            events.append(
                ToolEvent(
                    uuid=name("tool"),
                    id=calls[turn.role].id,
                    function=turn.call.tool,
                    arguments=turn.call.arguments,
                    result=turn.answer or "",
                    **when,
                )
            )
        events += [
            InfoEvent(uuid=name("info"), source="chaosops", data=turn.consequences, **when),
            SpanEndEvent(uuid=name("end"), id=span, **when),
        ]
    return events, everything


def _told(turn: Turn, call: ToolCall | None, identity: str, about: Mapping[str, Any]) -> ChatMessage:
    """Return what the seat read: the result of its last call, if that was one, and a message of the user otherwise."""
    if call is None:
        return ChatMessageUser(id=identity, content=turn.text, source="input", **about)
    return ChatMessageTool(id=identity, content=turn.text, tool_call_id=call.id, function=call.function, **about)


def _output(turn: Turn, said: ChatMessage) -> ModelOutput:
    assert isinstance(said, ChatMessageAssistant)
    reason: Any = "stop" if turn.call is None else "tool_calls"
    return ModelOutput(model=turn.player, choices=[ChatCompletionChoice(message=said, stop_reason=reason)])


def _identity(*named: str) -> str:
    """Return an id that depends on nothing but these names."""
    return sha256("\0".join(named).encode()).hexdigest()[:_ID_LENGTH]


def _write(found: EvalLog, target: Path) -> None:
    """Write a log into the empty file `target`; Inspect dates the members of the archive, so it is copied without."""
    draft = files.temporary_folder() / f"draft{SUFFIX}"
    write_eval_log(found, draft)
    with ZipFile(draft) as drafted, ZipFile(target, "w") as archive:
        for member in drafted.infolist():
            undated = ZipInfo(member.filename, _EARLIEST_IN_ZIP)
            archive.writestr(undated, drafted.read(member), member.compress_type)
    draft.unlink()
