"""The loop: collect → advantages → update → publish → adopt → log.

Differences to the original GRPO: KL is not in the loss but measured, with an alarm; advantages are per turn, not per
episode; streams of reward are centred and scaled separately; groups without variance are replaced; samplers prove every
version before they play it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias

import ray
from ray.util.placement_group import PlacementGroup

from chaosops_ray import evaluate
from chaosops_ray.agents.token_seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import Run
from chaosops_ray.learner.actor import LearnerActor
from chaosops_ray.learner.advantage import has_variance
from chaosops_ray.resampling import Weigh, alike
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.curriculum import Curriculum
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.spans import DRIVER, Track
from chaosops_ray.store import versions
from chaosops_ray.store.run_folder import CONTENTS, RunFolder
from chaosops_ray.telemetry.machine import Throughput, Usage, own_memory
from chaosops_ray.telemetry.sinks import NO_SINKS, Sinks
from chaosops_ray.training import footprint, times
from chaosops_ray.training import plan as planning
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.training.errors import AlarmError
from chaosops_ray.training.mastery import Mastery, case_of
from chaosops_ray.transfer import BaseSource
from chaosops_ray.wire import EpisodeReport, Files, Group, Ids, PolicyVersion
from chaosops_ray.workers.actors import SamplerActor
from chaosops_ray.workers.adoption import Adoption
from chaosops_ray.workers.bundles import check
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.pool import LEARNER, LOST, ActorPool, Collection, check_started, reason
from chaosops_ray.workers.stop import Stop, StopError
from chaosops_ray.workers.watch import GoneError

RESUME_FILE = "resume"
_LOOP_STATE = "loop.json"
_PAUSE_SECONDS = 1.0

Row: TypeAlias = dict[str, Any]
Watch: TypeAlias = Callable[[Row], None]  # called after every update
Say: TypeAlias = Callable[[str], None]
Result: TypeAlias = tuple[str, list[float], list[float]]  # of a group: its case, the progress and the returns


class Trained(NamedTuple):
    """The last version, and its reports on the held-out scenarios."""

    version: PolicyVersion
    held_out: list[EpisodeReport]


class Training(NamedTuple):
    """A run before it begins: all parts that its configuration names."""

    run: Run
    base: BaseModel
    environment: AnyEnvironment
    plan: planning.Plan
    weights: Mapping[str, Mapping[str, float]]
    folder: RunFolder
    reserved: PlacementGroup | None  # where the actors go; None to reserve resources for them
    sampler_actor: Any = SamplerActor  # the class of the actors that host engines
    sinks: Sinks = NO_SINKS  # where the metrics go beside the folder


def prepare(run: Run, base: BaseModel, folder: RunFolder, reserved: PlacementGroup | None = None) -> Training:
    """Look up everything that the configuration names."""
    environment = environment_named(run.world)
    weights = planning.stream_weights(run, environment)
    return Training(run, base, environment, planning.make(run, environment), weights, folder, reserved)


def train(
    training: Training,
    watch: Watch,
    say: Say = lambda _text: None,
    held_out: Sequence[Scenario] = (),
    stop: Stop | None = None,
) -> Trained:
    """Make the remaining updates; if the learner dies, replace it and go back to the last checkpoint."""
    folder, retries = training.folder, training.run.rollout.retries
    kept, deaths = -1, 0  # the checkpoint that the run has come to, and how often the learner died since
    with placed(training, stop or Stop()) as pool:
        while True:
            try:
                return loop(training, pool, watch, say, held_out)
            except (*LOST, GoneError) as error:
                check_started(", ".join(error.dead) if isinstance(error, GoneError) else LEARNER, error)
                why = str(error) if isinstance(error, GoneError) else f"{LEARNER}: {reason(error)}"
            here = max(folder.checkpoints(), default=0)
            kept, deaths = here, 1 + (deaths if here == kept else 0)
            if deaths > retries:
                raise PoolError(f"the learner died {deaths} times after update {here}; the last error: {why}")
            say(f"{why}; going back to update {here}")
            pool.replace_learner()


def loop(training: Training, pool: ActorPool, watch: Watch, say: Say, held_out: Sequence[Scenario]) -> Trained:
    """Run from the last checkpoint to the end; play the held-out scenarios after it, and on the way if configured."""
    run = training.run
    state = State.restored(training, pool)
    state.chosen = pool.ask("telling how it computes", run.deadlines.disk, pool.learner.chosen.remote())
    texts = probes(training)
    publish(training, pool, state, texts)
    measured: list[EpisodeReport] | None = None
    try:
        while state.row is not None or state.done < run.updates:
            if state.row is None:
                update(training, pool, state, texts)
            measured = finish_update(training, pool, state, watch, say, held_out)
        if measured is None:  # otherwise measured after the last update
            measured = play_held_out(training, pool, say, held_out)
            write_spans(training, pool, state)
    except StopError:
        save_at_the_end(training, pool, state)
        raise
    return Trained(state.version, measured)


def update(training: Training, pool: ActorPool, state: State, texts: tuple[Ids, ...]) -> None:
    """Make one update and publish its version; `state.row` is then its row of metrics."""
    run, folder = training.run, training.folder
    timeline = pool.timeline
    with timeline.during(times.COLLECT):
        played, groups = collect(training, pool, state)

    if run.schedule == "pipelined":
        play_ahead(training, pool, state)
    if run.resources.colocate:
        with timeline.during("release"):
            pool.release()
    with pool.stopping.finishing():
        state.is_whole = False
        learnt: dict[str, float] = {}
        with timeline.during(times.UPDATE):
            learning = pool.learner.update.remote(groups, state.done) if groups else None
            asked_at, asked = timeline.now(), pool.ask_usage()
            folder.record(state.done + 1, training.environment, played)  # while the learner works
            if learning is not None:
                learnt = pool.ask(f"update {state.done + 1}", run.deadlines.update, learning)
        used = pool.usage(asked)
        written = {name: one.tokens for name, one in used.items() if name in pool.samplers}
        rate = state.throughput.rate(written, asked_at)

        state.advance([result(training.environment, group) for group in played])
        adoptions = publish(training, pool, state, texts)
        pool.hear_samplers()
        time_of = times.figures(write_spans(training, pool, state), pool.samplers, played)
        figures = metrics(training, state, played, groups, learnt, adoptions)
        state.row = figures | {"time": time_of, "machine": machine(used, learnt, time_of, rate, state.chosen)}
        state.is_whole = True


def finish_update(
    training: Training, pool: ActorPool, state: State, watch: Watch, say: Say, held_out: Sequence[Scenario]
) -> list[EpisodeReport] | None:
    """Evaluate where it is due, log the update's row, write a checkpoint; return the reports of a last evaluation."""
    run, folder, row = training.run, training.folder, dict(state.row or {})
    measured = None
    every, is_last = run.evaluation.every, state.done == run.updates
    if every and (state.done % every == 0 or is_last):
        began = pool.timeline.now()
        scenarios = held_out if is_last else planning.during_the_run(run, held_out)
        reports = play_held_out(training, pool, say, scenarios)
        row["evaluation"] = evaluation(training, scenarios, reports)
        row["time"] = {**row["time"], "evaluate": pool.timeline.now() - began}
        measured = reports if is_last else None
    row |= {"actors_replaced": pool.replaced}
    row["machine"] = {**row.get("machine", {}), "sinks_failed": training.sinks.failed}
    folder.log(row)
    training.sinks.send(row)
    state.row = None
    watch(row)
    state.is_whole = False  # no run resumes from an update that alarmed
    sound_alarm(training, row, say, pool.stopping)
    state.is_whole = True
    if state.done % run.checkpoint_every == 0 or is_last:
        with pool.timeline.during("checkpoint"):
            save(training, pool, state)
        pool.forgive()
    write_spans(training, pool, state)
    return measured


