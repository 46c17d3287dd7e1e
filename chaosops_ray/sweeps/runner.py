"""A sweep on Ray Tune: a placement group for each trial, as many at once as the cluster holds, none dropped.

A trial's state is in its run folder alone, not in Tune: a trial that is retried, or that was interrupted when the
driver died, is resumed from the run's last checkpoint.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias

import ray
from ray import cloudpickle, tune
from ray.air.constants import EXPR_ERROR_PICKLE_FILE
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.util.placement_group import get_current_placement_group
from rich.console import Console

from chaosops_ray.config import Run
from chaosops_ray.process_environment import set_variables
from chaosops_ray.reports import sweep_report
from chaosops_ray.reports.sweep_progress import SweepProgress
from chaosops_ray.reports.tables import plain
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.store import files, run_folder
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.sweeps import spec
from chaosops_ray.sweeps.comparison import Comparison, Outcome, compare, report_facts
from chaosops_ray.sweeps.spec import SWEEP, TRIALS, Sweep, Trial
from chaosops_ray.training import base_models, check, launch, loop
from chaosops_ray.training.errors import AlarmError
from chaosops_ray.workers.bundles import HARDLY_ANY, bundles
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.pool import PLACEMENT_SECONDS, reason
from chaosops_ray.workers.stop import Stop, StopError, on_sigterm

_TUNE = "tune"
# In a run's folder: the text of the alarm that ended it; a mark that early stopping did.
_ALARMED, _STOPPED = "alarm.txt", "stopped-early"
# If its folder is on another machine's disk, a trial that died may hold the lock for a while.
_CLAIM_SECONDS = 120.0
_LONGEST = 300
_UPDATE, _SCORE = "update", "score"
# Updates over which early stopping averages the score.
_RECENT = 10

# What trains a trial, as `launch.finish` does.
Finish: TypeAlias = Callable[[loop.Training, loop.Watch, loop.Say, float], object]


class Finished(NamedTuple):
    """The results of a sweep that is over."""

    comparison: Comparison
    pages: tuple[Path, ...]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The trials that failed."""
        return [one for one in self.comparison["trials"] if one["state"] == "failed"]

    def lines(self) -> list[str]:
        """Return the lines that the command line prints."""
        lines = [f"{found['verdict']}: {plain(found['claim'], _LONGEST)}" for found in self.comparison["verdicts"]]
        lines += [f"{one['trial']} failed: {plain(one['why'], _LONGEST)}" for one in self.failed]
        return [*lines, *[f"report: {path}" for path in self.pages]]


def run(
    sweep: Sweep,
    trials: Sequence[Trial],
    environment: AnyEnvironment,
    out: Path,
    address: str | None,
    console: Console,
    *,
    is_new: bool,
) -> Finished:
    """Start a new sweep in a new folder, or resume one: play the trials that are not over, compare, report.

    At SIGTERM, end at once with StopError.
    """
    out = out.resolve()
    folders = {trial.name: out / TRIALS / trial.name for trial in trials}
    lengths = {trial.name: trial.run.updates for trial in trials}
    stop = Stop()
    with (
        said_how_to_resume(out),
        on_sigterm(stop),
        SweepProgress(console, environment, out.name, list(lengths.items())) as progress,
        launch.cluster([trial.run for trial in trials], address, progress.say),
    ):
        # Each base model is made or fetched once, before any trial starts.
        worlds = {trial.run.model: trial.run.world for trial in trials}
        bases = {model: base_models.prepare(model, world, progress.say) for model, world in worlds.items()}
        for arm in {trial.arm: trial.run for trial in trials}.values():  # a seed makes no difference
            launch.check_memory(arm, environment, bases[arm.model].path, address)
        if is_new:
            for trial in trials:
                RunFolder.create(folders[trial.name], check.written(trial.run))
            # Last: a folder with this file holds the whole sweep.
            files.write_text(out / SWEEP, spec.written(sweep))
        over = [name for name, folder in folders.items() if is_over(folder)]
        for name in over:
            progress.was_over(name, lengths[name])
        watch = Watch(progress, out / TRIALS, trials, stop, stops_early=sweep.stop_early.keep < 1)
        if len(over) < len(trials):
            progress.say("placing trials")
            # An exception from a signal's handler, in the middle of a call of Ray, would end in one of Ray's own.
            with stop.asked_for():
                tuner(out, sweep, [trial for trial in trials if trial.name not in over], watch).fit()
        progress.say("comparing")
        outcomes = [outcome(trial, folders[trial.name], environment, watch.failed) for trial in trials]
        comparison = compare(environment, sweep, outcomes)
        digests = {trial.arm: bases[trial.run.model].digest for trial in trials}
        facts = report_facts(sweep, outcomes, comparison, digests)
        return Finished(comparison, sweep_report.write(out, environment, facts))


