"""The timeline as trace viewers read it: strictly parsed, at any moment, bounded, and continued by a resumed run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.sim.errors import InputError
from chaosops_ray.spans import Span, Track
from chaosops_ray.store import timeline
from chaosops_ray.store.timeline import SPANS_KEPT, UPDATES_KEPT, TimelineFile
from tests.support.traces import parsed, spans_of


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def track(*spans: tuple[str, float, float], clock_error: float = 0.0) -> Track:
    return Track(tuple([Span(name, start, end, end - start) for name, start, end in spans]), clock_error)


def update(number: int, at: float) -> dict[str, Track]:
    """An update that begins then: two groups are played side by side on one shard."""
    return {
        "shard-0": track(("play", at, at + 2), ("play", at + 1, at + 3)),
        "shard-10": track(("play", at, at + 1)),
        "shard-2": track(("play", at, at + number)),
        "sampler-0": track(("sample", at, at + 3), ("load", at + 5, at + 6)),
        "learner": track(("update", at + 3, at + 5)),
        "driver": track(("collect", at, at + 3), ("update", at + 3, at + 5), ("adopt", at + 5, at + 6)),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "timeline.json"


def test_a_run_is_a_process_for_each_of_its_own(path: Path) -> None:
    file = TimelineFile(path, Clock(100.0))
    file.append(1, 1, update(1, 100.0))
    events = parsed(path)
    named = {event["args"]["name"]: event["pid"] for event in events if event["name"] == "process_name"}
    assert sorted(named, key=named.__getitem__) == ["driver", "learner", "sampler-0", "shard-0", "shard-2", "shard-10"]
    learnt = [event for event in events if event.get("cat") == "learner"]
    assert learnt == [
        {
            "name": "update",
            "cat": "learner",
            "ph": "X",
            "ts": 3_000_000,
            "dur": 2_000_000,
            "pid": named["learner"],
            "tid": 1,
            "args": {"update": 1, "version": 1},
        }
    ]


def test_what_overlaps_has_a_thread_of_its_own(path: Path) -> None:
    file = TimelineFile(path, Clock())
    file.append(1, 1, update(1, 0.0))
    file.append(2, 2, {"shard-0": track(("play", 2.5, 4), ("play", 3.5, 5))})
    places = {(name, one["ts"] / 1e6): one["tid"] for name, one in spans_of(parsed(path)) if name == "shard-0"}
    assert places == {("shard-0", 0): 1, ("shard-0", 1): 2, ("shard-0", 2.5): 1, ("shard-0", 3.5): 2}
    threads = [event["args"]["name"] for event in parsed(path) if event["name"] == "thread_name"]
    assert threads.count("shard-0 (2)") == 1


def test_what_was_joined_and_what_was_left_out_is_said(path: Path) -> None:
    file = TimelineFile(path, Clock())
    joined = Span("sample", 0, 4, worked=1.5, pieces=7)
    short = [("play", float(at), at + 0.5) for at in range(SPANS_KEPT + 2)]
    long = ("play", 1000.0, 2000.0)
    file.append(1, 1, {"sampler-0": Track((joined,), 0.25), "shard-0": track(*short, long)})
    found = spans_of(parsed(path))
    (sampled,) = [one for name, one in found if name == "sampler-0"]
    assert sampled["args"] == {
        "update": 1,
        "version": 1,
        "pieces": 7,
        "worked_us": 1_500_000,
        "clock_error_us": 250_000,
    }
    played = [one for name, one in found if name == "shard-0"]
    assert len(played) == SPANS_KEPT
    assert played[-1]["dur"] == 1_000_000_000
    assert [one["args"]["left_out"] for one in played if "left_out" in one["args"]] == [3]


def test_an_update_without_spans_writes_nothing(path: Path) -> None:
    TimelineFile(path, Clock()).append(1, 1, {"driver": track()})
    assert not path.exists()


def test_the_file_is_whole_after_every_update_and_has_the_last_ones(path: Path) -> None:
    file = TimelineFile(path, Clock())
    for number in range(1, 3 * UPDATES_KEPT + 5):
        file.append(number, number, update(number, 10.0 * number))
        file.append(number, number, {"driver": track(("checkpoint", 10.0 * number + 8, 10.0 * number + 9))})
        kept = sorted({one["args"]["update"] for _, one in spans_of(parsed(path))})
        assert kept == list(range(kept[0], number + 1))
        assert min(number, UPDATES_KEPT) <= len(kept) <= 2 * UPDATES_KEPT


def test_a_resumed_run_goes_on_where_the_events_end(path: Path) -> None:
    """On another machine, whose clock begins elsewhere; what came after the checkpoint will come again."""
    file = TimelineFile(path, Clock(500.0))
    for number in (1, 2, 3):
        file.append(number, number, update(number, 500.0 + 10 * number))
    clock = Clock(7.0)
    resumed = TimelineFile(path, clock)
    resumed.rewind(2)
    assert {one["args"]["update"] for _, one in spans_of(parsed(path))} == {1, 2}
    end = max([one["ts"] + one["dur"] for _, one in spans_of(parsed(path))])
    late = {"driver": track(("collect", 9.0, 10.0)), "shard-11": track(("play", 6.0, 6.5), ("play", 9.0, 10.0))}
    resumed.append(3, 3, late)
    again = [(name, one["ts"]) for name, one in spans_of(parsed(path)) if one["args"]["update"] == 3]
    # What began before the run was resumed belongs to no update that is left.
    assert again == [("driver", end + 2_000_000), ("shard-11", end + 2_000_000)]
    names = [event["args"]["name"] for event in parsed(path) if event["name"] == "process_name"]
    assert len(names) == len(set(names)) == 7


def test_a_run_that_begins_again_has_nothing_left(path: Path) -> None:
    clock = Clock()
    file = TimelineFile(path, clock)
    file.rewind(0)
    assert not path.exists()
    file.append(1, 1, update(1, 0.0))
    clock.now = 9.0
    file.rewind(0)
    assert spans_of(parsed(path)) == []
    file.append(1, 1, update(1, 9.0))
    assert min([one["ts"] for _, one in spans_of(parsed(path))]) == 0


def test_a_file_that_was_cut_anywhere_is_read_and_continued(path: Path) -> None:
    file = TimelineFile(path, Clock())
    file.append(1, 1, {"driver": track(("collect", 0, 1), ("adopt", 1, 2))})
    file.append(2, 2, {"driver": track(("collect", 3, 4)), "learner": track(("update", 4, 5))})
    whole, content = timeline.read(path), path.read_bytes()
    for size in range(0, len(content), 11):
        path.write_bytes(content[:size])
        kept = timeline.read(path)
        assert kept == whole[: len(kept)]
        assert len(kept) >= content[:size].count(b"}}") - 1
        resumed = TimelineFile(path, Clock())
        resumed.rewind(2)
        resumed.append(3, 3, update(3, 1.0))
        assert 3 in {one["args"]["update"] for _, one in spans_of(parsed(path))}


@pytest.mark.parametrize(
    "line", ["garbage", "{}", "[]", '{"ph": "X", "ts": "0"}', '{"ph": "X", "args": {}, "pid": 1, "tid": 1}', "\x00"]
)
def test_a_file_that_was_changed_is_named(path: Path, line: str) -> None:
    file = TimelineFile(path, Clock())
    file.append(1, 1, update(1, 0.0))
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:3], line, *lines[3:]]))
    with pytest.raises(InputError, match=r"line 4 is no event.*delete"):
        TimelineFile(path, Clock()).rewind(1)


def test_the_spans_can_be_read_back(path: Path) -> None:
    file = TimelineFile(path, Clock())
    file.append(1, 1, update(1, 0.0) | {"sampler-0": Track((Span("sample", 0, 4, worked=1.5, pieces=7),))})
    found = timeline.tracks(timeline.read(path))
    assert found["sampler-0"] == [Span("sample", 0, 4, 1.5, 7)]
    assert found["shard-0"] == [Span("play", 0, 2, 2), Span("play", 1, 3, 2)]


def test_the_parser_of_these_tests_refuses_what_a_viewer_would(tmp_path: Path) -> None:
    span: dict[str, Any] = {"name": "a", "ph": "X", "ts": 0, "dur": 5, "pid": 1, "tid": 1, "args": {}}
    for wrong in (
        [span | {"dur": -1}],
        [span | {"ts": "0"}],
        [span | {"ph": "Y"}],
        [{key: value for key, value in span.items() if key != "pid"}],
        [span, span | {"ts": 3, "dur": 9}],
    ):
        (tmp_path / "t.json").write_text("[\n" + ",\n".join(map(json.dumps, wrong)))
        with pytest.raises(AssertionError):
            parsed(tmp_path / "t.json")
    (tmp_path / "t.json").write_text("[\n" + ",\n".join(map(json.dumps, [span, span | {"ts": 1, "dur": 2}])))
    assert len(parsed(tmp_path / "t.json")) == 2
