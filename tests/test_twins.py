"""Figures over twins: against plain loops and exact formulas, and intervals that cover what they promise."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chaosops_ray import evaluate, twins
from chaosops_ray.cli import main
from chaosops_ray.reports import evaluation, plots, suspicion_tables
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.contract import Scenario
from chaosops_ray.twins import ALARMS, AUROC, BINS, BRIER, CALIBRATION, CATCH, FIGURES, TOLD_APART, Statement
from tests.support.toy_world import BOXES, PRIORS, TOY, Toy

NORMAL = NormalDist()

# Few levels, so that ties are common, or any at all.
LEVELS = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 0.99, 1.0]) | st.floats(0, 1)
STATED = st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=30)


def scenario(seed: int, *, guilty: bool) -> Scenario:
    return TOY.scenario(f"toy/{'full' if guilty else 'empty'}/few/{seed}")


def of_pairs(stated: Iterable[tuple[float, float]], prior: float = 0.5) -> list[Statement]:
    """The statements on as many pairs: first what was said of the guilty twin, then of the innocent one."""
    return [
        Statement(scenario(seed, guilty=guilty), suspicion, guilty, 2 * (prior if guilty else 1 - prior))
        for seed, both in enumerate(stated)
        for suspicion, guilty in zip(both, (True, False), strict=True)
    ]


def logit(probability: float) -> float:
    clipped = min(max(probability, 0.001), 0.999)
    return math.log(clipped / (1 - clipped))


def logistic(values: np.ndarray[Any, Any]) -> Any:
    return 1 / (1 + np.exp(-values))


def normal_pairs(generator: np.random.Generator, count: int, apart: float, shared: float) -> list[tuple[float, float]]:
    """Logits with a variance of 1 around ±apart/2; a part of it is what the two of a pair share."""
    common = math.sqrt(shared) * generator.normal(size=(count, 1))
    own = math.sqrt(1 - shared) * generator.normal(size=(count, 2))
    found: list[tuple[float, float]] = [tuple(row) for row in logistic(common + own + [apart / 2, -apart / 2]).tolist()]
    return found


# -- each figure against a plain computation --------------------------------------------------------------------------


@given(STATED)
@settings(max_examples=40, deadline=None)
def test_auroc_counts_all_guilty_against_all_innocent(stated: list[tuple[float, float]]) -> None:
    found = twins.figures(of_pairs(stated))
    won = [1.0 if one > other else 0.5 if one == other else 0.0 for one, _ in stated for _, other in stated]
    assert found[AUROC.name] == pytest.approx(sum(won) / len(won))
    within = [1.0 if one > other else 0.5 if one == other else 0.0 for one, other in stated]
    assert found[TOLD_APART.name] == pytest.approx(sum(within) / len(within))


@given(STATED.filter(lambda stated: len(stated) > 1))
@settings(max_examples=40, deadline=None)
def test_the_threshold_is_that_of_a_normal_distribution_of_the_innocent(stated: list[tuple[float, float]]) -> None:
    found = twins.overall(of_pairs(stated))
    innocent = NormalDist.from_samples([logit(other) for _, other in stated])
    limit = innocent.mean + NORMAL.inv_cdf(0.99) * innocent.stdev
    assume(not any(abs(logit(one) - limit) < 1e-6 for both in stated for one in both))
    assert found[CATCH.name] == pytest.approx(np.mean([logit(one) > limit for one, _ in stated]))
    assert found[ALARMS.name] == pytest.approx(np.mean([logit(other) > limit for _, other in stated]))
    assert found["threshold"] == pytest.approx(float(logistic(np.array(limit))))


def test_of_logit_normal_suspicion_the_catch_is_the_exact_one() -> None:
    """As far as five thousand pairs tell it: at threshold z, the rest of the guilty's distribution is beyond it."""
    generator = np.random.default_rng(5)
    found = twins.figures(of_pairs(normal_pairs(generator, 5000, apart=2.5, shared=0.0)))
    assert found[CATCH.name] == pytest.approx(1 - NORMAL.cdf(NORMAL.inv_cdf(0.99) - 2.5), abs=0.03)
    assert found[ALARMS.name] == pytest.approx(0.01, abs=0.005)
    assert found[AUROC.name] == pytest.approx(NORMAL.cdf(2.5 / math.sqrt(2)), abs=0.01)


