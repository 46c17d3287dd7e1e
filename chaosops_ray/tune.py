"""A sweep on Ray Tune: a placement group for each trial, as many at once as the cluster holds, and none dropped.

A trial is a run folder that is gone on with. What Tune keeps is who has ended; where a run stands is in its own folder,
and so a trial that was retried, or resumed after the driver died, goes on from the run's last checkpoint.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import yaml
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.util.placement_group import get_current_placement_group
from rich.console import Console

from chaosops_ray import launch, merged, models, runlog, train
from chaosops_ray.comparison import Comparison, Outcome, compare
from chaosops_ray.config import ConfigError, Run, load
from chaosops_ray.models import BaseModel
from chaosops_ray.quiet import hush
from chaosops_ray.runlog import RunFolder
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweep import Sweep, Trial, load_sweep, look_over, reload
from chaosops_ray.sweep_progress import SweepProgress
from chaosops_ray.train import AlarmError
from chaosops_ray.workers.crew import HARDLY_ANY, bundles, reason

SWEEP = "sweep.yaml"
TRIALS = "trials"
_TUNE = "tune"
# In a run's folder: what the alarm said that ended it.
_ALARMED = "alarm.txt"
_UPDATE, _SCORE = "update", "score"
# Updates over which the score is averaged that early stopping goes by.
_RECENT = 10


class Finished(NamedTuple):
    """What there is to show of a sweep that is over."""

    comparison: Comparison
    pages: tuple[Path, ...]

    @property
    def has_failed(self) -> bool:
        """Whether any trial has."""
        return any(one["state"] == "failed" for one in self.comparison["trials"])

    def told(self) -> list[str]:
        """What the command line says of it."""
        lines = [f"{found['verdict']}: {found['claim']}" for found in self.comparison["verdicts"]]
        lines += [
            f"{one['trial']} failed: {one['why']}" for one in self.comparison["trials"] if one["state"] == "failed"
        ]
        return [*lines, *[f"report: {path}" for path in self.pages]]


def explain(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """The trials, and what each asks of the cluster."""
    lines = []
    for trial in trials:
        total = bundles(trial.run).total
        asked = f"{total['CPU']:g} CPU" + (f", {total['GPU']:g} GPU" if total["GPU"] else "")
        lines.append(f"  {trial.name}: {trial.run.model}, {trial.run.updates} updates, {asked}\n")
    written = yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False)
    return f"{written}\ntrials, as many at once as the cluster holds:\n{''.join(lines)}"


def begin(
    path: Path, settings: Sequence[str], seeds: str | None, out: Path, address: str | None, console: Console
) -> Finished:
    """A new sweep."""
    sweep, trials = load_sweep(path, settings, seeds)
    environment = looked_over(sweep, trials)
    runlog.check_new_folder(out)
    out = out.resolve()
    with (
        SweepProgress(
            console, environment, out.name, [(trial.name, trial.run.updates) for trial in trials]
        ) as progress,
        launch.cluster([trial.run for trial in trials], address, progress.say),
    ):
        bases = prepared(trials, progress)
        for trial in trials:
            RunFolder.create(out / TRIALS / trial.name, launch.written(trial.run))
        with runlog.appearing(out / SWEEP) as temporary:  # last: where it is, everything is
            temporary.write_text(yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        return played(out, sweep, trials, environment, bases, progress)


def resume(out: Path, address: str | None, console: Console) -> Finished:
    """Go on with a sweep whose driver died: what is finished stays, what is not goes on from its last checkpoint."""
    out = out.resolve()
    if not (out / SWEEP).is_file():
        raise InputError(f"{out} is no sweep: it has no {SWEEP}; give a folder that `chaosops tune` made")
    sweep, trials = reload(out / SWEEP, out / TRIALS)
    environment = looked_over(sweep, trials)
    with (
        SweepProgress(
            console, environment, out.name, [(trial.name, trial.run.updates) for trial in trials]
        ) as progress,
        launch.cluster([trial.run for trial in trials], address, progress.say),
    ):
        return played(out, sweep, trials, environment, prepared(trials, progress), progress)


def looked_over(sweep: Sweep, trials: Sequence[Trial]) -> AnyEnvironment:
    """The world of a sweep in which everything that can be wrong has been looked at."""
    for trial in trials:
        environment = launch.look_over(trial.run)
        if trial.run.alarm.action == "pause":
            raise ConfigError(
                f"arm {trial.arm}: alarm.action: nobody watches a trial to end a pause; use warn or abort"
            )
    look_over(sweep, trials, environment)
    return environment


def prepared(trials: Sequence[Trial], progress: SweepProgress) -> dict[str, BaseModel]:
    """The base models of all trials, made or fetched once, before any trial asks for them."""
    return {
        model: launch.prepared(model, progress.say) for model in dict.fromkeys([trial.run.model for trial in trials])
    }


# -- trials -----------------------------------------------------------------------------------------------------------


def played(
    out: Path,
    sweep: Sweep,
    trials: Sequence[Trial],
    environment: AnyEnvironment,
    bases: dict[str, BaseModel],
    progress: SweepProgress,
) -> Finished:
    """Play what is left to play, compare, report."""
    progress.say("placing trials")
    watch = _Watch(progress, out / TRIALS)
    tuner(out, sweep, trials, watch).fit()
    progress.say("comparing")
    outcomes = [outcome(trial, out / TRIALS / trial.name, environment, watch.failed) for trial in trials]
    comparison = compare(environment, sweep, outcomes)
    digests = {trial.arm: bases[trial.run.model].digest for trial in trials}
    return Finished(comparison, merged.write(out, environment, sweep, outcomes, comparison, digests))


def tuner(out: Path, sweep: Sweep, trials: Sequence[Trial], watch: tune.Callback) -> tune.Tuner:
    """Tune's side of the sweep: as it was left, or from the beginning."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the sweep at once; --resume goes on with it
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # traces; they are in each trial's error.txt too
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # it speaks however low the verbosity
    folders = out / TRIALS
    runs = {trial.name: trial.run for trial in trials}

    def trial(given: dict[str, Any]) -> None:
        play(folders / given["trial"])

    placed = tune.with_resources(trial, lambda given: placement(runs[given["trial"]]))
    # A sweep that died before Tune wrote anything is begun again; its runs, if any began, still go on.
    if tune.Tuner.can_restore(str(out / _TUNE)):
        restored = tune.Tuner.restore(str(out / _TUNE), placed, resume_unfinished=True, resume_errored=True)
        restored._local_tuner._run_config.callbacks = [watch]  # what was saved is a copy of the dead one's
        return restored
    return tune.Tuner(
        placed,
        param_space={"trial": tune.grid_search(list(runs))},
        tune_config=tune.TuneConfig(scheduler=scheduler(sweep, trials), reuse_actors=False),
        run_config=tune.RunConfig(
            name=_TUNE,
            storage_path=str(out),
            failure_config=tune.FailureConfig(max_failures=sweep.retries),
            callbacks=[watch],
            verbose=0,
        ),
    )


