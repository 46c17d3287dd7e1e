"""A training run from its configuration to its report: everything that can be wrong is looked at before it begins."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray
import yaml
from ray.exceptions import RayTaskError
from rich.console import Console

from chaosops_ray import evaluate, process_environment
from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.config import MADE_HERE, ConfigError, Run, is_sweep, load
from chaosops_ray.config import read as read_file
from chaosops_ray.reports import run_report
from chaosops_ray.reports.progress import Progress
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store import files, run_folder
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.training import base_models, loop, measure, plan, tiny
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.loop import AlarmError, Say, Training, Watch
from chaosops_ray.workers.adoption import AdoptionError
from chaosops_ray.workers.pool import PoolError, bundles, check
from chaosops_ray.workers.samplers.sampler import SamplerError

_KNOCK_SECONDS = 5.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Every error that says by itself what is wrong and what to do; anything else is a defect of ours and keeps its trace.
KNOWN = (
    ServedModelError,
    ConfigError,
    AdapterError,
    SamplerError,
    AdoptionError,
    PoolError,
    AlarmError,
    FloatingPointError,
)


class Finished(NamedTuple):
    """What there is to show of a run that is over."""

    environment: AnyEnvironment
    evaluation: dict[str, Any]
    page: Path


@contextmanager
def as_input_errors() -> Iterator[None]:
    """Errors with names, from whatever boundary, become the one that the command line tells in a line."""
    try:
        yield
    except KNOWN as error:
        # What crossed a process carries a trace ahead of its own line.
        raise InputError(str(error.cause if isinstance(error, RayTaskError) else error)) from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(
            f"{error.filename or 'the disk'}: {error.strerror}; make room, then --resume the run"
        ) from error


def read(config: Path, settings: Sequence[str], seed: str | None) -> Run:
    """The run that a file describes, with what was set on the command line over it."""
    if is_sweep(read_file(config)):
        raise ConfigError(f"{config} is a sweep and no run; start it by: chaosops tune {config}")
    return load(config, [*settings, *([] if seed is None else [f"seed={seed}"])])


def look_over(run: Run) -> AnyEnvironment:
    """Look up everything that a configuration names, short of loading the model."""
    environment = environment_named(run.world)
    if run.model in MADE_HERE:
        tiny.check(environment)
    if run.model in MADE_HERE and run.rendering != tiny.STYLE:
        raise ConfigError(f"style: {run.model} only reads the {tiny.STYLE} style")
    check_colocation(run)
    plan.make(run, environment)
    plan.stream_weights(run, environment)
    plan.curriculum(run, environment)
    evaluate.parse_policies(environment, ",".join(run.evaluation.policies))
    seeds = evaluate.parse_seeds(run.evaluation.seeds)
    if seeds[-1] >= plan.FIRST_SEED:
        raise ConfigError(f"evaluation.seeds: training draws from {plan.FIRST_SEED} on; stay below, to hold them out")
    if run.model not in MADE_HERE:
        base_models.local(run.model)
    environment.scenarios(plan.set_named(run.evaluation.set, environment), [0])
    return environment


def check_colocation(run: Run) -> None:
    """Taking turns on a GPU takes one GPU, and turns."""
    asked = run.resources
    if not asked.colocate:
        return
    if run.schedule == "pipelined":
        raise ConfigError("resources.colocate: sampler and learner take turns, which pipelined excludes; use lockstep")
    together = asked.learner_gpus + asked.samplers * asked.sampler_gpus
    if together > 1 + 1e-9:
        raise ConfigError(
            f"resources.colocate: learner and samplers share one GPU and ask for {together:g}; lower their shares"
        )


def explain(run: Run) -> str:
    """The resolved configuration, and the actors that it will start."""
    asked = run.resources
    where = "on the learner's resources" if asked.colocate else "each"
    actors = [
        f"1 learner ({amount(asked.learner_cpus, asked.learner_gpus)}): LoRA r={run.learner.lora_rank}, "
        f"{run.learner.loss}, {run.learner.steps} optimizer steps an update",
        f"{asked.samplers} {run.sampler} sampler(s) ({amount(asked.sampler_cpus, asked.sampler_gpus)} {where})",
        f"{run.rollout.shards} shard(s) ({amount(asked.shard_cpus, 0)} each): "
        f"{run.batch.scenarios} scenarios x {run.batch.group} episodes an update, {run.schedule}",
    ]
    total = bundles(run).total
    return (
        yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False)
        + "\nactors:\n"
        + "".join([f"  {line}\n" for line in actors])
        + f"together: {amount(total['CPU'], total['GPU'])}\n"
    )


def amount(cpus: float, gpus: float) -> str:
    """What is asked of a cluster, in words."""
    return f"{cpus:g} CPU" + (f", {gpus:g} GPU" if gpus else "")


def begin(run: Run, out: Path, address: str | None, console: Console) -> Finished:
    """A new run."""
    environment = look_over(run)
    files.check_new_folder(out)
    with display(run, environment, out, (), console) as progress, cluster([run], address, progress.say):
        base = prepared(run.model, run.world, progress.say)
        folder = RunFolder.create(out.resolve(), written(run))
        return finish(loop.prepare(run, base, folder), progress, progress.say)


def resume(out: Path, address: str | None, console: Console) -> Finished:
    """Go on with a run from its last checkpoint."""
    folder = RunFolder(out.resolve())
    run = load(folder.path / run_folder.CONFIG)
    environment = look_over(run)
    with (
        display(run, environment, out, folder.metrics(), console) as progress,
        cluster([run], address, progress.say),
    ):
        return finish(loop.prepare(run, prepared(run.model, run.world, progress.say), folder), progress, progress.say)


def display(
    run: Run, environment: AnyEnvironment, out: Path, before: Sequence[dict[str, Any]], console: Console
) -> Progress:
    """What a person sees of the run."""
    return Progress(console, environment, out.name, run.updates, run.alarm.kl, before)


def written(run: Run) -> str:
    """The configuration as a run's folder keeps it."""
    return yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False)


