"""The pool of a run's actors: places them, lets samplers prove versions, dispatches tasks, replaces lost actors.

A dead or silent actor is replaced, a new sampler proves the version first, and lost tasks are played again under the
same seeds. When the configured retries are used up, the run ends with an error; a missing group is never made up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, OutOfMemoryError, RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import Run
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.store import versions
from chaosops_ray.transfer import BaseSource
from chaosops_ray.wire import Decoding, Group, Ids, PolicyVersion, Probe, Task
from chaosops_ray.workers.actors import SamplerActor, ShardActor
from chaosops_ray.workers.adoption import Adoption, check_adoption
from chaosops_ray.workers.bundles import bundles
from chaosops_ray.workers.health import PoolError, PoolHealth
from chaosops_ray.workers.liveness import Limits
from chaosops_ray.workers.samplers.sampler import SamplerError
from chaosops_ray.workers.watch import GoneError, Watch

# What Ray raises for a process that is gone.
LOST = (RayActorError, OutOfMemoryError, ObjectLostError)
PLACEMENT_SECONDS = 600.0
LEARNER = "learner"
_AT_ONCE = 1000


class ActorPool:
    """Shards and samplers of one run, where they were placed."""

    def __init__(
        self,
        run: Run,
        environment: AnyEnvironment,
        base: BaseSource,
        codec: Codec,
        reserved: PlacementGroup | None = None,
    ) -> None:
        """`reserved` is a group whose first bundle is the caller's own and whose others are those of `bundles(run)`."""
        self._run = run
        self._environment = environment
        self._base = base
        self._stop = codec.layout.stop
        self._codec = ray.put(codec)
        self.bundles = bundles(run)
        self._reserved = reserved
        self._placed: PlacementGroup | None = None
        self._samplers = {f"sampler-{i}": bundle for i, bundle in enumerate(self.bundles.samplers)}
        self._shards = {f"shard-{i}": bundle for i, bundle in enumerate(self.bundles.shards)}
        self._actors: dict[str, Any] = {}
        self._health = PoolHealth.started([*self._samplers, *self._shards])
        self._probe: Probe | None = None
        self._deadlines = run.deadlines
        self._watch = Watch(Limits(self._deadlines.quiet, self._deadlines.silence, self._deadlines.start))
        self.replaced = 0

    def place(self) -> None:
        """Reserve the resources, unless the caller did."""
        self._placed = self._reserved
        if self._placed is None:
            asked = self.bundles.to_place
            patience = max(PLACEMENT_SECONDS, self._run.resources.wait)
            placed = placement_group(asked, strategy="PACK")
            try:
                ray.get(placed.ready(), timeout=patience)
            except GetTimeoutError:
                raise PoolError(f"the cluster did not place {asked} within {patience:g} s; see `ray status`") from None
            self._placed = placed

    def start(self) -> None:
        """Make the actors where they were placed."""
        for name in (*self._samplers, *self._shards):
            self._make(name)

    def watch_learner(self, learner: Any) -> None:
        """Watch over the learner, which the pool did not make and does not replace."""
        self._watch.started(LEARNER, learner.ping.remote)

    def ask(self, what: str, limit: float, ref: Any) -> Any:
        """Wait for what the learner was asked; raise GoneError if it is dead, or what it raises."""
        return self._watch.answer(LEARNER, what, limit, ref)

    def _make(self, name: str) -> None:
        self._actors[name] = actor = self._new(name)
        self._watch.started(name, actor.ping.remote)

    def options(self, bundle: int, cpus: float, gpus: float = 0.0) -> dict[str, Any]:
        """Return the options that place an actor in a bundle with these resources."""
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=self._placed, placement_group_bundle_index=bundle + (self._reserved is not None)
        )
        return {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": strategy}

    def _new(self, name: str) -> Any:
        run, asked = self._run, self._run.resources
        if name in self._samplers:
            placed = self.options(self._samplers[name], asked.sampler_cpus, asked.sampler_gpus)
            return SamplerActor.options(**placed, max_concurrency=_AT_ONCE).remote(run, self._base)
        placed = self.options(self._shards[name], asked.shard_cpus)
        decoding = Decoding(run.rollout.temperature, run.rollout.max_tokens, self._stop)
        return ShardActor.options(**placed, max_concurrency=_AT_ONCE).remote(
            self._environment, run.rendering, self._codec, decoding, structured=run.rollout.structured
        )

    def stop(self) -> None:
        """End the actors and give the resources back."""
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors = {}
        if self._placed is not None and self._reserved is None:
            remove_placement_group(self._placed)
        self._placed = None

    def adopt(self, version: PolicyVersion, probe: Probe, retire: int | None) -> list[Adoption]:
        """Let every sampler prove the version, side by side, and then forget the one to retire."""
        self._health = self._health.wanted(version)
        self._probe = probe

        # All of them load it side by side.
        files = ray.put(versions.packed(version))
        loading = {name: self._actors[name].adopt.remote(version, files) for name in self._samplers}
        adoptions = []
        for name, load in loading.items():
            try:
                adoption = self._check(name, load)
                if retire is not None:
                    self._ask(name, f"forgetting policy-v{retire}", self._actors[name].retire.remote(retire))
            except (*LOST, SamplerError, GoneError) as error:
                self._replace(name, error)
                adoption = self._check(name)
            self._health = self._health.proven(name, adoption.version)
            adoptions.append(adoption)
        return adoptions

    def _ask(self, name: str, what: str, ref: Any) -> Any:
        return self._watch.answer(name, what, self._deadlines.adopt, ref)

    def _check(self, name: str, loading: Any = None) -> Adoption:
        """Run the adoption check of the wanted version, which the sampler may be loading already.

        The version that the sampler proved before is scored beside.
        """
        wanted, before = self._health.target, self._health.members[name].proven
        if wanted is None or self._probe is None:
            raise PoolError("no policy version is published yet; there is nothing to prove")
        host = self._actors[name]

        # The two methods that the check calls.
        async def adopt(version: PolicyVersion) -> Any:
            ref = host.adopt.remote(version, versions.packed(version)) if loading is None else loading
            return self._ask(name, f"loading {version.name}", ref)

        async def score(texts: Sequence[Ids], number: int | None) -> Any:
            what = "the base model" if number is None else f"policy-v{number}"
            return self._ask(name, f"scoring texts by {what}", host.score.remote(texts, number))

        sampler: Any = SimpleNamespace(adopt=adopt, score=score)
        return asyncio.run(check_adoption(sampler, wanted, self._probe, before))

    def _replace(self, name: str, error: BaseException) -> None:
        check_started(name, error)
        self.replaced += 1
        why = error.dead[name] if isinstance(error, GoneError) else reason(error) or "no sign of life"
        self._health = self._health.died(name, why)
        if self.replaced > self._run.rollout.retries * len(self._actors):
            raise PoolError(
                f"actors died {self.replaced} times, more than rollout.retries allows: {self._health.describe()}"
            )
        ray.kill(self._actors[name])
        self._make(name)
        self._health = self._health.restarted(name)

    def release(self) -> None:
        """Free the GPU for the learner; samplers must adopt a version before they serve again."""
        releasing = {name: self._actors[name].release.remote() for name in self._samplers}
        for name, ref in releasing.items():
            self._ask(name, "giving its memory back", ref)
            self._health = self._health.released(name)

    def busy_seconds(self) -> float:
        """Return how long the engines have worked, on average; a replaced one counts from zero."""
        asked = {name: self._actors[name].busy_seconds.remote() for name in self._samplers}
        try:
            spent: list[float] = [self._ask(name, "saying how long it worked", ref) for name, ref in asked.items()]
        except (*LOST, GoneError):
            self.replace_lost()
            return self.busy_seconds()
        return sum(spent) / len(spent)

    def playing(self, refs: Sequence[Any], patience: float) -> list[Any]:
        """Return groups that are there, at least one unless patience ends first; replace who is dead meanwhile."""
        try:
            return self._watch.first(
                refs, dict.fromkeys((*self._samplers, *self._shards), "playing"), patience=patience
            )
        except GoneError as gone:
            for name in gone.dead:
                self._revive(name, gone)
            return []

    def dispatch(self, tasks: Sequence[Task]) -> Collection:
        """Begin to play, by the version that was proven last."""
        return Collection(self, tasks, self.served())

    def served(self) -> int:
        """Return the version that the samplers have proven."""
        if self._health.target is None or not self._health.ready:
            raise PoolError(f"no sampler has proven the policy, so nothing is played: {self._health.describe()}")
        return self._health.target.number

    def send(self, task: Task, number: int, version: int) -> Any:
        """Send one task to a shard and a sampler."""
        ready, shards = self._health.ready, tuple(self._shards)
        shard, sampler = self._actors[shards[number % len(shards)]], ready[number % len(ready)]
        return shard.play.remote(task, sampler, self._actors[sampler], version)

    def replace_lost(self) -> None:
        """Replace the actors that are dead or silent; a new sampler proves the version before it serves."""
        pings = {name: self._actors[name].ping.remote() for name in (*self._samplers, *self._shards)}
        for name, ping in pings.items():
            try:
                self._watch.answer(name, "answering a ping", self._deadlines.silence, ping)
            except (*LOST, GoneError, SamplerError) as error:
                self._revive(name, error)
            else:
                self._health = self._health.heard(name)

    def _revive(self, name: str, error: Exception) -> None:
        """Replace an actor; a new sampler proves the version before it serves."""
        self._replace(name, error)
        if name in self._samplers:
            self._health = self._health.proven(name, self._check(name).version)


class Collection:
    """Groups that are being played."""

    def __init__(self, pool: ActorPool, tasks: Sequence[Task], version: int) -> None:
        self._pool = pool
        self._tasks = list(tasks)
        self._attempts = [0] * len(tasks)
        self._running = {pool.send(task, i, version): i for i, task in enumerate(tasks)}

    def gather(self, deadline: float, retries: int) -> list[Group]:
        """Wait for all groups; return them in the order of their tasks. Lost ones are played again."""
        found: dict[int, Group] = {}
        until = time.monotonic() + deadline
        while self._running:
            ready = self._pool.playing(list(self._running), until - time.monotonic())
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
            if not ready and time.monotonic() >= until:
                failed = dict.fromkeys(self._running.values(), f"no answer within rollout.deadline, {deadline:g} s")
                self._running.clear()
            if failed:
                self._again(failed, retries)
                until = time.monotonic() + deadline
        return [found[place] for place in range(len(self._tasks))]

    def _again(self, failed: dict[int, str], retries: int) -> None:
        self._pool.replace_lost()
        # A replaced sampler holds the version that is served now, and no older one.
        version = self._pool.served()
        for place, why in failed.items():
            self._attempts[place] += 1
            task = self._tasks[place]
            if self._attempts[place] > retries:
                raise PoolError(f"{task.key} ({task.scenario}) failed {self._attempts[place]} times; the last: {why}")
            self._running[self._pool.send(task, place + self._attempts[place], version)] = place


def check_started(name: str, error: BaseException) -> None:
    """Raise PoolError if an actor could not be made: another try would fail as well."""
    if isinstance(error, GoneError) and error.__cause__ is not None:
        error = error.__cause__  # what a ping came to
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raise PoolError(f"{name} does not start: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return an error as one line; of an actor's traceback, the line that names the error."""
    if isinstance(error, RayActorError):
        # The error is at the end for an actor that could not be made. For one that died, process and address follow.
        return one_line(str(error), part="last" if error.actor_init_failed else "first")
    return one_line(str(error))
