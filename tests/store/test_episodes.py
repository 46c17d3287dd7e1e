"""Recorded episodes replay, or it is said where they do not; a file of them is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim import ENVIRONMENTS, InputError, play
from chaosops_ray.store.episodes import (
    COLUMNS,
    EPISODES_SCHEMA,
    MAX_EPISODE_ROWS,
    differences,
    read_episodes,
    state_hash,
    write_episodes,
)
from tests.support.crashes import stopped_at_each_step

RECORDS = """
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.store.episodes import COLUMNS, pa, write_episodes

pa.Table.from_pylist([], schema=COLUMNS)  # imports what every work would import again
INCIDENT = ENVIRONMENTS["incident"]
SCENARIO = INCIDENT.scenarios("cross")[0]
EPISODE = play(INCIDENT, SCENARIO, "strict", INCIDENT.policies["oracle"](SCENARIO, "strict"))

def prepare(folder):
    pass

def work(folder):
    with write_episodes(folder / "out") as writer:
        sys.audit("step")
        writer.add(INCIDENT, "oracle", EPISODE)
        sys.audit("step")
"""
INCIDENT = ENVIRONMENTS["incident"]
SCENARIOS = [scenario for scenario in INCIDENT.scenarios("cross") if scenario.seed in (0, 97)]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "episodes.parquet"
    with write_episodes(path) as writer:
        for rules in ("strict,multiplier=2.0", "published"):
            for policy, build in INCIDENT.policies.items():
                for scenario in SCENARIOS:
                    writer.add(INCIDENT, policy, play(INCIDENT, scenario, rules, build(scenario, rules)))
    return path


def changed(path: Path, row: int, **fields: Any) -> Path:
    """A copy of the file with some fields of one row changed."""
    rows = pq.read_table(path).to_pylist()
    rows[row].update(fields)
    other = path.with_name("changed.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), other)
    return other


def found(path: Path) -> list[str]:
    return [line for recorded in read_episodes(path) for line in differences(recorded)]


def test_what_was_recorded_replays(recorded: Path) -> None:
    episodes = list(read_episodes(recorded))
    assert len(episodes) == 2 * len(INCIDENT.policies) * len(SCENARIOS)
    assert found(recorded) == []
    assert {episode.rules for episode in episodes} == {"strict/2,multiplier=2.0", "published"}
    rows = episodes[0].rows
    assert rows[-1]["state_hash"] == state_hash(
        INCIDENT,
        play(
            INCIDENT,
            SCENARIOS[0],
            "strict,multiplier=2.0",
            INCIDENT.policies["random"](SCENARIOS[0], "strict,multiplier=2.0"),
        )
        .steps[-1]
        .world,
    )


def test_the_schema_is_versioned_and_flat(recorded: Path) -> None:
    schema = pq.read_schema(recorded)
    assert schema.metadata[b"chaosops_schema"] == EPISODES_SCHEMA.encode()
    assert schema.equals(COLUMNS)
    row = pq.read_table(recorded).to_pylist()[0]
    assert json.loads(row["view"])["role"] == row["role"] == "sre"
    assert row["reward"] == sum(component["value"] for component in row["components"])
    assert json.loads(row["action"])["action"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reward", 0.25),
        ("reward", float("nan")),
        ("state_hash", "0" * 64),
        ("role", "manager"),
        ("view", "{}"),
        ("outcome", ["resolved"]),
        ("components", [{"name": "mttr.delay", "value": -1.0}]),
        ("action", '{"action": "escalate"}'),
        ("step", 9),
        ("scenario", "incident/cascade/hard/9"),
        ("rules", "published"),
        ("policy", "oracle"),
    ],
)
def test_any_change_to_a_row_is_found(recorded: Path, field: str, value: Any) -> None:
    lines = found(changed(recorded, 1, **{field: value}))
    assert lines
    assert "episode 0 (random on incident/db_deadlock/easy/0)" in lines[0]


def test_a_record_that_stops_early_or_goes_on_too_long_is_found(recorded: Path) -> None:
    rows = pq.read_table(recorded).to_pylist()
    short = recorded.with_name("short.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:2], schema=COLUMNS), short)
    assert "stops at step 2, the episode does not" in found(short)[0]
    first = [row for row in rows if row["episode"] == 0]
    long = recorded.with_name("long.parquet")
    pq.write_table(pa.Table.from_pylist([*first, {**first[-1], "step": len(first)}], schema=COLUMNS), long)
    assert f"over after {len(first)}" in found(long)[0]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("scenario", "nowhere/x", "first part must be a world"),
        ("scenario", "incident/gremlins/hard/1", "unknown failure"),
        ("rules", "lenient", "unknown rule set"),
        (
            "rules",
            "strict,multiplier=2.0",
            "^episode 0 .*: rules strict/1 are not played by .*; replay it with the version",
        ),
        (
            "rules",
            "strict/1,multiplier=2.0",
            "^episode 0 .*: rules strict/1 are not played .* has strict/2 and published",
        ),
        ("rules", "strict/3,multiplier=2.0", "^episode 0 .*: rules strict/3 are not played"),
        ("rules", "strict/2,multiplier=2", "records spell them strict/2,multiplier=2.0"),
        ("action", "{", "not a recorded action"),
        ("action", "[" * 5000, "not a recorded action"),
        ("policy", None, "empty field"),
    ],
)
def test_a_record_of_what_does_not_exist_is_an_input_error(recorded: Path, field: str, value: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        found(changed(recorded, 0, **{field: value}))


def test_files_that_are_no_episodes_are_input_errors(tmp_path: Path, recorded: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut").write_bytes(recorded.read_bytes()[:-100])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other")
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(COLUMNS.metadata), tmp_path / "columns")
    later = COLUMNS.with_metadata({"chaosops_schema": "episodes/4"})
    pq.write_table(pa.Table.from_pylist([], schema=later), tmp_path / "later")
    for name, named in {
        "missing": "No such file",
        "text": "cannot read",
        "empty": "cannot read",
        "cut": "cannot read",
        "other": "has schema 'unknown'",
        "columns": "does not have the columns",
        "later": "has schema 'episodes/4'; this version reads 'episodes/3'",
    }.items():
        with pytest.raises(InputError, match=named) as caught:
            list(read_episodes(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot read"):
        list(read_episodes(tmp_path))


@given(data=st.data())
def test_a_damaged_file_is_an_error_or_a_difference_but_no_crash(data: st.DataObject, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("damage")
    path = folder / "episodes.parquet"
    with write_episodes(path) as writer:
        for scenario in SCENARIOS[:2]:
            writer.add(
                INCIDENT, "oracle", play(INCIDENT, scenario, "strict", INCIDENT.policies["oracle"](scenario, "strict"))
            )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found(path)
    except InputError as error:
        assert "\n" not in str(error)


def test_an_episode_of_more_steps_than_any_world_has_is_not_held(tmp_path: Path, recorded: Path) -> None:
    row = pq.read_table(recorded).to_pylist()[0]
    path = tmp_path / "endless.parquet"
    pq.write_table(pa.Table.from_pylist([row] * (MAX_EPISODE_ROWS + 1), schema=COLUMNS), path)
    with pytest.raises(InputError, match="no world has so many"):
        list(read_episodes(path))


def test_an_interrupted_recording_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_episodes(tmp_path / "episodes.parquet"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_fails_at_its_end_leaves_no_file(tmp_path: Path) -> None:
    """Rows are written in blocks, the last one when the writer is closed."""
    episode = play(INCIDENT, SCENARIOS[0], "strict", INCIDENT.policies["oracle"](SCENARIOS[0], "strict"))
    too_large = [(1 << 80, "")] * len(episode.steps)
    path = tmp_path / "episodes.parquet"
    path.write_text("before")
    with pytest.raises(OverflowError), write_episodes(path) as writer:
        writer.add(INCIDENT, "oracle", episode, too_large)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "before"


def test_a_recording_that_fails_at_any_step_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    *stopped, ended = stopped_at_each_step(tmp_path, RECORDS, kills=False)
    assert len(stopped) >= 3
    for folder in (*stopped, ended):
        left = [path.name for path in folder.iterdir()]
        assert left == ["out"] if folder == ended else left in ([], ["out"])
        assert all(len(list(read_episodes(folder / name))) == 1 for name in left)