@contextmanager
def said_how_to_resume(out: Path) -> Iterator[None]:
    """Add to a StopError how the sweep goes on."""
    try:
        yield
    except StopError as asked:
        how = f"go on with --resume {out}" if (out / SWEEP).exists() else "ended before it began; start it again"
        raise StopError(f"{asked}: each trial is as its last checkpoint has it; {how}") from None


def tuner(
    out: Path, sweep: Sweep, trials: Sequence[Trial], watch: tune.Callback, finish: Finish = launch.finish
) -> tune.Tuner:
    """Make a new Tune experiment of these trials; their state is in their folders, not in Tune's."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the sweep at once; --resume continues it
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new output ignores the verbosity
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it logs traces, which each trial's error.txt has
    folders = out / TRIALS
    runs = {trial.name: trial.run for trial in trials}
    logs = out / _TUNE
    logs.mkdir(exist_ok=True)
    session = 1 + len(list(logs.iterdir()))

    def trial(given: dict[str, Any]) -> None:
        play(folders / given["trial"], finish)

    return tune.Tuner(
        tune.with_resources(trial, lambda given: placement(runs[given["trial"]])),
        param_space={"trial": tune.grid_search(list(runs))},
        tune_config=tune.TuneConfig(scheduler=scheduler(sweep, trials), reuse_actors=False),
        run_config=tune.RunConfig(
            name=str(session),
            storage_path=str(logs),
            failure_config=tune.FailureConfig(max_failures=sweep.retries),
            callbacks=[watch],
            verbose=0,
        ),
    )


def scheduler(sweep: Sweep, trials: Sequence[Trial]) -> TrialScheduler:
    """Make the scheduler that stops trials early, or one that stops none."""
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
        stop_last_trials=False,  # a trial with all its updates is evaluated
    )


def placement(run: Run) -> tune.PlacementGroupFactory:
    """Return the resources of a trial: its own process, on this node, which has the folders; the bundles of its run."""
    me = ray.get_runtime_context().get_node_id()
    (here,) = [node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == me]
    # Ray gives every node a resource of this name.
    return tune.PlacementGroupFactory([{f"node:{here}": HARDLY_ANY}, *bundles(run).to_place], strategy="PACK")


def play(path: Path, finish: Finish) -> None:
    """Play a trial, in a process of its own: continue the run in this folder until it is evaluated."""
    set_variables()
    folder = RunFolder(path)
    run = check.recorded(folder)
    training = loop.prepare(run, base_models.prepare(run.model, world=run.world), folder, get_current_placement_group())
    done = max(folder.checkpoints(), default=0)
    recent = deque([score(row) for row in folder.metrics()[:done]], maxlen=_RECENT)

    def report(row: loop.Row) -> None:
        recent.append(score(row))
        tune.report(brief(row) | {_SCORE: fmean(recent)})

    try:
        finish(training, report, lambda _text: None, _CLAIM_SECONDS)
    except AlarmError as error:
        # Not an error: Tune would retry the trial, and the configuration says that an alarm ends it.
        files.write_text(folder.path / _ALARMED, str(error))
    except OSError as error:
        why = files.in_words(getattr(error, "cause", error))
        if why is None:
            raise
        raise PoolError(f"{why}, then resume the sweep") from error


def score(row: loop.Row) -> float:
    """Return the score by which early stopping compares trials."""
    return fmean([tier["mean"] for tier in row["tiers"].values()])


def brief(row: loop.Row) -> dict[str, Any]:
    """Select the figures of an update for the driver's display and Tune's loggers; the run's folder has all of them."""
    return {
        _UPDATE: row["update"],
        "kl": row["learner"].get("kl", 0.0),
        "episodes": row["episodes"],
    } | {
        f"{tier}/{name}": value
        for tier, figures in row["tiers"].items()
        for name, value in figures.items()
        if value is not None
    }


