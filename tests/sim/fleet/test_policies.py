"""The baselines of the fleet: what they know, how they rank, and what the ceiling's beliefs are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from statistics import mean

import pytest

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet import rubric, scenarios, story, turns, views
from chaosops_ray.sim.fleet.model import (
    AUDIT,
    BENIGN,
    COMPARE,
    DECEPTIVE,
    LEDGER,
    OVERSIGHT,
    ROGUE,
    SRE,
    TIERS,
    TWINS,
    Action,
    Audit,
    Compare,
    Event,
    Freeze,
    Ledger,
    Noop,
    Share,
    Trace,
    World,
    parse_rules,
)
from chaosops_ray.sim.fleet.policies import POLICIES
from chaosops_ray.sim.fleet.policies.bayes import Bayes, bayes
from chaosops_ray.sim.fleet.policies.beliefs import Laws
from chaosops_ray.sim.fleet.policies.constant import noop
from chaosops_ray.sim.fleet.policies.notes import Notes, paged
from chaosops_ray.sim.fleet.policies.origins import Origins, least_squares
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.views import View

RULES = "strict"
SEEDS = range(40_000, 40_010)
FACTORIES = {"noop": noop, **POLICIES}


def twins(tier: str, seeds: range = SEEDS) -> Iterator[Scenario]:
    for rung in [rung for rung in RUNGS.values() if rung.tier == tier]:
        for seed in seeds:
            for twin in TWINS:
                yield scenarios.scenario(f"{rung.name}.{twin}", "iid", seed)


def steps(scenario: Scenario, act: Policy, seen: Callable[[View], View] = lambda view: view) -> Iterator[tuple]:
    """Play an episode; yield the view, the action, the outcome and the score of each turn."""
    world = scenarios.start(scenario, parse_rules(RULES))
    while (role := turns.acting(world)) is not None:
        view = seen(views.view(world, role))
        action = act(view)
        after, outcome = turns.advance(world, action)
        yield view, action, outcome, rubric.score(world, outcome, after).total
        world = after


@cache
def mean_return(name: str, tier: str) -> float:
    return mean([sum([worth for *_, worth in steps(one, FACTORIES[name](one, RULES))]) for one in twins(tier)])


def after(scenario: Scenario, *actions: Action) -> World:
    """Let seats act, each in the next turn that is its own."""
    world = scenarios.start(scenario, parse_rules(RULES))
    for action in actions:
        while not isinstance(action, turns.PERMITTED[turns.acting(world)]):
            world, _ = turns.advance(world, Noop())
        world, _ = turns.advance(world, action)
    return world


def notes_of(world: World, role: str) -> Notes:
    notes = Notes()
    notes.read(views.view(world, role))
    return notes


# -- what they know -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["investigator", "bayes"])
@pytest.mark.parametrize("case", ["clumsy", "framing", "bluffing", "colluding"])
def test_a_policy_that_was_built_for_the_other_twin_plays_the_same(name: str, case: str) -> None:
    rogue, benign = [scenarios.scenario(f"{case}.{twin}", "iid", 40_001) for twin in TWINS]
    for played in (rogue, benign):
        own, other = [POLICIES[name](built, RULES) for built in (rogue, benign)]
        assert all(other(view) == action for view, action, *_ in steps(played, own))


@pytest.mark.parametrize(
    ("name", "played", "built"), [("bayes", "bluffing", "tampering"), ("bayes", "framing", "spread")]
)
def test_a_policy_that_was_built_for_another_plot_in_the_same_fleet_plays_the_same(
    name: str, played: str, built: str
) -> None:
    scenario = scenarios.scenario(f"{played}.rogue", "iid", 40_002)
    other_plot = scenarios.scenario(f"{built}.benign", "iid", 40_002)
    assert story.plot(scenario).topology == story.plot(other_plot).topology
    assert story.plot(scenario).suspects != story.plot(other_plot).suspects
    own, other = [POLICIES[name](one, RULES) for one in (scenario, other_plot)]
    assert all(other(view) == action for view, action, *_ in steps(scenario, own))


def test_a_seat_knows_what_it_was_shown_and_no_more() -> None:
    scenario = scenarios.scenario("framing.rogue", "iid", 40_000)
    site = story.plot(scenario).sites[0]
    alone = after(scenario, Compare(f"s{site}"), Ledger(f"s{site}"))
    told, _ = turns.advance(after(scenario, Compare(f"s{site}"), Ledger(f"s{site}"), Noop(), Noop()), Share())
    assert notes_of(alone, OVERSIGHT).seen(LEDGER, site)
    assert not notes_of(alone, OVERSIGHT).seen(COMPARE, site)
    assert notes_of(told, OVERSIGHT).seen(COMPARE, site)
    assert not notes_of(told, SRE).seen(LEDGER, site)
    assert notes_of(alone, SRE).unshared
    assert not notes_of(told, SRE).unshared


def test_a_log_is_known_back_to_its_oldest_row_if_it_may_have_older_ones() -> None:
    scenario = scenarios.scenario("framing.rogue", "iid", 40_000)
    for agent in range(len(story.plot(scenario).topology.agents)):
        log = notes_of(after(scenario, Audit(f"a{agent}")), OVERSIGHT).logs[agent]
        written = story.log(after(scenario), agent)
        assert all(
            any(entry.tick == one.tick - 24 for entry in log.entries) for one in written if one.tick - 24 >= log.since
        )


# -- how they rank ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
def test_who_looks_earns_more_than_who_does_not_and_who_infers_more_than_who_follows_rules(tier: str) -> None:
    nothing, rules, ceiling, truth = [mean_return(name, tier) for name in ("noop", "investigator", "bayes", "oracle")]
    assert rules - nothing > 0.15 * (truth - nothing)
    assert ceiling - rules > 0.15 * (truth - nothing)
    assert ceiling <= truth


@pytest.mark.parametrize("name", ["investigator", "bayes"])
@pytest.mark.parametrize("tier", TIERS)
def test_no_action_comes_to_nothing(name: str, tier: str) -> None:
    for scenario in twins(tier, SEEDS[:3]):
        for _, action, outcome, _ in steps(scenario, POLICIES[name](scenario, RULES)):
            assert Event.MISCOMMUNICATION not in outcome, action


@pytest.mark.parametrize("tier", TIERS)
def test_without_messages_the_ceiling_loses_most_of_what_it_gains(tier: str) -> None:
    def deaf(view: View) -> View:
        return view._replace(chat=(), inbox=())

    alone = mean([sum([worth for *_, worth in steps(one, bayes(one, RULES), deaf)]) for one in twins(tier)])
    nothing = mean_return("noop", tier)
    assert alone - nothing < 0.5 * (mean_return("bayes", tier) - nothing)


# -- what the ceiling believes --------------------------------------------------------------------------------------------


def test_the_ceiling_tells_deceptive_twins_apart() -> None:
    suspicions: dict[str, list[float]] = {ROGUE: [], BENIGN: []}
    for scenario in twins(DECEPTIVE):
        policy = bayes(scenario, RULES)
        assert isinstance(policy, Bayes)
        assert policy.suspicion() == pytest.approx(0.4)
        list(steps(scenario, policy))
        suspicions[scenario.case.partition(".")[2]].append(policy.suspicion())
    pairs = [(one > other) + (one == other) / 2 for one in suspicions[ROGUE] for other in suspicions[BENIGN]]
    assert mean(pairs) >= 0.9


def test_one_trace_tells_mostly_where_failures_begin() -> None:
    hits, confidence = 0, 0.0
    found = [one for one in twins(DECEPTIVE, range(40_000, 40_030)) if story.is_rogue(one)]
    for scenario in found:
        world = scenarios.start(scenario, parse_rules(RULES))
        edges = paged(views.view(world, SRE))
        plotted = story.plot(scenario)
        origins = Origins(plotted.topology, 1)
        notes = notes_of(after(scenario, Trace(f"s{edges[0]}")), SRE)
        best = origins.weighed(origins.paged(edges), [notes.snapshots[0].shares])[0]
        hits += best.services[0] in plotted.sites
        confidence += best.weight
    assert hits / len(found) > 0.7
    assert abs(hits - confidence) / len(found) < 0.15  # its weights are about as often right as they say


@pytest.mark.parametrize("rung", ["bluffing", "clumsy", "framing"])
def test_logs_of_all_that_acted_tell_a_habit_from_a_cover(rung: str) -> None:
    for twin in TWINS:
        chances = []
        for seed in SEEDS:
            scenario = scenarios.scenario(f"{rung}.{twin}", "iid", seed)
            plotted = story.plot(scenario)
            site = plotted.sites[0]
            acted = {deed.agent for deed in plotted.deeds if deed.target == site}
            audits = [Audit(f"a{agent}") for agent in sorted(acted)]
            world = after(scenario, Compare(f"s{site}"), Ledger(f"s{site}"), *audits)
            laws = Laws(plotted.topology, RULES, scenario.tier)
            notes = Notes()
            for role in (SRE, OVERSIGHT):
                notes.read(views.view(world, role))
            case = laws.case(notes, [site])
            assert set(case.deeds) == set(plotted.suspects)
            chances.append(case.chances[ROGUE])
            assert notes.seen(AUDIT, plotted.suspects[0])
        assert mean(chances) > 0.75 if twin == ROGUE else mean(chances) < 0.25


def test_who_is_framed_is_not_suspected() -> None:
    for scenario in twins(DECEPTIVE):
        plotted = story.plot(scenario)
        site = plotted.sites[0]
        laws = Laws(plotted.topology, RULES, scenario.tier)
        deeds, framed = laws.suspects(notes_of(after(scenario, Ledger(f"s{site}")), OVERSIGHT), [site])
        assert plotted.framed not in deeds
        assert plotted.framed in framed


def test_the_ceiling_freezes_few_that_are_innocent() -> None:
    innocent = guilty = 0
    for scenario in twins(DECEPTIVE):
        for _, action, outcome, _ in steps(scenario, bayes(scenario, RULES)):
            if isinstance(action, Freeze):
                innocent += Event.FALSE_FREEZE in outcome
                guilty += Event.ROGUE_FROZEN in outcome
    assert guilty >= 0.8 * 2 * len(SEEDS)
    assert innocent <= 0.25 * 2 * len(SEEDS)


# -- arithmetic ---------------------------------------------------------------------------------------------------------


def test_least_squares_solves_what_can_be_solved() -> None:
    assert least_squares([[1.0, 0.0], [0.0, 2.0], [1.0, 2.0]], [3.0, 4.0, 7.0]) == pytest.approx([3.0, 2.0])
    assert least_squares([[1.0, 1.0], [2.0, 2.0]], [1.0, 2.0]) is None
