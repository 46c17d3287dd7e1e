"""Credit assignment: rewards become an advantage for every turn.

A turn's return is the sum of the rewards from it on. Its advantage is that return minus the mean over the group at the
same role and turn, divided by the role's standard deviation in the batch. Each stream of reward is centred and scaled
by itself and then weighted, so that a loud stream cannot drown a quiet one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import fmean, pstdev

from chaosops_ray.config import Credit
from chaosops_ray.wire import Group, Trajectory

# Below this a spread is rounding.
_NOTHING = 1e-9


def returns(trajectory: Trajectory, stream: str, credit: Credit) -> list[float]:
    """Return the return of each turn in one stream."""
    rewards = [turn.rewards[stream] for turn in trajectory.turns]
    if credit.unit == "episode":
        return [sum(rewards)] * len(rewards)
    following = 0.0
    found = []
    for reward in reversed(rewards):
        following = reward + credit.discount * following
        found.append(following)
    return found[::-1]


def advantages(
    groups: Sequence[Group], weights: Mapping[str, Mapping[str, float]], credit: Credit
) -> list[list[tuple[float, ...]]]:
    """Return an advantage for every turn of every trajectory, by group; `weights` are those of streams, by role."""
    totals = [[[0.0] * len(trajectory.turns) for trajectory in group.trajectories] for group in groups]
    for role, streams in weights.items():
        for stream, weight in streams.items():
            centred = [_centred(group, role, stream, credit) for group in groups]
            for total, by_place, spread in zip(totals, centred, _spreads(centred, credit), strict=True):
                scale = weight / spread if spread > _NOTHING else 0.0
                for place, values in by_place.items():
                    total[place] = [have + scale * value for have, value in zip(total[place], values, strict=True)]
    return [[tuple(values) for values in total] for total in totals]


def _spreads(centred: Sequence[Mapping[int, Sequence[float]]], credit: Credit) -> list[float]:
    """Return, by group, the divisor of its advantages; never below the floor, so that small differences stay small."""
    if credit.scale == "none":
        return [1.0] * len(centred)
    by_group = [list(chain.from_iterable(by_place.values())) for by_place in centred]
    if credit.scale == "role":
        everywhere = list(chain.from_iterable(by_group))
        return [max(credit.floor, pstdev(everywhere) if everywhere else 0.0)] * len(centred)
    return [max(credit.floor, pstdev(values) if values else 0.0) for values in by_group]


def _centred(group: Group, role: str, stream: str, credit: Credit) -> dict[int, list[float]]:
    """Return, by trajectory of the role, returns minus the group's mean at the same turn; zero for a lone turn."""
    found = {
        place: returns(trajectory, stream, credit)
        for place, trajectory in enumerate(group.trajectories)
        if trajectory.role == role
    }
    at_turn: dict[int, list[float]] = defaultdict(list)
    for values in found.values():
        for turn, value in enumerate(values):
            at_turn[turn].append(value)
    means = {turn: fmean(values) for turn, values in at_turn.items()}
    return {
        place: [value - means[turn] if len(at_turn[turn]) > 1 else 0.0 for turn, value in enumerate(values)]
        for place, values in found.items()
    }


def has_variance(group: Group, weights: Mapping[str, Mapping[str, float]], credit: Credit) -> bool:
    """Check that the group can teach something: some turn's return differs between its members."""
    return any(
        abs(value) > _NOTHING
        for role, streams in weights.items()
        for stream in streams
        for values in _centred(group, role, stream, credit).values()
        for value in values
    )
