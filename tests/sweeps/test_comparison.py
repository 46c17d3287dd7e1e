"""What a sweep has shown: paired differences against a plain formula, verdicts by the stated rule, nothing dropped."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweeps.comparison import FALSIFIED, MIN_SEEDS, SUPPORTED, UNDECIDED, compare, paired, verdict
from tests.support.runs import INCIDENT
from tests.support.sweeps import SCENARIOS, failed, outcomes, sweep


def figures(rows: list[list[float | None]]) -> dict[int, dict[object, float | None]]:
    return {seed: dict(zip(SCENARIOS, row, strict=False)) for seed, row in enumerate(rows)}


def test_a_difference_is_paired_by_seed_and_scenario() -> None:
    found = paired(figures([[10, 20, 30], [20, 30, 40]]), figures([[9, 18, 27], [19, 28, 37]]))  # type: ignore[arg-type]
    assert found is not None
    assert found["mean"] == pytest.approx(2)
    assert 1 <= found["ci"][0] < 2 < found["ci"][1] <= 3
    assert found["seeds"] == 2


def test_what_is_the_same_everywhere_has_an_interval_of_nothing() -> None:
    found = paired(figures([[5, 7]] * 3), figures([[4, 6]] * 3))  # type: ignore[arg-type]
    assert found == {"mean": pytest.approx(1), "ci": [pytest.approx(1), pytest.approx(1)], "seeds": 3}


def test_only_what_is_defined_on_both_sides_is_compared() -> None:
    found = paired(figures([[1, None, 3]]), figures([[0, 5, None]]))  # type: ignore[arg-type]
    assert found is not None
    assert found["mean"] == 1
    assert paired(figures([[None]]), figures([[1]])) is None  # type: ignore[arg-type]
    assert paired({}, figures([[1]])) is None  # type: ignore[arg-type]


def test_seeds_that_differ_widen_the_interval() -> None:
    alike = paired(figures([[1, 2, 3]] * 4), figures([[0, 0, 0]] * 4))  # type: ignore[arg-type]
    apart = paired(figures([[1 + k, 2 + k, 3 + k] for k in (-3, -1, 1, 3)]), figures([[0, 0, 0]] * 4))  # type: ignore[arg-type]
    assert alike is not None
    assert apart is not None
    assert apart["mean"] == alike["mean"]
    assert apart["ci"][1] - apart["ci"][0] > 1.5 * (alike["ci"][1] - alike["ci"][0])


@given(
    values=st.lists(st.lists(st.integers(-1000, 1000), min_size=4, max_size=4), min_size=1, max_size=4),
    shift=st.integers(-500, 500),
)
def test_a_shift_shifts_the_interval_and_swapping_mirrors_the_mean(values: list[list[float]], shift: int) -> None:
    zero = figures([[0.0] * 4] * len(values))
    plain = paired(figures(values), zero)  # type: ignore[arg-type]
    moved = paired(figures([[value + shift for value in row] for row in values]), zero)  # type: ignore[arg-type]
    swapped = paired(zero, figures(values))  # type: ignore[arg-type]
    assert plain is not None
    assert moved is not None
    assert swapped is not None
    assert np.allclose(moved["ci"], np.array(plain["ci"]) + shift)
    assert swapped["mean"] == pytest.approx(-plain["mean"])
    low, high = plain["ci"]
    assert low - 1e-9 <= plain["mean"] <= high + 1e-9


@pytest.mark.parametrize(
    ("ci", "by", "seeds", "said"),
    [
        ([21, 40], 20, 3, SUPPORTED),
        ([20, 40], 20, 3, UNDECIDED),
        ([19, 40], 20, 3, UNDECIDED),
        ([-5, 19], 20, 3, FALSIFIED),
        ([0, 0], 0, 3, UNDECIDED),
        ([0, 0], 20, 3, FALSIFIED),
        ([21, 40], 20, MIN_SEEDS - 1, UNDECIDED),
    ],
)
def test_verdicts_follow_the_rule(ci: list[float], by: float, seeds: int, said: str) -> None:
    assert verdict(ci, by, seeds) == said


def test_a_sweep_says_which_claim_fell() -> None:
    found = compare(INCIDENT, sweep(), outcomes())
    assert [one["verdict"] for one in found["verdicts"]] == [SUPPORTED, FALSIFIED, SUPPORTED]
    (against,) = {one["against"] for one in found["differences"]}
    assert against == "strong"
    weak = next(one for one in found["differences"] if (one["tier"], one["of"]) == ("hard", "mean"))
    assert weak["ci"][1] < -150
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_two_seeds_decide_nothing() -> None:
    found = compare(INCIDENT, sweep(seeds="0-1"), outcomes(2))
    assert {one["verdict"] for one in found["verdicts"]} == {UNDECIDED}


def test_a_trial_that_failed_is_in_the_table_and_takes_its_pair_out_of_the_differences() -> None:
    found = compare(INCIDENT, sweep(), failed(outcomes(), "weak-s1", "the disk is full"))
    (row,) = [one for one in found["trials"] if one["state"] == "failed"]
    assert (row["trial"], row["why"], row["updates"]) == ("weak-s1", "the disk is full", 5)
    assert len(found["trials"]) == 6
    assert {one["seeds"] for one in found["differences"]} == {2}
    assert [one["verdict"] for one in found["verdicts"]] == [UNDECIDED, UNDECIDED, SUPPORTED]


def test_an_arm_of_which_nothing_finished_is_compared_with_nothing() -> None:
    found = outcomes()
    for seed in range(3):
        found = failed(found, f"weak-s{seed}", "x")
    said = compare(INCIDENT, sweep(), found)
    assert not said["differences"]
    assert said["verdicts"][0]["mean"] is None
    assert {cell["policy"] for cell in said["cells"]} == {"strong", "random", "heuristic"}
    everything = compare(INCIDENT, sweep(), [one._replace(state="failed", why="x", results=()) for one in found])
    assert everything["cells"] == []


def test_baselines_that_differ_between_trials_are_an_error() -> None:
    found = outcomes()
    changed = [r._replace(headline=r.headline + 1) if r.policy == "random" else r for r in found[3].results]
    found[3] = found[3]._replace(results=changed)
    with pytest.raises(InputError, match=r"baselines.*weak-s1.*strong-s0"):
        compare(INCIDENT, sweep(), found)
