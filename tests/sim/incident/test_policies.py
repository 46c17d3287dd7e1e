"""The baselines see views only, keep to the rules, and are built anew for each scenario."""

import random
from collections import Counter

import pytest

from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.incident.model import (
    Communicate,
    Event,
    FlagRogue,
    IdentifyRootCause,
    Message,
    Noop,
    Resolve,
    Restart,
    Rollback,
    Scale,
)
from chaosops_ray.sim.incident.physics import PERMITTED
from chaosops_ray.sim.incident.text import PHRASES
from chaosops_ray.sim.incident.views import View
from tests.sim.incident.blind import search

INCIDENT = ENVIRONMENTS["incident"]
SCENARIO = INCIDENT.scenario("incident/dns_outage/easy/0")
PAIR = ("lookup", "oracle")


def opening(failure: str, role: str, rules: str = "published") -> View:
    world = INCIDENT.start(INCIDENT.scenario(f"incident/{failure}/medium/0"), rules)
    view: View = INCIDENT.view(world, role)
    return view


@pytest.mark.parametrize("policy", INCIDENT.policies)
def test_no_baseline_is_ever_refused_under_strict_rules(policy: str) -> None:
    for scenario in INCIDENT.scenarios("cross", range(20)):
        episode = play(INCIDENT, scenario, "strict", INCIDENT.policies[policy](scenario, "strict"))
        assert not episode.saw(Event.REFUSED)
        assert not episode.saw(Event.UNPARSED)


def test_the_published_random_policy_draws_in_the_published_order() -> None:
    act = INCIDENT.policies["random"](SCENARIO._replace(seed=5), "published")
    draw = random.Random(5)
    for _ in range(200):
        action = act(opening("dns_outage", "sre"))
        kind = draw.choice(("noop", "communicate", "restart", "rollback", "scale"))
        if kind in ("restart", "rollback", "scale"):
            assert action.service == draw.choice(("auth", "payments", "notifications", "db"))
        if kind == "scale":
            assert action.replicas == draw.choice((1, 2, 3, 4, 5))
        if kind == "communicate":
            assert action.message == draw.choice(PHRASES)
        assert type(action).__name__.lower() == kind


def test_the_strict_random_policy_does_everything_its_seat_may() -> None:
    for role, kinds in PERMITTED.items():
        act = INCIDENT.policies["random"](SCENARIO, "strict")
        seen = Counter(type(act(opening("dns_outage", role))) for _ in range(2000))
        assert set(seen) == set(kinds)
        assert min(seen.values()) > 0.7 * 2000 / len(kinds), "every kind as often as another"


def heuristic(rules: str = "published", seed: int = 0):  # type: ignore[no-untyped-def]
    return INCIDENT.policies["heuristic"](SCENARIO._replace(seed=seed), rules)


def test_the_heuristic_mends_the_worst_service_and_ties_in_order() -> None:
    # seed 1 draws .13 first, which is chat; seed 0 draws .84
    assert heuristic()(opening("db_deadlock", "dev")) == Restart("db")
    assert heuristic()(opening("dns_outage", "sre")) == Restart("auth")
    assert isinstance(heuristic(seed=1)(opening("dns_outage", "sre")), Communicate)


def test_the_heuristic_scales_what_is_small_and_busy_and_rolls_back_what_was_rolled_out() -> None:
    assert heuristic()(opening("autoscaler_cost_cut", "sre")) == Scale("payments", 4)
    assert heuristic()(opening("bad_config_push", "dev")) == Rollback("auth")
    assert heuristic()(opening("bad_config_push", "sre")) == Restart("auth")


def test_the_heuristic_overseer_flags_whoever_stands_first() -> None:
    assert heuristic()(opening("misrouted_traffic", "oversight")) == FlagRogue("load_balancer")
    assert isinstance(heuristic()(opening("dns_outage", "oversight")), Communicate)


def test_the_heuristic_manager_believes_what_it_hears() -> None:
    view = opening("dns_outage", "manager")
    assert isinstance(heuristic()(view), Communicate)
    assert heuristic()(view._replace(alerts=())) == Noop()
    for heard in ("it is resolved", "all healthy again"):
        assert heuristic()(view._replace(chat=(Message(1, "dev", None, heard),))) == Resolve()


