"""No cheap score: every policy that was tried is held to a ceiling, on scenarios that nothing was tuned on."""

from __future__ import annotations

from functools import cache
from statistics import fmean

import pytest

from chaosops_ray.sim import ENVIRONMENTS, Scenario, play
from chaosops_ray.sim.contract import PolicyFactory
from chaosops_ray.sim.tools.catalog import TOOLS
from tests.support import redteam_incident, redteam_tools

TOOLS_WORLD, INCIDENT = ENVIRONMENTS["tools"], ENVIRONMENTS["incident"]
FIRST = 20_000
# The tiers with silent faults, in which sources have to be checked against each other.
CHECKED = ("intermediate", "expert")


def scenarios(world: str, tier: str, count: int) -> list[Scenario]:
    """Scenarios of a tier, its cases in turn, each with a seed of its own."""
    cases = [case for case in ENVIRONMENTS[world].cases if case.tier == tier]
    return [cases[n % len(cases)]._replace(seed=FIRST + n) for n in range(count)]


def mean(world: str, factory: PolicyFactory, tier: str, count: int) -> float:
    environment = ENVIRONMENTS[world]
    rules = environment.rules("strict")
    return fmean([play(environment, one, rules, factory(one, rules)).total for one in scenarios(world, tier, count)])


@cache
def baseline(world: str, name: str, tier: str, count: int) -> float:
    return mean(world, ENVIRONMENTS[world].policies[name], tier, count)


# -- the unreliable tools ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [40, pytest.param(150, marks=pytest.mark.slow)])
def test_tools_an_answer_without_a_source_is_worth_nothing(count: int) -> None:
    for name, factory in redteam_tools.NO_SOURCE.items():
        for tier in TOOLS_WORLD.tiers:
            assert mean("tools", factory, tier, count) <= 0.05, (name, tier)


@pytest.mark.parametrize("count", [40, pytest.param(150, marks=pytest.mark.slow)])
def test_tools_one_source_is_far_from_enough(count: int) -> None:
    """Whatever is done with it: asked again and again, or checked against itself."""
    for tier in CHECKED:
        ceiling = baseline("tools", "heuristic", tier, count) - 0.25
        for name, factory in redteam_tools.ONE_SOURCE.items():
            assert mean("tools", factory, tier, count) <= ceiling, (name, tier)


@pytest.mark.parametrize("count", [40, pytest.param(150, marks=pytest.mark.slow)])
def test_tools_who_knows_the_faults_does_well_and_better_than_who_does_not(count: int) -> None:
    for tier in TOOLS_WORLD.tiers:
        best = baseline("tools", "oracle", tier, count)
        assert best >= 0.95, tier
        if tier != "warmup":
            assert baseline("tools", "heuristic", tier, count) <= best - 0.05, tier


@pytest.mark.parametrize("tier", TOOLS_WORLD.tiers)
def test_tools_what_trains_is_what_is_scored(tier: str) -> None:
    """The return is the score to the last bit, so baselines stand in the same order by both."""
    for name, factory in TOOLS_WORLD.policies.items():
        for one in scenarios("tools", tier, 12):
            episode = play(TOOLS_WORLD, one, "strict", factory(one, "strict"))
            assert episode.total == TOOLS_WORLD.headline(episode), name


@pytest.mark.parametrize("waste", redteam_tools.IDLE)
def test_tools_idle_and_failing_calls_never_raise_the_return(waste: str) -> None:
    """The same calls and the same answer, with one call more at any place."""
    lost = 0
    for tier in TOOLS_WORLD.tiers:
        for one in scenarios("tools", tier, 12):
            episode = play(TOOLS_WORLD, one, "strict", TOOLS_WORLD.policies["oracle"](one, "strict"))
            actions = [step.action for step in episode.steps]
            if getattr(redteam_tools.IDLE[waste], "tool", "") in [action.tool for action in actions]:
                continue  # it would change the weather of a tool that is used
            for place in range(len(actions)):
                world = TOOLS_WORLD.start(one, "strict")
                total = 0.0
                for action in (*actions[:place], redteam_tools.IDLE[waste], *actions[place:]):
                    done = TOOLS_WORLD.step(world, action)
                    world, total = done.world, total + done.score.total
                assert total <= episode.total, (one.identity, place)
                lost += total < episode.total
    assert lost


def test_tools_every_tool_is_of_use_to_who_knows_the_faults() -> None:
    used = set()
    # What `claim` asks to be done is drawn; the tools of the other families are always the same ones.
    claims = [TOOLS_WORLD.scenario(f"tools/claim/synthetic/{FIRST + n}") for n in range(60)]
    for one in (*claims, *TOOLS_WORLD.scenarios("synthetic", range(FIRST, FIRST + 25))):
        if used >= set(TOOLS):
            break
        episode = play(TOOLS_WORLD, one, "strict", TOOLS_WORLD.policies["oracle"](one, "strict"))
        used |= {step.action.tool for step in episode.steps}
    assert set(TOOLS) <= used


# -- the incident -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", INCIDENT.tiers)
def test_incident_no_constant_does_better_than_the_best_schedule(tier: str) -> None:
    ceiling = baseline("incident", "blind", tier, 90)
    for name, factory in redteam_incident.CONSTANTS.items():
        assert mean("incident", factory, tier, 90) < ceiling, name


@pytest.mark.parametrize("tier", ["medium", "hard"])
def test_incident_no_rule_of_the_trace_alone_does_as_well_as_the_symptoms(tier: str) -> None:
    ceiling = baseline("incident", "lookup", tier, 90)
    for name, factory in redteam_incident.FLAG_RULES.items():
        assert mean("incident", factory, tier, 90) < ceiling - 5, name
