"""Sweeps on a real Ray: side by side, retried, resumed; and what is said of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import ray
import yaml
from ray.util.placement_group import placement_group, remove_placement_group

from chaosops_ray.cli import main
from chaosops_ray.process_environment import set_variables
from chaosops_ray.store import run_folder
from chaosops_ray.sweeps import runner, spec
from chaosops_ray.training import launch
from tests.support.cluster import SMALL
from tests.support.sweeps import CONFIGS
from tests.sweeps.test_spec import RUNS, SWEEPS, TWINS

# Two arms that do well, one that its alarm stops, and one that never gets its episodes in time.
ARMS = {
    "plain": {"extends": str(CONFIGS / "3a.yaml"), "batch": {"group": 4}},
    "other": {"extends": str(CONFIGS / "3a.yaml"), "batch": {"group": 5}},
    "alarmed": {"extends": str(CONFIGS / "3a.yaml"), "batch": {"group": 4}, "alarm": {"kl": 1e-9, "action": "abort"}},
    "hurried": {"extends": str(CONFIGS / "3a.yaml"), "rollout": {"deadline": 1e-6, "retries": 0}},
}
CLAIM = {"claim": "More episodes, more return.", "more": "other", "than": "plain", "on": "hard"}
SETTINGS = (*[s for s in SMALL if not s.startswith("batch.group")], "checkpoint_every=1", "evaluation.seeds=1000")


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "small.yaml"
    # What the extended file's tiny section says would win over what an arm says outside its own.
    arms = {name: {**arm, "tiny": {k: v for k, v in arm.items() if k != "extends"}} for name, arm in ARMS.items()}
    written = {"arms": arms, "seeds": "0", "reference": "plain", "retries": 1, "hypotheses": [CLAIM]}
    path.write_text(json.dumps(written))
    return path


def begun(sweep_file: Path, out: Path) -> subprocess.Popen[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return chaosops("tune", str(sweep_file), *settings, "--out", str(out))


def chaosops(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaosops_ray.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=600)
    return process.returncode, said


@pytest.fixture(scope="module")
def undisturbed(sweep_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A sweep from beginning to end: its folder, exit code and output."""
    out = tmp_path_factory.mktemp("undisturbed") / "small"
    return out, *ended(begun(sweep_file, out))


@pytest.mark.cluster
def test_a_sweep_ends_in_a_report_and_a_failed_trial_is_in_it(undisturbed: tuple[Path, int, str]) -> None:
    out, code, said = undisturbed
    assert code == 1, said  # one has failed
    assert re.search(r"alarmed-s0 failed: update \d: KL to the base is", said)
    assert "hurried-s0 failed: u0/g0" in said
    assert "undecided: More episodes, more return." in said
    assert said.endswith(f"report: {out / 'report.html'}\n")
    found = json.loads((out / "comparison.json").read_text())
    states = {one["trial"]: (one["state"], one["updates"]) for one in found["trials"]}
    alarmed = states.pop("alarmed-s0")
    assert alarmed[0] == "failed"
    assert alarmed[1] in (1, 2, 3)
    assert states == {"plain-s0": ("finished", 4), "other-s0": ("finished", 4), "hurried-s0": ("failed", 0)}
    assert {cell["policy"] for cell in found["cells"]} == {"plain", "other", "random", "heuristic", "oracle"}
    episodes = {one["trial"]: one["episodes"] for one in found["trials"]}
    assert episodes["other-s0"] * 4 == episodes["plain-s0"] * 5


@pytest.mark.cluster
def test_a_trial_that_failed_was_retried_from_its_last_checkpoint(undisturbed: tuple[Path, int, str]) -> None:
    _, _, said = undisturbed
    assert said.count("hurried-s0: failed, goes on from its last checkpoint") == 1
    assert said.count("hurried-s0: failed: u0/g0") == 1
    # An alarm is no accident: to go on after it would be to overrule it.
    assert "alarmed-s0: failed, goes on" not in said
    assert said.count("alarmed-s0: failed: update") == 1


@pytest.mark.cluster
def test_every_trial_is_a_run_folder_with_its_own_report_and_metrics(undisturbed: tuple[Path, int, str]) -> None:
    out, _, _ = undisturbed
    for name in ("plain-s0", "other-s0"):
        folder = run_folder.RunFolder(out / "trials" / name)
        assert [row["update"] for row in folder.metrics()] == [1, 2, 3, 4]
        assert (folder.path / "report.html").is_file()
    assert logged(out, 1, "plain-s0") == [1, 2, 3, 4]


def logged(out: Path, session: int, trial: str) -> list[int]:
    """The updates that Tune has logged for a trial since the sweep was begun, or resumed for the n-th time."""
    (path,) = (out / "tune" / str(session)).glob(f"trial_*{trial}*/result.json")
    return [json.loads(line)["update"] for line in path.read_text().splitlines()]


def first_checkpoint(out: Path, process: subprocess.Popen[str]) -> str:
    """Wait until a trial has made a checkpoint; its name."""
    until = monotonic() + 300
    while not (found := list(out.glob("trials/*/checkpoints/update-*"))):
        assert process.poll() is None, process.communicate()[0]
        assert monotonic() < until, "no trial has made a checkpoint"
        sleep(0.05)
    return found[0].parents[1].name


