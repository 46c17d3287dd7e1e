"""A sweep on Ray Tune: a placement group for each trial, as many at once as the cluster holds, and none dropped.

A trial is a run folder that is gone on with. Where it stands, and whether it is over, is in that folder alone: a trial
that is retried, or was left when the driver died, goes on from the run's last checkpoint, and Tune need not remember.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import yaml
from ray import cloudpickle, tune
from ray.air.constants import EXPR_ERROR_PICKLE_FILE
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.util.placement_group import get_current_placement_group
from rich.console import Console

from chaosops_ray.config import ConfigError, Run, load
from chaosops_ray.process_environment import set_variables
from chaosops_ray.reports import sweep_report
from chaosops_ray.reports.sweep_progress import SweepProgress
from chaosops_ray.reports.tables import plain
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files, run_folder
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.sweeps.comparison import Comparison, Outcome, compare, report_facts
from chaosops_ray.sweeps.spec import Sweep, Trial, load_sweep, look_over, reload
from chaosops_ray.training import base_models, launch, loop, measure
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.loop import AlarmError
from chaosops_ray.workers.pool import HARDLY_ANY, PLACEMENT_SECONDS, PoolError, bundles, reason

SWEEP = "sweep.yaml"
TRIALS = "trials"
_TUNE = "tune"
# In a run's folder: what the alarm said that ended it; that early stopping did.
_ALARMED, _STOPPED = "alarm.txt", "stopped-early"
# A trial that died may hold its run folder a while longer, where the folder is on another machine.
_CLAIM_SECONDS = 120.0
_LONGEST = 300
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
        lines = [f"{found['verdict']}: {plain(found['claim'], _LONGEST)}" for found in self.comparison["verdicts"]]
        lines += [
            f"{one['trial']} failed: {plain(one['why'], _LONGEST)}"
            for one in self.comparison["trials"]
            if one["state"] == "failed"
        ]
        return [*lines, *[f"report: {path}" for path in self.pages]]


def explain(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """The trials, and what each asks of the cluster."""
    lines = []
    for trial in trials:
        total = bundles(trial.run).total
        asked = launch.amount(total["CPU"], total["GPU"])
        lines.append(f"  {trial.name}: {trial.run.model}, {trial.run.updates} updates, {asked}\n")
    written = yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False)
    return f"{written}\ntrials, as many at once as the cluster holds:\n{''.join(lines)}"


def begin(
    path: Path, settings: Sequence[str], seeds: str | None, out: Path, address: str | None, console: Console
) -> Finished:
    """A new sweep."""
    sweep, trials = load_sweep(path, settings, seeds)
    environment = looked_over(sweep, trials)
    files.check_new_folder(out)
    out = out.resolve()
    with placed(out, environment, trials, address, console) as progress:
        bases = prepared(trials, progress)
        for trial in trials:
            RunFolder.create(out / TRIALS / trial.name, launch.written(trial.run))
        with files.appearing(out / SWEEP) as temporary:  # last: where it is, everything is
            temporary.write_text(yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        return played(out, sweep, trials, environment, bases, progress)


def resume(out: Path, address: str | None, console: Console) -> Finished:
    """Go on with a sweep whose driver died: what is over stays, what is not goes on from its last checkpoint."""
    out = out.resolve()
    if not (out / SWEEP).is_file():
        raise InputError(f"{out} is no sweep: it has no {SWEEP}; give a folder that `chaosops tune` made")
    sweep, trials = reload(out / SWEEP, out / TRIALS)
    environment = looked_over(sweep, trials)
    with placed(out, environment, trials, address, console) as progress:
        for trial in trials:
            folder = out / TRIALS / trial.name
            if is_over(folder):
                progress.was_over(trial.name, trial.run.updates)
        return played(out, sweep, trials, environment, prepared(trials, progress), progress)


@contextmanager
def placed(
    out: Path, environment: AnyEnvironment, trials: Sequence[Trial], address: str | None, console: Console
) -> Iterator[SweepProgress]:
    """Ray, and a display of what goes on there."""
    lengths = [(trial.name, trial.run.updates) for trial in trials]
    with (
        SweepProgress(console, environment, out.name, lengths) as progress,
        launch.cluster([trial.run for trial in trials], address, progress.say, beside=HARDLY_ANY),
    ):
        yield progress


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
        model: launch.prepared(model, world, progress.say)
        for model, world in {trial.run.model: trial.run.world for trial in trials}.items()
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
    watch = _Watch(progress, out / TRIALS, trials, stops_early=sweep.stop_early.keep < 1)
    left = [trial for trial in trials if not is_over(out / TRIALS / trial.name)]
    if left:
        progress.say("placing trials")
        tuner(out, sweep, left, watch).fit()
    progress.say("comparing")
    outcomes = [outcome(trial, out / TRIALS / trial.name, environment, watch.failed) for trial in trials]
    comparison = compare(environment, sweep, outcomes)
    digests = {trial.arm: bases[trial.run.model].digest for trial in trials}
    facts = report_facts(sweep, outcomes, comparison, digests)
    return Finished(comparison, sweep_report.write(out, environment, facts))


def tuner(out: Path, sweep: Sweep, trials: Sequence[Trial], watch: tune.Callback) -> tune.Tuner:
    """Tune's side of these trials, begun anew each time: where they stand is in their folders, and nowhere else."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the sweep at once; --resume goes on with it
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # it speaks however low the verbosity
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # traces; they are in each trial's error.txt too
    folders = out / TRIALS
    runs = {trial.name: trial.run for trial in trials}
    logs = out / _TUNE
    logs.mkdir(exist_ok=True)
    session = 1 + len(list(logs.iterdir()))

    def trial(given: dict[str, Any]) -> None:
        play(folders / given["trial"])

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
        stop_last_trials=False,  # whoever has come so far is evaluated
    )


