"""The actors of a run, from the loop's side: placed, proven, kept alive.

A dead or silent member is replaced, proven again, and its work dispatched again under the same seeds. What cannot be
mended within the configured retries ends the run with an error; nothing is made up in place of a missing group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, OutOfMemoryError, RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from chaosops_ray.config import Run
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.wire import Decoding, Group, Layout, PolicyVersion, Probe, Task
from chaosops_ray.workers.actors import Remote, SamplerActor, ShardActor
from chaosops_ray.workers.adoption import Adoption, check_adoption
from chaosops_ray.workers.bundles import bundles
from chaosops_ray.workers.health import Health, PoolError, PoolHealth
from chaosops_ray.workers.samplers.sampler import SamplerError

# What a process that is gone looks like from here.
LOST = (RayActorError, OutOfMemoryError, ObjectLostError)
_PING_SECONDS = 30.0
PLACEMENT_SECONDS = 600.0
_AT_ONCE = 1000


class ActorPool:
    """Shards and samplers of one run, where they were placed."""

    def __init__(
        self,
        run: Run,
        environment: AnyEnvironment,
        model: Path,
        layout: Layout,
        engine: dict[str, Any],
        reserved: PlacementGroup | None = None,
    ) -> None:
        """`reserved` is a group whose first bundle is somebody else's and whose others are those of `bundles(run)`."""
        self._run = run
        self._environment = environment
        self._model = model
        self._layout = layout
        self._engine = engine
        self.bundles = bundles(run)
        self._reserved = reserved
        self._placed: PlacementGroup | None = None
        self._samplers = [f"sampler-{i}" for i in range(len(self.bundles.samplers))]
        self._shards = [f"shard-{i}" for i in range(len(self.bundles.shards))]
        self._actors: dict[str, Any] = {}
        self._probe: Probe | None = None
        self._previous: PolicyVersion | None = None
        self.replaced = 0

    # -- placing ------------------------------------------------------------------------------------------------------

    def place(self) -> None:
        """Reserve the resources."""
        self._placed = self._reserved or self._reserve()

    def start(self) -> None:
        """Make the actors where they were placed."""
        staleness = self._run.staleness if self._run.schedule == "pipelined" else 0
        self.health = PoolHealth.started(self._samplers, self._shards, staleness, time.monotonic())
        for name in (*self._samplers, *self._shards):
            self._actors[name] = self._new(name)

    def _reserve(self) -> PlacementGroup:
        asked = self.bundles.to_place
        patience = max(PLACEMENT_SECONDS, self._run.resources.wait)
        placed = placement_group(asked, strategy="PACK")
        try:
            ray.get(placed.ready(), timeout=patience)
        except GetTimeoutError:
            raise PoolError(f"the cluster did not place {asked} within {patience:g} s; see `ray status`") from None
        return placed

    def options(self, bundle: int, cpus: float, gpus: float = 0.0) -> dict[str, Any]:
        """Where an actor goes, and what it takes there."""
        return {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                placement_group=self._placed,
                placement_group_bundle_index=bundle + (self._reserved is not None),
            ),
        }

    def _new(self, name: str) -> Any:
        asked = self._run.resources
        if name in self._samplers:
            bundle = self.bundles.samplers[self._samplers.index(name)]
            placed = self.options(bundle, asked.sampler_cpus, asked.sampler_gpus)
            return SamplerActor.options(**placed, max_concurrency=_AT_ONCE).remote(self._run.sampler, self._engine)
        placed = self.options(self.bundles.shards[self._shards.index(name)], asked.shard_cpus)
        decoding = Decoding(self._run.rollout.temperature, self._run.rollout.max_tokens, self._layout.stop)
        return ShardActor.options(**placed, max_concurrency=_AT_ONCE).remote(
            self._environment,
            self._run.rendering,
            self._model,
            self._layout,
            decoding,
            structured=self._run.rollout.structured,
        )

    def stop(self) -> None:
        """Give everything back."""
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors = {}
        if self._placed is not None and self._reserved is None:
            remove_placement_group(self._placed)
        self._placed = None

    # -- versions -----------------------------------------------------------------------------------------------------

    def adopt(self, version: PolicyVersion, probe: Probe, retire: int | None) -> list[Adoption]:
        """Every sampler loads the version and proves it; until then nothing is played."""
        self.health = self.health.wanted(version)
        self._probe = probe
        found = asyncio.run(self._prove_together(retire))
        adoptions = []
        for name, proof in zip(self._samplers, found, strict=True):
            if isinstance(proof, (*LOST, SamplerError)):
                self._replace(name, proof)
                adoptions.append(self._prove(name))
            elif isinstance(proof, BaseException):
                raise proof
            else:
                adoptions.append(self._noted(name, *proof))
        self._previous = version
        return adoptions

    async def _prove_together(self, retire: int | None) -> list[tuple[Adoption, float] | BaseException]:
        """Let all samplers prove the version side by side, and then forget the one to retire; errors come as values."""

        async def one(name: str) -> tuple[Adoption, float]:
            proof = await self._proof(name)
            if retire is not None:
                await Remote(self._actors[name]).retire(retire)
            return proof

        return await asyncio.gather(*[one(name) for name in self._samplers], return_exceptions=True)

    def _prove(self, name: str) -> Adoption:
        return self._noted(name, *asyncio.run(self._proof(name)))

    async def _proof(self, name: str) -> tuple[Adoption, float]:
        """The sampler's proof of the wanted version, and when it was asked for.

        The version before is scored beside it if the sampler still holds that.
        """
        wanted, held = self.health.target, self.health.member(name).proven
        if wanted is None or self._probe is None:
            raise PoolError("no policy version is published yet; there is nothing to prove")
        asked = time.monotonic()
        previous = self._previous if held is not None and held == self._previous else None
        return await check_adoption(Remote(self._actors[name]), wanted, self._probe, previous), asked

    def _noted(self, name: str, adoption: Adoption, asked: float) -> Adoption:
        now = time.monotonic()
        self.health = self.health.heard(name, now).proven(name, adoption.version, asked, now)
        return adoption

    def _replace(self, name: str, error: Exception) -> None:
        check_started(name, error)
        self.replaced += 1
        self.health = self.health.died(name, reason(error) or "no sign of life")
        if self.replaced > self._run.rollout.retries * len(self._actors):
            raise PoolError(f"actors died {self.replaced} times, which is no accident: {self.health.describe()}")
        ray.kill(self._actors[name])
        self._actors[name] = self._new(name)
        self.health = self.health.restarted(name, time.monotonic())

    def release(self) -> None:
        """Let the learner have the GPU; every version must be adopted anew after this."""
        ray.get([self._actors[name].release.remote() for name in self._samplers])
        for name in self._samplers:
            self.health = self.health.released(name, time.monotonic())

    def busy_seconds(self) -> float:
        """How long the engines have worked, on average; one that is replaced begins anew."""
        try:
            spent: list[float] = ray.get([self._actors[name].busy_seconds.remote() for name in self._samplers])
        except LOST:
            self.mend()
            return self.busy_seconds()
        return sum(spent) / len(spent)

    # -- playing ------------------------------------------------------------------------------------------------------

    def dispatch(self, tasks: Sequence[Task]) -> Collection:
        """Begin to play, by the version that was proven last."""
        return Collection(self, tasks, self.served())

    def served(self) -> int:
        """The version that every sampler has proven."""
        if self.health.gate == "red" or self.health.target is None:
            raise PoolError(f"no sampler has proven the policy, so nothing is played: {self.health.describe()}")
        return self.health.target.number

    def send(self, task: Task, number: int, version: int) -> Any:
        """One task to a shard and a sampler."""
        ready = self.health.ready
        shard = self._actors[self._shards[number % len(self._shards)]]
        sampler = ready[number % len(ready)]
        return shard.play.remote(task, sampler, self._actors[sampler], version)

    def mend(self) -> None:
        """Find out who is dead or silent, and replace them; a new sampler proves itself before it serves."""
        pings = {name: self._actors[name].ping.remote() for name in (*self._samplers, *self._shards)}
        for name, ping in pings.items():
            # One that is only starting is not silent: an engine takes its time to load.
            patience = PLACEMENT_SECONDS if self.health.of(name) is Health.STARTING else _PING_SECONDS
            try:
                ray.get(ping, timeout=patience)
            except (*LOST, GetTimeoutError, SamplerError) as error:
                self._replace(name, error)
                if name in self._samplers:
                    self._prove(name)
            else:
                self.health = self.health.heard(name, time.monotonic())


