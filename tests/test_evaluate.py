"""Cells and intervals: the published table to the digit, and intervals that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.evaluate import (
    OneByOne,
    Result,
    baselines,
    mean,
    median,
    parse_policies,
    parse_seeds,
    parse_tiers,
    play_all,
    result,
    results_of,
    rows,
    summary,
    weighed,
)
from chaosops_ray.resampling import interval, resampled_means
from chaosops_ray.sim import ENVIRONMENTS, InputError

INCIDENT = ENVIRONMENTS["incident"]

# policy, tier, n, success, mttr, rogue catch, false positives, mean, median, as they are printed in the write-up. Where
# no episode has a rogue there is nothing to catch: the write-up prints 0 % for two policies and a dash for the third.
PUBLISHED = """
random    easy   20  55%  7.3    –  0%   -315.4   -256.0
random    medium 15  40%  8.7   0%  0%   -641.3   -802.0
random    hard   20  10% 16.0   0%  0%  -1356.6  -1435.0
heuristic easy   20 100%  1.9    –  0%    +94.4   +110.0
heuristic medium 15 100%  1.3   0%  0%   +108.7   +110.0
heuristic hard   20  50%  1.2  67%  0%   -425.3   -328.0
oracle    easy   20 100%  3.0    –  0%   +134.0   +134.0
oracle    medium 15 100%  3.0 100%  0%   +150.7   +134.0
oracle    hard   20 100%  3.2 100%  0%   +170.0   +181.0
"""


def evaluated(rules: str, names: str = "random,heuristic,oracle") -> list[Result]:
    playing = play_all(baselines(INCIDENT, names), INCIDENT.scenarios("published"), rules)
    return [result(INCIDENT, name, played.episode) for name, played in playing]


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}%"


def test_the_published_table_is_reproduced_to_the_digit() -> None:
    cells = summary(INCIDENT, evaluated("published"), "published", "published", None)["cells"]
    rows = [
        [
            cell["policy"],
            cell["tier"],
            str(cell["episodes"]),
            share(cell["success"]),
            f"{cell['mttr']:.1f}",
            share(cell["rogue_catch"]),
            share(cell["false_positive"]),
            f"{cell['mean']:+.1f}",
            f"{cell['median']:+.1f}",
        ]
        for cell in cells
    ]
    assert rows == [line.split() for line in PUBLISHED.strip().splitlines()]


def test_a_cell_has_the_documented_keys_and_an_interval_for_each_mean() -> None:
    found = summary(INCIDENT, evaluated("strict"), "strict", "published", None)
    assert set(found) == {"schema", "world", "rules", "set", "seeds", "policies", "colleagues", "cells", "by_failure"}
    for cell in found["cells"]:
        figures = ["success", "mttr", "rogue_catch", "false_positive", "refused", "unparsed", "mean", "median"]
        assert list(cell) == [
            "policy",
            "tier",
            "episodes",
            *figures,
            "mean_ci",
            *[f"{name}_ci" for name in figures[:6]],
        ]
        for name in ("mean", "success", "mttr", "rogue_catch", "false_positive"):
            if cell[name] is None:
                assert cell[f"{name}_ci"] is None
            else:
                low, high = cell[f"{name}_ci"]
                assert low <= cell[name] <= high


def test_there_is_one_cell_for_each_policy_and_failure() -> None:
    found = summary(INCIDENT, evaluated("strict", "oracle"), "strict", "published", None)["by_failure"]
    assert {cell["failure"]: cell["episodes"] for cell in found} == {
        "autoscaler_cost_cut": 10,
        "bad_config_push": 5,
        "cascade": 10,
        "db_deadlock": 5,
        "disk_full": 5,
        "dns_outage": 5,
        "memory_leak": 5,
        "misrouted_traffic": 5,
        "rogue_deploy_bot": 5,
    }


def test_the_mean_is_of_the_return_with_the_terminal_penalty_in_it() -> None:
    scenario = INCIDENT.scenario("incident/dns_outage/easy/0")
    idle = OneByOne(INCIDENT, lambda _scenario, _rules: lambda _view: INCIDENT.parse_action("noop"))
    (played,) = idle([scenario], "strict")
    assert result(INCIDENT, "idle", played.episode).headline == -2 * sum(range(1, 13)) - 60


# -- intervals ------------------------------------------------------------------------------------------------------

SCENARIOS = INCIDENT.scenarios("published", range(30))


def test_an_interval_covers_the_true_mean_about_as_often_as_it_promises() -> None:
    """Four hundred samples of 40 from a normal: a bootstrap interval of that size covers some 93 to 95 %."""
    draws = np.random.default_rng(1).normal(10.0, 3.0, size=(400, 40))
    covered = 0
    for sample in draws:
        bounds = interval(zip(SCENARIOS, sample.tolist(), strict=False))
        assert bounds is not None
        covered += bounds[0] <= 10.0 <= bounds[1]
    assert 0.90 <= covered / len(draws) <= 0.97


def test_repeating_an_episode_of_a_scenario_is_no_news() -> None:
    """Ten copies of each value, in the same cluster, leave the interval where it was."""
    values = np.random.default_rng(2).normal(size=30).tolist()
    once = interval(zip(SCENARIOS, values, strict=False))
    copies = [(scenario, value) for scenario, value in zip(SCENARIOS, values, strict=False) for _ in range(10)]
    assert interval(copies) == pytest.approx(once)


def test_clusters_of_different_size_weigh_as_many_episodes_as_they_have() -> None:
    means = resampled_means(np.array([10.0, 0.0]), np.array([10, 1]))
    assert sorted(set(means.round(6))) == [0.0, round(10 / 11, 6), 1.0]


def test_intervals_of_nothing_and_of_constants() -> None:
    assert interval([]) is None
    assert interval((scenario, 5.0) for scenario in SCENARIOS) == [5.0, 5.0]


# -- spellings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "seeds"), [("0-4", range(5)), ("7", range(7, 8)), ("1000-1001", range(1000, 1002))]
)
def test_seeds_are_a_range_or_one(spelling: str, seeds: range) -> None:
    assert parse_seeds(spelling) == seeds


@pytest.mark.parametrize("spelling", ["", "-", "4-", "-4", "4-1", "a-b", "1-2-3", "1.5", "0-10000", "٣", "1,2", " 1"])
def test_other_seeds_are_errors(spelling: str) -> None:
    with pytest.raises(InputError, match="seeds"):
        parse_seeds(spelling)


@given(st.text(max_size=30))
def test_no_spelling_does_worse_than_an_error(spelling: str) -> None:
    for read in (
        parse_seeds,
        lambda text: parse_policies(INCIDENT, text),
        lambda text: parse_tiers(INCIDENT, text),
    ):
        try:
            read(spelling)
        except InputError as error:
            assert "\n" not in str(error)


def test_tiers_come_in_the_worlds_order() -> None:
    assert parse_tiers(INCIDENT, "hard,easy") == ("easy", "hard")


def test_results_are_read_back_under_the_rules_that_they_were_played_under() -> None:
    made = evaluated("strict", "oracle")[:3]
    written = rows(INCIDENT, made, "strict")
    assert {row["rules"] for row in written} == {"strict/2"}
    assert results_of(INCIDENT, written, "results.jsonl") == made
    for rules, named in (("strict", "strict/1"), ("strict/3", "strict/3")):
        with pytest.raises(InputError, match=rf"results\.jsonl .*rules {named} are not played .*; evaluate again"):
            results_of(INCIDENT, [*written[:2], written[2] | {"rules": rules}], "results.jsonl")
    without = [{name: value for name, value in row.items() if name != "rules"} for row in written]
    with pytest.raises(InputError, match=r"results\.jsonl .*'rules'.*; evaluate again"):
        results_of(INCIDENT, without, "results.jsonl")


# -- weights ----------------------------------------------------------------------------------------------------------

WEIGHTED = st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 4)), min_size=1, max_size=12)


@given(WEIGHTED)
def test_a_weight_counts_as_so_many_episodes(values: list[tuple[int, int]]) -> None:
    given = [(scenario, float(value)) for scenario, (value, _) in zip(SCENARIOS, values, strict=False)]
    weights = {scenario: float(weight) for (scenario, _), (_, weight) in zip(given, values, strict=True)}
    repeated = [value for value, weight in values for _ in range(weight)]
    assert mean(given, weights.__getitem__) == pytest.approx(np.mean(repeated))
    assert median(given, weights.__getitem__) == np.median(repeated)
    copies = [(scenario, value) for scenario, value in given for _ in range(int(weights[scenario]))]
    assert interval(given, weights.__getitem__) == pytest.approx(interval(copies))
    assert interval(given, lambda _scenario: 3.0) == pytest.approx(interval(given))


def test_without_a_prior_every_scenario_weighs_the_same() -> None:
    weigh = weighed(INCIDENT, "strict")
    assert {weigh(scenario) for scenario in SCENARIOS} == {1.0}
