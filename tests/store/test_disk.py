"""A disk that is full, or becomes read-only, at each kind of write: the file and the remedy are named, nothing is half-written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from chaosops_ray import cli
from chaosops_ray.cli import main
from chaosops_ray.config import ConfigError
from chaosops_ray.reports import run_report
from chaosops_ray.sim import InputError, play
from chaosops_ray.store.episodes import read_episodes, write_episodes
from chaosops_ray.store.files import append_line, in_words, naming, read_lines
from chaosops_ray.store.run_folder import CHECKPOINTS, CONFIG, EPISODES, METRICS, RunFolder
from chaosops_ray.training import tiny
from tests.support import runs
from tests.support.disk import Disk, mounted
from tests.support.runs import INCIDENT

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", "4m") as made:
        yield made


def log(run: RunFolder) -> None:
    run.log(runs.row(1))


def record(run: RunFolder) -> None:
    (scenario, *_) = INCIDENT.scenarios("published", [1000])
    with write_episodes(run.path / EPISODES / "update-000001.parquet") as writer:
        for _ in range(20):
            episode = play(INCIDENT, scenario, runs.RULES, INCIDENT.policies["random"](scenario, runs.RULES))
            writer.add(INCIDENT, "random", episode)


def checkpoint(run: RunFolder) -> None:
    with run.checkpoint(1) as folder:
        (folder / "learner.pt").write_bytes(bytes(10 * PAGE))
        (folder / "loop.json").write_text("{}" * PAGE)


def evaluation(run: RunFolder) -> None:
    (run.path / METRICS).touch()
    run.finish([{"scenario": "x" * PAGE}] * 4, {"cells": ["y" * 4 * PAGE]})


def report(run: RunFolder) -> None:
    run_report.write(run, INCIDENT)


# Each with the part of the name that its error must have.
WRITES: Mapping[str, tuple[Callable[[RunFolder], None], str]] = {
    "a line of metrics": (log, METRICS),
    "episodes": (record, f"{EPISODES}/update-000001.parquet"),
    "a checkpoint": (checkpoint, f"{CHECKPOINTS}/update-000001"),
    "an evaluation": (evaluation, "evaluation"),
    "a report": (report, "report.html"),
}


def said(work: Callable[[], None]) -> str:
    """The line of the error that the work must end with."""
    with pytest.raises((OSError, InputError)) as caught:
        work()
    line = in_words(caught.value) if isinstance(caught.value, OSError) else str(caught.value)
    assert line is not None
    assert "\n" not in line
    return line


@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_leaves_nothing_half_written(disk: Disk, write: str) -> None:
    """With no room at all, and with room for one page, three and seven."""
    work, named = WRITES[write]
    run = RunFolder.create(disk.path / "run", runs.CONFIG)
    before = disk.names()
    failed = 0
    for pages in (0, 1, 3, 7):
        disk.fill(but=pages * PAGE)
        try:
            work(run)
        except (OSError, InputError) as error:
            line = in_words(error) if isinstance(error, OSError) else str(error)
            assert line is not None
            assert f"{run.path}/{named}" in line
            assert os.strerror(errno.ENOSPC) in line
            assert "make room there" in line
            left = set(disk.names()) - set(before)
            # What came before the file that has no room is whole: results before their evaluation, a line that fits.
            assert left <= {f"run/{METRICS}", "run/evaluation-results.jsonl"}
            assert not (run.path / METRICS).exists() or not (run.path / METRICS).read_bytes()
            failed += 1
    assert failed >= 1
    disk.clear()
    work(run)


@pytest.mark.parametrize("write", WRITES)
def test_a_disk_that_becomes_read_only_is_named(disk: Disk, write: str) -> None:
    run = RunFolder.create(disk.path / "run", runs.CONFIG)
    (run.path / METRICS).touch()
    before = disk.names()
    disk.remount("ro")
    line = said(lambda: WRITES[write][0](run))
    assert str(run.path) in line
    assert "read-only" in line.lower()
    assert disk.names() == before
    disk.remount("rw")
    WRITES[write][0](run)


def test_a_line_is_appended_whole_or_not_at_all(disk: Disk) -> None:
    """Lines of very different lengths until the disk is full, and on when there is room again."""
    path = disk.path / "lines"
    disk.fill(but=4 * PAGE)
    rows = [{"n": n, "text": "x" * (n * 997 % 3000)} for n in range(40)]
    kept = []
    for row in rows:
        try:
            append_line(path, row)
        except OSError as error:
            assert in_words(error) == f"{path}: No space left on device; make room there"
        else:
            kept.append(row)
    assert 0 < len(kept) < len(rows)
    disk.clear()
    append_line(path, {"n": -1})
    assert read_lines(path) == [*kept, {"n": -1}]


def test_a_recording_that_was_there_stays(disk: Disk) -> None:
    run = RunFolder.create(disk.path / "run", runs.CONFIG)
    record(run)
    path = run.path / EPISODES / "update-000001.parquet"
    before = path.read_bytes()
    disk.fill(but=PAGE)
    said(lambda: record(run))
    assert path.read_bytes() == before
    assert len(list(read_episodes(path))) == 20


# -- what is not training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--json", "--episodes", "--plots"])
def test_evaluate_on_a_full_disk_is_one_line(disk: Disk, capsys: pytest.CaptureFixture[str], option: str) -> None:
    path = disk.path if option == "--plots" else disk.path / "out"
    given = ["evaluate", "--policies", "random", "--seeds", "1000", option, str(path)]
    disk.fill(but=PAGE)
    assert main(given) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert str(path) in err
    assert "No space left on device; make room there, then run the command again" in err
    assert "wrote" not in out
    assert disk.names() == []
    disk.clear()
    assert main(given) == 0


def test_the_tiny_model_asks_for_room_before_it_is_made(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOSOPS_CACHE", str(disk.path / "cache"))
    asked: list[int] = []
    with pytest.raises(ConfigError, match=f"{disk.path}/cache/tiny-.*No space.*CHAOSOPS_CACHE"):
        tiny.ensure(INCIDENT, tiny.RECIPES["tiny"], lambda done, _: asked.append(done))
    assert not asked
    (disk.path / "cache").rmdir()
    disk.remount("ro")
    with pytest.raises(ConfigError, match=r"Read-only file system.*CHAOSOPS_CACHE"):
        tiny.ensure(INCIDENT, tiny.RECIPES["tiny"])


# -- files of a run that change while it trains ------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", [METRICS, CONFIG])
@pytest.mark.parametrize("change", [Path.unlink, cut], ids=["removed", "cut"])
def test_a_run_that_is_changed_while_it_trains_stops_and_says_so(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    run = RunFolder.create(tmp_path / "run", runs.CONFIG)
    run.rewind(0)
    run.log({"update": 1})
    with run.checkpoint(1):
        pass
    run.log({"update": 2})
    change(run.path / name)
    for write in (lambda: run.log({"update": 3}), lambda: checkpoint(run)):
        with pytest.raises(InputError, match=name):
            write()
    assert run.checkpoints() == [1]


# -- errors in words ---------------------------------------------------------------------------------------------------


def test_only_errors_of_a_file_system_are_put_into_words() -> None:
    assert in_words(OSError(errno.EIO, "x", "/a\nb")) == "/a b: Input/output error; check the disk and its mount"
    assert in_words(OSError(errno.ENOSPC, "x")) == "the disk: No space left on device; make room there"
    for other in (
        OSError("text"),
        ConnectionRefusedError(errno.ECONNREFUSED, "x"),
        TimeoutError(),
        OSError(errno.EIO, "x"),
    ):
        assert in_words(other) is None


def test_an_error_without_a_file_gets_the_one_that_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, naming(tmp_path):
        raise OSError(errno.ENOSPC, "x")
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(OSError) as caught, naming(tmp_path):
        raise OSError(errno.ENOSPC, "x", "/other")
    assert caught.value.filename == "/other"


class CrossedError(OSError):
    """As Ray's wrapper of an error of another process."""

    def __init__(self, cause: OSError) -> None:
        super().__init__("a traceback\nof many lines")
        self.cause = cause


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (OSError(errno.ENOSPC, "x", "/run/metrics.jsonl"), 2),
        (CrossedError(OSError(errno.ENOSPC, "x", "/run/metrics.jsonl")), 2),
        (CrossedError(OSError("no number")), None),
    ],
)
def test_a_command_prints_an_error_of_the_file_system_as_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: OSError, code: int | None
) -> None:
    def fail(_given: object) -> int:
        raise raised

    fail.__name__ = "_train"
    monkeypatch.setattr(cli, "_train", fail)
    if code is None:
        with pytest.raises(OSError):
            main(["train", "x.yaml"])
        return
    assert main(["train", "x.yaml"]) == code
    assert capsys.readouterr().err == (
        "chaosops train: /run/metrics.jsonl: No space left on device; make room there, then run the command again, "
        "or continue it with --resume if it has begun\n"
    )
