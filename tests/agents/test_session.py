"""A session gives what an episode gives: the same turns, texts, rewards, and the same record."""

from __future__ import annotations

import doctest
import math
from collections.abc import Mapping
from typing import Any

import pytest

from chaosops_ray.agents import session as session_module
from chaosops_ray.agents.seat import Seat
from chaosops_ray.agents.session import OVER, Earned, Session
from chaosops_ray.sim import InputError, environment_named, play, seats
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Scenario

INCIDENT, TOOLS = environment_named("incident"), environment_named("tools")
ROGUE = INCIDENT.scenario("incident/rogue_deploy_bot/hard/7")
QUESTION = TOOLS.scenarios("synthetic", [3])[-1]
HEURISTIC = dict.fromkeys(("sre", "dev", "manager"), "heuristic")
CASES = [
    pytest.param(INCIDENT, ROGUE, {}, "random", id="all seats"),
    pytest.param(INCIDENT, ROGUE, HEURISTIC, "random", id="oversight alone"),
    pytest.param(INCIDENT, ROGUE, {"oversight": "oracle"}, "heuristic", id="all but oversight"),
    pytest.param(TOOLS, QUESTION, {}, "oracle", id="one agent"),
]


def played(
    environment: AnyEnvironment, scenario: Scenario, colleagues: Mapping[str, str], policy: str
) -> tuple[Session, list[Earned], list[tuple[str, str]], AnyEpisode]:
    """A session and, beside it, the episode that the same policies play by themselves."""
    rules = environment.rule_sets[0]
    build = environment.policies[policy]
    expected = play(environment, scenario, rules, seats.beside(environment, build, colleagues)(scenario, rules))
    choose = build(scenario, rules)
    session = Session(environment, scenario, rules, seats.built(environment, colleagues, scenario, rules))
    earned, told = [], []
    while session.role is not None:
        told.append((session.role, session.text))
        earned.append(session.act(choose(session.view)))
    return session, earned, told, expected


@pytest.mark.parametrize(("environment", "scenario", "colleagues", "policy"), CASES)
def test_a_session_plays_the_episode_that_the_policies_play(
    environment: AnyEnvironment, scenario: Scenario, colleagues: Mapping[str, str], policy: str
) -> None:
    session, _, _, expected = played(environment, scenario, colleagues, policy)
    assert session.episode == expected
    assert environment.dump(session.episode.end) == environment.dump(expected.end)
    assert (session.text, session.is_over) == (OVER, True)


@pytest.mark.parametrize(("environment", "scenario", "colleagues", "policy"), CASES)
def test_the_rewards_add_up_to_the_return(
    environment: AnyEnvironment, scenario: Scenario, colleagues: Mapping[str, str], policy: str
) -> None:
    _, earned, _, expected = played(environment, scenario, colleagues, policy)
    assert all(one.reward == sum(one.components.values()) for one in earned)
    assert math.isclose(sum(one.reward for one in earned), expected.total, abs_tol=1e-9)
    for name in environment.streams(expected.steps[0].score):
        whole = sum(environment.streams(step.score)[name] for step in expected.steps)
        assert math.isclose(sum(one.streams[name] for one in earned), whole, abs_tol=1e-9)


@pytest.mark.parametrize(("environment", "scenario", "colleagues", "policy"), CASES)
def test_each_seat_is_told_all_of_its_view_once_and_then_what_is_new(
    environment: AnyEnvironment, scenario: Scenario, colleagues: Mapping[str, str], policy: str
) -> None:
    _, _, told, expected = played(environment, scenario, colleagues, policy)
    reading: dict[str, Seat] = {}
    views = [(step.role, step.view) for step in expected.steps if step.role not in colleagues]
    assert len(told) == len(views)
    for (role, text), (acting, view) in zip(told, views, strict=True):
        assert role == acting
        seat = reading.setdefault(role, Seat(environment, role, expected.rules, "full"))
        assert text == seat.read(view)


def test_a_completion_is_read_as_a_language_model_writes_it() -> None:
    session = Session(INCIDENT, ROGUE, "strict")
    other = Session(INCIDENT, ROGUE, "strict")
    said = session.say('The log says so. {"action": "identify_root_cause", "failure_type": "rogue_deploy_bot"}')
    assert said == other.act(INCIDENT.call("identify_root_cause", {"failure_type": "rogue_deploy_bot"}))
    assert session.episode == other.episode


def test_the_system_prompt_is_that_of_the_seat_whose_turn_it_is() -> None:
    session = Session(INCIDENT, ROGUE, "strict", style="compact")
    for role in INCIDENT.roles:
        assert session.system_prompt == INCIDENT.system_prompt(role, "strict", "compact")
        assert session.opening == ()
        session.act(None)


def test_a_session_that_is_over_takes_nothing_more() -> None:
    session, *_ = played(TOOLS, QUESTION, {}, "oracle")
    episode = session.episode
    for attempt in (lambda: session.act(None), lambda: session.say("noop"), lambda: session.system_prompt):
        with pytest.raises(InputError, match="over"):
            attempt()
    assert session.episode == episode


def test_an_episode_in_which_no_turn_is_left_is_refused() -> None:
    """Dev repairs the service before Manager's first turn. The error may reach a stranger, so it names no scenario."""
    scenario = INCIDENT.scenario("incident/db_deadlock/easy/0")
    colleagues = dict.fromkeys(("sre", "oversight", "dev"), "oracle")
    with pytest.raises(InputError, match="no turn is left to the caller") as refused:
        Session(INCIDENT, scenario, "strict", seats.built(INCIDENT, colleagues, scenario, "strict"))
    assert "db_deadlock" not in str(refused.value)


def test_anything_may_be_passed_as_an_action() -> None:
    session = Session(TOOLS, QUESTION, "strict")
    strays: list[Any] = [None, {"tool": "calculator"}, object(), float("nan"), "\ud800"]
    while not session.is_over:
        assert math.isfinite(session.act(strays[len(session.episode.steps) % len(strays)]).reward)


def test_the_example_in_the_module() -> None:
    assert doctest.testmod(session_module).failed == 0
