"""The weather on its own: how often faults come, on what they depend, and what they remove or make wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.weather import (
    ANNOUNCED,
    APART,
    KINDS,
    SILENT,
    STRICT_RATES,
    TIERS,
    Rates,
    drawn,
    rounded_like,
    truncated,
    without_one,
    wrong_figure,
)

DRAWS = 8_000
# Rates that no tier has: what is drawn follows the rates that are handed in.
EVEN: Rates = {"even": (1 / 6,) * 6}
NEVER: Rates = {"never": (0.0,) * 6}

seeds = st.integers(0, 2**63)
subjects = st.text(max_size=20)
numbers = st.integers(0, 10**6)
tiers = st.sampled_from(TIERS)


# -- how often --------------------------------------------------------------------------------------------------------


def test_a_kind_is_announced_or_silent() -> None:
    assert KINDS == ("timeout", "rate_limit", "stale", "silent_drop", "truncation", "corruption")
    assert (*ANNOUNCED, *SILENT) == KINDS


def test_the_tiers_go_from_mild_to_rough() -> None:
    assert TIERS == ("warmup", "beginner", "intermediate", "expert")
    all_of_it = [sum(STRICT_RATES[tier]) for tier in TIERS]
    assert all_of_it == sorted(all_of_it)
    assert 0 < all_of_it[0] < all_of_it[-1] < 1


def assert_rates_hold(found: list[str | None], rates: tuple[float, ...]) -> None:
    """Each share lies within four standard deviations of its rate, so what never comes never comes."""
    counts = Counter(found)
    for kind, rate in zip(KINDS, rates, strict=True):
        assert abs(counts[kind] / len(found) - rate) <= 4 * (rate * (1 - rate) / len(found)) ** 0.5, kind


@pytest.mark.parametrize("tier", TIERS)
def test_rates_hold_over_scenarios_over_calls_and_over_subjects(tier: str) -> None:
    assert_rates_hold([drawn(seed, "look s3", 0, tier) for seed in range(DRAWS)], STRICT_RATES[tier])
    assert_rates_hold([drawn(7, "look s3", number, tier) for number in range(DRAWS)], STRICT_RATES[tier])
    assert_rates_hold([drawn(7, f"look s{place}", 0, tier) for place in range(DRAWS)], STRICT_RATES[tier])


def test_a_world_may_have_rates_of_its_own() -> None:
    assert_rates_hold([drawn(seed, "look s3", 0, "even", EVEN) for seed in range(DRAWS)], EVEN["even"])
    assert {drawn(seed, "look s3", 0, "never", NEVER) for seed in range(200)} == {None}


def test_a_tier_that_is_none_has_no_weather() -> None:
    with pytest.raises(KeyError):
        drawn(7, "look s3", 0, "calm")


# -- on what it depends -----------------------------------------------------------------------------------------------


@given(seeds, subjects, numbers, tiers)
def test_the_same_call_meets_the_same_fault(seed: int, subject: str, number: int, tier: str) -> None:
    before = drawn(seed, subject, number, tier)
    drawn(seed, subject, number + 1, tier)
    drawn(seed, f"{subject}'", number, tier)
    assert drawn(seed, subject, number, tier) == before
    assert before in (None, *KINDS)


@pytest.mark.parametrize(
    ("seed_on", "subject", "number_on"),
    [(0, "look s3", 1), (0, "audit a2", 0), (1, "look s3", 0)],
    ids=["the next call", "another subject", "the next scenario"],
)
def test_another_call_is_independent(seed_on: int, subject: str, number_on: int) -> None:
    """After a fault and after none alike, the other call's faults come at their rates."""
    by_first: dict[bool, list[str | None]] = {True: [], False: []}
    for seed in range(0, 4 * DRAWS, 2):
        first = drawn(seed, "look s3", 0, "expert")
        by_first[first is None].append(drawn(seed + seed_on, subject, number_on, "expert"))
    for found in by_first.values():
        assert len(found) > DRAWS / 2
        assert_rates_hold(found, STRICT_RATES["expert"])


def test_a_rougher_tier_takes_no_fault_away() -> None:
    """A call has one draw in every tier, so that tiers differ by their rates alone."""
    for seed in range(2_000):
        met = [drawn(seed, "look s3", 0, tier) is not None for tier in TIERS]
        assert met == sorted(met)