def write_spans(training: Training, pool: ActorPool, state: State) -> dict[str, Track]:
    """Append all spans since the last call to the run's timeline, as those of the update made last; return them."""
    tracks = pool.timeline.take()
    training.folder.timeline.append(state.done, state.version.number, tracks)
    return tracks


def result(environment: AnyEnvironment, group: Group) -> Result:
    """Return what a group came to, as plain values."""
    case = case_of(environment.scenario(group.task.scenario))
    return case, [report.progress for report in group.reports], [report.headline for report in group.reports]


class State:
    """The loop's progress; with the learner's state it is all that the rest of the run depends on."""

    def __init__(self, curriculum: Curriculum, mastery: Mastery) -> None:
        self.done = 0
        self.curriculum = curriculum
        self.mastery = mastery
        self.groups: list[list[Result]] = []  # of every update; curriculum and mastery follow from them
        self.version = PolicyVersion(-1, "", "")
        self.ahead: deque[Collection] = deque()
        self.throughput = Throughput()
        self.chosen: Row = {}  # by the learner, of its way of computing
        self.row: Row | None = None  # of the last update, if it is not in the metrics yet
        self.is_whole = True  # False while the learner may be further than this

    @classmethod
    def restored(cls, training: Training, pool: ActorPool) -> State:
        """Restore the run's last checkpoint, or begin."""
        run, folder = training.run, training.folder
        state = cls(planning.curriculum(run, training.environment), Mastery(run.batch.near))
        path = folder.last_checkpoint()
        if path is not None:
            recorded = json.loads((path / _LOOP_STATE).read_text(encoding="utf-8"))
            if "groups" not in recorded:
                raise InputError(f"{path} was written by an older version of this program; start the run again")
            for groups in recorded["groups"]:
                state.advance([tuple(group) for group in groups])
            state.row = recorded.get("row")
            pool.ask(f"restoring {path.name}", run.deadlines.disk, pool.learner.restore.remote(saved(path)))
        # Versions after the checkpoint are published again, and on a GPU they may differ.
        versions.prune(folder.adapters, range(0 if path is None else state.done + 1))
        folder.rewind(state.done, state.done if state.row is None else state.done - 1)
        return state

    def advance(self, groups: Sequence[Result]) -> None:
        """Count an update and move curriculum and mastery on by what its groups came to."""
        self.done += 1
        self.groups.append(list(groups))
        self.curriculum = self.curriculum.after([value for _, progress, _ in groups for value in progress])
        self.mastery = self.mastery.after([(case, returns) for case, _, returns in groups])


