"""Pages are told of what is new: by a stream that ends, and that no damage ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from chaosops_ray.serve.control_room import events
from chaosops_ray.serve.control_room.events import CHANGED, changes
from chaosops_ray.serve.control_room.locks import key, locked_files
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.serve.control_room.runs import Runs
from tests.support import runs
from tests.support.control_room import opened


def streamed(room: Room, look: Callable[[], object], *steps: Callable[[], object]) -> list[str]:
    """What a stream says when these things happen, one before each time that it looks."""
    waiting = iter(steps)

    async def pause() -> None:
        next(waiting)()

    async def said() -> list[str]:
        return [event async for event in changes(room, look, look(), pause, len(steps))]

    try:
        return asyncio.run(said())
    finally:
        room.close()


def nothing() -> None:
    pass


def test_a_line_of_metrics_is_told_once(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "one", 1)
    room = Room(Runs(tmp_path))
    said = streamed(
        room,
        partial(room.runs.token, "one"),
        nothing,
        partial(run.log, runs.row(2)),
        nothing,
        partial(run.log, runs.row(3)),
    )
    assert said[1:] == [CHANGED, CHANGED]


def test_a_new_run_is_told_in_the_list(tmp_path: Path) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1
        return now

    room = Room(Runs(tmp_path, clock))
    look = partial(events.of_all, room)
    assert streamed(room, look, nothing, partial(runs.folder, tmp_path / "one", 1), nothing)[1:] == [CHANGED]


def test_a_run_that_is_moved_away_ends_no_stream(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "one", 1)
    room = Room(Runs(tmp_path))
    away = tmp_path / "two"
    said = streamed(
        room,
        partial(room.runs.token, "one"),
        lambda: run.path.rename(away),
        lambda: away.rename(run.path),
        partial(run.log, runs.row(2)),
    )
    assert said[1:] == [CHANGED]


def test_a_silent_stream_says_that_it_is_there(tmp_path: Path) -> None:
    runs.folder(tmp_path / "one", 1)
    room = Room(Runs(tmp_path))
    assert streamed(room, partial(room.runs.token, "one"), *[nothing] * 31)[1:] == [": still here\n\n"] * 2


def test_streams_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", 0)
    with opened(tmp_path) as client:
        assert client.get("/api/events").status_code == 429


def test_a_run_whose_metrics_grow_is_running_though_no_lock_is_seen(tmp_path: Path) -> None:
    """As when it is trained on another machine; two minutes later it is not any more."""
    now = 0.0
    run = runs.folder(tmp_path / "one", 1)
    found = Runs(tmp_path, lambda: now)
    assert found.summary("one").state == "to be resumed"
    run.log(runs.row(2))
    assert (found.summary("one").state, found.summary("one").age()) == ("running", "0 s ago")
    now = 119.0
    assert found.summary("one").state == "running"
    now = 121.0
    assert (found.summary("one").state, found.summary("one").age()) == ("to be resumed", "2 min ago")


def test_the_age_of_a_line_that_was_there_before_is_a_lower_bound(tmp_path: Path) -> None:
    now = 0.0
    runs.folder(tmp_path / "one", 1)
    found = Runs(tmp_path, lambda: now)
    now = 3700.0
    assert found.summary("one").age() == "more than 1 h ago"


def test_the_list_of_locks_is_read_and_a_waiting_process_holds_none(tmp_path: Path) -> None:
    run = runs.folder(tmp_path / "one", 1)
    config = run.path / "config.yaml"
    with run.claimed():
        assert key(config.stat()) in locked_files()
        # Looking took no lock: a second trainer is refused because of the first, and not because of the look.
    with run.claimed():
        pass
    listing = tmp_path / "locks"
    listing.write_text("1: -> FLOCK ADVISORY WRITE 9 fe:00:77 0 EOF\n2: POSIX ADVISORY READ 9 fe:00:78 0 EOF\nodd\n")
    assert locked_files(listing) == frozenset()
    assert locked_files(tmp_path / "none") == frozenset()
