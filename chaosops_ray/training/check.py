"""Checks of a configuration before anything starts. Neither Ray nor torch is imported: refusals are quick."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from chaosops_ray import evaluate
from chaosops_ray.agents.forms import call_schema
from chaosops_ray.config import MADE_HERE, ConfigError, Run, is_sweep, load
from chaosops_ray.config import read as read_file
from chaosops_ray.grammar import least
from chaosops_ray.sim import training_seeds
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.seats import in_words
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store.run_folder import CONFIG, RunFolder
from chaosops_ray.telemetry import sinks
from chaosops_ray.training import base_models, cost, footprint, plan, tiny
from chaosops_ray.training.cards import Card
from chaosops_ray.workers.bundles import bundles

_KNOCK_SECONDS = 5.0


def read(config: Path, settings: Sequence[str], seed: str | None) -> Run:
    """Read a run from a file; settings of the command line replace values of the file."""
    if is_sweep(read_file(config)):
        raise ConfigError(f"{config} is a sweep, not a run; start it with: chaosops tune {config}")
    return load(config, [*settings, *([] if seed is None else [f"seed={seed}"])])


def look_over(run: Run) -> AnyEnvironment:
    """Look up everything that a configuration names, without loading the model; return its world."""
    environment = environment_named(run.world)
    if run.model in MADE_HERE:
        tiny.check(environment)
        if run.rendering != tiny.STYLE:
            raise ConfigError(f"style: {run.model} only reads the {tiny.STYLE} style, got {run.style}; remove it")
    else:
        base_models.local(run.model)
    check_schema(run, environment)
    check_colocation(run)
    sinks.check(run.telemetry)
    plan.make(run, environment)
    plan.stream_weights(run, environment)
    plan.curriculum(run, environment)
    evaluate.parse_policies(environment, ",".join(plan.baselines(run, environment)))
    last = evaluate.parse_seeds(run.evaluation.seeds)[-1]
    if last >= training_seeds.FIRST:
        raise ConfigError(f"evaluation.seeds must be below {training_seeds.FIRST}, where training's begin; got {last}")
    environment.scenarios(plan.set_named(run.evaluation.set, environment), [0])
    return environment


def check_schema(run: Run, environment: AnyEnvironment) -> None:
    """Refuse rollout.structured: schema in compact style, or with too few tokens for an action."""
    if run.rollout.structured != "schema":
        return
    if run.rendering != "full":
        raise ConfigError(
            "rollout.structured: schema is for the full style, in which an action is a JSON object; "
            f"in the {run.rendering} style, which {run.model} reads here, use choices or no"
        )
    rules = environment.rules(run.rules)
    needed = max([least(call_schema(environment, role, rules)) for role in environment.roles])
    if run.rollout.max_tokens < needed:
        raise ConfigError(
            f"rollout.max_tokens: {run.rollout.max_tokens} are too few for each action of world {environment.name} to "
            f"fit in as an object of its schema; give {needed} or more, or set rollout.structured to choices or no"
        )


def check_colocation(run: Run) -> None:
    """Refuse resources.colocate unless learner and samplers take turns on at most one GPU."""
    asked = run.resources
    if not asked.colocate:
        return
    if run.schedule == "pipelined":
        raise ConfigError(
            "resources.colocate: sampler and learner take turns, but pipelined overlaps them; use lockstep"
        )
    together = asked.learner_gpus + asked.samplers * asked.sampler_gpus
    if together > 1 + 1e-9:
        raise ConfigError(
            f"resources.colocate: learner and samplers share one GPU and ask for {together:g}; lower their shares"
        )


def explain(run: Run, card: Card | None = None) -> str:
    """Describe the resolved configuration and the actors that it will start, here or on such cards."""
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
    lines = "".join([f"  {line}\n" for line in actors])
    seats = in_words(environment_named(run.world), run.colleagues, "the policy that learns")
    seated = f"seats: {seats}\n" if run.colleagues else ""
    together = f"together: {amount(total['CPU'], total['GPU'])}\n"
    return f"{written(run)}\nactors:\n{lines}{together}{seated}memory:\n{memory(run, card)}"


def memory(run: Run, card: Card | None = None) -> str:
    """Describe the memory of each actor, beside what this machine or the card has; with a card, also the run's cost."""
    environment = environment_named(run.world)
    try:
        model, is_here = _known(run)
        machine = footprint.here() if card is None else footprint.Machine(footprint.here().memory, (card.memory,))
        found = footprint.needs_with(run, environment, model, machine)
    except footprint.UnknownError as error:
        return f"  unknown{error}\n"
    shown = "" if is_here else f"  by the shape of {run.model}, which is {_coming(run)} when the run starts\n"
    if card is None:
        return shown + footprint.explained(found, machine)
    fits = footprint.explained_on(run, found, card.memory, card.title)
    again = False
    if run.resources.learner_gpus:
        chosen = footprint.again_on(run, environment, model, card.memory)
        again = chosen.layers > 0
        fits += f"  learner.checkpointing, {chosen.why}\n"
    return shown + fits + cost.explained(run, environment, model, card, again=again, is_counted=is_here)


