"""A training run from its configuration, which has been checked, to its report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import ray
from rich.console import Console

from chaosops_ray import process_environment
from chaosops_ray.config import MADE_HERE, Run
from chaosops_ray.plain_text import one_line
from chaosops_ray.reports.progress import Progress
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import base_models, loop, measure
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.check import written
from chaosops_ray.training.loop import Say, Training, Watch
from chaosops_ray.workers.bundles import check

_REPORT = "chaosops_ray.reports.run_report"


class Finished(NamedTuple):
    """What there is to show of a run that is over."""

    environment: AnyEnvironment
    evaluation: dict[str, Any]
    page: Path


def begin(run: Run, environment: AnyEnvironment, out: Path, address: str | None, console: Console) -> Finished:
    """Start a new run in a new folder."""
    with display(run, environment, out, (), console) as progress, cluster([run], address, progress.say):
        base = prepared(run.model, run.world, progress.say)
        folder = RunFolder.create(out.resolve(), written(run))
        return finish(loop.prepare(run, base, folder), progress, progress.say)


def resume(run: Run, environment: AnyEnvironment, folder: RunFolder, address: str | None, console: Console) -> Finished:
    """Resume a run from its last checkpoint."""
    with (
        display(run, environment, folder.path, folder.metrics(), console) as progress,
        cluster([run], address, progress.say),
    ):
        return finish(loop.prepare(run, prepared(run.model, run.world, progress.say), folder), progress, progress.say)


def display(
    run: Run, environment: AnyEnvironment, out: Path, before: Sequence[dict[str, Any]], console: Console
) -> Progress:
    """What a person sees of the run."""
    return Progress(console, environment, out.name, run.updates, run.alarm.kl, before)


def finish(training: Training, watch: Watch, say: Say, patience: float = 0.0) -> Finished:
    """Train what is left to train, measure it, write the report; `patience` is for whoever trains in the folder now."""
    say("placing actors")
    with training.folder.claimed(patience):
        scenarios = measure.held_out(training.run, training.environment)
        trained = loop.train(training, watch, say, scenarios)
        summary = measure.measure(training.run, training.environment, training.folder, scenarios, trained.held_out)
        # Imported here: the plots' library takes a while, and by now nobody waits for the first update.
        page: Path = import_module(_REPORT).write(training.folder, training.environment)
        return Finished(training.environment, summary, page)


@contextmanager
def cluster(runs: Sequence[Run], address: str | None, say: Say, beside: float = 0.0) -> Iterator[None]:
    """Ray, on this machine or where the address says, if it has what each of the runs asks for, and some CPU beside."""
    say("starting Ray" if address is None else f"connecting to Ray at {address}")
    # Processes of a Ray that is started here inherit the variables. Elsewhere they come with the job, and as a job that
    # was submitted may have set some of them itself, Ray must be told to merge the two.
    process_environment.set_variables()
    settings = {}
    if address is not None:
        os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"
        settings = {"runtime_env": {"env_vars": process_environment.ENVIRONMENT}}
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR", **settings)
    except Exception as error:
        # Ray raises a bare Exception where its processes do not start in time; subclasses that are not listed are bugs.
        if type(error) is not Exception and not isinstance(error, ConnectionError | RuntimeError | ValueError):
            raise
        what = "Ray does not start" if address is None else f"no Ray cluster at {address}"
        raise InputError(f"{what}: {one_line(error)}") from None
    try:
        for run in runs:
            check(run, ray.cluster_resources(), beside)
        yield
    finally:
        ray.shutdown()


def prepared(model: str, world: str, say: Say) -> BaseModel:
    """The base model, with a word on what takes so long."""
    what = f"warming up {model}" if model in MADE_HERE else f"loading {model}"
    say(what)
    return base_models.prepare(model, lambda done, steps: say(f"{what} {done}/{steps}"), world)
