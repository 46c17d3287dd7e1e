"""TensorBoard's files hold what was sent, as its own messages have it, through resumes and a full disk."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from chaosops_ray.telemetry.sinks import Described
from chaosops_ray.telemetry.table import samples
from chaosops_ray.telemetry.tensorboard import FOLDER, TensorBoardSink
from tests.support import runs
from tests.support.disk import mounted


def events(file: Path) -> list[Any]:
    """The events of a file, each with its checksums."""
    content, found = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        record = content[12 : 12 + length]
        for part, checksum in ((content[:8], content[8:12]), (record, content[12 + length : 16 + length])):
            assert struct.unpack("<I", checksum) == (masked_crc32c(part),)
        found.append(Event.FromString(record))
        content = content[16 + length :]
    return found


def files(run: Path) -> list[Path]:
    return sorted((run / FOLDER).iterdir())


def write(sink: TensorBoardSink, *updates: int) -> None:
    for update in updates:
        sink.write(samples(runs.row(update)), update)


def steps(found: list[Any]) -> list[tuple[int, bool]]:
    """The steps of the events, and whether each tells TensorBoard to drop what it had from there on."""
    return [(event.step, event.session_log.status == SessionLog.START) for event in found]


def test_what_was_sent_is_what_is_there(tmp_path: Path) -> None:
    sink = TensorBoardSink(Described("run", tmp_path, {}))
    write(sink, 1, 2)
    (file,) = files(tmp_path)
    first, *found = events(file)  # while it is open: a reader sees every update at once
    assert first.file_version == "brain.Event:2"
    assert steps(found) == [(1, True), (1, False), (2, False)]
    assert all(event.wall_time > 1e9 for event in found)
    there = {value.tag: value.simple_value for value in found[-1].summary.value}
    assert there == pytest.approx({one.key: one.value for one in samples(runs.row(2))}, rel=1e-6)
    sink.close()


def test_updates_that_are_made_again_replace_those_before(tmp_path: Path) -> None:
    """After a learner died, and after a resume, TensorBoard is told from which update on to forget."""
    sink = TensorBoardSink(Described("run", tmp_path, {}))
    write(sink, 1, 2, 3, 3)
    sink.close()
    again = TensorBoardSink(Described("run", tmp_path, {}))
    write(again, 3)
    again.close()
    one, other = files(tmp_path)
    assert steps(events(one)[1:]) == [(1, True), (1, False), (2, False), (3, False), (3, True), (3, False)]
    assert steps(events(other)[1:]) == [(3, True), (3, False)]


def test_a_full_disk_costs_the_updates_that_do_not_fit_and_no_other(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "256k") as disk:
        sink = TensorBoardSink(Described("run", disk.path, {}))
        write(sink, 1)
        disk.fill()
        # The page that the first event lies in has some room left.
        with pytest.raises(OSError, match="No space left"):
            write(sink, *range(2, 100))
        disk.clear()
        write(sink, 100)
        sink.close()
        (file,) = files(disk.path)
        there = [step for step, drops in steps(events(file)[1:]) if not drops]  # no event is there in part
        assert there == [*range(1, len(there)), 100]
        assert len(there) < 100