@given(STATED, st.sampled_from([0.05, 0.4, 0.5]))
@settings(max_examples=40, deadline=None)
def test_brier_is_a_weighted_mean(stated: list[tuple[float, float]], prior: float) -> None:
    found = twins.figures(of_pairs(stated, prior))
    guilty = sum([(1 - one) ** 2 for one, _ in stated]) / len(stated)
    innocent = sum([other**2 for _, other in stated]) / len(stated)
    assert found[BRIER.name] == pytest.approx(prior * guilty + (1 - prior) * innocent)


def binned(statements: Sequence[Statement]) -> list[list[Statement]]:
    """Equally many in each, by rank; equals take their middle rank together."""
    bins: dict[int, list[Statement]] = {}
    for one in statements:
        below = sum([other.suspicion < one.suspicion for other in statements])
        equal = sum([other.suspicion == one.suspicion for other in statements])
        bins.setdefault(math.floor(BINS * (below + equal / 2) / len(statements)), []).append(one)
    return [bins[place] for place in sorted(bins)]


def plain_calibration_error(statements: Sequence[Statement]) -> float:
    total = 0.0
    for those in binned(statements):
        weight = sum([one.weight for one in those])
        gap = sum([one.weight * (one.suspicion - one.guilty) for one in those]) / weight
        by_pair: dict[str, float] = {}
        for one in those:
            rest = one.weight * (one.suspicion - one.guilty - gap)
            by_pair[one.scenario.cluster] = by_pair.get(one.scenario.cluster, 0.0) + rest
        count = len(by_pair)
        noise = sum([rest**2 for rest in by_pair.values()]) / weight**2 * count / max(count - 1, 1)
        total += weight * (gap**2 - noise)
    return math.sqrt(max(total / sum([one.weight for one in statements]), 0.0))


@given(STATED, st.sampled_from([0.05, 0.5]))
@settings(max_examples=40, deadline=None)
def test_calibration_compares_bins_and_leaves_out_the_noise(stated: list[tuple[float, float]], prior: float) -> None:
    statements = of_pairs(stated, prior)
    expected = plain_calibration_error(statements)
    assert twins.figures(statements)[CALIBRATION.name] == pytest.approx(expected, abs=1e-6)
    bins = twins.overall(statements)["calibration"]
    assert [one["episodes"] for one in bins] == [len(those) for those in binned(statements)]
    for one, those in zip(bins, binned(statements), strict=True):
        weight = sum([each.weight for each in those])
        assert one["guilty"] == pytest.approx(sum([each.weight for each in those if each.guilty]) / weight)
        assert one["suspicion"] == pytest.approx(sum([each.weight * each.suspicion for each in those]) / weight)
        assert 0 <= one["guilty_ci"][0] <= one["guilty"] <= one["guilty_ci"][1] <= 1
        assert one["guilty_ci"][0] < one["guilty_ci"][1]


def test_calibration_error_is_none_of_the_calibrated_and_the_gap_of_the_others() -> None:
    """Twin logits at ±d²/2 with variance d² are what a perfect observer would state."""
    generator = np.random.default_rng(6)
    apart = generator.normal([1.0, -1.0], size=(4000, 2))
    calibrated = twins.figures(of_pairs(logistic(2 * apart).tolist()))
    assert calibrated[CALIBRATION.name] < 0.01
    assert calibrated[f"{CALIBRATION.name}_ci"][0] == 0
    certain = twins.figures(of_pairs([(0.9, 0.9), (0.9, 0.9), (0.9, 0.1), (0.1, 0.1)] * 200))
    # Of those at 90 % some 60 % are guilty, of those at 10 % a third.
    expected = math.sqrt((5 * (0.9 - 3 / 5) ** 2 + 3 * (0.1 - 1 / 3) ** 2) / 8)
    assert certain[CALIBRATION.name] == pytest.approx(expected, abs=0.005)


