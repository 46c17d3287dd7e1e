"""Files of recorded episodes, and what their seats would have read and said in a chat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.agents.seat import ChatSeat
from chaosops_ray.cli import main
from chaosops_ray.sim import environment_of
from chaosops_ray.sim.contract import Style
from chaosops_ray.sim.episode import replay
from chaosops_ray.store.episodes import RecordedEpisode

SEATS = "dev=oracle,manager=oracle"


class Asked(NamedTuple):
    """A turn in a chat: the whole conversation up to the question, how much of it is new, and the answer."""

    role: str
    conversation: list[dict[str, str]]
    new: int
    answer: str


def evaluated(folder: Path, world: str, *options: str) -> tuple[Path, Path]:
    """Play some policies; return the file of episodes and the file of figures."""
    episodes, figures = folder / "episodes.parquet", folder / "figures.json"
    given = ["evaluate", "--world", world, "--seeds", "1000", *options]
    assert main([*given, "--episodes", str(episodes), "--json", str(figures)]) == 0
    return episodes, figures


def chat(recorded: RecordedEpisode, style: Style = "full") -> Iterator[Asked]:
    """The turns of an episode as chats of its seats, replayed without the code that is tested."""
    environment = environment_of(recorded.scenario)
    scenario = environment.scenario(recorded.scenario)
    actions = [environment.load_action(row["action"]) for row in recorded.rows]
    seats: dict[str, ChatSeat] = {}
    for step in replay(environment, scenario, recorded.rules, actions).steps:
        if step.role in seats:
            before = len(seats[step.role].messages)
        else:
            before, seats[step.role] = 0, ChatSeat(environment, step.role, recorded.rules, style)
        seat = seats[step.role]
        asked = [dict(message) for message in seat.ask(step.view)]
        text = environment.format_action(step.action, style)
        seat.answer(text)
        yield Asked(step.role, asked, len(asked) - before, text)


def edited(path: Path, row: int, **fields: Any) -> Path:
    """A copy of the file with some fields of one row changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from chaosops_ray.store.episodes import COLUMNS

    rows = pq.read_table(path).to_pylist()
    rows[row].update(fields)
    other = path.with_name(f"edited-{path.name}")
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), other)
    return other
