"""The loop: collect → advantages → update → publish → adopt → log.

What is left out of GRPO as it was first written: the KL term in the loss (measured instead, with an alarm), and the
whole-episode advantage (credit is per turn). What is added: streams of reward are centred and scaled apart, groups
that came out without variance are replaced, and nothing is played by a policy that has not proven itself.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any, NamedTuple, Protocol

import ray
from ray.util.placement_group import PlacementGroup

from chaosops_ray.agents.seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import Run
from chaosops_ray.learner.actor import LearnerActor
from chaosops_ray.learner.advantage import has_variance
from chaosops_ray.sim.contract import AnyEnvironment, Scenario, Style
from chaosops_ray.sim.curriculum import Curriculum
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import plan as planning
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.errors import AlarmError
from chaosops_ray.wire import EpisodeReport, Group, Ids, PolicyVersion
from chaosops_ray.workers.adoption import Adoption
from chaosops_ray.workers.bundles import check
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.pool import LOST, ActorPool, Collection, check_started, reason
from chaosops_ray.workers.samplers.build import settings

RESUME_FILE = "resume"
_LOOP_STATE = "loop.json"
_PAUSE_SECONDS = 1.0

Row = dict[str, Any]
Say = Callable[[str], None]


class Watch(Protocol):
    """Somebody who is told how the run goes."""

    def __call__(self, row: Row, /) -> None:
        """After every update."""
        ...


class Trained(NamedTuple):
    """The last version, and how it did on each of the scenarios that were held out."""

    version: PolicyVersion
    held_out: list[EpisodeReport]


class Training(NamedTuple):
    """Everything a run consists of, before it begins."""

    run: Run
    base: BaseModel
    environment: AnyEnvironment
    plan: planning.Plan
    weights: Mapping[str, Mapping[str, float]]
    folder: RunFolder
    reserved: PlacementGroup | None  # where the actors go; None to reserve resources for them


def prepare(run: Run, base: BaseModel, folder: RunFolder, reserved: PlacementGroup | None = None) -> Training:
    """Look up all that the configuration names."""
    environment = environment_named(run.world)
    weights = planning.stream_weights(run, environment)
    return Training(run, base, environment, planning.make(run, environment), weights, folder, reserved)


def _say_nothing(_text: str) -> None:
    pass


def train(training: Training, watch: Watch, say: Say = _say_nothing, held_out: Sequence[Scenario] = ()) -> Trained:
    """Make the updates that are left; a learner that dies is replaced, and the run goes on from its last checkpoint."""
    for _ in range(1 + training.run.rollout.retries):
        try:
            return loop(training, watch, say, held_out)
        except LOST as error:
            check_started("the learner", error)
            lost = error
    raise PoolError(f"the learner died {1 + training.run.rollout.retries} times; the last: {reason(lost)}")


def loop(training: Training, watch: Watch, say: Say, held_out: Sequence[Scenario]) -> Trained:
    """Run from the last checkpoint to the end, then measure by the same engines, as is done on the way where wanted."""
    run, folder = training.run, training.folder
    with placed(training) as (pool, learner):
        state = State.restored(training, learner)
        texts = probes(training)
        publish(training, pool, learner, state, texts)
        measured: list[EpisodeReport] | None = None
        while state.done < run.updates:
            clock = Clock(pool.busy_seconds())
            played, groups = collect(training, pool, state)
            clock.lap("rollout", pool.busy_seconds())

            if run.schedule == "pipelined":
                play_ahead(training, pool, state)
            if run.resources.colocate:
                pool.release()
            learning = learner.update.remote(groups, state.done) if groups else None
            folder.record(state.done + 1, training.environment, played)  # while the learner works
            learnt: dict[str, float] = ray.get(learning) if learning is not None else {}
            clock.lap("update")

            state.advance([report.progress for group in played for report in group.reports])
            adoptions = publish(training, pool, learner, state, texts)
            clock.lap("adopt")

            row = metrics(training, state, played, groups, learnt, adoptions)
            if is_evaluated(run, state.done):
                measured = play_held_out(training, pool, say, held_out)
                row["evaluation"] = {"tiers": by_tier(training.environment, measured)}
                clock.lap("evaluate")
            row |= {"time": clock.laps, "actors_replaced": pool.replaced}
            folder.log(row)
            watch(row)
            sound_alarm(training, row, say)  # ahead of the checkpoint: nothing goes on from beyond an alarm
            if state.done % run.checkpoint_every == 0 or state.done == run.updates:
                save(training, learner, state)
        if measured is None:  # otherwise the last update's
            measured = play_held_out(training, pool, say, held_out)
        return Trained(state.version, measured)


# -- the state of the loop --------------------------------------------------------------------------------------------


class State:
    """Where the loop stands; with the learner's state it is all that the rest of the run depends on."""

    def __init__(self, curriculum: Curriculum) -> None:
        self.done = 0
        self.curriculum = curriculum
        self.results: list[list[float]] = []  # of every update; the curriculum is a function of them
        self.version = PolicyVersion(-1, "", "")
        self.ahead: deque[Collection] = deque()

    @classmethod
    def restored(cls, training: Training, learner: Any) -> State:
        """From the run's last checkpoint, or from the beginning."""
        run, folder = training.run, training.folder
        state = cls(planning.curriculum(run, training.environment))
        kept = folder.checkpoints()
        if kept:
            path = folder.checkpoint_path(kept[-1])
            for results in json.loads((path / _LOOP_STATE).read_text(encoding="utf-8"))["results"]:
                state.advance(results)
            ray.get(learner.restore.remote(path))
        # What was published after the checkpoint is published again, and need not come out the same on a GPU.
        ray.get(learner.prune.remote(range(state.done + 1 if kept else 0)))
        folder.rewind(state.done)
        return state

    def advance(self, results: Sequence[float]) -> None:
        """One update further."""
        self.done += 1
        self.results.append(list(results))
        self.curriculum = self.curriculum.after(results)