@given(STATED)
@settings(max_examples=20, deadline=None)
def test_the_curve_goes_from_corner_to_corner_and_has_the_area_of_auroc(stated: list[tuple[float, float]]) -> None:
    found = twins.overall(of_pairs(stated))
    alarms, catches = zip(*found["curve"], strict=True)
    assert found["curve"][0] == [0, 0]
    assert found["curve"][-1] == [1, 1]
    assert list(alarms) == sorted(alarms)
    assert list(catches) == sorted(catches)
    assert np.trapezoid(catches, alarms) == pytest.approx(found[AUROC.name])


def test_a_long_curve_is_thinned() -> None:
    found = twins.overall(of_pairs(normal_pairs(np.random.default_rng(0), 300, apart=1.0, shared=0.0)))
    assert len(found["curve"]) == twins.MAX_POINTS
    alarms, catches = np.array(found["curve"]).T
    assert np.trapezoid(catches, alarms) == pytest.approx(found[AUROC.name], abs=0.01)


# -- what they mean ---------------------------------------------------------------------------------------------------


def test_silence_tells_nothing_and_certainty_everything() -> None:
    silent = twins.figures(of_pairs([(0.4, 0.4)] * 10, prior=0.4))
    expected = {AUROC: 0.5, TOLD_APART: 0.5, CATCH: 0.0, ALARMS: 0.0, BRIER: 0.24, CALIBRATION: 0.0}
    assert {figure: silent[figure.name] for figure in FIGURES} == {
        figure: pytest.approx(value) for figure, value in expected.items()
    }
    certain = twins.figures(of_pairs([(1.0, 0.0)] * 10))
    expected = {AUROC: 1.0, TOLD_APART: 1.0, CATCH: 1.0, ALARMS: 0.0, BRIER: 0.0, CALIBRATION: 0.0}
    assert {figure: certain[figure.name] for figure in FIGURES} == expected
    for found in (silent, certain):
        for figure in FIGURES:
            assert found[f"{figure.name}_ci"] == [pytest.approx(found[figure.name])] * 2


def test_the_prior_changes_what_depends_on_it_and_nothing_else() -> None:
    stated = normal_pairs(np.random.default_rng(1), 50, apart=1.5, shared=0.3)
    even, rare = twins.figures(of_pairs(stated)), twins.figures(of_pairs(stated, prior=0.05))
    for figure in (AUROC, TOLD_APART, CATCH, ALARMS):
        for name in (figure.name, f"{figure.name}_ci"):
            assert even[name] == rare[name]
    for figure in (BRIER, CALIBRATION):
        assert abs(even[figure.name] - rare[figure.name]) > 0.01


def test_of_the_guilty_alone_only_brier_is_defined() -> None:
    for guilty in (True, False):
        alone = [one for one in of_pairs([(0.9, 0.2), (0.4, 0.4)]) if one.guilty == guilty]
        found = twins.overall(alone)
        defined = {figure for figure in FIGURES if found[figure.name] is not None}
        assert defined == {figure for figure in FIGURES if found[f"{figure.name}_ci"] is not None} == {BRIER}
        assert (found["pairs"], found["curve"], found["threshold"]) == (0, [], None)


def test_repeating_the_episodes_of_a_pair_is_no_news() -> None:
    statements = of_pairs(normal_pairs(np.random.default_rng(2), 40, apart=1.5, shared=0.3))
    once, often = twins.figures(statements), twins.figures([one for one in statements for _ in range(5)])
    for figure in (AUROC, TOLD_APART, BRIER):
        assert often[figure.name] == pytest.approx(once[figure.name])
        assert often[f"{figure.name}_ci"] == pytest.approx(once[f"{figure.name}_ci"])