# -- what goes missing ------------------------------------------------------------------------------------------------

parts = st.one_of(st.lists(st.integers(), max_size=30), st.lists(st.integers(), max_size=30).map(tuple))


@given(parts, seeds)
def test_one_of_several_goes_missing_and_the_rest_keeps_its_order(items: Any, seed: int) -> None:
    before = type(items)(items)
    left = without_one(items, stream(seed, "loss"))
    assert items == before, "what was handed in is left as it was"
    assert type(left) is type(items)
    if len(items) > 1:
        assert left in [items[:gone] + items[gone + 1 :] for gone in range(len(items))]
    else:
        assert left == items


def test_each_of_several_goes_missing_as_often() -> None:
    gone: Counter[str] = Counter()
    for seed in range(4_000):
        gone.update(set("abcd") - set(without_one(tuple("abcd"), stream(seed, "loss"))))
    assert all(abs(gone[name] - 1_000) < 165 for name in "abcd")


@given(parts)
def test_the_last_third_goes_missing(items: Any) -> None:
    left = truncated(items)
    assert type(left) is type(items)
    assert left == items[: len(left)]
    assert len(left) == (len(items) if len(items) <= 1 else len(items) * 2 // 3)


# -- a wrong figure ---------------------------------------------------------------------------------------------------

ENDLESS = (0.0, float("inf"))
BY = (1.11, 1.59)


@pytest.mark.parametrize(
    ("before", "after", "rounded"),
    [
        (3.4, 4.6581, 4.7),
        (0.1234, 0.16906, 0.1691),
        (0.123456, 0.169135, 0.1691),
        (7, 9.59, 10),
        (83_200_000, 113_987_214.0, 114_000_000),
        (1_300, 1_344.0, 1_340),
        (0, 0.2, 0),
    ],
)
def test_a_figure_is_rounded_like_another(before: float, after: float, rounded: float) -> None:
    """A whole number keeps its zeros at the end, as far as they let it differ."""
    found = rounded_like(before, after)
    assert (found, type(found)) == (rounded, type(before))


figures = st.one_of(st.integers(10, 10**9), st.integers(100, 10**6).map(lambda hundredths: hundredths / 100))


@given(figures, seeds)
def test_a_wrong_figure_is_visibly_another_one_as_precise_as_the_right_one(value: float, seed: int) -> None:
    wrong = wrong_figure(stream(seed, "wrong"), value, BY, ENDLESS)
    assert type(wrong) is type(value)
    assert abs(wrong - value) > APART * value
    assert len(repr(wrong)) <= len(repr(value)) + 1, "one digit more, where it grew"
    assert wrong == wrong_figure(stream(seed, "wrong"), value, BY, ENDLESS)


def test_a_wrong_figure_is_off_up_and_down_by_such_factors() -> None:
    factors = [wrong_figure(stream(seed, "wrong"), 50_000_001, BY, ENDLESS) / 50_000_001 for seed in range(2_000)]
    assert all(BY[0] - 1e-6 < max(factor, 1 / factor) < BY[1] + 1e-6 for factor in factors)
    assert 0.45 < sum(factor > 1 for factor in factors) / len(factors) < 0.55
    assert len(set(factors)) == len(factors)


def test_a_wrong_figure_turns_back_at_the_ends_of_its_span() -> None:
    draw = stream(0, "wrong")
    for value in (0.05, 0.5, 0.95):
        found = [wrong_figure(draw, value, BY, (0.04, 1.0)) for _ in range(300)]
        assert 0.04 <= min(found) < max(found) <= 1.0


def test_a_figure_that_could_pass_for_the_right_one_is_not_drawn() -> None:
    """Although the factors begin at one, and most of them are too near to it."""
    draw = stream(0, "wrong")
    for _ in range(300):
        assert abs(wrong_figure(draw, 50_000_001, (1.0, 1.05), ENDLESS) - 50_000_001) > APART * 50_000_001


@pytest.mark.parametrize("value", [0, 0.0, 1, 0.1, -3])
def test_a_figure_that_no_such_factor_changes_stays(value: float) -> None:
    """A zero, one too small to differ after rounding, and one that is no quantity."""
    found = wrong_figure(stream(0, "wrong"), value, (1.03, 1.25), ENDLESS)
    assert (found, type(found)) == (value, type(value))
