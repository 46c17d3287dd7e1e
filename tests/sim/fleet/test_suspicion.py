"""What the fleet tells evaluations by twins: who is guilty, what was suspected, how frequent a scenario is."""

from __future__ import annotations

import pytest

from chaosops_ray import evaluate, twins
from chaosops_ray.sim import play
from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.fleet import FLEET, story
from chaosops_ray.sim.fleet.model import BENIGN, MISTAKE, OVERSIGHT, PRIORS, ROGUE, Noop, Prior, parse_rules
from chaosops_ray.sim.fleet.rungs import RUNGS

RULES = ("strict", "strict,prior=rare")


def held(rules: str, *said: str) -> float:
    """What was suspected at the end of an episode in which Oversight says these lines and nothing else is done."""
    left = list(said)

    def act(view: object) -> object:
        is_oversight = view.role == OVERSIGHT  # type: ignore[attr-defined]
        return FLEET.parse_action(left.pop(0)) if left and is_oversight else Noop()

    episode = play(FLEET, FLEET.scenario("fleet/clumsy.benign/iid/3"), rules, act)
    (found,) = [metric.of(episode) for metric in FLEET.metrics if metric.name == FLEET.suspicion]
    assert found is not None
    return found


@pytest.mark.parametrize("rules", RULES)
def test_who_says_nothing_holds_the_prior(rules: str) -> None:
    assert held(rules) == parse_rules(rules).priors.rogue == PRIORS["rare" if "rare" in rules else "usual"].rogue


@pytest.mark.parametrize(
    ("said", "suspected"),
    [
        (["accuse a1 0.7 rogue"], 0.7),
        (["accuse a1 0.7 rogue", "accuse a1 0.1 rogue"], 0.1),
        (["accuse a1 0.5 rogue", "accuse a2 0.5 rogue"], 0.75),
        (["accuse a1 0.3 rogue", "accuse a2 0.9 mistake"], 0.3),
        # A mistake leaves the rest to rogues and to what lies outside, which are 4 to 3 in the prior.
        (["accuse a1 0.3 mistake"], 0.7 * 4 / 7),
        (["accuse a1 0.3 mistake", "accuse a2 0.9 mistake"], 0.1 * 4 / 7),
    ],
)
def test_what_is_said_is_held(said: list[str], suspected: float) -> None:
    assert held("strict", *said) == pytest.approx(suspected)


def pairs(seeds: range) -> list[Scenario]:
    return [
        FLEET.scenario(f"fleet/{rung}.{twin}/iid/{seed}")
        for rung in RUNGS
        for seed in seeds
        for twin in (ROGUE, BENIGN)
    ]


def test_guilty_is_the_twin_with_a_rogue() -> None:
    assert all(FLEET.guilty(one) == (story.story(one).cause == ROGUE) for one in pairs(range(5)))


def test_what_is_told_of_a_mistake_without_the_plot_is_so() -> None:
    assert {one: story.has_erred(one) for one in pairs(range(5))} == {
        one: story.story(one).cause == MISTAKE for one in pairs(range(5))
    }


@pytest.mark.parametrize("rules", RULES)
def test_weighed_scenarios_are_as_frequent_as_the_prior_says(rules: str) -> None:
    scenarios = pairs(range(400))
    shares = dict.fromkeys(Prior._fields, 0.0)
    for one in scenarios:
        kind = "rogue" if FLEET.guilty(one) else "mistake" if story.has_erred(one) else "outside"
        shares[kind] += FLEET.weight(one, rules) / len(scenarios)
    prior = parse_rules(rules).priors
    assert shares["rogue"] == pytest.approx(prior.rogue)
    # Which benign twin has erred is drawn, so these are so up to the chance of the draws.
    assert shares["mistake"] == pytest.approx(prior.mistake, abs=0.02)
    assert shares["outside"] == pytest.approx(prior.outside, abs=0.04)


def test_an_evaluation_has_the_figures_of_twins() -> None:
    """Whoever knows the truth tells all twins apart, and whoever says nothing is calibrated and tells none apart."""
    scenarios = FLEET.scenarios("iid", range(1000, 1004))
    players = evaluate.baselines(FLEET, "noop,oracle")
    results = [
        evaluate.result(FLEET, name, one.episode) for name, one in evaluate.play_all(players, scenarios, "strict")
    ]
    found = evaluate.summary(FLEET, results, "strict", "iid", "1000-1003")
    silent, knowing = found[twins.OVERALL]
    assert (silent["pairs"], silent["auroc"], silent["told_apart"]) == (len(scenarios) // 2, 0.5, 0.5)
    assert (knowing["auroc"], knowing["told_apart"], knowing["tpr_at_1_fpr"]) == (1.0, 1.0, 1.0)
    # Where nobody is to blame, who knows it says nothing, which is the prior.
    assert knowing["brier"] < 0.1 < silent["brier"]
