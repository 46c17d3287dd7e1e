"""A sweep's mistakes: one line, exit code 2, nothing begun. Its trials on Tune: compared, stopped, retried."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from chaosops_ray.cli import main
from chaosops_ray.reports.sweep_progress import SweepProgress
from chaosops_ray.store import files, run_folder
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.sweeps import runner, spec
from chaosops_ray.training import check, loop
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.stop import Stop, StopError
from tests.support import runs
from tests.support.cluster import SMALL, ray_here
from tests.support.models import tiny_base
from tests.support.sweeps import CONFIGS

PHASE3 = str(CONFIGS / "phase3.yaml")
MISTAKES = {
    "nothing": ([], "--resume"),
    "a run": ([str(CONFIGS / "3a.yaml")], "chaosops train"),
    "no such file": (["/no/such.yaml"], "/no/such.yaml"),
    "a typo in a setting": ([PHASE3, "--set", "learner.lora_rnk=8"], "learner.lora_rnk"),
    "a seed": ([PHASE3, "--set", "seed=1"], "--seeds"),
    "seeds that are none": ([PHASE3, "--seeds", "few"], "few"),
    "a pause that nobody would end": ([PHASE3, "--set", "alarm.action=pause"], "alarm.action"),
    "no such sweep": (["--resume", "/no/such/sweep"], "/no/such/sweep"),
    "both": ([PHASE3, "--resume", "x"], "--resume"),
    "resume otherwise": (["--resume", "x", "--seeds", "1"], "--resume"),
    "nowhere to write": ([PHASE3, "--set", "model=tiny", "--out", "/dev/null/sweep"], "/dev/null"),
    "too small a machine": ([PHASE3, "--set", "model=tiny", "--set", "resources.learner_gpus=64"], "resources"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    arguments, key = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *arguments]) == 2
    out, err = capsys.readouterr()
    assert key in err
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


# What each trial of the race gets an episode; the last is not to come that far.
PAYS = {"good-s0": 1.0, "poor-s0": -1.0}


def scripted() -> runner.Finish:
    """Trains nothing: reports rows, and leaves what a run that is over leaves; or fails.

    A function in a function, which Ray sends as it is: of one in a module, the trial would import the module first.
    """

    def finish(training: loop.Training, watch: loop.Watch, _say: loop.Say, _patience: float) -> None:
        folder = training.folder
        if folder.path.name not in PAYS:
            raise PoolError("u0/g0 was played by nobody")
        for update in range(1, training.run.updates + 1):
            found = runs.row(update) | {"tiers": {"easy": {"mean": PAYS[folder.path.name]}}}
            folder.log(found)
            watch(found)
        files.write_lines(folder.path / run_folder.RESULTS, [])
        files.write_json(folder.path / run_folder.EVALUATION, {})

    return finish


@pytest.mark.cluster
def test_who_does_worse_is_stopped_early_and_who_fails_is_retried(tmp_path: Path) -> None:
    """One trial after the other: the second is judged by the first, and the third never reports."""
    arms = {name: {"extends": str(CONFIGS / "3a.yaml")} for name in ("good", "poor", "broken")}
    stop = {"keep": 0.5, "after": 0.25}
    path = tmp_path / "race.yaml"
    path.write_text(json.dumps({"arms": arms, "seeds": "0", "reference": "good", "retries": 1, "stop_early": stop}))
    sweep, trials = spec.load_sweep(path, [*SMALL, "resources.learner_cpus=1.2"])  # two CPUs hold one at a time
    out = tmp_path / "race"
    for trial in trials:
        RunFolder.create(out / spec.TRIALS / trial.name, check.written(trial.run))
    screen = io.StringIO()
    tiny_base()
    lengths = [(trial.name, trial.run.updates) for trial in trials]
    with ray_here(cpus=2, gpus=0), SweepProgress(Console(file=screen), runs.INCIDENT, "race", lengths) as progress:
        watch = runner.Watch(progress, out / spec.TRIALS, trials, Stop(), stops_early=True)
        runner.tuner(out, sweep, trials, watch, scripted()).fit()
    ended = [runner.outcome(trial, out / spec.TRIALS / trial.name, runs.INCIDENT, watch.failed) for trial in trials]
    assert [(one.state, len(one.rows)) for one in ended] == [("finished", 4), ("stopped", 1), ("failed", 0)]
    assert ended[2].why == "u0/g0 was played by nobody"
    assert screen.getvalue().count("broken-s0: failed") == 2  # retried once


def test_a_sweep_that_is_asked_to_end_ends_between_two_steps_of_tune(tmp_path: Path) -> None:
    """Tune goes on until then: Ray's calls take no exception from a signal."""
    _, trials = spec.load_sweep(CONFIGS / "phase3.yaml", SMALL, "0")
    stop, screen = Stop(), Console(file=io.StringIO())
    with SweepProgress(screen, runs.INCIDENT, "race", []) as progress, stop.asked_for():
        watch = runner.Watch(progress, tmp_path, trials, stop, stops_early=False)
        watch.on_step_end(trials=[])
        stop.ask("SIGTERM")
        with pytest.raises(StopError, match="SIGTERM"):
            watch.on_step_end(trials=[])


def test_the_score_by_which_trials_are_compared_is_the_mean_over_tiers() -> None:
    assert runner.score({"tiers": {"easy": {"mean": 1.0}, "hard": {"mean": -3.0}}}) == -1.0