def save(training: Training, pool: ActorPool, state: State) -> None:
    """Write a checkpoint; delete the adapters that no checkpoint and no sampler needs any more."""
    folder = training.folder
    recorded = {"groups": state.groups} | ({} if state.row is None else {"row": state.row})
    with pool.stopping.finishing():
        files = pool.ask("saving its state", training.run.deadlines.disk, pool.learner.save.remote(state.done))
    with folder.checkpoint(state.done) as path:
        for name, content in files.items():
            (path / name).write_bytes(content)
        (path / _LOOP_STATE).write_text(json.dumps(recorded), encoding="utf-8")
    recent = range(max(0, state.done - training.run.staleness - 1), state.done + 1)
    permanent = range(0, state.done, training.run.keep_every)
    versions.prune(folder.adapters, {*folder.checkpoints(), *recent, *permanent})


def save_at_the_end(training: Training, pool: ActorPool, state: State) -> None:
    """Write a checkpoint of a run that is asked to end; if there is no time for it, the one before stays the last."""
    if state.is_whole and state.done > max(training.folder.checkpoints(), default=0):
        with suppress(StopError, GoneError, *LOST):
            save(training, pool, state)


def saved(checkpoint: Path) -> Files:
    """Read what the learner saved."""
    return {file.name: file.read_bytes() for file in checkpoint.iterdir() if file.name not in (_LOOP_STATE, CONTENTS)}


@contextmanager
def placed(training: Training, stop: Stop) -> Iterator[ActorPool]:
    """Start the run's actors; stop them at the end."""
    run, base = training.run, training.base
    check(run, ray.cluster_resources())
    source = BaseSource.here(base.path, base.digest)
    codec = Codec(base.path, base.layout)
    estimate = footprint.estimate(run, training.environment, base.path)
    pool = ActorPool(run, training.environment, source, codec, stop, training.reserved, training.sampler_actor)

    def make_learner(options: Mapping[str, Any]) -> Any:
        return LearnerActor.options(**options).remote(run, base.public_name, source, training.weights, estimate)

    try:
        pool.place()
        pool.start(make_learner)
        yield pool
    finally:
        pool.stop()


def collect(training: Training, pool: ActorPool, state: State) -> tuple[list[Group], list[Group]]:
    """Play the next update's groups; return all of them, and those that have variance.

    A group without variance is replaced by another scenario's, up to batch.refill times.
    """
    run = training.run
    played: list[Group] = []
    varied: list[Group] = []
    for again in range(1 + run.batch.refill):
        if state.ahead and not again:  # the other groups played ahead are for later updates
            collection = state.ahead.popleft()
        else:
            wanted = run.batch.scenarios - len(varied)
            collection = pool.dispatch(
                training.plan.tasks(state.curriculum, state.done, len(played), wanted, state.mastery)
            )
        found = collection.gather(run.rollout.deadline, run.rollout.retries)
        played += found
        varied += [group for group in found if has_variance(group, training.weights, run.credit)]
        if len(varied) >= run.batch.scenarios:
            break
    return played, varied


