"""How well each case is mastered, by the returns of its latest groups; a run may draw the others more often.

An episode counts as mastered if its return comes near the best that the run has seen on the case. What is unsolved is
not, nor is what is solved at times, or slowly, or with a false accusation on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from chaosops_ray.sim.contract import Scenario

# A return is near the best if it is within this share of the distance between the worst and the best.
_NEAR = 0.05
# What the groups before count, against the latest one.
_MEMORY = 0.7


def case_of(scenario: Scenario) -> str:
    """Return the name that all seeds of a case share, and both cases of a pair."""
    return f"{scenario.pair or scenario.case}/{scenario.setting}"


class Standing(NamedTuple):
    """The worst and the best return on a case, and the recent share of episodes that were near the best."""

    worst: float
    best: float
    share: float = 0.0

    def after(self, returns: Sequence[float]) -> Standing:
        """Return the standing after a group with these returns."""
        worst, best = min(self.worst, *returns), max(self.best, *returns)
        near = [value >= best - _NEAR * (best - worst) for value in returns]
        return Standing(worst, best, _MEMORY * self.share + (1 - _MEMORY) * sum(near) / len(near))


class Mastery(NamedTuple):
    """The standing of each case that was played; a frozen value."""

    standings: Mapping[str, Standing] = MappingProxyType({})

    def after(self, groups: Sequence[tuple[str, Sequence[float]]]) -> Mastery:
        """Return the mastery after groups, each a case and its returns, in the order in which they were played."""
        found = dict(self.standings)
        for case, returns in groups:
            found[case] = found.get(case, Standing(returns[0], returns[0])).after(returns)
        return Mastery(found)

    def of(self, case: str) -> float:
        """Return the share of a case's episodes that are mastered, from 0 to 1; 0 for one that was not played."""
        return self.standings[case].share if case in self.standings else 0.0


NEW = Mastery()