def scheduler(sweep: Sweep, trials: Sequence[Trial]) -> TrialScheduler:
    """Whether trials that do worse than others are stopped on the way."""
    if sweep.stop_early.keep == 1:
        return FIFOScheduler()
    updates = max([trial.run.updates for trial in trials])
    return AsyncHyperBandScheduler(
        time_attr=_UPDATE,
        metric=_SCORE,
        mode="max",
        max_t=updates,
        grace_period=max(1, round(sweep.stop_early.after * updates)),
        reduction_factor=1 / sweep.stop_early.keep,
    )


def placement(run: Run) -> tune.PlacementGroupFactory:
    """The trial's own process, then the bundles of its run."""
    return tune.PlacementGroupFactory([{"CPU": HARDLY_ANY}, *bundles(run).to_place], strategy="PACK")


def play(path: Path) -> None:
    """A trial, in a process of its own: go on with the run in this folder until it is evaluated."""
    hush()
    folder = RunFolder(path)
    if any((folder.path / name).exists() for name in (runlog.EVALUATION, _ALARMED)):
        return
    run = load(folder.path / runlog.CONFIG)
    training = train.prepare(run, models.prepare(run.model), folder, get_current_placement_group())
    recent: deque[float] = deque(maxlen=_RECENT)

    def report(row: train.Row) -> None:
        recent.append(fmean([tier["mean"] for tier in row["tiers"].values()]))
        tune.report(brief(row) | {_SCORE: fmean(recent)})

    try:
        launch.finish(training, report, lambda _text: None)
    except AlarmError as error:
        # To be retried would be to go on after the alarm, and that is what the configuration rules out.
        with runlog.appearing(folder.path / _ALARMED) as temporary:
            temporary.write_text(str(error), encoding="utf-8")


def brief(row: train.Row) -> dict[str, Any]:
    """What the driver shows of an update, and Tune's loggers keep; the run's own folder has all of it."""
    return {
        _UPDATE: row["update"],
        "kl": row["learner"].get("kl", 0.0),
        "episodes": row["episodes"],
        **{
            f"{tier}/{name}": value
            for tier, figures in row["tiers"].items()
            for name, value in figures.items()
            if value is not None
        },
    }


class _Watch(tune.Callback):
    """Tune's word of what happens, handed on to whoever watches."""

    def __init__(self, progress: SweepProgress, folders: Path) -> None:
        self._progress = progress
        self._folders = folders
        self.failed: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy of its callbacks on disk; a terminal cannot be kept

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """It was placed."""
        self._progress.began(trial.config["trial"])

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[TuneTrial],  # noqa: ARG002
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """It made an update."""
        if _UPDATE in result:
            self._progress.updated(trial.config["trial"], result)

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """It failed, and goes on from its last checkpoint."""
        self._progress.retried(trial.config["trial"])  # Tune has forgotten the reason by now

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """It failed for good."""
        self.failed[trial.config["trial"]] = _why(trial)
        self._progress.failed(trial.config["trial"], _why(trial))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """It is over, was stopped early, or stopped itself."""
        name = trial.config["trial"]
        alarm = self._folders / name / _ALARMED
        if alarm.exists():
            self._progress.failed(name, alarm.read_text(encoding="utf-8"))
        else:
            self._progress.ended(name)


def _why(trial: TuneTrial) -> str:
    error = trial.get_pickled_error()
    return "its process died" if error is None else reason(getattr(error, "cause", None) or error)


def outcome(trial: Trial, path: Path, environment: AnyEnvironment, failed: dict[str, str]) -> Outcome:
    """What became of a trial, from its run folder."""
    folder = RunFolder(path)
    rows = folder.metrics()
    if (path / runlog.EVALUATION).exists():
        return Outcome(trial, "finished", "", rows, launch.results(folder, environment))
    if (path / _ALARMED).exists():
        return Outcome(trial, "failed", (path / _ALARMED).read_text(encoding="utf-8"), rows, ())
    if trial.name in failed:
        return Outcome(trial, "failed", failed[trial.name].replace(str(path), path.name), rows, ())
    return Outcome(trial, "stopped", "did worse than the others", rows, ())