def play_ahead(training: Training, pool: ActorPool, state: State) -> None:
    """Start the next updates' groups with the current policy while the learner works."""
    run = training.run
    while len(state.ahead) < run.staleness and state.done + 1 + len(state.ahead) < run.updates:
        done = state.done + 1 + len(state.ahead)
        tasks = training.plan.tasks(state.curriculum, done, 0, run.batch.scenarios, state.mastery)
        state.ahead.append(pool.dispatch(tasks))


def play_held_out(training: Training, pool: ActorPool, say: Say, scenarios: Sequence[Scenario]) -> list[EpisodeReport]:
    """Play each scenario once by the latest version, at most as many at once as an update plays.

    No draw of the training depends on it, and groups that are being played ahead keep the version they began with.
    """
    run, reports = training.run, list[EpisodeReport]()
    at_once = run.batch.scenarios * run.batch.group
    tasks = training.plan.held_out(scenarios)
    with pool.timeline.during("evaluate"):
        for first in range(0, len(tasks), at_once):
            say(f"evaluating held-out {first}/{len(tasks)}")
            groups = pool.dispatch(tasks[first : first + at_once]).gather(run.rollout.deadline, run.rollout.retries)
            reports += [report for group in groups for report in group.reports]
    if tasks:
        pool.hear_samplers()  # otherwise all of this would be sent with the next update's
    return reports


def publish(training: Training, pool: ActorPool, state: State, texts: tuple[Ids, ...]) -> list[Adoption]:
    """Publish the learner's policy as a version; every sampler proves it before playing it."""
    learner, disk, timeline = pool.learner, training.run.deadlines.disk, pool.timeline
    with timeline.during(times.PUBLISH):
        adapter = pool.ask(f"sending policy-v{state.done}", disk, learner.adapter.remote())
        state.version = versions.publish(training.folder.adapters, state.done, training.base.digest, adapter)
    with timeline.during(times.ADOPT):
        asked = timeline.now()
        probe, work = pool.ask("scoring the probe", disk, learner.probe.remote(texts))
        timeline.heard(LEARNER, asked, work)
        learner.prepare.remote()  # meanwhile samplers adopt, and the first episodes are played
        unwanted = state.done - 1 - (training.run.staleness if training.run.schedule == "pipelined" else 0)
        return pool.adopt(state.version, probe, unwanted if unwanted >= 0 else None, adapter)


def probes(training: Training) -> tuple[Ids, ...]:
    """Return the texts on which versions are proven: the first prompt of every seat that learns, in one scenario."""
    environment, run = training.environment, training.run
    codec = Codec(training.base.path, training.base.layout)
    task = training.plan.tasks(planning.curriculum(run, environment), 0, 0, 1)[0]
    world = environment.start(environment.scenario(task.scenario), environment.rules(task.rules))
    learning = [role for role in environment.roles if role not in run.colleagues]
    seats = {role: TokenSeat(environment, role, task.rules, run.rendering, codec) for role in learning}
    return tuple([seat.observe(environment.view(world, role)) for role, seat in seats.items()])


def metrics(
    training: Training,
    state: State,
    played: Sequence[Group],
    groups: Sequence[Group],
    learnt: Mapping[str, float],
    adoptions: Sequence[Adoption],
) -> Row:
    """Return the row of metrics of an update; docs/metrics.md explains each figure."""
    environment, plan, done = training.environment, training.plan, state.done - 1
    reports = [report for group in played for report in group.reports]
    return {
        "update": state.done,
        "updates": training.run.updates,
        "version": state.version.number,
        "digest": state.version.digest,
        "rules": plan.rules(done),
        "rule_options": plan.options(done),
        "episodes": len(reports),
        "groups": {"played": len(played), "learnt_from": len(groups)},
        "tiers": by_tier(environment, reports),
        "rewards": {role: fmean([report.rewards[role] for report in reports]) for role in environment.roles},
        "components": by_component(reports),
        "staleness": staleness(done, groups),
        "learner": dict(learnt),
        "adoption": {"error": max([a.error for a in adoptions]), "decisive": all(a.decisive for a in adoptions)},
    }


def by_component(reports: Sequence[EpisodeReport]) -> dict[str, float]:
    """Return the mean of what each part of the score paid an episode."""
    names = dict.fromkeys([name for report in reports for name in report.components])
    return {name: fmean([report.components.get(name, 0.0) for report in reports]) for name in names}


