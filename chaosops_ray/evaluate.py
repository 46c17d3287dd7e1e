"""The evaluation: policies × scenarios → cells with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from chaosops_ray import twins
from chaosops_ray.resampling import Weigh, interval
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, PolicyFactory, Scenario
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.wire import Origin

SCHEMA = "evaluation/1"
TRAINED = "trained"  # the name of a run's own policy in its evaluation
MAX_SEEDS = 10_000


class Played(NamedTuple):
    """An episode as a player played it, with where each action came from if a model plays."""

    episode: AnyEpisode
    origins: tuple[Origin, ...] | None = None


class Player(Protocol):
    """A policy with the baselines that play beside it."""

    @property
    def colleagues(self) -> Mapping[str, str]:
        """The baselines that play the seats which are not the policy's, by role."""
        ...

    @property
    def model(self) -> Mapping[str, Any]:
        """What tells which model this is, such as its run, version and digest; nothing for a baseline."""
        ...

    def __call__(self, scenarios: Sequence[Scenario], rules: str, /) -> Iterator[Played]:
        """Play each scenario once under these rules, in their order."""
        ...

    def live(self) -> AbstractContextManager[PolicyFactory]:
        """Return the policy, colleagues included, to be asked turn by turn while the context is open."""
        ...


class Result(NamedTuple):
    """The part of an episode that the cells need."""

    policy: str
    scenario: Scenario
    headline: float
    metrics: Mapping[str, float | None]


def parse_seeds(spelling: str) -> range:
    """Read seeds such as 0-99 or 7."""
    first, dash, last = spelling.partition("-")
    last = last if dash else first
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in (first, last)):
        raise InputError(f"seeds {spelling[:40]!r} are not a range; write A-B, for example 1000-1099, or one number")
    seeds = range(int(first), int(last) + 1)
    if not 0 < len(seeds) <= MAX_SEEDS:
        raise InputError(f"seeds {spelling} make {len(seeds)} seeds; give 1 to {MAX_SEEDS}, the smaller end first")
    return seeds


def parse_policies(environment: AnyEnvironment, spelling: str) -> dict[str, PolicyFactory]:
    """Return the policies of a comma-separated list of names."""
    chosen: dict[str, PolicyFactory] = {}
    for name in spelling.split(","):
        if name not in environment.policies:
            raise unknown(f"policy of world {environment.name}", name, environment.policies)
        if name in chosen:
            raise InputError(f"policy {name} is named twice; name it once")
        chosen[name] = environment.policies[name]
    return chosen


def parse_tiers(environment: AnyEnvironment, spelling: str) -> tuple[str, ...]:
    """Return the tiers of a comma-separated list of names, in the world's order."""
    named = spelling.split(",")
    for name in named:
        if name not in environment.tiers:
            raise unknown(f"tier of world {environment.name}", name, environment.tiers)
    return tuple(tier for tier in environment.tiers if tier in named)


@dataclass(frozen=True)
class OneByOne:
    """A player that builds a policy for each scenario and plays them in turn."""

    environment: AnyEnvironment
    build: PolicyFactory
    colleagues: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, scenarios: Sequence[Scenario], rules: str, /) -> Iterator[Played]:
        """Play each scenario once, in their order."""
        with self.live() as build:
            for scenario in scenarios:
                yield Played(play(self.environment, scenario, rules, build(scenario, rules)))

    def live(self) -> AbstractContextManager[PolicyFactory]:
        """Return the policy with its colleagues."""
        return nullcontext(seats.beside(self.environment, self.build, self.colleagues))


def baselines(
    environment: AnyEnvironment, spelling: str, colleagues: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Player]:
    """Return the players of a comma-separated list of baselines, each with these colleagues."""
    named = parse_policies(environment, spelling)
    return {name: OneByOne(environment, build, colleagues) for name, build in named.items()}


def play_all(players: Mapping[str, Player], scenarios: Sequence[Scenario], rules: str) -> Iterator[tuple[str, Played]]:
    """Play every scenario with every player."""
    for name, player in players.items():
        for played in player(scenarios, rules):
            yield name, played


def result(environment: AnyEnvironment, policy: str, episode: AnyEpisode) -> Result:
    """Reduce an episode to what the cells need."""
    metrics = {metric.name: metric.of(episode) for metric in environment.metrics}
    return Result(policy, episode.scenario, environment.headline(episode), metrics)


def rows(environment: AnyEnvironment, results: Iterable[Result], rules: str) -> list[dict[str, Any]]:
    """Return the results as plain values, one for each episode, each with the rules that it was played under."""
    played = environment.rules(rules)
    return [found._asdict() | {"scenario": found.scenario.identity, "rules": played} for found in results]


def results_of(environment: AnyEnvironment, written: Iterable[Mapping[str, Any]], source: str) -> list[Result]:
    """Read what `rows` wrote; errors name `source`."""
    names = [metric.name for metric in environment.metrics]
    found = []
    try:
        for row in written:
            environment.recorded_rules(row["rules"])
            metrics = {name: None if (value := row["metrics"][name]) is None else float(value) for name in names}
            scenario = environment.scenario(row["scenario"])
            found.append(Result(str(row["policy"]), scenario, float(row["headline"]), metrics))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{source} holds no results of world {environment.name} ({error}); evaluate again") from None
    return found


