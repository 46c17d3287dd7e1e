"""Recorded episodes as trajectories in ATIF, the Agent Trajectory Interchange Format of the Harbor project.

A trajectory is the conversation of one seat of one episode; those of an episode share its session. The format is JSON
and written without Harbor's package, which needs a newer Python and a version of FastMCP that OpenEnv refuses. A test
gives the files to the validator of that package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaosops_ray import __version__, evaluate
from chaosops_ray.agents.forms import tool_schema
from chaosops_ray.agents.seat import Message
from chaosops_ray.integrations import recorded
from chaosops_ray.integrations.recorded import Conversation, Source, Track, Turn
from chaosops_ray.sim.contract import Style
from chaosops_ray.store import files
from chaosops_ray.store.episodes import Recording

SCHEMA = "ATIF-v1.7"
NOTES = (
    "Messages of the agent are what a trained model wrote, and of any other player its recorded actions as text. Steps "
    "of copied context before the first turn are examples that stand in the prompt."
)
_SOURCES = {"system": "system", "user": "user", "assistant": "agent"}
_ID_LENGTH = 22


def export(source: Source, out: Path, style: Style, track: Track = iter) -> list[Path]:
    """Write a trajectory for each seat of each episode into a new folder; return the paths."""
    recorded.check_place(source, out, in_a_file=False)
    names = []
    with files.atomic_folder(out, replace=False) as folder:
        episodes = (one for part in source.parts for one in recorded.conversations(source, style, part))
        for one in track(episodes):
            for role in one.players:
                name = f"{one.recorded.number:06d}-{role}.json"
                session = f"{source.digest[:_ID_LENGTH]}-{style}-{one.recorded.number}"
                files.write_json(folder / name, trajectory(one, role, source.recording, session))
                names.append(name)
    return [out / name for name in names]


def trajectory(one: Conversation, role: str, recording: Recording, session: str) -> dict[str, Any]:
    """Return what one seat read and did in an episode."""
    environment, scenario, player = one.environment, one.episode.scenario, one.players[role]
    turns = [turn for turn in one.turns if turn.role == role]
    policy = one.recorded.policy
    model = recording.models.get(policy, {}) if player == policy else {}
    found = evaluate.result(environment, policy, one.episode)
    agent: dict[str, Any] = {"name": player, "version": str(model.get("version", __version__))}
    if model:
        agent["model_name"] = str(model.get("served", model.get("model", player)))
    if any(turn.call is not None for turn in turns):
        agent["tool_definitions"] = [tool_schema(form) for form in environment.forms(role, one.recorded.rules)]
    agent["extra"] = {"seat": role, **model}
    steps = _steps(one.beginnings[role], turns, is_model=bool(model))
    return {
        "schema_version": SCHEMA,
        "session_id": session,
        "trajectory_id": f"{session}-{role}",
        "agent": agent,
        "steps": steps,
        "notes": NOTES,
        "final_metrics": {
            "total_steps": len(steps),
            "extra": {environment.headline_name: found.headline, **found.metrics, "return": one.episode.total},
        },
        "extra": {
            "world": scenario.world,
            "scenario": scenario.identity,
            "tier": scenario.tier,
            environment.grouping: scenario.group,
            "rules": one.recorded.rules,
            "set": recording.selection,
            "policy": policy,
            "seats": one.players,
        },
    }


def _steps(begun: Sequence[Message], turns: list[Turn], *, is_model: bool) -> list[dict[str, Any]]:
    steps: list[Mapping[str, Any]] = [
        *[_given(message) for message in begun],
        {"source": "user", "message": turns[0].text},
        *[_acted(turn, is_model=is_model) for turn in turns],
    ]
    return [{"step_id": number, **step} for number, step in enumerate(steps, start=1)]


def _given(message: Message) -> dict[str, Any]:
    """Return the step of a message before the first turn; ATIF's mark of context keeps examples out of training."""
    step: dict[str, Any] = {"source": _SOURCES[message["role"]], "message": message["content"]}
    if message["role"] == "assistant":
        step["llm_call_count"] = 0
    return step if message["role"] == "system" else {**step, "is_copied_context": True}


def _acted(turn: Turn, *, is_model: bool) -> dict[str, Any]:
    """Return the step of an action; what the seat read next is the observation that it made."""
    step: dict[str, Any] = {"source": "agent", "message": turn.said, "llm_call_count": int(is_model)}
    observed: dict[str, Any] = {"content": turn.answer}
    if turn.call is not None:
        name = f"call-{turn.step}"
        step["tool_calls"] = [{"tool_call_id": name, "function_name": turn.call.tool, "arguments": turn.call.arguments}]
        observed = {"source_call_id": name, **observed}
    if turn.answer is not None:
        step["observation"] = {"results": [observed]}
    step["extra"] = {"step": turn.step, **turn.consequences}
    if turn.digest:
        step["extra"] |= {"version": turn.version, "digest": turn.digest}
    return step