def placement(run: Run) -> tune.PlacementGroupFactory:
    """The trial's own process, then the bundles of its run."""
    return tune.PlacementGroupFactory([{"CPU": HARDLY_ANY}, *bundles(run).to_place], strategy="PACK")


def play(path: Path) -> None:
    """A trial, in a process of its own: go on with the run in this folder until it is evaluated."""
    set_variables()
    folder = RunFolder(path)
    run = load(folder.path / run_folder.CONFIG)
    training = loop.prepare(run, base_models.prepare(run.model, world=run.world), folder, get_current_placement_group())
    done = max(folder.checkpoints(), default=0)
    recent = deque([score(row) for row in folder.metrics()[:done]], maxlen=_RECENT)

    def report(row: loop.Row) -> None:
        recent.append(score(row))
        tune.report(brief(row) | {_SCORE: fmean(recent)})

    try:
        launch.finish(training, report, lambda _text: None, _CLAIM_SECONDS)
    except AlarmError as error:
        # To be retried would be to go on after the alarm, and that is what the configuration rules out.
        with files.appearing(folder.path / _ALARMED) as temporary:
            temporary.write_text(str(error), encoding="utf-8")


def score(row: loop.Row) -> float:
    """What early stopping goes by."""
    return fmean([tier["mean"] for tier in row["tiers"].values()])


def brief(row: loop.Row) -> dict[str, Any]:
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

    def __init__(self, progress: SweepProgress, folders: Path, trials: Sequence[Trial], *, stops_early: bool) -> None:
        self._progress = progress
        self._stops_early = stops_early
        self._folders = folders
        self._patience = max([PLACEMENT_SECONDS, *[trial.run.resources.wait for trial in trials]])
        self._ran = time.monotonic()
        self.failed: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy of its callbacks on disk; a terminal cannot be kept

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:  # noqa: ARG002
        """Waiting has a deadline: nothing runs, and nothing is placed."""
        states = {trial.status for trial in trials}
        if TuneTrial.RUNNING in states or TuneTrial.PENDING not in states:
            self._ran = time.monotonic()
        elif time.monotonic() - self._ran > self._patience:
            raise PoolError(f"the cluster placed no trial within {self._patience:g} s; see `ray status`")

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
        self._progress.retried(trial.config["trial"], _why(trial))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """It failed for good."""
        self.failed[trial.config["trial"]] = _why(trial)
        self._progress.failed(trial.config["trial"], _why(trial))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """It is over, its alarm stopped it, or Tune did."""
        name = trial.config["trial"]
        folder = self._folders / name
        if self._stops_early and not is_over(folder):
            (folder / _STOPPED).touch()
        if (folder / _ALARMED).exists():
            self._progress.failed(name, (folder / _ALARMED).read_text(encoding="utf-8"))
        else:
            self._progress.ended(name)


def _why(trial: TuneTrial) -> str:
    """The reason of its last failure, from where Tune writes it first."""
    path = Path(trial.local_path) / EXPR_ERROR_PICKLE_FILE
    if not path.exists():
        return "its process died"
    error = cloudpickle.loads(path.read_bytes())  # this very process wrote it
    return reason(getattr(error, "cause", None) or error)


# -- what became of them ----------------------------------------------------------------------------------------------


def is_over(folder: Path) -> bool:
    """Whether a trial is evaluated, or was stopped by its alarm or for doing worse than others."""
    return any((folder / name).exists() for name in (run_folder.EVALUATION, _ALARMED, _STOPPED))


def outcome(trial: Trial, path: Path, environment: AnyEnvironment, failed: Mapping[str, str]) -> Outcome:
    """What became of a trial, from its run folder; `failed` has the reasons of those that failed for good."""
    folder = RunFolder(path)
    rows = folder.metrics()
    if (path / run_folder.EVALUATION).exists():
        return Outcome(trial, "finished", "", rows, measure.results(folder, environment))
    if (path / _ALARMED).exists():
        return Outcome(trial, "failed", (path / _ALARMED).read_text(encoding="utf-8"), rows, ())
    if (path / _STOPPED).exists():
        return Outcome(trial, "stopped", "did worse than the others", rows, ())
    why = failed.get(trial.name, "it did not come to its end; resume the sweep")
    return Outcome(trial, "failed", why.replace(str(path), path.name), rows, ())
