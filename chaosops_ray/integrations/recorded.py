"""Recorded episodes as conversations: what each seat read and did, for the log formats beside this module.

Texts are rendered again from the replayed views by the seats that models play in. What a model of ours said is its
completion, which its record has. Of other players a record has only actions: what such a seat said is its action as
this project writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from chaosops_ray.agents.seat import Message, Seat, beginning
from chaosops_ray.sim import environment_of
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Style
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.store import files
from chaosops_ray.store.episodes import RecordedEpisode, Recording, origin_of, read_episodes, read_recording, replayed

EVAL = ".eval"


class Call(NamedTuple):
    """A tool call that an action stands for."""

    tool: str
    arguments: dict[str, Any]


class Turn(NamedTuple):
    """A step of an episode as its seat knew it, and what came of it."""

    step: int
    role: str
    player: str  # the policy, or the baseline that played this seat beside it
    version: int
    digest: str
    text: str  # what the seat read
    said: str  # the completion, or the action as one
    call: Call | None
    answer: str | None  # what the seat read next; None if it had no further turn
    consequences: dict[str, Any]  # events, rewards and state hash, as recorded


class Conversation(NamedTuple):
    """An episode as a conversation of each of its seats, in the order in which they acted."""

    recorded: RecordedEpisode
    environment: AnyEnvironment
    episode: AnyEpisode
    beginnings: Mapping[str, Sequence[Message]]  # by role, of the seats that acted: what stands before their first turn
    turns: tuple[Turn, ...]

    @property
    def players(self) -> dict[str, str]:
        """The player of each seat that acted."""
        return {turn.role: turn.player for turn in self.turns}


# Wraps the episodes on their way, for instance to show progress.
Track: TypeAlias = Callable[[Iterable[Conversation]], Iterable[Conversation]]


class Part(NamedTuple):
    """The episodes of a file that belong into one log."""

    world: str
    rules: str
    policy: str


class Source(NamedTuple):
    """A file of episodes, and the parts of it that are to be written."""

    path: Path
    digest: str
    recording: Recording
    parts: tuple[Part, ...]


def source(path: Path, policy: str | None = None) -> Source:
    """Read which parts a file has, in the order in which they begin; with `policy`, only its parts."""
    recording = read_recording(path)
    found = list(dict.fromkeys(_part_of(recorded) for recorded in read_episodes(path)))
    if not found:
        raise InputError(f"{path} has no episodes; give a file that evaluate --episodes wrote")
    chosen = tuple([part for part in found if policy in (None, part.policy)])
    if not chosen:
        raise unknown(f"policy of {path}", policy, dict.fromkeys(part.policy for part in found))
    return Source(path, files.digest(path), recording, chosen)


def check_place(source: Source, out: Path, *, in_a_file: bool) -> None:
    """Refuse a place that cannot take what is made of the parts: a new folder, or if that can be, a file."""
    is_file = in_a_file and out.suffix == EVAL
    if not is_file and out.suffix in (EVAL, ".json"):
        raise InputError(f"name a new folder{f', or a file that ends in {EVAL}' if in_a_file else ''}, not {out}")
    if is_file and len(source.parts) > 1:
        listed = "; ".join([f"{part.policy} in {part.world} under {part.rules}" for part in source.parts])
        made = f"{source.path} makes {len(source.parts)} logs ({listed})"
        raise InputError(f"{made}; name a new folder instead of {out}, or one policy with --policy")
    (files.check_writable if is_file else files.check_new_folder)(out)


def conversations(source: Source, style: Style, part: Part) -> Iterator[Conversation]:
    """Yield the episodes of a part of a file; InputError where one does not replay."""
    for recorded in read_episodes(source.path):
        if _part_of(recorded) == part:
            yield conversation(recorded, style)


def _part_of(recorded: RecordedEpisode) -> Part:
    return Part(environment_of(recorded.scenario).name, recorded.rules, recorded.policy)


def conversation(recorded: RecordedEpisode, style: Style) -> Conversation:
    """Play a recorded episode again and let its seats read."""
    environment, episode = replayed(recorded)
    seats: dict[str, Seat] = {}
    turns: list[Turn] = []
    latest: dict[str, int] = {}  # by role, the place of its latest turn
    for number, (row, step) in enumerate(zip(recorded.rows, episode.steps, strict=True)):
        role = step.role
        if role not in seats:
            seats[role] = Seat(environment, role, recorded.rules, style)
        text = seats[role].read(step.view)
        if role in latest:
            turns[latest[role]] = turns[latest[role]]._replace(answer=text)
        latest[role] = number
        turns.append(
            Turn(
                number,
                role,
                row["player"],
                row["version"],
                row["digest"],
                text,
                _said(environment, row, step.action, style),
                _call(row["action"]),
                None,
                _consequences(row),
            )
        )
    begun = {role: beginning(seat.system_prompt, seat.opening) for role, seat in seats.items()}
    return Conversation(recorded, environment, episode, begun, tuple(turns))


def _said(environment: AnyEnvironment, row: Mapping[str, Any], action: Any, style: Style) -> str:
    origin = origin_of(row)
    return origin.completion if origin.log_probs else environment.format_action(action, style)


def _consequences(row: Mapping[str, Any]) -> dict[str, Any]:
    components: dict[str, float] = {}
    for part in row["components"]:
        components[part["name"]] = components.get(part["name"], 0.0) + part["value"]
    return {
        "outcome": row["outcome"],
        "components": components,
        "reward": row["reward"],
        "state_hash": row["state_hash"],
    }


def _call(action: str) -> Call | None:
    """Return the call in a recorded action; None where the world's actions are no calls of tools."""
    fields = json.loads(action)
    return Call(fields["tool"], _printable(fields["arguments"])) if fields.keys() == {"tool", "arguments"} else None


def _printable(value: Any) -> Any:
    """Write what is half of a character as its code: JSON can spell it, UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
