"""How well each case is mastered, by the returns of its latest groups; a run may draw the others more often.

An episode counts as mastered if its return comes near the best that the run has seen on the case: at most
`batch.near` points below. What is unsolved is not mastered, nor is what is solved at times, or slowly, or with a false
accusation on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from chaosops_ray.sim.contract import Scenario

# What the groups before count, against the latest one.
_MEMORY = 0.7


def case_of(scenario: Scenario) -> str:
    """Return the name that all seeds of a case share, and both cases of a pair."""
    return f"{scenario.pair or scenario.case}/{scenario.setting}"


class Standing(NamedTuple):
    """The best return on a case, and the recent share of episodes that came near the best so far."""

    best: float
    share: float = 0.0

    def after(self, returns: Sequence[float], near: float) -> Standing:
        """Return the standing after a group with these returns."""
        best = max(self.best, *returns)
        reached = [value >= best - near for value in returns]
        return Standing(best, _MEMORY * self.share + (1 - _MEMORY) * sum(reached) / len(reached))


class Mastery(NamedTuple):
    """The standing of each case that was played; a frozen value. `near` is how far below the best is near it."""

    near: float = 0.0
    standings: Mapping[str, Standing] = MappingProxyType({})

    def after(self, groups: Sequence[tuple[str, Sequence[float]]]) -> Mastery:
        """Return the mastery after groups, each a case and its returns, in the order in which they were played."""
        found = dict(self.standings)
        for case, returns in groups:
            found[case] = found.get(case, Standing(returns[0])).after(returns, self.near)
        return self._replace(standings=found)

    def of(self, case: str) -> float:
        """Return the share of a case's episodes that are mastered, from 0 to 1; 0 for one that was not played."""
        return self.standings[case].share if case in self.standings else 0.0


NEW = Mastery()