def save(training: Training, learner: Any, state: State) -> None:
    """A checkpoint; adapters that no checkpoint and no sampler needs any more are deleted."""
    folder = training.folder
    with folder.checkpoint(state.done) as path:
        ray.get(learner.save.remote(path, state.done))
        (path / _LOOP_STATE).write_text(json.dumps({"results": state.results}), encoding="utf-8")
    recent = range(max(0, state.done - training.run.staleness - 1), state.done + 1)
    for_good = range(0, state.done, training.run.keep_every)
    ray.get(learner.prune.remote({*folder.checkpoints(), *recent, *for_good}))


# -- steps of the loop ------------------------------------------------------------------------------------------------


@contextmanager
def placed(training: Training) -> Iterator[tuple[ActorPool, Any]]:
    """The actors of the run, for as long as it lasts."""
    run, base = training.run, training.base
    check(run, ray.cluster_resources())
    pool = ActorPool(run, training.environment, base.path, base.layout, settings(run, base.path), training.reserved)
    pool.place()
    # First, since it loads the most.
    placing = pool.options(pool.bundles.learner, run.resources.learner_cpus, run.resources.learner_gpus)
    learner = LearnerActor.options(**placing).remote(
        run, base.name, base.path, base.digest, training.weights, training.folder.path
    )
    try:
        pool.start()
        yield pool, learner
    finally:
        ray.kill(learner)
        pool.stop()


def collect(training: Training, pool: ActorPool, state: State) -> tuple[list[Group], list[Group]]:
    """The groups that were played for the next update, and those of them that something can be learnt from.

    A group without variance is replaced by another scenario's, as often as the configuration says.
    """
    run = training.run
    played: list[Group] = []
    varied: list[Group] = []
    for again in range(1 + run.batch.refill):
        if state.ahead and not again:  # what else was played ahead is for the updates to come
            collection = state.ahead.popleft()
        else:
            wanted = run.batch.scenarios - len(varied)
            collection = pool.dispatch(training.plan.tasks(state.curriculum, state.done, len(played), wanted))
        found = collection.gather(run.rollout.deadline, run.rollout.retries)
        played += found
        varied += [group for group in found if has_variance(group, training.weights, run.credit)]
        if len(varied) >= run.batch.scenarios:
            break
    return played, varied


def play_ahead(training: Training, pool: ActorPool, state: State) -> None:
    """Begin the updates to come with the policy there is, while the learner works on this one."""
    run = training.run
    while len(state.ahead) < run.staleness and state.done + 1 + len(state.ahead) < run.updates:
        done = state.done + 1 + len(state.ahead)
        state.ahead.append(pool.dispatch(training.plan.tasks(state.curriculum, done, 0, run.batch.scenarios)))


def is_evaluated(run: Run, done: int) -> bool:
    """Tell whether the held-out scenarios are played after so many updates, and their figures put in the row."""
    every = run.evaluation.every
    return every > 0 and (done % every == 0 or done == run.updates)


