"""A configuration, checked before anything is started. Neither Ray nor torch is imported: refusals are quick."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import yaml

from chaosops_ray import evaluate
from chaosops_ray.config import MADE_HERE, ConfigError, Run, is_sweep, load
from chaosops_ray.config import read as read_file
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store import run_folder
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import base_models, plan, tiny
from chaosops_ray.workers.bundles import bundles

_KNOCK_SECONDS = 5.0


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
        written(run)
        + "\nactors:\n"
        + "".join([f"  {line}\n" for line in actors])
        + f"together: {amount(total['CPU'], total['GPU'])}\n"
    )


def amount(cpus: float, gpus: float) -> str:
    """What is asked of a cluster, in words."""
    return f"{cpus:g} CPU" + (f", {gpus:g} GPU" if gpus else "")


def written(run: Run) -> str:
    """Write the configuration as a run's folder keeps it."""
    return yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False)


def begun(out: Path) -> tuple[RunFolder, Run, AnyEnvironment]:
    """Read and check the run of a folder."""
    folder = RunFolder(out.resolve())
    run = load(folder.path / run_folder.CONFIG)
    return folder, run, look_over(run)


def knock(address: str) -> None:
    """Check that something listens at the address of a cluster; Ray would try for minutes before it gives up."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return  # a name that Ray itself knows how to look up, such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster at {address}: {error}; see `ray status` there") from None
