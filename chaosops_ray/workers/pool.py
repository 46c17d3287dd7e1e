"""The pool of a run's actors: places them, lets samplers prove versions, dispatches tasks, replaces lost actors.

A dead or silent actor is replaced, and so is a sampler that answers something impossible. A new sampler proves the
version first, and lost tasks are played again under the same seeds. When the learner is replaced, the samplers stay,
and forget every version. When the configured retries are used up, the run ends with an error; a missing group is never
made up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import Run
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.spans import Timeline
from chaosops_ray.store import versions
from chaosops_ray.telemetry.machine import Usage
from chaosops_ray.transfer import BaseSource, as_buffers
from chaosops_ray.wire import Decoding, Files, Group, Ids, PolicyVersion, Probe, Task
from chaosops_ray.workers.actors import SamplerActor, ShardActor
from chaosops_ray.workers.adoption import Adoption, check_adoption
from chaosops_ray.workers.bundles import bundles
from chaosops_ray.workers.health import PoolError, PoolHealth
from chaosops_ray.workers.liveness import Limits
from chaosops_ray.workers.samplers.sampler import ImpossibleError, SamplerError
from chaosops_ray.workers.stop import Stop
from chaosops_ray.workers.watch import GoneError, Watch

# What Ray raises for a process that is gone.
LOST = (RayActorError, OutOfMemoryError, ObjectLostError)
PLACEMENT_SECONDS = 600.0
LEARNER = "learner"
_AT_ONCE = 1000
_USAGE_SECONDS = 1.0


class _Sent(NamedTuple):
    """Where a group is played."""

    shard: str
    player: Any
    sampler: str
    host: Any
    at: float  # by the clock of the timeline


class ActorPool:
    """Shards and samplers of one run, where they were placed."""

    def __init__(
        self,
        run: Run,
        environment: AnyEnvironment,
        base: BaseSource,
        codec: Codec,
        stop: Stop,
        reserved: PlacementGroup | None = None,
        sampler_actor: Any = SamplerActor,
    ) -> None:
        """`reserved` is a group whose first bundle is the caller's own and whose others are those of `bundles(run)`."""
        self._run = run
        self._environment = environment
        self._base = base
        self._codec = ray.put(codec)
        self._vocabulary = _vocabulary(base.path)
        self._stop_tokens = codec.layout.stop
        self._sampler_actor = sampler_actor
        self.bundles = bundles(run)
        self._reserved = reserved
        self._placed: PlacementGroup | None = None
        self._samplers = {f"sampler-{i}": bundle for i, bundle in enumerate(self.bundles.samplers)}
        self._shards = {f"shard-{i}": bundle for i, bundle in enumerate(self.bundles.shards)}
        self._actors: dict[str, Any] = {}
        self._health = PoolHealth.started([*self._samplers, *self._shards])
        self._probe: Probe | None = None
        self._deadlines = run.deadlines
        limits = Limits(self._deadlines.quiet, self._deadlines.silence, self._deadlines.start)
        self.stopping = stop
        self._watch = Watch(limits, stop=stop)
        self._make_learner: Callable[..., Any] | None = None
        self._versions: set[int] = set()  # that samplers may hold
        self._sent: dict[Any, _Sent] = {}  # groups that are being played
        self.learner: Any = None
        self.timeline = Timeline()
        self.replaced = 0
        self._deaths = 0  # of shards and samplers, since the run last got on

    def place(self) -> None:
        """Reserve the resources, unless the caller did."""
        self._placed = self._reserved
        if self._placed is None:
            asked = self.bundles.to_place
            patience = max(PLACEMENT_SECONDS, self._run.resources.wait)
            self._placed = placement_group(asked, strategy="PACK")
            if not self._watch.first([self._placed.ready()], {}, patience=patience):
                raise PoolError(f"the cluster did not place {asked} within {patience:g} s; see `ray status`")

    def start(self, make_learner: Callable[..., Any]) -> None:
        """Make the actors where they were placed. `make_learner` takes the options of an actor."""
        self._make_learner = make_learner
        self._start_learner()  # first, because it loads the most
        for name in (*self._samplers, *self._shards):
            self._make(name)

    def _start_learner(self) -> None:
        if self._make_learner is None:
            raise PoolError("the pool was not started, so there is no learner to replace")
        asked = self._run.resources
        self.learner = self._make_learner(self.options(self.bundles.learner, asked.learner_cpus, asked.learner_gpus))
        self.timeline.started(LEARNER)
        self._watch.started(LEARNER, self.learner.ping.remote)

    def replace_learner(self) -> None:
        """Make a new learner. Samplers stay, and forget every version: what it publishes next may be an older one."""
        self.replaced += 1
        ray.kill(self.learner)
        self._start_learner()
        self._health = self._health.rewound()
        self._probe = None
        self.cancel(list(self._sent))
        versions, self._versions = self._versions, set()
        for name in self._samplers:
            try:
                for number in versions:
                    self._ask(name, f"forgetting policy-v{number}", self._actors[name].retire.remote(number))
            except (*LOST, SamplerError, GoneError) as error:
                self._replace(name, error)
            else:
                self._health = self._health.heard(name)

    def forgive(self) -> None:
        """Count deaths from here: the run got on in spite of those before."""
        self._deaths = 0

    def cancel(self, refs: Sequence[Any]) -> None:
        """Stop playing these groups; when this returns, nobody plays them any more.

        A group that is played twice at the same time would share the sampler's cache with itself.
        """
        shards: dict[str, list[Any]] = {}
        for ref in refs:
            ray.cancel(ref)
            shards.setdefault(self._sent.pop(ref).shard, []).append(ref)
        for name, theirs in shards.items():
            try:
                while theirs:
                    there = self._watch.first(theirs, {name: "ending a group"}, self._deadlines.silence)
                    theirs = [ref for ref in theirs if ref not in there]
            except GoneError as error:
                self._replace(name, error)

    def ask(self, what: str, limit: float, ref: Any) -> Any:
        """Wait for what the learner was asked; raise GoneError if it is dead, or what it raises."""
        return self._watch.answer(LEARNER, what, limit, ref)

    def _make(self, name: str) -> None:
        self._actors[name] = actor = self._new(name)
        self.timeline.started(name)
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
            return self._sampler_actor.options(**placed, max_concurrency=_AT_ONCE).remote(run, self._base)
        placed = self.options(self._shards[name], asked.shard_cpus)
        rollout = run.rollout
        decoding = Decoding(rollout.temperature, rollout.max_tokens, self._stop_tokens, rollout.choice_score)
        return ShardActor.options(**placed, max_concurrency=_AT_ONCE).remote(
            self._environment,
            run.rendering,
            self._codec,
            self._vocabulary,
            decoding,
            structured=run.rollout.structured,
        )

    def stop(self) -> None:
        """End the actors and give the resources back."""
        for actor in (*self._actors.values(), self.learner):
            if actor is not None:
                ray.kill(actor)
        self._actors, self.learner = {}, None
        if self._placed is not None and self._reserved is None:
            remove_placement_group(self._placed)
        self._placed = None

    def adopt(
        self, version: PolicyVersion, probe: Probe, retire: int | None, adapter: Files | None = None
    ) -> list[Adoption]:
        """Let every sampler prove the version, side by side, and then forget the one to retire.

        The adapter that it was published from is sent as it is, where the caller still has it.
        """
        self._health = self._health.wanted(version)
        self._probe = probe
        self._versions.add(version.number)

        # All of them load it side by side.
        sent = versions.packed(version) if adapter is None else versions.sent_on(version, adapter)
        files = ray.put(as_buffers(sent))
        loading = {name: self._actors[name].adopt.remote(version, files) for name in self._samplers}
        adoptions = []
        for name, load in loading.items():
            try:
                adoption = self._check(name, load)
                if retire is not None:
                    self._ask(name, f"forgetting policy-v{retire}", self._actors[name].retire.remote(retire))
                self._health = self._health.proven(name, adoption.version)
            except (*LOST, SamplerError, GoneError) as error:
                adoption = self._proven_anew(name, error)
            adoptions.append(adoption)
        self._versions.discard(-1 if retire is None else retire)
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
            ref = host.adopt.remote(version, as_buffers(versions.packed(version))) if loading is None else loading
            return self._ask(name, f"loading {version.name}", ref)

        async def score(texts: Sequence[Ids], number: int | None) -> Any:
            what = "the base model" if number is None else f"policy-v{number}"
            return self._ask(name, f"scoring texts by {what}", host.score.remote(texts, number))

        sampler: Any = SimpleNamespace(adopt=adopt, score=score)
        return asyncio.run(check_adoption(sampler, wanted, self._probe, before))

    def _replace(self, name: str, error: BaseException) -> None:
        check_started(name, error)
        self.replaced += 1
        self._deaths += 1
        gone = error.dead.get(name) if isinstance(error, GoneError) else None
        why = gone or reason(error) or "no sign of life"
        self._health = self._health.died(name, why)
        if self._deaths > self._run.rollout.retries * len(self._actors):
            raise PoolError(
                f"actors died {self._deaths} times, more than rollout.retries allows: {self._health.describe()}"
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

    @property
    def samplers(self) -> tuple[str, ...]:
        """The names of the samplers."""
        return tuple(self._samplers)

    def hear_samplers(self) -> None:
        """Add to the timeline what the samplers did since they were last asked; replace those that are lost."""
        asked = {name: (self.timeline.now(), self._actors[name].work.remote()) for name in self._samplers}
        is_lost = False
        for name, (at, ref) in asked.items():
            try:
                self.timeline.heard(name, at, self._ask(name, "saying what it did", ref))
            except (*LOST, GoneError):
                is_lost = True
        if is_lost:
            self.replace_lost()

    def ask_usage(self) -> dict[str, Any]:
        """Ask every actor what it takes of its machine, and wait for none of them."""
        return {name: actor.usage.remote() for name, actor in {**self._actors, LEARNER: self.learner}.items()}

    def usage(self, asked: Mapping[str, Any]) -> dict[str, Usage]:
        """Return the answers that are there in a moment; an actor that is busy, or dead, is left out."""
        there, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=_USAGE_SECONDS)
        answers = {name: _answer(ref) for name, ref in asked.items() if ref in there}
        return {name: answer for name, answer in answers.items() if answer is not None}

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

    def served(self) -> PolicyVersion:
        """Return the version that the samplers have proven."""
        if self._health.target is None or not self._health.ready:
            raise PoolError(f"no sampler has proven the policy, so nothing is played: {self._health.describe()}")
        return self._health.target

    def send(self, task: Task, number: int, version: PolicyVersion) -> Any:
        """Send one task to a shard and a sampler."""
        ready, shards = self._health.ready, tuple(self._shards)
        shard, sampler = shards[number % len(shards)], ready[number % len(ready)]
        sent = _Sent(shard, self._actors[shard], sampler, self._actors[sampler], self.timeline.now())
        ref = sent.player.play.remote(task, sent.sampler, sent.host, version)
        self._sent[ref] = sent
        return ref

    def played(self, ref: Any) -> Group:
        """Return a group that is there, or raise what came of it; replace a sampler that answered the impossible."""
        sent = self._sent.pop(ref)
        try:
            group: Group = ray.get(ref)
        except RayTaskError as error:
            # Another group may have told of it before.
            if isinstance(error.cause, ImpossibleError) and self._actors[sent.sampler] is sent.host:
                self._revive(sent.sampler, error.cause)
            raise
        # A shard that was replaced since may have had another clock.
        if group.played is not None and self._actors[sent.shard] is sent.player:
            self.timeline.heard(sent.shard, sent.at, group.played.work)
        return group

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
        if name in self._samplers:
            self._proven_anew(name, error)
        else:
            self._replace(name, error)

    def _proven_anew(self, name: str, error: Exception) -> Adoption:
        """Replace a sampler, and again if the new one is lost before it has proven the version."""
        while True:
            self._replace(name, error)
            try:
                adoption = self._check(name)
            except (*LOST, GoneError) as again:
                error = again
            else:
                self._health = self._health.proven(name, adoption.version)
                return adoption


