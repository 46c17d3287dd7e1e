"""A run's folder after crashes: whole checkpoints, all lines of metrics up to them, one trainer at a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chaosops_ray.sim import ENVIRONMENTS, InputError
from chaosops_ray.store.files import sweep
from chaosops_ray.store.run_folder import CHECKPOINTS_KEPT, RunFolder
from tests.support.crashes import ROOT, stopped_at_each_step

CONFIG = "model: tiny\n"
INCIDENT = ENVIRONMENTS["incident"]
CHECKPOINTS_AGAIN = """
from chaosops_ray.store.run_folder import RunFolder

def save(run, done, text):
    with run.checkpoint(done) as path:
        (path / "state").write_text(text)
        sys.audit("step")
        (path / "more").write_text(text)

def prepare(folder):
    run = RunFolder.create(folder / "run", "")
    for done in (1, 2):
        save(run, done, f"before {done}")

def work(folder):
    save(RunFolder(folder / "run"), AGAIN, f"after {AGAIN}")
"""
CLAIMS = """
import sys, time
from pathlib import Path
from chaosops_ray.store.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).claimed():
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", CONFIG)


def save(run: RunFolder, done: int) -> None:
    with run.checkpoint(done) as path:
        (path / "state").write_text(str(done))


def names(folder: Path) -> list[str]:
    return sorted([path.name for path in folder.iterdir()])


# -- the folder -------------------------------------------------------------------------------------------------------


def test_a_new_run_has_its_configuration_and_takes_no_folder_with_contents(run: RunFolder) -> None:
    assert (run.path / "config.yaml").read_text() == CONFIG
    assert names(run.path) == ["adapters", "checkpoints", "config.yaml", "episodes"]
    with pytest.raises(InputError, match="not empty"):
        RunFolder.create(run.path, "other")
    assert (run.path / "config.yaml").read_text() == CONFIG


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml"):
        RunFolder(tmp_path)


def test_a_run_is_trained_by_one_process_at_a_time(run: RunFolder) -> None:
    with run.claimed(), pytest.raises(InputError, match="another process"), RunFolder(run.path).claimed():
        pass
    with run.claimed():
        pass


