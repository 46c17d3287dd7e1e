"""Advantages are what a few plain lines of arithmetic say, and behave as credit should."""

from __future__ import annotations

from statistics import fmean, pstdev
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chaosops_ray.config import Credit
from chaosops_ray.learner.advantage import advantages, has_variance, returns
from chaosops_ray.wire import Group, Task, Trajectory, Turn

# For each scenario, for each member, for each role that spoke, its turns' rewards by stream.
Rewards = list[list[dict[str, list[dict[str, float]]]]]
WEIGHTS = {"sre": {"team": 1.0}, "oversight": {"flags": 1.0, "team": 0.3}}


def credit(**given: Any) -> Credit:
    return Credit.model_validate(given)


def groups(rewards: Rewards) -> list[Group]:
    """The groups whose turns earned this."""
    found = []
    for number, members in enumerate(rewards):
        trajectories = [
            Trajectory(
                role,
                member,
                tuple(range(2 * len(turns) + 1)),
                tuple([Turn(2 * i + 1, 2 * i + 2, (-1.0,), earned, 0, "") for i, earned in enumerate(turns)]),
            )
            for member, seats in enumerate(members)
            for role, turns in seats.items()
        ]
        task = Task(f"task-{number}", f"incident/cascade/hard/{number}", "strict", len(members), number)
        found.append(Group(task, tuple(trajectories), (), 0))
    return found


