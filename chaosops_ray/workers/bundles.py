"""The resources that a run requires of the cluster. Ray is not imported: a configuration is checked without it."""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.config import ConfigError, Run

# CPUs of a bundle that needs none: placement groups refuse an empty one.
HARDLY_ANY = 0.001


class Bundles(NamedTuple):
    """The resources of a run's actors: what each bundle holds, and which bundle an actor is placed in."""

    bundles: tuple[dict[str, float], ...]
    samplers: tuple[int, ...]
    shards: tuple[int, ...]
    learner: int = 0

    @property
    def to_place(self) -> list[dict[str, float]]:
        """The bundles for a placement group, none of them empty."""
        return [bundle or {"CPU": HARDLY_ANY} for bundle in self.bundles]

    @property
    def total(self) -> dict[str, float]:
        """The sum over all bundles."""
        return {kind: sum([bundle.get(kind, 0.0) for bundle in self.bundles]) for kind in ("CPU", "GPU")}


def bundles(run: Run) -> Bundles:
    """Return the bundles of a run; colocated samplers share the learner's."""
    asked = run.resources
    count = asked.samplers
    if asked.colocate:
        cpus, gpus = asked.learner_cpus + asked.sampler_cpus * count, asked.learner_gpus + asked.sampler_gpus * count
        engines, samplers = [_bundle(cpus, gpus)], [0] * count
    else:
        own = [_bundle(asked.sampler_cpus, asked.sampler_gpus)] * count
        engines, samplers = [_bundle(asked.learner_cpus, asked.learner_gpus), *own], list(range(1, 1 + count))
    shards = [_bundle(asked.shard_cpus, 0.0)] * run.rollout.shards
    places = range(len(engines), len(engines) + len(shards))
    return Bundles((*engines, *shards), tuple(samplers), tuple(places))


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {kind: amount for kind, amount in (("CPU", cpus), ("GPU", gpus)) if amount}


def check(run: Run, available: dict[str, float]) -> None:
    """Raise ConfigError if the cluster lacks what the run needs: the run would never start."""
    _check_kernels(run)
    if run.resources.wait:
        return
    for kind, wanted in bundles(run).total.items():
        if wanted > available.get(kind, 0.0) + 1e-9:
            raise ConfigError(
                f"resources: the run needs {wanted:g} {kind}s and the cluster has {available.get(kind, 0.0):g}; "
                "lower resources.* or rollout.shards, use a larger cluster, or set resources.wait where one grows"
            )


def _check_kernels(run: Run) -> None:
    """Raise ConfigError where the run asks for kernels that only a GPU has, and has none."""
    asked = run.resources
    if run.learner.liger and not asked.learner_gpus:
        raise ConfigError("learner.liger: its kernels need a GPU, and resources.learner_gpus is 0; set it to false")
    if asked.deterministic and (run.sampler != "vllm" or not asked.sampler_gpus or not asked.learner_gpus):
        raise ConfigError(
            "resources.deterministic is for the vllm engine and a learner on GPUs; set it to false: on a CPU, lockstep "
            "repeats without it, and the torch engine has no such kernels for a GPU"
        )