def _known(run: Run) -> tuple[footprint.Known, bool]:
    """Return what is known of the run's model, and whether its files are on this machine."""
    folder = base_models.on_disk(run.model, run.world)
    if folder is not None:
        try:
            return footprint.known(folder), True
        except footprint.UnknownError as error:
            raise footprint.UnknownError(f": {error}") from None
    found = footprint.published(run.model)
    if found is None:
        raise footprint.UnknownError(f" until {run.model} is on this machine: it is {_coming(run)} when the run starts")
    return found, False


def check_card(run: Run, card: Card) -> None:
    """Raise ConfigError if the run uses no GPU, or if its actors cannot fit on cards like this one."""
    if not (run.resources.learner_gpus or run.resources.sampler_gpus):
        raise ConfigError(
            "--gpu: the run uses no GPU, resources.learner_gpus and resources.sampler_gpus are 0; "
            "set them, or remove --gpu"
        )
    with suppress(footprint.UnknownError):
        model, _ = _known(run)
        machine = footprint.Machine(footprint.here().memory, (card.memory,))
        found = footprint.needs_with(run, environment_named(run.world), model, machine)
        footprint.check_gpus(run, found, card.memory, f"{card.title} has")


def _coming(run: Run) -> str:
    return "made" if run.model in MADE_HERE else "downloaded"


def check_memory(run: Run) -> None:
    """Raise ConfigError if this machine has too little memory for the run; nothing is known of a model not here yet."""
    model = base_models.on_disk(run.model, run.world)
    if model is not None:
        footprint.check_here(run, environment_named(run.world), model)


def amount(cpus: float, gpus: float) -> str:
    """Write CPUs and GPUs as text."""
    return f"{cpus:g} CPU" + (f", {gpus:g} GPU" if gpus else "")


def spelled_out(run: Run) -> Run:
    """Return the run with its rules spelled in full: `strict` becomes the version that is played now."""
    return run.model_copy(update={"rules": environment_named(run.world).rules(run.rules)})


def written(run: Run) -> str:
    """Write the configuration as a run's folder keeps it, with the version of its rules."""
    return yaml.safe_dump(spelled_out(run).model_dump(mode="json"), sort_keys=False)


def begun(out: Path) -> tuple[Path, Run, AnyEnvironment]:
    """Read and check the run of a folder; return the folder's full path with them."""
    folder = RunFolder(out.resolve())
    run = recorded(folder)
    return folder.path, run, look_over(run)


def recorded(folder: RunFolder) -> Run:
    """Read the run of a folder; refuse one that has changed, and one under rules that this program does not play."""
    folder.check()
    run = load(folder.path / CONFIG)
    folder.check_rules(environment_named(run.world), run.rules)
    return run


def knock(address: str) -> None:
    """Check that something listens at the address of a cluster; Ray would try for minutes before it gives up."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return  # a name that Ray looks up itself, such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster at {address}: {error}; see `ray status` there") from None
