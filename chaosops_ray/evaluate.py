"""Policies × scenarios → cells with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, PolicyFactory, Scenario
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.errors import InputError, unknown

SCHEMA = "evaluation/1"
TRAINED = "trained"  # what a run's own policy is called, among those of its evaluation
RESAMPLES = 2000
CONFIDENCE = 0.95
MAX_SEEDS = 10_000
# A resample holds one index for each cluster; so many at a time keep the memory small for large sets.
_INDICES_AT_ONCE = 4_000_000


class Played(NamedTuple):
    """An episode as a player played it, with the version and digest that took each step where a model did."""

    episode: AnyEpisode
    versions: tuple[tuple[int, str], ...] | None = None


class Player(Protocol):
    """Whatever an evaluation measures."""

    def __call__(self, scenarios: Sequence[Scenario], rules: str, /) -> Iterator[Played]:
        """Play each scenario once, in their order."""
        ...


class Result(NamedTuple):
    """What is kept of an episode for the cells."""

    policy: str
    scenario: Scenario
    headline: float
    metrics: tuple[float | None, ...]


def parse_seeds(spelling: str) -> range:
    """The seeds of a spelling such as 0-99 or 7."""
    first, dash, last = spelling.partition("-")
    last = last if dash else first
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in (first, last)):
        raise InputError(f"seeds {spelling[:40]!r} are no range; write A-B, for example 1000-1099, or one number")
    seeds = range(int(first), int(last) + 1)
    if not 0 < len(seeds) <= MAX_SEEDS:
        raise InputError(f"seeds {spelling} make {len(seeds)} seeds; give 1 to {MAX_SEEDS}, the smaller end first")
    return seeds


def parse_policies(environment: AnyEnvironment, spelling: str) -> dict[str, PolicyFactory]:
    """The policies of a comma-separated list of names."""
    chosen: dict[str, PolicyFactory] = {}
    for name in spelling.split(","):
        if name not in environment.policies:
            raise unknown(f"policy of world {environment.name}", name, environment.policies)
        if name in chosen:
            raise InputError(f"policy {name} is named twice")
        chosen[name] = environment.policies[name]
    return chosen


def parse_tiers(environment: AnyEnvironment, spelling: str) -> tuple[str, ...]:
    """The tiers of a comma-separated list of names, in the world's order."""
    named = spelling.split(",")
    for name in named:
        if name not in environment.tiers:
            raise unknown(f"tier of world {environment.name}", name, environment.tiers)
    return tuple(tier for tier in environment.tiers if tier in named)


def one_by_one(environment: AnyEnvironment, build: PolicyFactory) -> Player:
    """The player that plays one scenario after the other, each with a policy that is built for it."""

    def played(scenarios: Sequence[Scenario], rules: str, /) -> Iterator[Played]:
        for scenario in scenarios:
            yield Played(play(environment, scenario, rules, build(scenario, rules)))

    return played


def baselines(environment: AnyEnvironment, spelling: str) -> dict[str, Player]:
    """The players of a comma-separated list of baselines."""
    return {name: one_by_one(environment, build) for name, build in parse_policies(environment, spelling).items()}


def play_all(players: Mapping[str, Player], scenarios: Sequence[Scenario], rules: str) -> Iterator[tuple[str, Played]]:
    """Play every scenario with every player."""
    for name, player in players.items():
        for played in player(scenarios, rules):
            yield name, played


def episodes(
    environment: AnyEnvironment,
    policies: Mapping[str, PolicyFactory],
    scenarios: Sequence[Scenario],
    rules: str,
) -> Iterator[tuple[str, AnyEpisode]]:
    """Play every scenario with every policy, one by one."""
    players = {name: one_by_one(environment, build) for name, build in policies.items()}
    for name, played in play_all(players, scenarios, rules):
        yield name, played.episode


def result(environment: AnyEnvironment, policy: str, episode: AnyEpisode) -> Result:
    """What the cells need of an episode."""
    return Result(
        policy,
        episode.scenario,
        environment.headline(episode),
        tuple(metric.of(episode) for metric in environment.metrics),
    )


def reported(
    environment: AnyEnvironment, policy: str, scenario: str, value: float, metrics: Mapping[str, float | None]
) -> Result:
    """The same of an episode that was played elsewhere, and of which only this came back."""
    named = tuple([metrics[metric.name] for metric in environment.metrics])
    return Result(policy, environment.scenario(scenario), value, named)