class Collection:
    """Groups that are being played."""

    def __init__(self, pool: ActorPool, tasks: Sequence[Task], version: int) -> None:
        self._pool = pool
        self._version = version
        self._tasks = list(tasks)
        self._attempts = [0] * len(tasks)
        self._running = {pool.send(task, i, version): i for i, task in enumerate(tasks)}

    def gather(self, deadline: float, retries: int) -> list[Group]:
        """All groups, in the order of their tasks."""
        found: dict[int, Group] = {}
        until = time.monotonic() + deadline
        while self._running:
            ready, _ = ray.wait(list(self._running), timeout=max(0.0, until - time.monotonic()))
            failed = {}
            for ref in ready:
                place = self._running.pop(ref)
                try:
                    found[place] = ray.get(ref)
                except LOST as error:
                    failed[place] = reason(error)
                except RayTaskError as error:
                    if not isinstance(error.cause, (*LOST, SamplerError)):
                        raise PoolError(f"{self._tasks[place].key}: {reason(error.cause)}") from error
                    failed[place] = reason(error.cause)
            if not ready:
                failed = dict.fromkeys(self._running.values(), f"nothing came within {deadline:g} s")
                self._running.clear()
            if failed:
                self._again(failed, retries)
                until = time.monotonic() + deadline
        return [found[place] for place in range(len(self._tasks))]

    def _again(self, failed: dict[int, str], retries: int) -> None:
        self._pool.mend()
        # Who was replaced holds what is served now, and nothing older.
        self._version = self._pool.served()
        for place, why in failed.items():
            self._attempts[place] += 1
            task = self._tasks[place]
            if self._attempts[place] > retries:
                raise PoolError(f"{task.key} ({task.scenario}) failed {self._attempts[place]} times; the last: {why}")
            self._running[self._pool.send(task, place + self._attempts[place], self._version)] = place


def check_started(name: str, error: Exception) -> None:
    """An actor that could not even be made will not be made by trying again."""
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raise PoolError(f"{name} does not start: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The text of an error as one line; of an actor's trace, the line that names the error."""
    if isinstance(error, RayActorError):
        # The error is at the end for an actor that could not be made. For one that died, process and address follow.
        return one_line(str(error), part="last" if error.actor_init_failed else "first")
    return one_line(str(error))
