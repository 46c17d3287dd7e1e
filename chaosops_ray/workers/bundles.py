"""The resources that a run asks of the cluster. No Ray here: a configuration is checked without it."""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.config import ConfigError, Run

# What a bundle asks for that needs nothing.
HARDLY_ANY = 0.001


class Bundles(NamedTuple):
    """What a run asks of the cluster: one bundle of resources for each actor, the learner's first."""

    bundles: tuple[dict[str, float], ...]
    learner: int
    samplers: tuple[int, ...]
    shards: tuple[int, ...]

    @property
    def to_place(self) -> list[dict[str, float]]:
        """The bundles as a placement group takes them, which refuses one that asks for nothing."""
        return [bundle or {"CPU": HARDLY_ANY} for bundle in self.bundles]

    @property
    def total(self) -> dict[str, float]:
        """The sum over all bundles."""
        return {kind: sum([bundle.get(kind, 0.0) for bundle in self.bundles]) for kind in ("CPU", "GPU")}


def bundles(run: Run) -> Bundles:
    """The bundles of a run. Sampler and learner share the first one where they share a GPU."""
    asked = run.resources
    learner = _bundle(asked.learner_cpus, asked.learner_gpus)
    samplers = [_bundle(asked.sampler_cpus, asked.sampler_gpus) for _ in range(asked.samplers)]
    shards = [_bundle(asked.shard_cpus, 0.0) for _ in range(run.rollout.shards)]
    if asked.colocate:
        shared = _bundle(
            asked.learner_cpus + asked.sampler_cpus * asked.samplers,
            asked.learner_gpus + asked.sampler_gpus * asked.samplers,
        )
        return Bundles((shared, *shards), 0, (0,) * asked.samplers, tuple(range(1, 1 + len(shards))))
    first_shard = 1 + len(samplers)
    return Bundles(
        (learner, *samplers, *shards),
        0,
        tuple(range(1, first_shard)),
        tuple(range(first_shard, first_shard + len(shards))),
    )


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {kind: amount for kind, amount in (("CPU", cpus), ("GPU", gpus)) if amount}


def check(run: Run, available: dict[str, float], beside: float = 0.0) -> None:
    """Whether the cluster has what the run asks for and some CPU beside, or the run would wait for it."""
    if run.resources.wait:
        return
    total = bundles(run).total
    for kind, wanted in {**total, "CPU": total["CPU"] + beside}.items():
        if wanted > available.get(kind, 0.0) + 1e-9:
            raise ConfigError(
                f"resources: the run asks for {wanted:g} {kind}s and the cluster has {available.get(kind, 0.0):g}; "
                "lower resources.* or rollout.shards, give it a larger cluster, or where one grows set resources.wait"
            )
