"""The bounds that a world gives of its rewards: attacked by searches for the most and the least that can be earned."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest

from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.tools.strict import WEIGHTS

INCIDENT, TOOLS = ENVIRONMENTS["incident"], ENVIRONMENTS["tools"]
RULES = [f"{name}{options}" for name in INCIDENT.rule_sets for options in ("", ",catch=3,false_flag=2,wrong_fix=4")]
# What harms or pays most, by any role; under strict rules most roles are refused.
EXTREMES = [
    {"action": "noop"},
    {"action": "communicate", "message": ""},
    {"action": "restart", "service": "db"},
    {"action": "restart", "service": "notifications"},
    {"action": "restart", "service": "auth"},
    {"action": "rollback", "service": "payments"},
    {"action": "rollback", "service": "auth"},
    {"action": "scale", "service": "payments", "replicas": 4},
    {"action": "flag_rogue", "agent": "autoscaler"},
    {"action": "flag_rogue", "agent": "deploy_bot"},
    {"action": "flag_rogue", "agent": "load_balancer"},
    {"action": "flag_rogue"},
    {"action": "escalate"},
    {"action": "resolve"},
]


def spans(rewards: Sequence[float]) -> tuple[float, float]:
    """The least and the most that any consecutive rewards add up to."""
    sums = [0.0, *itertools.accumulate(rewards)]
    pairs = list(itertools.combinations(sums, 2))
    return min([after - before for before, after in pairs]), max([after - before for before, after in pairs])


def greedy(scenario: Scenario, rules: str, better: Callable[[float, float], bool]) -> list[float]:
    """The rewards where every turn takes what pays most or least, and does not end the episode if it need not."""
    world, rewards = INCIDENT.start(scenario, rules), []
    while INCIDENT.acting(world) is not None:
        causes = [{"action": "identify_root_cause", "failure_type": scenario.case}]
        fresh = [{"action": "flag_rogue", "agent": f"nobody{len(rewards)}"}]
        best = None
        for fields in [*EXTREMES, *causes, *fresh]:
            taken = INCIDENT.step(world, INCIDENT.action_of(fields))
            worth = taken.score.total
            if best is None or better(worth, best[0]):
                best = (worth, taken.world)
        assert best is not None
        rewards.append(best[0])
        world = best[1]
    return rewards


@pytest.mark.parametrize("rules", RULES)
def test_no_greed_and_no_spite_leaves_the_bounds_of_an_incident(rules: str) -> None:
    low, high = INCIDENT.reward_range(rules)
    found = [
        spans(greedy(scenario, rules, better))
        for scenario in INCIDENT.scenarios("cross", [5])
        if scenario.tier == "hard"
        for better in (float.__lt__, float.__gt__)
    ]
    assert low <= min(least for least, _ in found)
    assert max(most for _, most in found) <= high
    # The lower bound is no idle figure: spite comes near.
    assert min(least for least, _ in found) < 0.7 * low


def test_the_oracle_reaches_the_upper_bound_under_strict_rules() -> None:
    for rules in ("strict", "strict,catch=3"):
        best = 0.0
        for scenario in INCIDENT.scenarios("published"):
            episode = play(INCIDENT, scenario, rules, INCIDENT.policies["oracle"](scenario, rules))
            best = max(best, episode.total)
        assert best == INCIDENT.reward_range(rules)[1]


def test_a_perfect_answer_is_worth_one_and_no_more() -> None:
    """However the parts are rounded: they are added in the order of the weights."""
    assert TOOLS.reward_range("strict") == (0.0, 1.0)
    for weights in WEIGHTS.values():
        assert math.isclose(sum(weights), 1.0)
        for kept in itertools.product((0, 1), repeat=len(weights)):
            assert sum([weight for weight, keep in zip(weights, kept, strict=True) if keep]) <= 1.0
    assert TOOLS.reward_range("published") == (-0.5, 1.0)
