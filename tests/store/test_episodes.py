"""Recorded episodes replay, or it is said where they do not; a file of them is whole or not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chaosops_ray.sim import ENVIRONMENTS, InputError, play
from chaosops_ray.store.episodes import (
    COLUMNS,
    EPISODES_SCHEMA,
    MAX_EPISODE_ROWS,
    Recording,
    differences,
    read_episodes,
    read_recording,
    replayed,
    state_hash,
    write_episodes,
)
from chaosops_ray.wire import Origin
from tests.support.crashes import ROOT, stopped_at_each_step

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


def test_a_file_says_which_models_and_which_set_it_is_of(tmp_path: Path, recorded: Path) -> None:
    models = {"trained": {"run": "first", "version": 3, "digest": "9f2c"}, "served": {"served": None}}
    with write_episodes(tmp_path / "named.parquet", models, "published"):
        pass
    assert read_recording(tmp_path / "named.parquet") == Recording(models, "published")
    assert read_recording(recorded) == Recording({}, "")
    older = tmp_path / "older.parquet"
    pq.write_table(pa.Table.from_pylist([], schema=COLUMNS), older)
    assert read_recording(older) == Recording({}, "")


def test_episodes_out_of_order_are_an_input_error(tmp_path: Path, recorded: Path) -> None:
    """Whoever names something after an episode's number relies on its being the only one."""
    rows = pq.read_table(recorded).to_pylist()
    other = tmp_path / "other.parquet"
    pq.write_table(pa.Table.from_pylist([*rows, *[row for row in rows if row["episode"] == 0]], schema=COLUMNS), other)
    with pytest.raises(InputError, match="episode 0 comes after episode"):
        list(read_episodes(other))


def test_a_replayed_episode_is_the_recorded_one_or_an_input_error(recorded: Path) -> None:
    first = next(read_episodes(recorded))
    environment, episode = replayed(first)
    assert (environment, episode.scenario.identity, len(episode.steps)) == (INCIDENT, first.scenario, len(first.rows))
    with pytest.raises(InputError, match=r"^episode 0 .*, step 1: reward was 9.5, is .*; the record was changed"):
        replayed(next(read_episodes(changed(recorded, 1, reward=9.5))))


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
    later = COLUMNS.with_metadata({"chaosops_schema": "episodes/5"})
    pq.write_table(pa.Table.from_pylist([], schema=later), tmp_path / "later")
    for name, named in {
        "missing": "No such file",
        "text": "cannot read",
        "empty": "cannot read",
        "cut": "cannot read",
        "other": "has schema 'unknown'",
        "columns": "does not have the columns",
        "later": "has schema 'episodes/5'; this version reads 'episodes/4'",
    }.items():
        with pytest.raises(InputError, match=named) as caught:
            list(read_episodes(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot read"):
        list(read_episodes(tmp_path))


# Reads damaged copies of a file with limits of memory and time; prints, for each kind of damage, how many were refused,
# read as they were, and read as something else.
READS = """
import random, resource, signal, sys
from pathlib import Path
from chaosops_ray.sim import InputError
from chaosops_ray.store.episodes import read_episodes

whole, damaged = Path(sys.argv[1]), Path(sys.argv[2])
content = whole.read_bytes()
expected = list(read_episodes(whole))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2)
draw = random.Random(0)
footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")

def changed(first, last, bits):
    copy = bytearray(content)
    for _ in range(bits):
        copy[draw.randrange(first, last)] ^= 1 << draw.randrange(8)
    return bytes(copy)

def outcome(copy):
    damaged.write_bytes(copy)
    signal.alarm(20)
    try:
        found = list(read_episodes(damaged))
    except InputError as error:
        assert "\\n" not in str(error) and str(damaged) in str(error), error
        return 0
    return 1 if found == expected else 2

for copies in (
    [content[:at] for at in range(0, len(content), 101)],
    [changed(4, footer, 1) for _ in range(120)],
    [changed(footer, len(content), draw.randint(1, 3)) for _ in range(120)],
):
    outcomes = [outcome(copy) for copy in copies]
    print([outcomes.count(one) for one in range(3)])
"""


def test_a_damaged_file_is_an_error_of_one_line_and_takes_neither_memory_nor_time(tmp_path: Path) -> None:
    """Cut anywhere; with a changed bit in its pages, which have checksums; with several in its footer, which has none."""
    path = tmp_path / "episodes.parquet"
    with write_episodes(path) as writer:
        for scenario in SCENARIOS[:3]:
            oracle = INCIDENT.policies["oracle"](scenario, "strict")
            writer.add(INCIDENT, "oracle", play(INCIDENT, scenario, "strict", oracle))
    ran = subprocess.run(
        [sys.executable, "-c", READS, str(path), str(tmp_path / "damaged")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    cut, pages, footer = [json.loads(line) for line in ran.stdout.splitlines()]
    assert cut[0] > 50
    assert cut[1:] == [0, 0]
    # Statistics in the headers of pages may change unread; nothing is ever read as something else.
    assert pages[0] > 30
    assert pages[2] == 0
    assert sum(footer) == 120


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
    too_large = [Origin(1 << 80)] * len(episode.steps)
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