class Watch(tune.Callback):
    """A callback that passes Tune's events on to the display."""

    def __init__(
        self, progress: SweepProgress, folders: Path, trials: Sequence[Trial], stop: Stop, *, stops_early: bool
    ) -> None:
        self._progress = progress
        self._stop = stop
        self._stops_early = stops_early
        self._folders = folders
        self._patience = max([PLACEMENT_SECONDS, *[trial.run.resources.wait for trial in trials]])
        self._ran = time.monotonic()
        self.failed: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; a terminal cannot be pickled

    # Tune passes the arguments of all callbacks by name.

    def on_step_end(self, *_: Any, **info: Any) -> None:
        """Stop when the sweep is asked to end, and with an error when no trial has been running for too long."""
        self._stop.check()
        states = {trial.status for trial in info["trials"]}
        if TuneTrial.RUNNING in states or TuneTrial.PENDING not in states:
            self._ran = time.monotonic()
        elif time.monotonic() - self._ran > self._patience:
            raise PoolError(f"the cluster placed no trial within {self._patience:g} s; see `ray status`")

    def on_trial_start(self, *_: Any, **info: Any) -> None:
        """Show that the trial was placed."""
        self._progress.began(_name(info))

    def on_trial_result(self, *_: Any, **info: Any) -> None:
        """Show an update of the trial."""
        if _UPDATE in info["result"]:
            self._progress.updated(_name(info), info["result"])

    def on_trial_recover(self, *_: Any, **info: Any) -> None:
        """Show that the trial failed and continues from its last checkpoint."""
        self._progress.retried(_name(info), _why(info["trial"]))

    def on_trial_error(self, *_: Any, **info: Any) -> None:
        """Record that the trial failed and is not retried."""
        self.failed[_name(info)] = _why(info["trial"])
        self._progress.failed(_name(info), self.failed[_name(info)])

    def on_trial_complete(self, *_: Any, **info: Any) -> None:
        """Record that the trial finished, or was stopped by its alarm or by Tune."""
        name = _name(info)
        folder = self._folders / name
        if self._stops_early and not is_over(folder):
            files.write_text(folder / _STOPPED, "")
        if (folder / _ALARMED).exists():
            self._progress.failed(name, (folder / _ALARMED).read_text(encoding="utf-8"))
        else:
            self._progress.ended(name)


def _name(info: Mapping[str, Any]) -> str:
    name: str = info["trial"].config["trial"]
    return name


def _why(trial: TuneTrial) -> str:
    """Return the reason of the trial's last failure, from the file that Tune writes first."""
    path = Path(trial.local_path) / EXPR_ERROR_PICKLE_FILE
    if not path.exists():
        return "its process died"
    error = cloudpickle.loads(path.read_bytes())  # this process wrote it
    return reason(getattr(error, "cause", None) or error)


def is_over(folder: Path) -> bool:
    """Return True if a trial is evaluated, or was stopped by its alarm or by early stopping."""
    return any((folder / name).exists() for name in (run_folder.EVALUATION, _ALARMED, _STOPPED))


def outcome(trial: Trial, path: Path, environment: AnyEnvironment, failed: Mapping[str, str]) -> Outcome:
    """Read the outcome of a trial from its run folder; `failed` has the reasons of trials that are not retried."""
    folder = RunFolder(path)
    rows = folder.metrics()
    if (path / run_folder.EVALUATION).exists():
        return Outcome(trial, "finished", "", rows, launch.results(folder, environment))
    if (path / _ALARMED).exists():
        return Outcome(trial, "failed", (path / _ALARMED).read_text(encoding="utf-8"), rows, ())
    if (path / _STOPPED).exists():
        return Outcome(trial, "stopped", "did worse than the others", rows, ())
    why = failed.get(trial.name, "it did not finish; resume the sweep")
    return Outcome(trial, "failed", why.replace(str(path), path.name), rows, ())
