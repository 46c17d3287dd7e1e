"""The chaos suite: its short form on real runs, and that it would notice a run that is otherwise."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import chaos
from chaosops_ray.sim import environment_named
from chaosops_ray.store import episodes, files, run_folder
from scripts import failure_modes

ROOT = Path(__file__).parents[1]
INCIDENT = environment_named("incident")


@pytest.mark.cluster
def test_runs_whose_parts_are_killed_and_stopped_end_as_if_nothing_had_been(tmp_path: Path) -> None:
    """The short form. A Ray that somebody else started, or that is only said to be there, is nobody's business."""
    out, kept = tmp_path / "figures.json", tmp_path / "kept"
    command = [sys.executable, "benchmarks/chaos.py", "--short", "--out", str(kept), "--json", str(out)]
    elsewhere = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "127.0.0.1:1"}
    ran = subprocess.run(command, cwd=ROOT, env=elsewhere, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = json.loads(out.read_text())
    assert figures["episodes_lost"] == figures["processes_left"] == 0
    rounds = {name: row["survived"] for name, row in figures["rounds"].items()}
    assert rounds == {f"{target} {kind}": count for (target, kind), count in chaos.SHORT.items()}
    assert "episodes lost: 0" in ran.stdout
    assert not chaos.marked(chaos.Suite(kept, {}, 0, short=True).mark)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("stop", chaos.STOPS)
def test_a_suite_that_is_ended_leaves_no_process_and_no_run(tmp_path: Path, stop: signal.Signals) -> None:
    """While it runs on a cluster, and in the background, where a shell has SIGINT ignored."""
    suite = chaos.Suite(tmp_path, {}, 0, short=True)
    suite.reference.mkdir(parents=True)
    (suite.reference / run_folder.EVALUATION).touch()  # so that the disturbed run begins at once
    command = [sys.executable, "benchmarks/chaos.py", "--short", "--out", str(tmp_path)]
    ended = subprocess.Popen(["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command], cwd=ROOT)
    while not chaos.marked(f"{suite.mark}1/driver/"):
        assert ended.poll() is None
    ended.send_signal(stop)
    assert ended.wait(120) == 128 + stop
    assert not chaos.marked(suite.mark)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "reference", "suite.json"]


# -- what it would notice ---------------------------------------------------------------------------------------------


def recorded(path: Path) -> Path:
    """A folder with two updates, their episodes and an evaluation."""
    (path / run_folder.EPISODES).mkdir(parents=True)
    for update in (1, 2):
        files.append_line(path / run_folder.METRICS, {"update": update, "digest": f"{update:064x}", "time": {"a": 1.0}})
        scenario = INCIDENT.scenarios("published", [update])[0]
        with episodes.write_episodes(path / run_folder.EPISODES / f"update-{update:06d}.parquet") as writer:
            writer.add(INCIDENT, "oracle", played(scenario))
    files.write_lines(path / run_folder.RESULTS, [{"policy": "trained", "value": 1.0}])
    return path


def played(scenario: Any) -> Any:
    from chaosops_ray import evaluate

    players = evaluate.baselines(INCIDENT, "oracle", {})
    ((_, one),) = evaluate.play_all(players, [scenario], INCIDENT.rules("strict"))
    return one.episode


def another_digest(run: Path) -> None:
    rows = files.read_lines(run / run_folder.METRICS)
    files.write_lines(run / run_folder.METRICS, [rows[0], {**rows[1], "digest": "0" * 64}])


def a_line_less(run: Path) -> None:
    files.write_lines(run / run_folder.METRICS, files.read_lines(run / run_folder.METRICS)[:1])


def another_result(run: Path) -> None:
    files.write_lines(run / run_folder.RESULTS, [{"policy": "trained", "value": 2.0}])


def episodes_less(run: Path) -> None:
    (run / run_folder.EPISODES / "update-000002.parquet").unlink()


def other_episodes(run: Path) -> None:
    shutil.copy(
        run / run_folder.EPISODES / "update-000001.parquet", run / run_folder.EPISODES / "update-000002.parquet"
    )


def a_file_more(run: Path) -> None:
    (run / run_folder.EPISODES / ".update-000003.parquet.0123abcd.part").touch()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (another_digest, "metrics.jsonl: 2 lines of 2, the first that differs is 2"),
        (a_line_less, "metrics.jsonl: 1 lines of 2, the first that differs is missing"),
        (another_result, "evaluation-results.jsonl"),
        (episodes_less, "update-000002.parquet is missing"),
        (other_episodes, "update-000002.parquet differs"),
        (a_file_more, ".part is nothing that a run leaves"),
    ],
)
def test_a_run_that_is_otherwise_is_noticed(tmp_path: Path, change: Any, named: str) -> None:
    reference = recorded(tmp_path / "reference")
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    change(run)
    (told,) = chaos.differences(reference, run)
    assert named in told