def summary(
    environment: AnyEnvironment,
    results: Sequence[Result],
    rules: str,
    selection: str,
    seeds: str | None,
    colleagues: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    models: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the evaluation as plain values: one cell per (policy, tier), and one per (policy, group).

    `colleagues` are those of each policy that has any, and `models` tells of each that is a model which one it is. A
    world of twins has further cells: one per (policy, setting) where there are several settings, and one per policy.
    """
    weigh = weighed(environment, rules)
    cells = partial(_cells, environment, results, weigh)
    found = {
        "schema": SCHEMA,
        "world": environment.name,
        "rules": environment.rules(rules),
        "set": selection,
        "seeds": seeds,
        "policies": {policy: dict(model) for policy, model in models.items() if model},
        "colleagues": {policy: dict(those) for policy, those in colleagues.items() if those},
        "cells": cells("tier", environment.tiers, lambda scenario: scenario.tier),
        f"by_{environment.grouping}": cells(
            environment.grouping,
            sorted({found.scenario.group for found in results}),
            lambda scenario: scenario.group,
        ),
    }
    if environment.suspicion is None:
        return found
    settings = list(dict.fromkeys([found.scenario.setting for found in results]))
    if any(found.scenario.setting != found.scenario.tier for found in results) and len(settings) > 1:
        found[twins.BY_SETTING] = cells("setting", settings, lambda scenario: scenario.setting)
    found[twins.OVERALL] = [
        {"policy": policy, **twins.overall(_statements(environment, environment.suspicion, those, weigh))}
        for policy, those in _by_policy(results).items()
    ]
    return found


def weighed(environment: AnyEnvironment, rules: str) -> Weigh:
    """Return the weights that scenarios have in means under these rules."""
    played = environment.rules(rules)
    return lambda scenario: environment.weight(scenario, played)


def differences(
    environment: AnyEnvironment, results: Sequence[Result], policy: str, others: Sequence[str], rules: str
) -> list[dict[str, Any]]:
    """Return, by tier, the policy's mean gain over each of the others on the same scenarios, with an interval."""
    weigh = weighed(environment, rules)
    by_policy: dict[str, dict[Scenario, float]] = {}
    for found in results:
        by_policy.setdefault(found.policy, {})[found.scenario] = found.headline
    rows = []
    for other in others:
        gains = [(scenario, value - by_policy[other][scenario]) for scenario, value in by_policy[policy].items()]
        for tier in environment.tiers:
            chosen = [(scenario, gain) for scenario, gain in gains if scenario.tier == tier]
            if chosen:
                gain = {"mean": mean(chosen, weigh), "ci": interval(chosen, weigh)}
                rows.append({"policy": policy, "against": other, "tier": tier, **gain})
    return rows


def mean(values: Sequence[tuple[Scenario, float]], weigh: Weigh) -> float:
    """Return the weighted mean."""
    return float(np.average([value for _, value in values], weights=[weigh(scenario) for scenario, _ in values]))


def median(values: Sequence[tuple[Scenario, float]], weigh: Weigh) -> float:
    """Return the weighted median: half of the weight is below it, and half above."""
    ordered = np.array(sorted([(value, weigh(scenario)) for scenario, value in values]))
    below = np.cumsum(ordered[:, 1])
    middle = [np.searchsorted(below, below[-1] / 2, side) for side in ("left", "right")]
    return float(np.mean(ordered[middle, 0]))


def _by_policy(results: Iterable[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for one in results:
        found.setdefault(one.policy, []).append(one)
    return found


def _cells(
    environment: AnyEnvironment,
    results: Sequence[Result],
    weigh: Weigh,
    key: str,
    names: Iterable[str],
    of: Callable[[Scenario], str],
) -> list[dict[str, Any]]:
    return [
        {"policy": policy, key: name, **_cell(environment, chosen, weigh)}
        for policy, those in _by_policy(results).items()
        for name in names
        if (chosen := [found for found in those if of(found.scenario) == name])
    ]


def _cell(environment: AnyEnvironment, results: Sequence[Result], weigh: Weigh) -> dict[str, Any]:
    headlines = [(found.scenario, found.headline) for found in results]
    cell: dict[str, Any] = {"episodes": len(results)}
    intervals: dict[str, Any] = {}
    for name in [metric.name for metric in environment.metrics]:
        defined = [(found.scenario, value) for found in results if (value := found.metrics[name]) is not None]
        cell[name] = mean(defined, weigh) if defined else None
        intervals[f"{name}_ci"] = interval(defined, weigh)
    cell["mean"] = mean(headlines, weigh)
    cell["median"] = median(headlines, weigh)
    cell["mean_ci"] = interval(headlines, weigh)
    if environment.suspicion is not None:
        intervals |= twins.figures(_statements(environment, environment.suspicion, results, weigh))
    return cell | intervals


def _statements(
    environment: AnyEnvironment, suspicion: str, results: Iterable[Result], weigh: Weigh
) -> list[twins.Statement]:
    """Return what was said at the end of each episode of a world of twins, and what is true."""
    found = []
    for one in results:
        stated, guilty = one.metrics[suspicion], environment.guilty(one.scenario)
        if stated is None or guilty is None:
            raise ValueError(
                f"{one.scenario.identity}: a world of twins says of each scenario if it is guilty, "
                "and of each episode how likely it was held to be"
            )
        found.append(twins.Statement(one.scenario, stated, guilty, weigh(one.scenario)))
    return found