def test_heuristics_do_not_talk_their_manager_into_closing() -> None:
    """None of their own chat lines contains the words that a heuristic Manager acts on."""
    for scenario in INCIDENT.scenarios("cross", range(30)):
        for rules in INCIDENT.rule_sets:
            episode = play(INCIDENT, scenario, rules, INCIDENT.policies["heuristic"](scenario, rules))
            for message in episode.steps[-1].world.messages:
                assert "resolved" not in message.text
                assert "healthy" not in message.text


def test_a_strict_heuristic_sre_chats_where_it_would_have_mended() -> None:
    assert isinstance(heuristic("strict")(opening("db_deadlock", "sre", "strict")), Communicate)


@pytest.mark.parametrize("rules", INCIDENT.rule_sets)
def test_a_table_of_symptoms_equals_the_oracle(rules: str) -> None:
    for scenario in INCIDENT.scenarios("cross", range(1000, 1020)):
        table, oracle = (play(INCIDENT, scenario, rules, INCIDENT.policies[name](scenario, rules)) for name in PAIR)
        assert table.total == oracle.total, scenario.identity


@pytest.mark.parametrize("tier", INCIDENT.tiers)
def test_the_blind_schedule_is_the_best_of_its_tier(tier: str) -> None:
    worth, _ = search(tier)
    held_out = [scenario for scenario in INCIDENT.scenarios("published", range(1000, 1005)) if scenario.tier == tier]
    played = [play(INCIDENT, one, "strict", INCIDENT.policies["blind"](one, "strict")).total for one in held_out]
    assert sum(played) / len(played) == pytest.approx(worth)


def test_the_blind_policy_does_the_same_whatever_there_is_to_see() -> None:
    for tier in INCIDENT.tiers:
        done: dict[int, set[object]] = {}
        for scenario in INCIDENT.scenarios("cross", [1000]):
            if scenario.tier == tier:
                episode = play(INCIDENT, scenario, "strict", INCIDENT.policies["blind"](scenario, "strict"))
                for number, step in enumerate(episode.steps):
                    done.setdefault(number, set()).add(step.action)
        assert all(len(actions) == 1 for actions in done.values())


def test_the_oracle_names_flags_and_mends() -> None:
    act = INCIDENT.policies["oracle"](INCIDENT.scenario("incident/rogue_deploy_bot/hard/0"), "strict")
    assert act(opening("dns_outage", "sre")) == IdentifyRootCause("rogue_deploy_bot")
    assert act(opening("dns_outage", "oversight")) == FlagRogue("deploy_bot")
    assert act(opening("dns_outage", "dev")) == Rollback("payments")
    assert act(opening("dns_outage", "manager")) == Noop()


def test_overseers_that_look_at_nothing_flag_nobody_or_everybody_once() -> None:
    scenario = INCIDENT.scenario("incident/rogue_deploy_bot/hard/0")
    for policy, flagged in (("flag-nothing", []), ("flag-all", ["autoscaler", "load_balancer", "deploy_bot"])):
        episode = play(INCIDENT, scenario, "strict", INCIDENT.policies[policy](scenario, "strict"))
        by_oversight = [step.action for step in episode.steps if step.role == "oversight"]
        assert by_oversight == [*map(FlagRogue, flagged), *[Noop()] * (len(by_oversight) - len(flagged))]
        assert len(by_oversight) > 3
        assert {step.action for step in episode.steps if step.role != "oversight"} == {Noop()}


@pytest.mark.parametrize("policy", INCIDENT.policies)
def test_a_policy_built_anew_plays_the_same_episode(policy: str) -> None:
    scenario = INCIDENT.scenario("incident/cascade/hard/7")
    build = INCIDENT.policies[policy]
    assert play(INCIDENT, scenario, "strict", build(scenario, "strict")) == play(
        INCIDENT, scenario, "strict", build(scenario, "strict")
    )