def test_a_claim_ends_with_its_process(run: RunFolder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLAIMS, str(run.path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"claimed\n"
        with pytest.raises(InputError, match="another process"), run.claimed():
            pass
        other.kill()
    with run.claimed():
        pass


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_the_last_checkpoints_are_kept(run: RunFolder) -> None:
    for done in (999_998, 999_999, 1_000_000):
        save(run, done)
    assert run.checkpoints() == [999_998, 999_999, 1_000_000][-CHECKPOINTS_KEPT:]
    assert names(run.path / "checkpoints") == [run.checkpoint_path(done).name for done in run.checkpoints()][::-1]
    for done in run.checkpoints():
        assert (run.checkpoint_path(done) / "state").read_text() == str(done)


def test_a_checkpoint_that_fails_leaves_the_others(run: RunFolder) -> None:
    save(run, 1)
    with pytest.raises(TypeError), run.checkpoint(1) as path:
        (path / "state").write_bytes(b"half" + None)  # type: ignore[operator]
    assert names(run.path / "checkpoints") == ["update-000001"]
    assert (run.checkpoint_path(1) / "state").read_text() == "1"


@pytest.mark.parametrize(("again", "kills"), [(2, True), (2, False), (3, True)])
def test_a_checkpoint_that_is_stopped_at_any_step_is_never_there_in_part(
    tmp_path: Path, *, again: int, kills: bool
) -> None:
    """The second one made again, as after a rewind; and a third one, for which the first is deleted."""
    *stopped, ended = stopped_at_each_step(tmp_path, CHECKPOINTS_AGAIN.replace("AGAIN", str(again)), kills=kills)
    assert len(stopped) >= 8
    for folder in (*stopped, ended):
        found = RunFolder(folder / "run")
        there = found.checkpoints()
        assert there, "no kill takes the last checkpoint"
        for done in there:
            texts = {(found.checkpoint_path(done) / name).read_text() for name in ("state", "more")}
            assert texts in ({f"before {done}"}, {f"after {done}"})
        found.rewind(max(there))
        assert names(found.path / "checkpoints") == [found.checkpoint_path(done).name for done in there]
    assert there == [again - 1, again]
    assert (found.checkpoint_path(again) / "state").read_text() == f"after {again}"


def test_metrics_are_on_disk_before_the_checkpoint_is(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that goes down afterwards leaves every line up to the checkpoint that the run is resumed from."""
    synced: dict[str, bool] = {}
    original = os.fsync

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced.setdefault(str(path.relative_to(run.path)), run.checkpoint_path(1).exists())
        original(handle)

    run.log({"update": 1})
    monkeypatch.setattr(os, "fsync", fsync)
    save(run, 1)
    assert synced["metrics.jsonl"] is False
    assert synced["."] is False
    assert synced["checkpoints"] is True


@pytest.mark.parametrize("damage", ["removed", "cut", "empty"])
@pytest.mark.parametrize("name", ["learner.pt", "loop.json", "contents.json"])
def test_what_the_error_of_a_damaged_checkpoint_advises_works(run: RunFolder, name: str, damage: str) -> None:
    for done in (1, 2):
        run.log({"update": done})
        with run.checkpoint(done) as path:
            for file in ("learner.pt", "loop.json"):
                (path / file).write_text(f"{file} after {done}")
    file = run.checkpoint_path(2) / name
    content = file.read_bytes()
    file.unlink()
    if damage != "removed":
        file.write_bytes(content[:-9] if damage == "cut" else b"")
    with pytest.raises(InputError) as told:
        run.last_checkpoint()
    assert str(file) in str(told.value)
    advised = re.search("; delete (.*) to resume after update 1$", str(told.value))
    assert advised
    shutil.rmtree(advised[1])
    last = RunFolder(run.path).last_checkpoint()
    assert last == run.checkpoint_path(1)
    assert (last / "learner.pt").read_text() == "learner.pt after 1"
    run.rewind(1)
    assert run.metrics() == [{"update": 1}]


# -- metrics and episodes ---------------------------------------------------------------------------------------------


def test_a_rewind_deletes_what_came_later_and_what_killed_writers_left(run: RunFolder) -> None:
    for update in (1, 2, 3):
        run.log({"update": update})
        (run.path / "episodes" / f"update-{update:06d}.parquet").touch()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"update": 4, "cut sho')
    for name in ("update-mine.parquet", "notes", ".update-000009.parquet.01234567.part"):
        (run.path / "episodes" / name).touch()
    (run.path / "checkpoints" / ".update-000009.01234567.part").mkdir()
    run.rewind(2)
    assert names(run.path / "episodes") == [
        "notes",
        "update-000001.parquet",
        "update-000002.parquet",
        "update-mine.parquet",
    ]
    assert names(run.path / "checkpoints") == []
    run.log({"update": 3})
    assert run.metrics() == [{"update": 1}, {"update": 2}, {"update": 3}]


def test_an_update_whose_line_is_still_to_be_written_keeps_its_episodes(run: RunFolder) -> None:
    for update in (1, 2, 3):
        run.log({"update": update})
        (run.path / "episodes" / f"update-{update:06d}.parquet").touch()
    run.rewind(2, logged=1)
    assert names(run.path / "episodes") == ["update-000001.parquet", "update-000002.parquet"]
    assert run.metrics() == [{"update": 1}]


@pytest.mark.parametrize("row", [{}, {"update": "3"}, {"update": True}, {"update": None}, {"update": 1.0}])
def test_a_line_of_metrics_without_its_update_is_an_input_error(run: RunFolder, row: dict[str, object]) -> None:
    run.log({"update": 1})
    run.log(row)
    for use in (run.metrics, lambda: run.rewind(0)):
        with pytest.raises(InputError, match=r"metrics\.jsonl, line 2"):
            use()


def test_a_run_under_other_rules_is_refused_by_name(run: RunFolder) -> None:
    run.log({"update": 1, "rules": "strict/2,catch=2.0,false_flag=0.0"})
    run.check_rules(INCIDENT, "strict/2")
    for configured in ("strict", "strict/1", "strict,scenery=classic"):
        with pytest.raises(InputError) as told:
            run.check_rules(INCIDENT, configured)
        for named in (str(run.path), "config.yaml: rules strict/1 are not", "strict/2 and published", "train it again"):
            assert named in str(told.value)
    run.log({"update": 2, "rules": "strict,catch=2.0,false_flag=0.0"})
    with pytest.raises(InputError, match=r"metrics\.jsonl: rules strict/1 are not played"):
        run.check_rules(INCIDENT, "strict/2")


@pytest.mark.parametrize("rules", [{}, {"rules": None}, {"rules": ["strict/2"]}])
def test_a_line_of_metrics_without_its_rules_is_refused(run: RunFolder, rules: dict[str, object]) -> None:
    run.log({"update": 1, **rules})
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1"):
        run.check_rules(INCIDENT, "strict/2")


def test_metrics_of_a_run_that_has_made_none(run: RunFolder) -> None:
    assert run.metrics() == []
    run.rewind(0)
    sweep(run.path)
    assert run.metrics() == []
