"""The scenarios that learners of other libraries are given: cases of a set, with seeds that reports do not use."""

from __future__ import annotations

from collections.abc import Sequence

from chaosops_ray.sim import training_seeds
from chaosops_ray.sim.cases import cases
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.rng import Stream


class Scenarios:
    """A set's cases of some tiers, to be drawn: each tier as often as any other, then its cases alike.

    Without a selection it is the set that runs train on.
    """

    def __init__(self, environment: AnyEnvironment, selection: str | None = None, tiers: Sequence[str] = ()) -> None:
        self._environment = environment
        self._cases: dict[str, list[Scenario]] = {}
        for case in cases(environment, selection or environment.trained_on, tiers):
            self._cases.setdefault(case.tier, []).append(case)

    def drawn(self, draw: Stream) -> Scenario:
        """Draw a scenario."""
        case = draw.choice(self._cases[draw.choice(list(self._cases))])
        seed = training_seeds.FIRST + draw.below(training_seeds.COUNT)
        return self._environment.scenario(case._replace(seed=seed).identity)