class Collection:
    """Groups that are being played."""

    def __init__(self, pool: ActorPool, tasks: Sequence[Task], version: PolicyVersion) -> None:
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
                    found[place] = self._pool.played(ref)
                except LOST as error:
                    failed[place] = reason(error)
                except RayTaskError as error:
                    if not isinstance(error.cause, (*LOST, SamplerError)):
                        raise PoolError(f"{_described(self._tasks[place])}: {reason(error.cause)}") from error
                    failed[place] = reason(error.cause)
            if not ready and time.monotonic() >= until:
                failed = dict.fromkeys(self._running.values(), f"no answer within rollout.deadline, {deadline:g} s")
                self.give_up()
            if failed:
                self._again(failed, retries)
                until = time.monotonic() + deadline
        return [found[place] for place in range(len(self._tasks))]

    def give_up(self) -> None:
        """Stop playing what is not there yet."""
        self._pool.cancel(list(self._running))
        self._running.clear()

    def _again(self, failed: dict[int, str], retries: int) -> None:
        self._pool.replace_lost()
        # A replaced sampler holds the version that is served now, and no older one.
        version = self._pool.served()
        for place, why in failed.items():
            self._attempts[place] += 1
            task = self._tasks[place]
            if self._attempts[place] > retries:
                raise PoolError(f"{_described(task)} failed {self._attempts[place]} times; the last: {why}")
            self._running[self._pool.send(task, place + self._attempts[place], version)] = place


def _answer(ref: Any) -> Usage | None:
    try:
        answer: Usage = ray.get(ref)
    except (*LOST, RayTaskError):
        return None  # whoever asks it for more than figures finds out
    return answer


def _described(task: Task) -> str:
    return f"the group {task.key} (scenario {task.scenario}, seed {task.seed})"


def _vocabulary(model: Path) -> int:
    """Return how many tokens the model has, which may be more than its tokenizer knows."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    size: int = config.get("text_config", config)["vocab_size"]
    return size


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
    # What an actor's own actor has raised is a traceback, too.
    return one_line(str(error), part="last" if isinstance(error, RayTaskError) else "all")