def plainly(rewards: Rewards, weights: dict[str, dict[str, float]], given: Credit) -> list[list[tuple[float, ...]]]:
    """The same as `advantages`, written out turn by turn."""

    def to_go(turns: list[dict[str, float]], stream: str, index: int) -> float:
        if given.unit == "episode":
            return sum(turn[stream] for turn in turns)
        return sum(given.discount**ahead * turn[stream] for ahead, turn in enumerate(turns[index:]))

    def centred(group: int, member: int, role: str, stream: str, index: int) -> float:
        others = [
            to_go(seats[role], stream, index)
            for seats in rewards[group]
            if role in seats and len(seats[role]) > index  # those that had a turn of this index
        ]
        own = to_go(rewards[group][member][role], stream, index)
        return own - sum(others) / len(others) if len(others) > 1 else 0.0

    def spread(group: int, role: str, stream: str) -> float:
        if given.scale == "none":
            return 1.0
        values = [
            centred(g, m, role, stream, index)
            for g, members in enumerate(rewards)
            for m, seats in enumerate(members)
            if role in seats and (g == group or given.scale == "role")
            for index in range(len(seats[role]))
        ]
        mean = sum(values) / len(values)
        return max(given.floor, (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5)

    return [
        [
            tuple(
                sum(
                    weight * centred(g, m, role, stream, index) / spread(g, role, stream)
                    for stream, weight in weights.get(role, {}).items()
                    if spread(g, role, stream) > 1e-9
                )
                for index in range(len(turns))
            )
            for m, seats in enumerate(members)
            for role, turns in seats.items()
        ]
        for g, members in enumerate(rewards)
    ]


def earned(team: float, flags: float = 0.0) -> dict[str, float]:
    return {"team": team, "flags": flags}


# Two scenarios; seats of different lengths, one that spoke once, one that never spoke.
SAMPLE: Rewards = [
    [
        {"sre": [earned(1.0), earned(-2.0), earned(10.0)], "oversight": [earned(0.0, 5.0), earned(3.0, -1.0)]},
        {"sre": [earned(-1.0), earned(4.0)], "oversight": [earned(2.0, 0.0)]},
        {"sre": [earned(0.5)], "oversight": [earned(1.0, 7.0), earned(-1.0, 2.0), earned(0.0, 1.0)]},
    ],
    [
        {"sre": [earned(100.0), earned(50.0)], "oversight": [earned(-3.0, 0.0)]},
        {"oversight": [earned(8.0, -2.0), earned(1.0, 1.0)]},
    ],
]


@pytest.mark.parametrize("scale", ["role", "group", "none"])
@pytest.mark.parametrize(
    "given", [{}, {"discount": 0.5}, {"discount": 0.0}, {"floor": 3.0}, {"floor": 1e3}, {"unit": "episode"}]
)
def test_advantages_are_the_plain_formula(scale: str, given: dict[str, Any]) -> None:
    chosen = credit(scale=scale, **given)
    found = advantages(groups(SAMPLE), WEIGHTS, chosen)
    expected = plainly(SAMPLE, WEIGHTS, chosen)
    assert [[len(turns) for turns in group] for group in found] == [[3, 2, 2, 1, 1, 3], [2, 1, 2]]
    for group, wanted in zip(found, expected, strict=True):
        for turns, numbers in zip(group, wanted, strict=True):
            assert turns == pytest.approx(numbers, abs=1e-12)


def test_a_group_of_two_by_hand() -> None:
    """Returns to go 9, 8, 10 and 3, 4; centred at the same turn; the third turn has nothing to compare with."""
    rewards: Rewards = [[{"sre": SAMPLE[0][0]["sre"]}, {"sre": SAMPLE[0][1]["sre"]}]]
    weights = {"sre": {"team": 1.0}}
    assert returns(groups(rewards)[0].trajectories[0], "team", credit()) == [9.0, 8.0, 10.0]
    assert returns(groups(rewards)[0].trajectories[0], "team", credit(discount=0.5)) == [2.5, 3.0, 10.0]
    assert returns(groups(rewards)[0].trajectories[0], "team", credit(unit="episode")) == [9.0, 9.0, 9.0]
    ((first, second),) = advantages(groups(rewards), weights, credit(scale="none"))
    assert first == (3.0, 2.0, 0.0)
    assert second == (-3.0, -2.0)
    spread = pstdev([3.0, 2.0, 0.0, -3.0, -2.0])
    ((first, _),) = advantages(groups(rewards), weights, credit())
    assert first == pytest.approx((3.0 / spread, 2.0 / spread, 0.0))


def test_a_loud_stream_does_not_drown_a_quiet_one() -> None:
    """Each is scaled by itself before they are weighed."""
    rewards: Rewards = [[{"oversight": [earned(1000.0, 0.1)]}, {"oversight": [earned(-1000.0, -0.1)]}]]
    ((first, second),) = advantages(groups(rewards), {"oversight": {"flags": 1.0, "team": 0.25}}, credit())
    assert first == pytest.approx((1.25,))
    assert second == pytest.approx((-1.25,))


def test_the_floor_keeps_small_change_small() -> None:
    rewards: Rewards = [[{"sre": [earned(0.01)]}, {"sre": [earned(-0.01)]}]]
    weights = {"sre": {"team": 1.0}}
    for floor, wanted in ((0.0, 1.0), (1.0, 0.01)):
        ((first, second),) = advantages(groups(rewards), weights, credit(floor=floor))
        assert (first, second) == (pytest.approx((wanted,)), pytest.approx((-wanted,)))


def test_a_role_without_weights_is_taught_nothing() -> None:
    found = advantages(groups(SAMPLE), {"sre": {"team": 1.0}}, credit())
    assert found[0][1] == (0.0, 0.0)
    assert found[0][0] != (0.0, 0.0, 0.0)


def test_no_groups_no_advantages() -> None:
    assert advantages([], WEIGHTS, credit()) == []


# -- what holds whatever was earned -----------------------------------------------------------------------------------

points = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
turns = st.lists(st.builds(earned, points, points), min_size=1, max_size=4)
members = st.fixed_dictionaries({}, optional={"sre": turns, "oversight": turns})
rewards_of_all = st.lists(st.lists(members, min_size=2, max_size=4), min_size=1, max_size=3)
any_credit = st.builds(
    credit,
    unit=st.sampled_from(["turn", "episode"]),
    discount=st.sampled_from([1.0, 0.5, 0.0]),
    scale=st.sampled_from(["role", "group", "none"]),
    floor=st.sampled_from([0.0, 10.0]),
)


def seats(rewards: Rewards) -> list[list[tuple[str, int]]]:
    """Role and number of turns of each trajectory, in the order of `advantages`."""
    return [[(role, len(turns)) for seats in members for role, turns in seats.items()] for members in rewards]


@given(rewards_of_all, any_credit)
def test_any_batch_gives_the_plain_formula(rewards: Rewards, chosen: Credit) -> None:
    found = advantages(groups(rewards), WEIGHTS, chosen)
    for group, wanted in zip(found, plainly(rewards, WEIGHTS, chosen), strict=True):
        for turns_found, numbers in zip(group, wanted, strict=True):
            assert turns_found == pytest.approx(numbers, rel=1e-6, abs=1e-6)


@given(rewards_of_all, any_credit)
def test_a_group_s_mean_is_zero_at_every_turn(rewards: Rewards, chosen: Credit) -> None:
    found = advantages(groups(rewards), WEIGHTS, chosen)
    for group, inside in zip(found, seats(rewards), strict=True):
        for role in WEIGHTS:
            own = [values for values, (who, _) in zip(group, inside, strict=True) if who == role]
            for turn in range(max([len(values) for values in own], default=0)):
                there = [values[turn] for values in own if len(values) > turn]
                assert fmean(there) == pytest.approx(0.0, abs=1e-6)


@given(rewards_of_all, any_credit, points)
def test_what_everybody_in_a_scenario_gets_teaches_nothing(rewards: Rewards, chosen: Credit, more: float) -> None:
    """At its last turn each member of the first scenario gets the same on top."""
    assume(chosen.unit == "episode" or chosen.discount == 1.0)
    shifted = [[dict(member) for member in inside] for inside in rewards]
    for inside in shifted[0]:
        for role, own in inside.items():
            inside[role] = [*own[:-1], {stream: value + more for stream, value in own[-1].items()}]
    before = advantages(groups(rewards), WEIGHTS, chosen)
    after = advantages(groups(shifted), WEIGHTS, chosen)
    for first, second in zip(before, after, strict=True):
        for one, other in zip(first, second, strict=True):
            assert one == pytest.approx(other, rel=1e-6, abs=1e-5)


@given(rewards_of_all, any_credit, st.sampled_from([0.01, 3.0, 1000.0]))
def test_the_currency_of_rewards_means_nothing(rewards: Rewards, chosen: Credit, rate: float) -> None:
    """As long as advantages are divided by what they spread, and no floor is in the way."""
    chosen = chosen.model_copy(update={"floor": 0.0, "scale": "role"})
    dear = [
        [
            {
                role: [{stream: rate * value for stream, value in turn.items()} for turn in own]
                for role, own in m.items()
            }
            for m in inside
        ]
        for inside in rewards
    ]
    before = advantages(groups(rewards), WEIGHTS, chosen)
    after = advantages(groups(dear), WEIGHTS, chosen)
    for first, second in zip(before, after, strict=True):
        for one, other in zip(first, second, strict=True):
            assert one == pytest.approx(other, rel=1e-6, abs=1e-6)


@given(rewards_of_all, any_credit)
def test_has_variance_tells_whether_anything_would_be_learnt(rewards: Rewards, chosen: Credit) -> None:
    """A group has it exactly where, alone and unscaled, some stream of it gives an advantage that is not zero."""
    unscaled = chosen.model_copy(update={"scale": "none"})
    for group in groups(rewards):
        learnt = [
            value
            for role, streams in WEIGHTS.items()
            for stream in streams
            for (values,) in [advantages([group], {role: {stream: 1.0}}, unscaled)]
            for turns_found in values
            for value in turns_found
        ]
        assert has_variance(group, WEIGHTS, chosen) == any(abs(value) > 1e-9 for value in learnt)


def test_has_variance_by_hand() -> None:
    same: Rewards = [[{"sre": [earned(1.0), earned(2.0)]}, {"sre": [earned(1.0), earned(2.0)]}]]
    late: Rewards = [[{"sre": [earned(1.0), earned(2.0)]}, {"sre": [earned(2.0), earned(1.0)]}]]
    other: Rewards = [[{"sre": [earned(1.0, 5.0)]}, {"sre": [earned(1.0, -5.0)]}]]
    for rewards, settings, wanted in (
        (same, {}, False),
        (late, {}, True),  # alike in sum, not at the second turn
        (late, {"unit": "episode"}, False),
        (other, {}, False),  # what differs is not paid to this role
    ):
        (group,) = groups(rewards)
        assert has_variance(group, {"sre": {"team": 1.0}}, credit(**settings)) == wanted
    (group,) = groups([[{"sre": [earned(1.0)]}, {"oversight": [earned(9.0)]}]])
    assert not has_variance(group, WEIGHTS, credit()), "nobody to compare with"