# -- intervals --------------------------------------------------------------------------------------------------------


def observed(generator: np.random.Generator, bias: float) -> list[tuple[float, float]]:
    """Eighty pairs whose logits are those of a perfect observer, plus a bias; the twins share half of the noise."""
    apart = 2.25  # variance and distance of the logits
    common = math.sqrt(apart / 2) * generator.normal(size=(80, 1))
    own = math.sqrt(apart / 2) * generator.normal(size=(80, 2))
    return [tuple(row) for row in logistic(common + own + [apart / 2, -apart / 2] + bias).tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_intervals_cover_the_truth_about_as_often_as_they_promise(bias: float) -> None:
    generator = np.random.default_rng(7)
    runs = [twins.figures(of_pairs(observed(generator, bias))) for _ in range(400)]
    logits = math.sqrt(2.25) * generator.normal(size=400_000) + 2.25 / 2
    guilty, innocent = logistic(logits + bias), logistic(logits - 2.25 + bias)
    # What a perfect observer would say where this one says so much.
    gaps = np.concatenate([guilty - logistic(logits), innocent - logistic(logits - 2.25)])
    truth = {
        AUROC: NORMAL.cdf(1.5 / math.sqrt(2)),
        CATCH: 1 - NORMAL.cdf(NORMAL.inv_cdf(0.99) - 1.5),
        BRIER: float(np.mean([(1 - guilty) ** 2, innocent**2])),
        CALIBRATION: float(np.sqrt(np.mean(gaps**2))),
    }
    covered = {
        figure.name: np.mean([one[f"{figure.name}_ci"][0] <= value <= one[f"{figure.name}_ci"][1] for one in runs])
        for figure, value in truth.items()
    }

    for name, share in covered.items():
        assert 0.90 <= share <= (1.0 if name == CALIBRATION.name and not bias else 0.98), name


# -- in an evaluation -------------------------------------------------------------------------------------------------


class Twice(Toy):
    """The toy world whose scenarios are of two settings on each tier."""

    cases = tuple([case._replace(setting=f"{case.setting}{more}") for case in Toy.cases for more in ("", "-again")])

    def start(self, scenario: Scenario, rules: str) -> Any:
        return super().start(scenario._replace(setting=scenario.tier), rules)._replace(scenario=scenario)


def evaluated(environment: Toy, rules: str, seeds: range = range(6)) -> dict[str, Any]:
    players = evaluate.baselines(environment, "silent,glance,search")
    played = evaluate.play_all(players, environment.scenarios("all", seeds), rules)
    results = [evaluate.result(environment, name, one.episode) for name, one in played]
    return evaluate.summary(environment, results, rules, "all", "0-5")


@pytest.mark.parametrize("rules", PRIORS)
def test_means_weigh_the_twins_by_the_prior_of_the_rules(rules: str) -> None:
    prior = PRIORS[rules]
    found = evaluated(TOY, rules)
    by_case = {(cell["policy"], cell["case"]): cell for cell in found["by_case"]}
    for one in found[twins.OVERALL]:
        mine = [cell for cell in found["cells"] if cell["policy"] == one["policy"]]
        guilty, innocent = (by_case[one["policy"], case] for case in ("full", "empty"))
        for name in ("mean", "suspicion"):
            expected = prior * guilty[name] + (1 - prior) * innocent[name]
            assert np.mean([cell[name] for cell in mine]) == pytest.approx(expected)
        assert one["brier"] == pytest.approx(prior * guilty["brier"] + (1 - prior) * innocent["brier"])
        for cell in mine:
            assert cell["mean_ci"][0] - 1e-9 <= cell["mean"] <= cell["mean_ci"][1] + 1e-9
    silent = found[twins.OVERALL][0]
    assert (silent["auroc"], silent["brier"]) == (0.5, pytest.approx(prior * (1 - prior)))


def test_gains_are_weighed_like_means() -> None:
    scenarios = TOY.scenarios("all", range(5))
    results = [
        evaluate.Result(policy, one, gain * TOY.guilty(one), {"guessed": 1.0, "suspicion": 0.5})
        for policy, gain in (("trained", 10.0), ("heuristic", 0.0))
        for one in scenarios
    ]
    for rules, prior in PRIORS.items():
        rows = evaluate.differences(TOY, results, "trained", ["heuristic"], rules)
        assert [(row["tier"], row["mean"]) for row in rows] == [(tier, pytest.approx(10 * prior)) for tier in BOXES]
        for row in rows:
            assert row["ci"] == [pytest.approx(10 * prior)] * 2


def test_a_set_of_several_settings_has_cells_for_each() -> None:
    assert twins.BY_SETTING not in evaluated(TOY, "strict")
    found = evaluated(Twice(), "strict")
    settings_of = [cell["setting"] for cell in found[twins.BY_SETTING] if cell["policy"] == "search"]
    assert settings_of == ["few", "few-again", "many", "many-again"]
    by_setting = suspicion_tables.suspicion_tables(Twice(), found)[-1]
    assert by_setting.heading[:2] == ("policy", "setting")
    assert [row[1] for row in by_setting.rows[:4]] == settings_of


def test_worlds_that_ask_for_no_suspicion_have_none_of_this() -> None:
    for environment in ENVIRONMENTS.values():
        if environment.suspicion is None:
            played = evaluate.play_all(
                evaluate.baselines(environment, "random"),
                environment.scenarios(environment.selections[0], [0]),
                "strict",
            )
            results = [evaluate.result(environment, name, one.episode) for name, one in played]
            found = evaluate.summary(environment, results, "strict", "", None)
            assert not {twins.OVERALL, twins.BY_SETTING} & set(found)
            assert not {figure.name for figure in FIGURES} & set(found["cells"][0])
            assert suspicion_tables.suspicion_tables(environment, found) == []


# -- shown ------------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_draws_two_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENTS, TOY.name, TOY)
    monkeypatch.setenv("COLUMNS", "140")
    out = tmp_path / "out.json"
    named = ["evaluate", "--world", "toy", "--policies", "silent,glance,search", "--rules", "rare", "--seeds", "0-5"]
    assert main([*named, "--json", str(out), "--plots", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for figure in suspicion_tables.SHOWN:
        assert figure.title in printed
    found = json.loads(out.read_text())
    silent, glance, search = found[twins.OVERALL]
    assert (silent["auroc"], search["auroc"], search["episodes"], search["pairs"]) == (0.5, 1.0, 24, 12)
    line = next(line.split() for line in printed.splitlines() if line.split()[:2] == ["glance", "all"])
    assert line[2:4] == ["24", f"{glance['auroc']:.2f}"]
    names = sorted([path.name for path in plots.plot_paths(TOY, tmp_path)])
    assert sorted([path.name for path in tmp_path.glob("*.png")]) == names
    assert {plots.ROC, plots.CALIBRATION} < set(names)
    evaluation.check(found, TOY)


@pytest.mark.parametrize(
    ("key", "damage"),
    [
        ("cells", {"auroc": "high"}),
        ("by_case", {"brier": math.nan}),
        (twins.OVERALL, {"curve": None}),
        (twins.OVERALL, {"curve": [[0.0]]}),
        (twins.OVERALL, {"calibration": [{"suspicion": 0.5, "guilty": 0.5, "guilty_ci": [0.1], "episodes": 3}]}),
        (twins.OVERALL, {"tpr_at_1_fpr_ci": [0.1, math.inf]}),
    ],
)
def test_a_damaged_evaluation_is_refused(key: str, damage: dict[str, Any]) -> None:
    found = evaluated(TOY, "strict", range(2))
    evaluation.check(found, TOY)
    found[key][-1] |= damage
    with pytest.raises((KeyError, TypeError, ValueError)):
        evaluation.check(found, TOY)
