"""What an update plays: which scenarios, under which rules, with which seeds; all a function of the run's seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chaosops_ray.config import ConfigError, Run
from chaosops_ray.sim.contract import NOTHING, AnyEnvironment, Scenario
from chaosops_ray.sim.curriculum import Curriculum
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import stream
from chaosops_ray.wire import Task

# Training draws its scenarios' seeds from here on; what is below is for evaluation.
FIRST_SEED = 100_000
_SEEDS = 100_000_000
AUTO = "auto"
_MULTIPLIERS = ("multiplier", "catch", "false_flag")


class Plan(NamedTuple):
    """The scenarios of a run, update by update."""

    run: Run
    environment: AnyEnvironment
    cases: Mapping[str, tuple[Scenario, ...]]  # by tier; their seeds are put in

    def rules(self, done: int) -> str:
        """The rules as the schedules of both sides of the multiplier have them now."""
        catch = self.run.catch.at(done, self.run.updates)
        false_flag = self.run.false_flag.at(done, self.run.updates)
        if catch == false_flag == 1.0:
            return self.environment.rules(self.run.rules)
        # The shortest spelling that is the same to a thousandth: a record should be readable.
        return self.environment.rules(f"{self.run.rules},catch={catch:.3f},false_flag={false_flag:.3f}")

    def tasks(self, curriculum: Curriculum, done: int, begun: int, count: int) -> list[Task]:
        """The next `count` groups of the update after `done`, of which `begun` are planned already."""
        rules = self.rules(done)
        return [self._task(curriculum, done, place, rules) for place in range(begun, begun + count)]

    def held_out(self, scenarios: Sequence[Scenario]) -> list[Task]:
        """Each scenario once, greedily, under the run's own rules: no schedule has a say in what is measured."""
        rules = self.environment.rules(self.run.rules)
        return [Task(f"held out/{one.identity}", one.identity, rules, 1, 0, greedy=True) for one in scenarios]

    def _task(self, curriculum: Curriculum, done: int, place: int, rules: str) -> Task:
        draw = stream(self.run.seed, f"plan/{done}", place)
        tiers = curriculum.tier.split("+")
        running = done * self.run.batch.scenarios + place
        tier = tiers[running % len(tiers)]
        if self.run.rehearsal:
            before = curriculum.before
            if before and draw.uniform() < self.run.rehearsal:
                tier = draw.choice(before)
        # In one order again and again: wherever a stage begins, every case comes up once before any comes up again.
        cases = stream(self.run.seed, f"cases/{tier}").shuffled(self.cases[tier])
        case = cases[running // len(tiers) % len(cases)]
        seed = FIRST_SEED + draw.below(_SEEDS)
        scenario = self.environment.scenario(case._replace(seed=seed).identity)
        return Task(f"u{done}/g{place}", scenario.identity, rules, self.run.batch.group, draw.bits() >> 1)


def make(run: Run, environment: AnyEnvironment) -> Plan:
    """The plan of a run; what its spellings name is looked up now."""
    environment.rules(run.rules)
    cases: dict[str, tuple[Scenario, ...]] = {}
    for scenario in environment.scenarios(set_named(run.cases, environment), [0]):
        cases[scenario.tier] = (*cases.get(scenario.tier, ()), scenario)
    if (run.catch.start, run.catch.end, run.false_flag.start, run.false_flag.end) != (1, 1, 1, 1):
        options = [option.partition("=")[0] for option in run.rules.split(",")[1:]]
        if any(option in _MULTIPLIERS for option in options):
            raise ConfigError(
                "rules: its multipliers and the schedules catch, false_flag exclude each other; give them once"
            )
        _check_multipliers(run, environment)
    return Plan(run, environment, cases)


def set_named(name: str, environment: AnyEnvironment) -> str:
    """The evaluation set of this name; auto is the world's first."""
    return environment.selections[0] if name == AUTO else name


def _check_multipliers(run: Run, environment: AnyEnvironment) -> None:
    """That there are such rules at every end of the schedules; in between there are, then, too."""
    for name in ("catch", "false_flag"):
        schedule = getattr(run, name)
        for value in (schedule.start, schedule.end):
            try:
                environment.rules(f"{run.rules},{name}={value:.3f}")
            except InputError as error:
                raise ConfigError(f"{name}: {error}") from None


def stream_weights(run: Run, environment: AnyEnvironment) -> dict[str, dict[str, float]]:
    """What each stream of reward weighs for each role."""
    known = environment.streams(NOTHING)
    for role, streams in run.credit.streams.items():
        if role not in environment.roles:
            raise unknown("role in credit.streams", role, environment.roles)
        for name in streams:
            if name not in known:
                raise unknown(f"stream in credit.streams.{role}", name, known)
    return {role: run.credit.streams.get(role, {environment.pay[role]: 1.0}) for role in environment.roles}
