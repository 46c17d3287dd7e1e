"""A training run from its configuration to its report: everything that can be wrong is looked at before it begins."""

from __future__ import annotations

import asyncio
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
from chaosops_ray.agents.served import OpenAISampler, ServedModelError
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import MADE_HERE, ConfigError, Run, is_sweep, load
from chaosops_ray.config import read as read_file
from chaosops_ray.plain_text import one_line
from chaosops_ray.reports import run_report
from chaosops_ray.reports.progress import Progress
from chaosops_ray.sim import curriculum
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store import files, run_folder, versions
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.training import base_models, loop, plan
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.loop import AlarmError, Say, Training, Watch
from chaosops_ray.training.tiny import WORLD
from chaosops_ray.wire import EpisodeReport
from chaosops_ray.workers.adoption import AdoptionError
from chaosops_ray.workers.policy import ServedPolicy, TrainedPolicy
from chaosops_ray.workers.pool import PoolError, bundles, check
from chaosops_ray.workers.samplers.sampler import SamplerError
from chaosops_ray.workers.samplers.torch import TorchSampler

# Where the key of a served model is looked for; it is sent if it is there.
KEY = "OPENAI_API_KEY"
RETRIES = 5
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
    if run.model in MADE_HERE and run.world != WORLD:
        raise ConfigError(f"model: {run.model} only speaks the world {WORLD}; give {run.world} a real model")
    if run.model in MADE_HERE and run.rendering != "compact":
        raise ConfigError(f"style: {run.model} only reads the compact style")
    check_colocation(run)
    plan.make(run, environment)
    plan.stream_weights(run, environment)
    curriculum.parse(run.curriculum, environment.tiers, environment.promotions)
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
        base = prepared(run.model, progress.say)
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
        return finish(loop.prepare(run, prepared(run.model, progress.say), folder), progress, progress.say)


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
        scenarios = held_out(training.run, training.environment)
        trained = loop.train(training, watch, say, scenarios)
        summary = measure(training, scenarios, trained.held_out)
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
        raise InputError(f"{what}: {one_line(error)}") from None
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


def prepared(model: str, say: Say) -> BaseModel:
    """The base model, with a word on what takes so long."""
    what = f"warming up {model}" if model in MADE_HERE else f"loading {model}"
    say(what)
    return base_models.prepare(model, lambda done, steps: say(f"{what} {done}/{steps}"))


# -- evaluation -----------------------------------------------------------------------------------------------------


def held_out(run: Run, environment: AnyEnvironment) -> tuple[Scenario, ...]:
    """What a run is measured on: scenarios that training never draws."""
    seeds = evaluate.parse_seeds(run.evaluation.seeds)
    return environment.scenarios(plan.set_named(run.evaluation.set, environment), seeds)


def measure(training: Training, scenarios: Sequence[Scenario], reports: Sequence[EpisodeReport]) -> dict[str, Any]:
    """What the last version did on these scenarios beside what the baselines do there."""
    run, environment, folder = training.run, training.environment, training.folder
    selection = plan.set_named(run.evaluation.set, environment)
    rules = environment.rules(run.rules)
    results = [
        evaluate.reported(environment, evaluate.TRAINED, one.scenario, one.headline, one.metrics) for one in reports
    ]
    policies = evaluate.parse_policies(environment, ",".join(run.evaluation.policies))
    results += [
        evaluate.result(environment, name, episode)
        for name, episode in evaluate.episodes(environment, policies, scenarios, rules)
    ]
    summary = evaluate.summary(environment, results, rules, selection, run.evaluation.seeds)
    summary["differences"] = evaluate.differences(environment, results, evaluate.TRAINED, run.evaluation.policies)
    # The summary comes last: where it is, the run is over.
    files.write_lines(folder.path / run_folder.RESULTS, evaluate.rows(environment, results))
    files.write_json(folder.path / run_folder.EVALUATION, summary)
    return summary


def results(folder: RunFolder, environment: AnyEnvironment) -> list[evaluate.Result]:
    """What a run's evaluation found, episode by episode."""
    path = folder.path / run_folder.RESULTS
    return evaluate.results_of(environment, files.read_lines(path), str(path))


def policy(
    run: Run, base: BaseModel, environment: AnyEnvironment, folder: RunFolder, number: int | None
) -> TrainedPolicy:
    """A version of the run's policy, loaded and looked over; there is nothing else that it could be."""
    version = (
        versions.latest(folder.adapters, base.digest)
        if number is None
        else versions.read(folder.adapters / versions.folder_name(number), base.digest)
    )
    sampler = TorchSampler(base.path, run.resources.learner_threads)
    bound = asyncio.run(sampler.adopt(version))
    wanted = versions.verify(version, base.digest).modules
    if bound != wanted:
        raise AdapterError(
            f"{version.path}: {bound} of the {wanted} modules of {version.name} were bound to {run.model}; "
            "give the base model that the run began from"
        )
    codec = Codec(base.path, base.layout)
    return TrainedPolicy(
        environment, codec, run.rendering, sampler, version, run.rollout.max_tokens, structured=run.rollout.structured
    )


def served_policy(environment: AnyEnvironment, spelling: str) -> ServedPolicy:
    """The policy of a spelling such as qwen2.5@http://127.0.0.1:8000/v1: a model that somebody serves."""
    name, at, url = spelling.partition("@")
    if not name or not at:
        raise InputError(f"{spelling[:80]!r} is no served model; write served=MODEL@http://127.0.0.1:8000/v1")
    key = KEY if os.environ.get(KEY) else None
    return ServedPolicy(environment, OpenAISampler(url, name, key_variable=key, retries=RETRIES))


def named_policy(environment: AnyEnvironment, spelling: str) -> TrainedPolicy:
    """The policy of a spelling such as runs/3a, or runs/3a@120 for the version after 120 updates."""
    folder, number = version_named(spelling)
    run = load(folder.path / run_folder.CONFIG)
    if run.world != environment.name:
        raise InputError(
            f"{folder.path} was trained in the world {run.world}, not {environment.name}; evaluate it there"
        )
    base = base_models.prepare(run.model)
    return policy(run, base, environment, folder, number)


def version_named(spelling: str) -> tuple[RunFolder, int | None]:
    """The run of a spelling such as runs/3a or runs/3a@120, and which of its versions; None is the last one."""
    path, at, number = spelling.rpartition("@")
    if not at:
        return RunFolder(Path(spelling)), None
    if not number.isascii() or not number.isdigit():
        raise InputError(f"{spelling[:80]!r}: after the @ comes a version's number, for example runs/3a@120")
    return RunFolder(Path(path)), int(number)
