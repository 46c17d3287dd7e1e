"""Who is credited with what: rewards become an advantage for every turn.

A turn's return is what came of the episode from it on. Its advantage is that return minus the mean over the group at
the same role and turn, over the role's standard deviation in the batch. Streams of reward are taken apart: each is
centred and scaled by itself, and then they are weighed. A loud stream cannot drown a quiet one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from chaosops_ray.config import Credit
from chaosops_ray.wire import Group, Trajectory

# Below this a spread is rounding.
_NOTHING = 1e-9


def returns(trajectory: Trajectory, stream: str, credit: Credit) -> list[float]:
    """What came of the episode from each turn on, in one stream."""
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
    """For every group, for every trajectory of it, an advantage for every turn; `weights` are streams' by role."""
    total: dict[tuple[int, int], list[float]] = {
        (g, t): [0.0] * len(trajectory.turns)
        for g, group in enumerate(groups)
        for t, trajectory in enumerate(group.trajectories)
    }
    for role, streams in weights.items():
        for stream, weight in streams.items():
            centred = _centred(groups, role, stream, credit)
            spreads = _spreads(centred, credit)
            for place, values in centred.items():
                spread = spreads[place[0]]
                scale = weight / spread if spread > _NOTHING else 0.0
                total[place] = [have + scale * value for have, value in zip(total[place], values, strict=True)]
    return [[tuple(total[g, t]) for t in range(len(group.trajectories))] for g, group in enumerate(groups)]


def _spreads(centred: Mapping[tuple[int, int], Sequence[float]], credit: Credit) -> dict[int, float]:
    """By group, what its advantages are divided by; never less than the floor, so that small change stays small."""
    by_group: dict[int, list[float]] = defaultdict(list)
    for (g, _), values in centred.items():
        by_group[g] += values
    if credit.scale == "none":
        return dict.fromkeys(by_group, 1.0)
    if credit.scale == "role":
        everywhere = pstdev([value for values in by_group.values() for value in values]) if by_group else 0.0
        return dict.fromkeys(by_group, max(credit.floor, everywhere))
    return {g: max(credit.floor, pstdev(values)) for g, values in by_group.items()}


def _centred(groups: Sequence[Group], role: str, stream: str, credit: Credit) -> dict[tuple[int, int], list[float]]:
    """Returns minus the group's mean at the same turn; where a turn has no second to compare with, nothing."""
    found = {}
    for g, group in enumerate(groups):
        seats = {
            t: returns(trajectory, stream, credit)
            for t, trajectory in enumerate(group.trajectories)
            if trajectory.role == role
        }
        at_turn: dict[int, list[float]] = defaultdict(list)
        for values in seats.values():
            for turn, value in enumerate(values):
                at_turn[turn].append(value)
        means = {turn: fmean(values) for turn, values in at_turn.items()}
        for t, values in seats.items():
            found[g, t] = [value - means[turn] if len(at_turn[turn]) > 1 else 0.0 for turn, value in enumerate(values)]
    return found


def has_variance(group: Group, weights: Mapping[str, Mapping[str, float]], credit: Credit) -> bool:
    """Whether anything can be learnt from the group: some turn's return differs between its members."""
    for role, streams in weights.items():
        for stream in streams:
            for values in _centred([group], role, stream, credit).values():
                if any(abs(value) > _NOTHING for value in values):
                    return True
    return False