@pytest.mark.cluster
def test_a_driver_that_was_killed_is_resumed_and_ends_in_the_same_report(
    sweep_file: Path, undisturbed: tuple[Path, int, str], tmp_path: Path
) -> None:
    out = tmp_path / "small"
    process = begun(sweep_file, out)
    begun_before = first_checkpoint(out, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "report.md").exists()
    code, said = ended(chaosops("tune", "--resume", str(out)))
    assert code == 1, said
    for name in ("report.md", "comparison.json"):
        assert (out / name).read_bytes() == (undisturbed[0] / name).read_bytes()
    assert logged(out, 2, begun_before)[0] > 1  # it went on, and did not begin again
    # Over once more: nothing is played again but what failed.
    before = (out / "trials/plain-s0/metrics.jsonl").read_bytes()
    code, _ = ended(chaosops("tune", "--resume", str(out)))
    assert code == 1
    assert (out / "trials/plain-s0/metrics.jsonl").read_bytes() == before
    assert (out / "report.md").read_bytes() == (undisturbed[0] / "report.md").read_bytes()


@pytest.mark.cluster
def test_who_does_worse_is_stopped_early_and_who_stays_is_evaluated(tmp_path: Path) -> None:
    # Hard pays less than easy from the start, and only one of them fits on two CPUs: the second is judged by the first.
    arms = {
        tier: {"extends": str(CONFIGS / "3a.yaml"), "tiny": {"curriculum": f"{tier}:4"}} for tier in ("easy", "hard")
    }
    path = tmp_path / "race.yaml"
    stop = {"keep": 0.5, "after": 0.25}
    path.write_text(json.dumps({"arms": arms, "seeds": "0", "reference": "easy", "stop_early": stop}))
    settings = [s for s in SETTINGS if not s.startswith("curriculum")] + ["resources.learner_cpus=1.2"]
    given = [word for setting in settings for word in ("--set", setting)]
    out = tmp_path / "race"
    code, said = ended(chaosops("tune", str(path), *given, "--out", str(out)))
    assert code == 0, said
    found = json.loads((out / "comparison.json").read_text())
    states = {one["trial"]: (one["state"], one["why"], one["updates"]) for one in found["trials"]}
    assert states["easy-s0"] == ("finished", "", 4)
    state, why, updates = states["hard-s0"]
    assert (state, why) == ("stopped", "did worse than the others")
    assert updates < 4


# -- what a person can get wrong --------------------------------------------------------------------------------------

PHASE3 = str(CONFIGS / "phase3.yaml")
MISTAKES = {
    "nothing": ([], "give a sweep to begin"),
    "a run": ([str(CONFIGS / "3a.yaml")], "start it by: chaosops train"),
    "no such file": (["/no/such.yaml"], "cannot read /no/such.yaml"),
    "a typo in a setting": ([PHASE3, "--set", "learner.lora_rnk=8"], "did you mean lora_rank"),
    "a seed": ([PHASE3, "--set", "seed=1"], "give --seeds"),
    "seeds that are none": ([PHASE3, "--seeds", "few"], "are no range"),
    "a pause that nobody would end": ([PHASE3, "--set", "alarm.action=pause"], "alarm.action"),
    "no such sweep": (["--resume", "/no/such/sweep"], "sweep.yaml"),
    "both": ([PHASE3, "--resume", "x"], "give a sweep to begin"),
    "resume otherwise": (["--resume", "x", "--seeds", "1"], "as it was"),
    "nowhere to write": ([PHASE3, "--set", "model=tiny", "--out", "/proc/sweep"], "/proc"),
    "too small a machine": ([PHASE3, "--set", "model=tiny", "--set", "resources.learner_gpus=64"], "64"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    arguments, words = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *arguments]) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert err.count("\n") == 1
    assert "report" not in out
    assert not list(tmp_path.iterdir())


def test_explain_says_what_would_be_started_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", PHASE3, "--set", "model=tiny", "--seeds", "7", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "  3b-s7: tiny-half, 160 updates, 0.55 CPU\n" in out
    assert yaml.safe_load(out.partition("\ntrials,")[0])["reference"] == "3a"
    assert not list(tmp_path.iterdir())


# -- placing ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_cluster() -> Iterator[None]:
    """Only said to be large: placement is tried out, nothing runs."""
    set_variables()
    ray.init(num_cpus=32, num_gpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def runs_of(path: Path, settings: list[str]) -> list[Any]:
    if path in RUNS:
        return [launch.read(path, settings, None)]
    return [trial.run for trial in spec.load_sweep(path, settings)[1]]


@pytest.mark.cluster
@TWINS
@pytest.mark.parametrize("path", [*RUNS, *SWEEPS], ids=lambda path: path.stem)
def test_every_configuration_can_be_placed(large_cluster: None, path: Path, settings: list[str]) -> None:  # noqa: ARG001
    for run in runs_of(path, settings)[:3]:
        factory = runner.placement(run)
        group = placement_group(factory.bundles, strategy=factory.strategy)
        try:
            ray.get(group.ready(), timeout=60)
        finally:
            remove_placement_group(group)
