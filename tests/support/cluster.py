"""A real Ray on this machine for tests, and small runs of the real thing on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray

from chaosops_ray import config
from chaosops_ray.process_environment import set_variables
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.telemetry.sinks import Sinks
from chaosops_ray.telemetry.table import samples
from chaosops_ray.training import base_models, check, loop
from tests.support.models import tiny_base

CONFIGS = Path(__file__).parents[2] / "tune_configs"
SMALL = (
    "model=tiny",
    "updates=4",
    "curriculum=easy:1,medium:1,hard:2",
    "batch.scenarios=3",
    "batch.group=4",
    "batch.refill=0",
    "checkpoint_every=2",
    "resources.learner_threads=1",
    "evaluation.every=0",
)


class Table(Sinks):
    """A sink that is a check: an update of a run that a test trains must be one that the table of metrics explains."""

    def __init__(self) -> None:
        super().__init__({})

    def send(self, row: Mapping[str, Any]) -> None:
        """Raise UnknownKeyError at a figure that has no entry."""
        samples(row)


@contextmanager
def ray_here(cpus: int = 32, gpus: int = 8) -> Iterator[None]:
    """Ray on a machine that is only said to be so large: placement is tested, not speed."""
    set_variables()
    ray.init(
        num_cpus=cpus,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        # Otherwise Ray starts a process for every CPU that it is told of.
        _system_config={"prestart_worker_first_driver": False},
    )
    try:
        yield
    finally:
        ray.shutdown()


def small_run(*settings: str) -> config.Run:
    """The tiny twin of run 3a, cut down to what a test needs."""
    return config.load(CONFIGS / "3a.yaml", [*SMALL, *settings])


def make(path: Path, run: config.Run) -> loop.Training:
    """A run that has not begun."""
    folder = RunFolder.create(path, check.written(run))
    base = (
        tiny_base()
        if (run.model, run.world) == ("tiny", "incident")
        else base_models.prepare(run.model, world=run.world)
    )
    return loop.prepare(run, base, folder)._replace(sinks=Table())


def trained(path: Path, *settings: str, watch: Callable[[Any], None] = lambda _row: None) -> loop.Training:
    """A run from its beginning to its end."""
    training = make(path, small_run(*settings))
    loop.train(training, watch)
    return training


def digests(training: loop.Training) -> list[str]:
    """The adapter's digest after every update."""
    return [row["digest"] for row in training.folder.metrics()]


def kill(name: str) -> None:
    """Kill one process of that actor class, as a failing machine would; of this test's own Ray, and nobody else's."""
    victim = processes(name)[0]
    victim.kill()
    victim.wait()


def freeze(name: str) -> psutil.Process:
    """Stop one process of that actor class, which then neither works nor ends: a machine that hangs."""
    victim = processes(name)[0]
    victim.suspend()
    return victim


def processes(name: str) -> list[psutil.Process]:
    """The processes of that actor class, of this test's own Ray."""
    own = psutil.Process().children(recursive=True)
    return [process for process in own if f"ray::{name}" in " ".join(process.cmdline())]