def staleness(version: int, groups: Sequence[Group]) -> dict[str, float]:
    """Return how much older than this version the policies were that played the groups; empty without any."""
    ages = [version - group.version for group in groups if group.version is not None]
    return {"mean": fmean(ages), "max": max(ages)} if ages else {}


def machine(
    used: Mapping[str, Usage],
    learnt: Mapping[str, float],
    spent: Mapping[str, float | None],
    engines: float | None,
    chosen: Row,
) -> Row:
    """Return what depends on the machine beside the times: memory, tokens a second, the learner's way of computing."""
    return {
        "memory": {DRIVER: own_memory(), **{name: one.memory for name, one in used.items()}},
        "gpu_memory": {name: one.gpu_memory for name, one in used.items() if one.gpu_memory is not None},
        "learner_tokens_per_second": learnt["tokens"] / spent["update"] if learnt and spent["update"] else None,
        "engine_tokens_per_second": engines,
        "learner": chosen,
    }


def by_tier(environment: AnyEnvironment, reports: Sequence[EpisodeReport], weigh: Weigh = alike) -> Row:
    """Return the summary of each tier that was played."""
    played = {tier: [report for report in reports if report.tier == tier] for tier in environment.tiers}
    return {tier: summary(environment, those, weigh) for tier, those in played.items() if those}


def evaluation(training: Training, scenarios: Sequence[Scenario], reports: Sequence[EpisodeReport]) -> Row:
    """Return the summary of each tier, and beside it the heuristic's mean on the same scenarios if the run plays it."""
    environment, run = training.environment, training.run
    results: list[evaluate.Result] = []
    heuristic = environment.heuristic
    if heuristic is not None and heuristic in planning.baselines(run, environment):
        beside = planning.evaluated_beside(run, environment)
        players = evaluate.baselines(environment, heuristic, beside)
        played = evaluate.play_all(players, scenarios, environment.rules(run.rules))
        results = [evaluate.result(environment, name, one.episode) for name, one in played]
    weigh = evaluate.weighed(environment, run.rules)
    tiers = by_tier(environment, reports, weigh)
    means = {tier: [(one.scenario, one.headline) for one in results if one.scenario.tier == tier] for tier in tiers}
    return {"tiers": tiers, "heuristic": {tier: _mean(those, weigh) for tier, those in means.items() if those}}


def summary(environment: AnyEnvironment, reports: Sequence[EpisodeReport], weigh: Weigh = alike) -> Row:
    """Return weighted means over episodes; None for a figure that no episode defines."""
    played = [(environment.scenario(report.scenario), report) for report in reports]
    headlines = [(scenario, report.headline) for scenario, report in played]
    found: Row = {"episodes": len(reports), "mean": _mean(headlines, weigh)}
    for metric in environment.metrics:
        values = [
            (scenario, value) for scenario, report in played if (value := report.metrics[metric.name]) is not None
        ]
        found[metric.name] = _mean(values, weigh) if values else None
    return found


def _mean(values: Sequence[tuple[Scenario, float]], weigh: Weigh) -> float:
    return fmean([value for _, value in values], [weigh(scenario) for scenario, _ in values])


def sound_alarm(training: Training, row: Row, say: Say, stop: Stop) -> None:
    """If KL to the base is over the alarm, stop the run or wait for a person; with `warn`, the metrics show it.

    In lockstep the learner is, before it learns, the policy that was played. If the sampler played another, that ends
    the run.
    """
    alarm = training.run.alarm
    mismatch = row["learner"].get("mismatch", 0.0)
    if training.run.schedule == "lockstep" and not mismatch <= alarm.mismatch:
        raise AlarmError(
            f"update {row['update']}: the sampler's log-probabilities are {mismatch:.2g} nats a token from the "
            f"learner's, over alarm.mismatch={alarm.mismatch:g}; it played another policy than policy-v"
            f"{row['version'] - 1}, or computes otherwise: give both the same model and precision"
        )
    kl = row["learner"].get("kl", 0.0)
    if kl <= alarm.kl or alarm.action == "warn":
        return
    alarmed = f"update {row['update']}: KL to the base is {kl:.2f} nats a token, over alarm.kl={alarm.kl:g}"
    if alarm.action == "abort":
        raise AlarmError(f"{alarmed}; the run stops because alarm.action is abort")
    resume = training.folder.path / RESUME_FILE
    resume.unlink(missing_ok=True)  # the answer to an earlier alarm does not answer this one
    say(f"{alarmed}; paused; create the file {resume} to resume")
    while not resume.exists():
        stop.check()
        time.sleep(_PAUSE_SECONDS)
    resume.unlink()
