"""Which tier comes next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim import ENVIRONMENTS, InputError
from chaosops_ray.sim.curriculum import Adaptive, Staged, parse

INCIDENT = ENVIRONMENTS["incident"]


def read(spelling: str) -> Staged | Adaptive:
    return parse(spelling, INCIDENT.tiers, INCIDENT.promotions)


def tiers_of(spelling: str, updates: int) -> list[str]:
    curriculum = read(spelling)
    tiers = []
    for _ in range(updates):
        tiers.append(curriculum.tier)
        curriculum = curriculum.after([0.0])
    return tiers


def test_stages_follow_each_other_and_the_last_one_stays() -> None:
    assert tiers_of("easy:2,medium:1,hard:2", 7) == ["easy", "easy", "medium", "hard", "hard", "hard", "hard"]


def test_adaptive_promotes_at_seventy_on_easy_and_fifty_five_on_medium() -> None:
    curriculum = read("adaptive").after([70.0] * 9)
    assert curriculum.tier == "easy"
    curriculum = curriculum.after([70.0])
    assert curriculum.tier == "medium"
    assert curriculum.after([54.9] * 50).tier == "medium"
    assert curriculum.after([55.0] * 10).tier == "hard"
    assert curriculum.after([55.0] * 10).after([-900.0] * 50).tier == "hard"


def test_only_the_last_ten_results_count_and_none_from_the_tier_before() -> None:
    assert read("adaptive").after([-1000.0] * 30 + [70.0] * 10).tier == "medium"
    assert read("adaptive").after([70.0] * 10 + [200.0] * 9).tier == "medium"


def test_one_update_may_carry_two_promotions() -> None:
    assert read("adaptive").after([100.0] * 20).tier == "hard"


def test_the_tools_world_promotes_on_shares_of_success_over_fifteen_after_a_minimum() -> None:
    tools = ENVIRONMENTS["tools"]
    curriculum = parse("adaptive", tools.tiers, tools.promotions)
    assert curriculum.after([1.0] * 4).tier == "warmup"
    curriculum = curriculum.after([1.0, 1.0, 1.0, 0.0, 0.0])
    assert curriculum.tier == "beginner", "three of five are .60"
    curriculum = curriculum.after([1.0, 0.0] * 4)
    assert curriculum.tier == "intermediate", "four of eight are .50"
    assert curriculum.after([1.0] * 9).tier == "intermediate"
    assert curriculum.after([0.0] * 20 + [1.0] * 5).tier == "intermediate", "five of the last fifteen"
    assert curriculum.after([0.0] * 20 + [1.0] * 6).tier == "expert", "six of the last fifteen are .40"


def test_the_tools_worlds_window_goes_on_across_tiers_and_its_count_begins_again_at_each() -> None:
    tools = ENVIRONMENTS["tools"]
    start = parse("adaptive", tools.tiers, tools.promotions)
    beginner = start.after([0.0] * 6 + [1.0] * 9)
    assert beginner.tier == "beginner", "nine of the last fifteen are .60"
    assert beginner.after([1.0] + [0.0] * 6).tier == "beginner", "seven on this tier are not yet eight"
    assert beginner.after([1.0] + [0.0] * 7).tier == "intermediate", "one of eight here, but eight of the last fifteen"
    assert beginner.after([0.0] * 8).tier == "beginner", "seven of the last fifteen"
    assert start.after([1.0] * 5 + [1.0] * 8 + [0.0] * 9).tier == "intermediate"
    assert start.after([1.0] * 5 + [1.0] * 8 + [0.0] * 10).tier == "intermediate", "five of the last fifteen"
    assert start.after([1.0] * 5 + [1.0] * 8 + [0.0] * 9 + [1.0]).tier == "expert", "six of the last fifteen"


@pytest.mark.parametrize("world", ENVIRONMENTS)
@given(results=st.lists(st.floats(-500, 200), max_size=60), cut=st.integers(0, 60))
def test_how_results_are_bundled_into_updates_does_not_matter(world: str, results: list[float], cut: int) -> None:
    start = parse("adaptive", ENVIRONMENTS[world].tiers, ENVIRONMENTS[world].promotions)
    assert start.after(results) == start.after(results[:cut]).after(results[cut:])


@pytest.mark.parametrize(
    "spelling", ["", "easy", "easy:", "easy:0", "easy:-1", "easy:x", "easy:1,", "easy:٣", "e:1", "easy:" + "9" * 5000]
)
def test_bad_spellings_name_the_remedy(spelling: str) -> None:
    with pytest.raises(InputError, match=r"valid: easy|write it as"):
        read(spelling)


def test_a_world_without_thresholds_has_no_adaptive_curriculum() -> None:
    with pytest.raises(InputError, match="adaptive"):
        parse("adaptive", INCIDENT.tiers, ())


@given(st.text(max_size=40))
def test_no_spelling_does_worse_than_an_error(spelling: str) -> None:
    try:
        read(spelling)
    except InputError as error:
        assert "\n" not in str(error)