def finish(training: Training, watch: Watch, say: Say, patience: float = 0.0) -> Finished:
    """Train what is left to train, measure it, write the report; `patience` is for whoever trains in the folder now."""
    say("placing actors")
    with training.folder.claimed(patience):
        scenarios = measure.held_out(training.run, training.environment)
        trained = loop.train(training, watch, say, scenarios)
        summary = measure.measure(training.run, training.environment, training.folder, scenarios, trained.held_out)
        return Finished(training.environment, summary, run_report.write(training.folder, training.environment))


@contextmanager
def cluster(runs: Sequence[Run], address: str | None, say: Say, beside: float = 0.0) -> Iterator[None]:
    """Ray, on this machine or where the address says, if it has what each of the runs asks for, and some CPU beside."""
    say("starting Ray" if address is None else f"connecting to Ray at {address}")
    if address is not None:
        knock(address)
    # A job that was submitted may have set some of the same variables; unless told to, Ray does not merge the two.
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": process_environment.ENVIRONMENT},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        what = "Ray does not start" if address is None else f"no Ray cluster at {address}"
        raise InputError(f"{what}: {' '.join(str(error).split())[:200]}") from None
    try:
        for run in runs:
            check(run, ray.cluster_resources(), beside)
        yield
    finally:
        ray.shutdown()


def knock(address: str) -> None:
    """Whether anybody is there; Ray would try for minutes before it says that nobody is."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return  # a name that Ray itself knows how to look up, such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster at {address}: {error}; see `ray status` there") from None


def prepared(model: str, world: str, say: Say) -> BaseModel:
    """The base model, with a word on what takes so long."""
    what = f"warming up {model}" if model in MADE_HERE else f"loading {model}"
    say(what)
    return base_models.prepare(model, lambda done, steps: say(f"{what} {done}/{steps}"), world)
