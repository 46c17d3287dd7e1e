"""Curricula: the tier that the next episodes are drawn from.

A curriculum is a frozen value: `tier` says where it stands, `after` gives the next one from an episode's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from chaosops_ray.sim.errors import InputError, unknown


class Promotion(NamedTuple):
    """The end of a tier: after `minimum` results on it or more, the mean of the last `window` reaches the threshold.

    The window goes on across tiers. With a minimum that fills it, no result of an earlier tier counts.
    """

    tier: str
    minimum: int
    window: int
    threshold: float


class Curriculum(Protocol):
    """The interface that a training loop needs of a curriculum."""

    @property
    def tier(self) -> str:
        """The tier that the next episodes are drawn from."""
        ...

    @property
    def before(self) -> tuple[str, ...]:
        """The tiers that were drawn from earlier and no longer are."""
        ...

    def after(self, results: Sequence[float]) -> Curriculum:
        """Return the curriculum after an update of episodes with these results."""
        ...


class Staged(NamedTuple):
    """A number of updates on each tier in turn, whatever the results; the last stage has no end."""

    stages: tuple[tuple[str, int], ...]
    done: int = 0

    @property
    def tier(self) -> str:
        """The tier that the next episodes are drawn from; tiers joined by a plus take turns."""
        end = 0
        for tier, length in self.stages:
            end += length
            if self.done < end:
                return tier
        return self.stages[-1][0]

    @property
    def before(self) -> tuple[str, ...]:
        """The tiers of the stages that are over."""
        now = self.tier.split("+")
        ended = []
        end = 0
        for tier, length in self.stages:
            end += length
            if end <= self.done:
                ended += [name for name in tier.split("+") if name not in now]
        return tuple(dict.fromkeys(ended))

    def after(self, results: Sequence[float]) -> Staged:  # noqa: ARG002 - staged by count alone
        """Return the curriculum one update further on."""
        return self._replace(done=self.done + 1)


class Adaptive(NamedTuple):
    """A curriculum that promotes by results, and never back."""

    promotions: tuple[Promotion, ...]
    last: str
    level: int = 0
    on_tier: int = 0  # results on this tier
    results: tuple[float, ...] = ()  # the last ones, of all tiers

    @property
    def tier(self) -> str:
        """The tier that the next episodes are drawn from."""
        return self.promotions[self.level].tier if self.level < len(self.promotions) else self.last

    @property
    def before(self) -> tuple[str, ...]:
        """The tiers that were left."""
        return tuple([promotion.tier for promotion in self.promotions[: self.level]])

    def after(self, results: Sequence[float]) -> Adaptive:
        """Return the curriculum after these results; results that come after a promotion count on the next tier."""
        level, on_tier, kept = self.level, self.on_tier, self.results
        longest = max([promotion.window for promotion in self.promotions], default=0)
        for result in results:
            if level == len(self.promotions):
                break
            rule = self.promotions[level]
            on_tier += 1
            kept = (*kept, result)[-longest:]
            recent = kept[-rule.window :]
            if on_tier >= rule.minimum and sum(recent) / len(recent) >= rule.threshold:
                level, on_tier = level + 1, 0
        return self._replace(level=level, on_tier=on_tier, results=kept)


def parse(spelling: str, tiers: Sequence[str], promotions: tuple[Promotion, ...]) -> Staged | Adaptive:
    """Read a curriculum: `adaptive`, or stages such as easy:200,medium:200,hard:200 or easy+hard:90."""
    if spelling == "adaptive":
        if len(promotions) != len(tiers) - 1:
            raise InputError(
                f"this world has no thresholds for an adaptive curriculum; write stages, such as {tiers[0]}:200"
            )
        return Adaptive(promotions, tiers[-1])
    stages = []
    for part in spelling.split(","):
        tier, colon, length = part.strip().partition(":")
        for name in tier.split("+"):
            if name not in tiers:
                raise unknown("tier", name, tiers)
        if not colon or not length.isascii() or not length.isdigit() or len(length) > 9 or not int(length):
            raise InputError(
                f"curriculum stage {part[:60]!r} has no number of updates; write it as {tier}:200, "
                "several with commas between, or 'adaptive'"
            )
        stages.append((tier, int(length)))
    return Staged(tuple(stages))
