"""One seat of a world: who plays beside it, and which scenarios it meets."""

from __future__ import annotations

import doctest

import pytest

from chaosops_ray.agents import seat_spec as module
from chaosops_ray.agents.seat_spec import leave, seat_spec
from chaosops_ray.sim import InputError


def test_the_example_of_the_module() -> None:
    assert doctest.testmod(module).failed == 0


def test_a_seed_draws_the_same_scenario_each_time_and_every_case_is_drawn() -> None:
    seat = seat_spec("incident", "oversight", tiers=["easy", "hard"])
    drawn = [seat.scenario(seed) for seed in range(200)]
    assert drawn == [seat_spec("incident", "oversight", tiers=["easy", "hard"]).scenario(seed) for seed in range(200)]
    assert {one.tier for one in drawn} == {"easy", "hard"}
    assert {(one.case, one.setting) for one in drawn} == {(case.case, case.setting) for case in seat.cases}
    assert [one.seed for one in drawn] == list(range(200))


def test_seeds_are_those_that_leave_the_seat_a_turn() -> None:
    seat = seat_spec("incident", "manager", colleagues="oracle")  # it seldom has anything left to do
    seeds = seat.seeds(3)
    assert all(seat.session(seat.scenario(seed)).role == "manager" for seed in seeds)
    skipped = [seed for seed in range(module.FIRST_SEED, seeds[-1]) if seed not in seeds]
    assert skipped
    for seed in skipped:
        with pytest.raises(InputError, match="no turn"):
            seat.session(seat.scenario(seed))
    with pytest.raises(InputError, match="manager has a turn in 0 of 200 scenarios"):
        seat_spec("incident", "manager", colleagues="oracle", tiers=["easy"]).seeds(2)


def test_colleagues_are_one_baseline_or_one_for_each_role() -> None:
    seat = seat_spec("incident", "dev", colleagues="sre=oracle,oversight=random,manager=heuristic")
    assert seat.colleagues == {"sre": "oracle", "oversight": "random", "manager": "heuristic"}
    assert set(seat_spec("incident", "dev", colleagues="oracle").colleagues.values()) == {"oracle"}
    assert seat_spec("tools").colleagues == {}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"role": ""}, "unknown role"),
        ({"role": "boss"}, "unknown role"),
        ({"colleagues": "hero"}, "no baseline 'hero'"),
        ({"colleagues": "sre=oracle"}, "oversight"),
        ({"colleagues": "sre=oracle,dev=oracle,oversight=oracle"}, "must play"),
        ({"tiers": ["impossible"]}, "unknown tier"),
        ({"rules": "lax"}, "rule"),
        ({"selection": "none"}, "evaluation set"),
    ],
)
def test_what_does_not_exist_is_named(settings: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        seat_spec("incident", **{"role": "dev", **settings})  # type: ignore[arg-type]


def test_a_seat_that_is_left_says_nothing_until_the_end() -> None:
    seat = seat_spec("tools")
    session = seat.session(seat.scenario(1))
    leave(session)
    assert session.is_over
    assert {type(step.action).__name__ for step in session.episode.steps} == {"Unparsed"}
