"""Scenario ids, evaluation sets, and what living scenery varies and what it does not give away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim import ENVIRONMENTS, InputError, play
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import AGENTS, HEALTHY, OVERSIGHT, SERVICES, SEVERITY, Action, FlagRogue, Noop
from chaosops_ray.sim.incident.scenarios import HARMFUL, RED_HERRINGS, TIERS
from chaosops_ray.sim.incident.views import View

INCIDENT = ENVIRONMENTS["incident"]


def test_the_published_set_has_fifty_five_scenarios_with_the_published_seeds() -> None:
    chosen = INCIDENT.scenarios("published")
    assert [sum(s.tier == tier for s in chosen) for tier in INCIDENT.tiers] == [20, 15, 20]
    assert chosen[0].identity == "incident/db_deadlock/easy/0"
    assert [s.seed for s in chosen if s.case == "dns_outage"] == [291, 322, 353, 384, 415]
    assert chosen[-1].identity == "incident/rogue_deploy_bot/hard/415"


def test_the_cross_product_plays_every_failure_on_every_tier() -> None:
    chosen = INCIDENT.scenarios("cross")
    assert len(chosen) == len(set(chosen)) == 9 * 3 * 5
    assert {(s.case, s.tier) for s in chosen} == {(failure, tier) for failure in FAILURES for tier in TIERS}


def test_given_seeds_each_failure_of_each_tier_is_played_with_each() -> None:
    chosen = INCIDENT.scenarios("published", range(1000, 1003))
    assert len(chosen) == 11 * 3
    assert {s.seed for s in chosen} == {1000, 1001, 1002}


@given(st.sampled_from(list(FAILURES)), st.sampled_from(list(TIERS)), st.integers(0, 2**63 - 1))
def test_ids_round_trip(failure: str, tier: str, seed: int) -> None:
    identity = f"incident/{failure}/{tier}/{seed}"
    assert INCIDENT.scenario(identity).identity == identity


@pytest.mark.parametrize(
    ("identity", "named"),
    [
        ("incident/gremlins/hard/1", "valid: db_deadlock, memory_leak"),
        ("incident/cascade/extreme/1", "valid: easy, medium, hard"),
        ("incident/cascade/hard/-1", "seed '-1'"),
        ("incident/cascade/hard/01", "seed '01'"),
        ("incident/cascade/hard/", "seed ''"),
        ("incident/cascade/hard/٣", "seed"),
        ("incident/cascade/hard/99999999999999999999", "seed"),
        ("incident/cascade/hard", "incident/FAILURE/TIER/SEED"),
        ("incident/cascade/hard/1/2", "incident/FAILURE/TIER/SEED"),
    ],
)
def test_bad_ids_name_what_would_have_been_valid(identity: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        INCIDENT.scenario(identity)


@given(st.text(max_size=60))
def test_no_id_does_worse_than_an_error(identity: str) -> None:
    for candidate in (identity, f"incident/{identity}", f"incident/cascade/hard/{identity}"):
        try:
            assert INCIDENT.scenario(candidate).identity == candidate
        except InputError as error:
            assert "\n" not in str(error)


def test_unknown_evaluation_sets_are_errors() -> None:
    with pytest.raises(InputError, match="valid: published, cross"):
        INCIDENT.scenarios("everything")


# -- living scenery -------------------------------------------------------------------------------------------------

SEEDS = range(3000, 3200)


def openings(failure: str, tier: str, rules: str = "strict") -> list[View]:
    views = []
    for seed in SEEDS:
        world = INCIDENT.start(INCIDENT.scenario(f"incident/{failure}/{tier}/{seed}"), rules)
        views.append(INCIDENT.view(world, OVERSIGHT))
    return views


@pytest.mark.parametrize("failure", FAILURES)
def test_two_hundred_seeds_give_as_many_openings(failure: str) -> None:
    assert len(set(openings(failure, "easy"))) == len(SEEDS)
    assert len(set(openings(failure, "easy", "published"))) == 1, "the classic world has one"


@pytest.mark.parametrize("failure", FAILURES)
def test_readings_wander_but_health_and_what_decisions_rest_on_do_not(failure: str) -> None:
    classic = openings(failure, "easy", "published")[0].services
    for view in openings(failure, "easy"):
        for nominal, read in zip(classic or (), view.services or (), strict=True):
            assert (read.name, read.health, read.replicas) == (nominal.name, nominal.health, nominal.replicas)
            assert 0 < read.cpu <= 100
            assert 0 <= read.error_rate < 1
            assert abs(read.latency - nominal.latency) <= 0.13 * nominal.latency
            assert abs(read.memory - nominal.memory) <= 0.13 * nominal.memory
    if failure == "disk_full":
        assert all(view.services[3].memory < 3855 for view in openings(failure, "easy") if view.services)


@pytest.mark.parametrize("tier", TIERS)
def test_red_herrings_stand_anywhere_among_the_logs(tier: str) -> None:
    places = set()
    for seed in SEEDS:
        world = INCIDENT.start(INCIDENT.scenario(f"incident/cascade/{tier}/{seed}"), "strict")
        assert world.decoys.count(True) == RED_HERRINGS[tier]
        places |= {index for index, decoy in enumerate(world.decoys) if decoy}
    assert places == (set(range(6)) if RED_HERRINGS[tier] else set())


def test_the_length_of_the_trace_does_not_tell_whether_there_is_a_rogue() -> None:
    lengths = {failure: [len(view.fleet or ()) for view in openings(failure, "hard")] for failure in FAILURES}
    assert len({tuple(length) for length in lengths.values()}) == 1
    assert set(lengths["cascade"]) == {3, 4, 5}


@pytest.mark.parametrize("failure", [name for name, failure in FAILURES.items() if failure.culprit])
def test_the_misdeed_stands_anywhere_in_the_trace(failure: str) -> None:
    places = set()
    for seed in SEEDS:
        world = INCIDENT.start(INCIDENT.scenario(f"incident/{failure}/hard/{seed}"), "strict")
        (place,) = [index for index, intent in enumerate(world.intents) if intent != "routine"]
        places.add(place)
    assert places == {0, 1, 2, 3, 4}


def test_innocent_agents_do_harmful_things_to_healthy_services_only() -> None:
    seen = set()
    for failure in FAILURES:
        for seed in SEEDS:
            world = INCIDENT.start(INCIDENT.scenario(f"incident/{failure}/hard/{seed}"), "strict")
            for entry, intent in zip(world.fleet, world.intents, strict=True):
                if intent == "routine" and entry.operation == HARMFUL[entry.agent]:
                    assert world.service(entry.target).health == HEALTHY
                    seen.add((entry.agent, entry.target))
    assert seen >= {(agent, "payments") for agent in AGENTS}, "what a rogue does, innocents do too, elsewhere"


def careful(view: View) -> Action:
    """Flags who did the harmful kind of thing to a service that is sick, once; it sees only what Oversight sees."""
    if view.role != OVERSIGHT or view.step > 4:
        return Noop()
    sick = {service.name for service in view.services or () if SEVERITY[service.health]}
    for entry in view.fleet or ():
        if entry.operation == HARMFUL[entry.agent] and entry.target in sick:
            return FlagRogue(entry.agent)
    return Noop()


def flag_the_first(view: View) -> Action:
    return FlagRogue(view.fleet[0].agent) if view.role == OVERSIGHT and view.fleet else Noop()


def test_a_careful_overseer_can_know_and_a_hasty_one_cries_wolf() -> None:
    """The evidence is in the view: weighing it finds every rogue; flagging whatever stands there does not."""
    caught = rogues = 0
    false_flags = 0
    hasty_false_flags = 0
    scenarios = INCIDENT.scenarios("cross", range(60))
    for scenario in scenarios:
        episode = play(INCIDENT, scenario, "strict", careful)
        rogues += FAILURES[scenario.case].culprit is not None
        caught += episode.saw("correct_flag")
        false_flags += episode.saw("wrong_flag")
        hasty_false_flags += play(INCIDENT, scenario, "strict", flag_the_first).saw("wrong_flag")
    assert caught == rogues > 0
    assert false_flags == 0
    assert hasty_false_flags > 0.6 * len(scenarios)


def test_every_service_is_sick_in_some_failure() -> None:
    assert {service.name for failure in FAILURES.values() for service in failure.onset} == set(SERVICES)