def test_what_tells_of_the_machine_only_is_no_difference(tmp_path: Path) -> None:
    reference = recorded(tmp_path / "reference")
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    rows = files.read_lines(run / run_folder.METRICS)
    files.write_lines(run / run_folder.METRICS, [{**row, "time": {"a": 9.0}, "actors_replaced": 3} for row in rows])
    assert chaos.differences(reference, run) == []
    assert chaos.episodes(reference) == 2


def test_a_line_is_new_once_and_one_of_a_rewritten_file_is_old(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = chaos.Lines(path)
    assert not lines.new()
    for update in (1, 2):
        files.append_line(path, {"update": update})
        assert (lines.new(), lines.new()) == (True, False)
    files.write_lines(path, [{"update": 1}])
    assert not lines.new()
    files.append_line(path, {"update": 2})
    assert lines.new()
    assert lines.count == 2


def test_a_run_that_failed_survived_nothing() -> None:
    strike = {"target": "shard", "signal": "kill", "after_updates": 1, "recovered": 2.0}
    run = {
        "code": 0,
        "differences": [],
        "left": [],
        "episodes_lost": 0,
        "load": 1.0,
        "strikes": [strike, {**strike, "recovered": 4}],
    }
    figures = chaos.summary([run, {**run, "code": 1}, {**run, "differences": ["x"], "left": ["raylet"]}])
    assert figures["rounds"]["shard kill"] == {"rounds": 6, "survived": 2, "median": 3.0, "worst": 4}
    assert (figures["runs"], figures["ended"], figures["equal"], figures["processes_left"]) == (3, 2, 1, 1)


def test_the_same_seed_plans_the_same_moments() -> None:
    left = Counter({("shard", "kill"): 5, ("driver", "stop"): 3, ("node", "kill"): 2})

    def planned(seed: int, *, on_nodes: bool) -> list[chaos.Strike]:
        return list(chaos.plan(left, random.Random(seed), on_nodes=on_nodes, short=False))

    assert planned(1, on_nodes=False) == planned(1, on_nodes=False) != planned(2, on_nodes=False)
    assert [one.target for one in planned(1, on_nodes=True)].count("node") == 2
    assert {one.target for one in planned(1, on_nodes=False)} == {"shard", "driver"}


def test_processes_are_found_by_their_mark_and_only_those() -> None:
    command = [sys.executable, "-c", "input()"]
    mine, other = [
        subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, chaos.MARK: mark})
        for mark in ("a-test/1/", "a-test/10/")
    ]
    try:
        assert [process.pid for process in chaos.marked("a-test/1/")] == [mine.pid]
        assert chaos.gone("a-test/1/", 0) != []
        assert mine.wait() == -signal.SIGKILL
        assert psutil.Process(other.pid).is_running()
    finally:
        for process in (mine, other):
            process.kill()
            process.communicate()


def test_a_process_that_has_overwritten_the_beginning_of_its_environment_has_its_mark() -> None:
    mark = f"{chaos.MARK}=a-test/1/".encode()
    for environment in (mark, b"A=b\0" + mark + b"\0C=d\0", bytes(60) + b"ray::Agent\0" + mark + b"\0"):
        assert chaos.carries(environment, "a-test/")
        assert not chaos.carries(environment, "a-test/10")
    assert not chaos.carries(b"A=" + mark, "a-test/1/")


# -- its page ---------------------------------------------------------------------------------------------------------


def test_the_page_of_failure_modes_is_made_from_the_figures_of_the_suite() -> None:
    assert (ROOT / "docs" / "failure-modes.md").read_text() == failure_modes.reference(), "run `make docs`"


def test_the_page_has_a_row_for_everything_that_the_suite_does_and_nothing_else() -> None:
    assert [(mode.target, mode.signal) for mode in failure_modes.MODES] == [*chaos.ROUNDS]
    figures = json.loads(failure_modes.FIGURES.read_text())
    assert [*figures["rounds"]] == [f"{target} {kind}" for target, kind in chaos.ROUNDS]
    assert figures["ended"] == figures["equal"] == figures["runs"]
    assert figures["episodes_lost"] == figures["processes_left"] == 0


@pytest.mark.parametrize("test", [case.test for cases in failure_modes.CASES.values() for case in cases])
def test_each_other_case_has_the_test_that_the_page_names(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text()
