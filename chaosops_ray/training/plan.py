"""The scenarios, rules and seeds of each update, all a function of the run's seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from chaosops_ray.config import LEARN, ConfigError, Run
from chaosops_ray.evaluate import parse_seeds, parse_tiers
from chaosops_ray.sim import curriculum as curricula
from chaosops_ray.sim import seats, training_seeds
from chaosops_ray.sim.contract import NOTHING, AnyEnvironment, Scenario
from chaosops_ray.sim.curriculum import Curriculum
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.training.mastery import NEW, Mastery, case_of
from chaosops_ray.wire import Task

AUTO = "auto"
# Baselines that a run is evaluated beside, with the heuristic between them; a world may have fewer.
_LESS = ("random", "blind", "naive", "retrier")
_MORE = ("lookup", "bayes", "oracle")
# Baselines that are about one seat, where a policy plays no other.
_OF_ONE_SEAT = {"oversight": ("flag-nothing", "flag-none", "flag-all")}


class Plan(NamedTuple):
    """The scenarios of a run, update by update."""

    run: Run
    environment: AnyEnvironment
    cases: Mapping[str, tuple[Scenario, ...]]  # by tier, the first case of each pair; their seeds are put in
    together: int  # cases in a pair: 2, or 1 where every case is alone

    def options(self, done: int) -> dict[str, float]:
        """Return the scheduled options of the rules after `done` updates, in the world's order."""
        scheduled, updates = self.run.rule_options, self.run.updates
        names = [name for name in self.environment.rule_options if name in scheduled]
        return {name: scheduled[name].at(done, updates) for name in names}

    def rules(self, done: int) -> str:
        """Return the rules with their scheduled options after `done` updates."""
        return self.environment.rules(_with_options(self.run.rules, self.options(done)))

    def tasks(self, curriculum: Curriculum, done: int, begun: int, count: int, mastery: Mastery = NEW) -> list[Task]:
        """Return the next `count` groups of the update after `done`, of which `begun` are planned already.

        A pair is never split: for one of two, both are returned.
        """
        rules = self.rules(done)
        end = begun + count
        end += -end % self.together
        return [self._task(curriculum, done, place, rules, mastery) for place in range(begun, end)]

    def _in_turn(self, tiers: Sequence[str], running: int) -> Scenario:
        """Return the next case: tiers in turn, each with its cases in one order, repeated."""
        tier = tiers[running % len(tiers)]
        # Wherever a stage begins, every case is played once before any is played again.
        cases = stream(self.run.seed, f"cases/{tier}").shuffled(self.cases[tier])
        return cases[running // len(tiers) % len(cases)]

    def _drawn(self, tiers: Sequence[str], mastery: Mastery, draw: Stream) -> Scenario:
        """Draw a case of these tiers, each as often as it is named here; what is mastered is drawn less often."""
        cases = [case for tier in tiers for case in self.cases[tier]]
        least = self.run.batch.mastered
        weights = [(1 - (1 - least) * mastery.of(case_of(case))) / len(self.cases[case.tier]) for case in cases]
        level = draw.uniform() * sum(weights)
        for case, weight in zip(cases, weights, strict=True):
            level -= weight
            if level < 0:
                return case
        return cases[-1]

    def held_out(self, scenarios: Sequence[Scenario]) -> list[Task]:
        """Return each scenario once, played greedily under the run's own rules, without any schedule."""
        rules = self.environment.rules(self.run.rules)
        beside = tuple(evaluated_beside(self.run, self.environment).items())
        return [
            Task(f"held out/{one.identity}", one.identity, rules, 1, 0, greedy=True, colleagues=beside)
            for one in scenarios
        ]

    def _task(self, curriculum: Curriculum, done: int, place: int, rules: str, mastery: Mastery) -> Task:
        unit, member = divmod(place, self.together)
        draw = stream(self.run.seed, f"plan/{done}", unit)
        tiers = curriculum.tier.split("+")
        before = curriculum.before
        if self.run.rehearsal and before and draw.uniform() < self.run.rehearsal:
            tiers = [draw.choice(before)]
        running = done * self.run.batch.scenarios // self.together + unit
        case = self._in_turn(tiers, running) if self.run.batch.mastered == 1 else self._drawn(tiers, mastery, draw)
        seed = training_seeds.FIRST + draw.below(training_seeds.COUNT)
        first = self.environment.scenario(case._replace(seed=seed).identity)
        sampled = [draw.bits() >> 1 for _ in range(self.together)]  # each member of a pair is sampled by its own seed
        scenario = self.environment.partners(first)[member]
        key, beside = f"u{done}/g{place}", tuple(trained_beside(self.run, self.environment).items())
        return Task(key, scenario.identity, rules, self.run.batch.group, sampled[member], colleagues=beside)


def make(run: Run, environment: AnyEnvironment) -> Plan:
    """Make the plan of a run; look up everything that its configuration names of the world."""
    environment.rules(run.rules)
    _check_options(run, environment)
    trained_beside(run, environment)
    evaluated_beside(run, environment)
    cases: dict[str, tuple[Scenario, ...]] = {}
    sizes = set()
    for scenario in environment.scenarios(environment.trained_on if run.cases == AUTO else run.cases, [0]):
        partners = environment.partners(scenario)
        sizes.add(len(partners))
        if scenario == partners[0]:
            cases[scenario.tier] = (*cases.get(scenario.tier, ()), scenario)
    if len(sizes) > 1:
        raise ConfigError(f"cases: some of {run.cases} in world {environment.name} have a partner, and some have none")
    (together,) = sizes
    if run.batch.scenarios % together:
        raise ConfigError(
            f"batch.scenarios: must be a multiple of {together} in world {environment.name}, got {run.batch.scenarios}"
        )
    return Plan(run, environment, cases, together)


def curriculum(run: Run, environment: AnyEnvironment) -> Curriculum:
    """Return the curriculum of a run as it begins; auto is the world's own."""
    spelling = environment.curriculum if run.curriculum == AUTO else run.curriculum
    return curricula.parse(spelling, environment.tiers, environment.promotions)


def baselines(run: Run, environment: AnyEnvironment) -> tuple[str, ...]:
    """Return the names of the policies to evaluate beside the trained one; auto is the usual ones of the world."""
    named = run.evaluation.policies
    if named != (AUTO,):
        return named
    played = seats.left(environment, evaluated_beside(run, environment))
    about_it = _OF_ONE_SEAT.get(played[0], ()) if len(played) == 1 else ()
    return tuple([name for name in (*_LESS, environment.heuristic, *_MORE, *about_it) if name in environment.policies])


def trained_beside(run: Run, environment: AnyEnvironment) -> dict[str, str]:
    """Return by role the baselines that play the seats which do not learn."""
    try:
        return seats.checked(environment, run.seats, own=(LEARN,))
    except InputError as error:
        raise ConfigError(f"seats: {error}") from None


def evaluated_beside(run: Run, environment: AnyEnvironment) -> dict[str, str]:
    """Return by role the baselines that play beside each policy of the evaluation; auto is as in training."""
    if run.evaluation.seats == AUTO:
        return trained_beside(run, environment)
    try:
        return seats.parse(environment, run.evaluation.seats)
    except InputError as error:
        raise ConfigError(f"evaluation.seats: {error}") from None


def held_out(run: Run, environment: AnyEnvironment) -> tuple[Scenario, ...]:
    """Return the scenarios of the evaluation."""
    found = environment.scenarios(set_named(run.evaluation.set, environment), parse_seeds(run.evaluation.seeds))
    if run.evaluation.tiers == AUTO:
        return found
    try:
        tiers = parse_tiers(environment, run.evaluation.tiers)
    except InputError as error:
        raise ConfigError(f"evaluation.tiers: {error}") from None
    return tuple([scenario for scenario in found if scenario.tier in tiers])


def during_the_run(run: Run, held_out: Sequence[Scenario]) -> list[Scenario]:
    """Return those of the held-out scenarios that are played before the last update."""
    seeds = list(dict.fromkeys([one.seed for one in held_out]))
    chosen = seeds[: run.evaluation.progress_seeds or None]
    return [one for one in held_out if one.seed in chosen]


def set_named(name: str, environment: AnyEnvironment) -> str:
    """Return the name of an evaluation set; auto is the world's first."""
    return environment.selections[0] if name == AUTO else name


def _with_options(rules: str, options: Mapping[str, float]) -> str:
    # Thousandths are exact enough, and keep records readable.
    return ",".join([rules, *[f"{name}={value:.3f}" for name, value in options.items()]])


def _check_options(run: Run, environment: AnyEnvironment) -> None:
    """Check the rules at both ends of every schedule; values in between are then valid too."""
    known = environment.rule_options
    for name, schedule in run.rule_options.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            listed = f"known are {', '.join(known)}" if known else "it has none"
            hint = f"did you mean {near[0]}?" if near else listed
            raise ConfigError(f"rule_options.{name[:60]}: world {environment.name} has no such option; {hint}")
        for value in (schedule.start, schedule.end):
            try:
                environment.rules(_with_options(run.rules, {name: value}))
            except InputError as error:
                raise ConfigError(f"rule_options.{name}: {error}") from None


def stream_weights(run: Run, environment: AnyEnvironment) -> dict[str, dict[str, float]]:
    """Return the weight of each stream of reward, by role that learns."""
    known = environment.streams(NOTHING)
    for role, streams in run.credit.streams.items():
        if role not in environment.roles:
            raise unknown("role in credit.streams", role, environment.roles)
        for name in streams:
            if name not in known:
                raise unknown(f"stream in credit.streams.{role}", name, known)
    learning = seats.left(environment, trained_beside(run, environment))
    return {role: run.credit.streams.get(role, {environment.pay[role]: 1.0}) for role in learning}