def play_held_out(training: Training, pool: ActorPool, say: Say, scenarios: Sequence[Scenario]) -> list[EpisodeReport]:
    """Each scenario once, by the version that was proven last; no more at once than an update plays.

    Nothing that training draws depends on it, and groups that are being played ahead keep the version they began with.
    """
    run, reports = training.run, list[EpisodeReport]()
    at_once = run.batch.scenarios * run.batch.group
    tasks = training.plan.held_out(scenarios)
    for first in range(0, len(tasks), at_once):
        say(f"evaluating held-out {first}/{len(tasks)}")
        groups = pool.dispatch(tasks[first : first + at_once]).gather(run.rollout.deadline, run.rollout.retries)
        reports += [report for group in groups for report in group.reports]
    return reports


def publish(training: Training, pool: ActorPool, learner: Any, state: State, texts: tuple[Ids, ...]) -> list[Adoption]:
    """The learner's policy becomes a version; every sampler proves it before anything is played by it."""
    state.version = ray.get(learner.publish.remote(state.done))
    probe = ray.get(learner.probe.remote(texts))
    learner.prepare.remote()  # while samplers adopt and the first episodes are played
    unwanted = state.done - 1 - (training.run.staleness if training.run.schedule == "pipelined" else 0)
    return pool.adopt(state.version, probe, unwanted if unwanted >= 0 else None)


def probes(training: Training) -> tuple[Ids, ...]:
    """What versions are proven on: the first words of every seat in the run's first scenario."""
    environment, run = training.environment, training.run
    codec = Codec(training.base.path, training.base.layout)
    task = training.plan.tasks(planning.curriculum(run, environment), 0, 0, 1)[0]
    world = environment.start(environment.scenario(task.scenario), environment.rules(task.rules))
    style: Style = run.rendering
    return tuple(
        [
            TokenSeat(environment, role, task.rules, style, codec).observe(environment.view(world, role))
            for role in environment.roles
        ]
    )


# -- what is said of it ------------------------------------------------------------------------------------------------


class Clock:
    """How an update's time was spent."""

    def __init__(self, busy: float) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()
        self._busy = busy

    def lap(self, name: str, busy: float | None = None) -> None:
        """The time since the last lap; with the engines' busy seconds, their share of it too."""
        now = time.monotonic()
        self.laps[name] = now - self._last
        if busy is not None:
            self.laps["engine"] = max(0.0, busy - self._busy)
        self._last = now


def metrics(
    training: Training,
    state: State,
    played: Sequence[Group],
    groups: Sequence[Group],
    learnt: Mapping[str, float],
    adoptions: Sequence[Adoption],
) -> Row:
    """What is worth knowing of an update; docs/metrics.md says what each figure means."""
    environment, done = training.environment, state.done - 1
    reports = [report for group in played for report in group.reports]
    return {
        "update": state.done,
        "updates": training.run.updates,
        "version": state.version.number,
        "digest": state.version.digest,
        "rules": training.plan.rules(done),
        "rule_options": training.plan.options(done),
        "episodes": len(reports),
        "groups": {"played": len(played), "learnt_from": len(groups)},
        "tiers": by_tier(environment, reports),
        "rewards": {role: fmean([report.rewards[role] for report in reports]) for role in environment.roles},
        "learner": dict(learnt),
        "adoption": {
            "error": max([one.error for one in adoptions]),
            "decisive": all(one.decisive for one in adoptions),
        },
    }


def by_tier(environment: AnyEnvironment, reports: Sequence[EpisodeReport]) -> Row:
    """The summary of each tier that was played."""
    return {
        tier: summary(environment, [report for report in reports if report.tier == tier])
        for tier in environment.tiers
        if any(report.tier == tier for report in reports)
    }


def summary(environment: AnyEnvironment, reports: Sequence[EpisodeReport]) -> Row:
    """Means over episodes; None where a figure is defined for none of them."""
    found: Row = {"episodes": len(reports), "mean": fmean([report.headline for report in reports])}
    for metric in environment.metrics:
        values = [value for report in reports if (value := report.metrics[metric.name]) is not None]
        found[metric.name] = fmean(values) if values else None
    return found


def sound_alarm(training: Training, row: Row, say: Say) -> None:
    """KL to the base has run away: stop, or wait for somebody; who only wants a warning finds it in the metrics."""
    alarm = training.run.alarm
    kl = row["learner"].get("kl", 0.0)
    if kl <= alarm.kl or alarm.action == "warn":
        return
    said = f"update {row['update']}: KL to the base is {kl:.2f} nats a token, over alarm.kl={alarm.kl:g}"
    if alarm.action == "abort":
        raise AlarmError(f"{said}; the run stops, as alarm.action wants it")
    go_on = training.folder.path / RESUME_FILE
    go_on.unlink(missing_ok=True)  # what was said of an alarm before does not answer this one
    say(f"{said}; paused until there is a file {go_on}")
    while not go_on.exists():
        time.sleep(_PAUSE_SECONDS)
    go_on.unlink()