def rows(environment: AnyEnvironment, results: Iterable[Result]) -> list[dict[str, Any]]:
    """Results as they are written, one for each episode."""
    names = [metric.name for metric in environment.metrics]
    return [
        {
            "policy": found.policy,
            "scenario": found.scenario.identity,
            "headline": found.headline,
            "metrics": dict(zip(names, found.metrics, strict=True)),
        }
        for found in results
    ]


def results_of(environment: AnyEnvironment, written: Iterable[Mapping[str, Any]], source: str) -> list[Result]:
    """What `rows` wrote; `source` is how errors call it."""
    try:
        return [
            Result(
                str(row["policy"]),
                environment.scenario(row["scenario"]),
                float(row["headline"]),
                tuple([None if (x := row["metrics"][one.name]) is None else float(x) for one in environment.metrics]),
            )
            for row in written
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{source} holds no results of world {environment.name} ({error}); evaluate again") from None


def summary(
    environment: AnyEnvironment, results: Sequence[Result], rules: str, selection: str, seeds: str | None
) -> dict[str, Any]:
    """The evaluation as it is written: one cell per (policy, tier), and one per (policy, group)."""
    groups = sorted({found.scenario.group for found in results})
    return {
        "schema": SCHEMA,
        "world": environment.name,
        "rules": rules,
        "set": selection,
        "seeds": seeds,
        "cells": _cells(environment, results, "tier", environment.tiers, lambda scenario: scenario.tier),
        f"by_{environment.grouping}": _cells(
            environment, results, environment.grouping, groups, lambda scenario: scenario.group
        ),
    }


def differences(
    environment: AnyEnvironment, results: Sequence[Result], policy: str, others: Sequence[str]
) -> list[dict[str, Any]]:
    """By tier, how much better the policy does than each of the others on the same scenarios, with an interval."""
    by_policy: dict[str, dict[Scenario, float]] = {}
    for found in results:
        by_policy.setdefault(found.policy, {})[found.scenario] = found.headline
    rows = []
    for other in others:
        for tier in environment.tiers:
            gains = [
                (scenario, value - by_policy[other][scenario])
                for scenario, value in by_policy[policy].items()
                if scenario.tier == tier
            ]
            if gains:
                mean = float(np.mean([gain for _, gain in gains]))
                rows.append({"policy": policy, "against": other, "tier": tier, "mean": mean, "ci": interval(gains)})
    return rows


def _cells(
    environment: AnyEnvironment,
    results: Sequence[Result],
    key: str,
    names: Sequence[str],
    of: Callable[[Scenario], str],
) -> list[dict[str, Any]]:
    cells = []
    for policy in dict.fromkeys(found.policy for found in results):
        for name in names:
            chosen = [found for found in results if found.policy == policy and of(found.scenario) == name]
            if chosen:
                cells.append({"policy": policy, key: name, **_cell(environment, chosen)})
    return cells


def _cell(environment: AnyEnvironment, results: Sequence[Result]) -> dict[str, Any]:
    headlines = [found.headline for found in results]
    cell: dict[str, Any] = {"episodes": len(results)}
    intervals: dict[str, Any] = {}
    for index, metric in enumerate(environment.metrics):
        defined = [(found.scenario, value) for found in results if (value := found.metrics[index]) is not None]
        cell[metric.name] = float(np.mean([value for _, value in defined])) if defined else None
        intervals[f"{metric.name}_ci"] = interval(defined)
    cell["mean"] = float(np.mean(headlines))
    cell["median"] = float(np.median(headlines))
    cell["mean_ci"] = interval([(found.scenario, found.headline) for found in results])
    return cell | intervals


def interval(values: Iterable[tuple[Scenario, float]]) -> list[float] | None:
    """Return a bootstrap interval of the mean.

    Whole scenarios are resampled, or whole pairs: their episodes are not independent.
    """
    clusters: dict[str, list[float]] = {}
    for scenario, value in values:
        clusters.setdefault(scenario.cluster, []).append(value)
    if not clusters:
        return None
    sums = np.array([sum(members) for members in clusters.values()])
    counts = np.array([len(members) for members in clusters.values()])
    means = resampled_means(sums, counts)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return [float(low), float(high)]


def resampled_means(sums: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    """The means of RESAMPLES draws of as many clusters as there are; the same draws for the same number of clusters."""
    generator = np.random.default_rng(0)
    size = len(sums)
    means: list[NDArray[Any]] = []
    left = RESAMPLES
    while left:
        rows = min(left, max(1, _INDICES_AT_ONCE // size))
        drawn = generator.integers(0, size, size=(rows, size))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
        left -= rows
    return np.concatenate(means)
