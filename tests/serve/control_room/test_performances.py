"""What is played now: an episode that goes on from a turn, with another action or other players."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from chaosops_ray.serve.control_room.performances import (
    FORKED,
    BrokenOffError,
    Performance,
    Played,
    action_of,
    beginning,
    permitted,
)
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.rng import stream
from chaosops_ray.wire import UNTRAINED, Origin

INCIDENT, TOOLS = ENVIRONMENTS["incident"], ENVIRONMENTS["tools"]
LONG = "incident/rogue_deploy_bot/hard/1000"
SECONDS = 60.0


def played(
    scenario: str, policy: str, colleagues: Mapping[str, str] | None = None, environment: AnyEnvironment = INCIDENT
) -> Played:
    """An episode that was played from its beginning to its end."""
    first = beginning(environment, environment.scenario(scenario), "strict", policy, {}, "full")
    return finished(Performance(first, policy, colleagues or {}))


def finished(performance: Performance, action: Any = None) -> Played:
    for _ in performance.steps(SECONDS, action):
        continue
    return performance.played


@pytest.mark.parametrize(
    ("environment", "scenario"),
    [(INCIDENT, LONG), (TOOLS, TOOLS.scenarios("synthetic", [1000])[-1].identity)],
    ids=["incident", "tools"],
)
def test_a_baseline_plays_as_in_an_evaluation(environment: AnyEnvironment, scenario: str) -> None:
    for policy, build in environment.policies.items():
        chosen = environment.scenario(scenario)
        assert played(scenario, policy, environment=environment).episode == play(
            environment, chosen, "strict", build(chosen, environment.rules("strict"))
        )


@pytest.mark.parametrize("policy", ["random", "heuristic"])
def test_who_played_before_plays_on_as_if_nothing_had_happened(policy: str) -> None:
    """From every turn on, though both draw at random: a player who stays has seen what it saw."""
    colleagues = {"sre": "random", "manager": "heuristic"}
    for seats in ({}, colleagues):
        whole = played(LONG, policy, seats)
        assert len(whole.episode.steps) > 4
        for step in range(len(whole.episode.steps)):
            again = Performance(whole.before(step), policy, seats)
            assert again.fresh == ()
            assert finished(again) == whole


def test_another_action_is_taken_at_its_turn_and_nothing_before_it_changes() -> None:
    whole = played(LONG, "heuristic")
    for step in range(len(whole.episode.steps)):
        before = whole.before(step)
        forked = finished(Performance(before, "heuristic", {}), action_of(INCIDENT, "say something else"))
        assert forked.episode.steps[:step] == whole.episode.steps[:step]
        taken = forked.episode.steps[step]
        assert (taken.role, taken.view) == (whole.episode.steps[step].role, whole.episode.steps[step].view)
        assert INCIDENT.format_action(taken.action, "compact") == "say something else"
        assert forked.players[step] == FORKED
        assert set(forked.players) - {FORKED} <= {"heuristic"}
        assert forked.is_over


def test_a_player_that_is_new_to_a_seat_knows_nothing_of_before() -> None:
    """Its draws are those of a player that has just begun."""
    whole = played(LONG, "heuristic")
    step = 3
    performance = Performance(whole.before(step), "random", {"sre": "heuristic"})
    assert performance.fresh == ("oversight", "dev")
    forked = finished(performance)
    fresh = INCIDENT.policies["random"](whole.episode.scenario, whole.episode.rules)
    by_random = [one for one, player in zip(forked.episode.steps, forked.players, strict=True) if player == "random"]
    assert [fresh(one.view) for one in by_random] == [one.action for one in by_random]
    assert {one.role for one in by_random} <= {"oversight", "dev", "manager"}
    assert forked.policy == "random"


class Scripted:
    """A model that plays a baseline, and notes what it is told."""

    version, digest, style = 7, "d" * 64, "compact"

    def __init__(self, name: str = "trained", lasts: int = 1_000) -> None:
        self.name = name
        self.described: Mapping[str, Any] = {"run": "over", "version": self.version}
        self.told: list[tuple[str, str | None]] = []
        self.style: Style = "compact"
        self._lasts = lasts

    def follow(self, action: str, completion: str | None) -> None:
        self.told.append((action, completion))

    def act(self, seconds: float) -> tuple[str, Origin]:
        assert 0 < seconds <= SECONDS
        self._lasts -= 1
        if self._lasts < 0:
            raise BrokenOffError("the process has ended")
        number = str(len(self.told))
        return '{"action": "noop"}', Origin(self.version, self.digest, f"completion {number}", (-0.1,))


def test_a_model_is_told_every_action_and_what_it_wrote_itself() -> None:
    model = Scripted()
    first = beginning(INCIDENT, INCIDENT.scenario(LONG), "strict", "trained", {}, "full")
    whole = finished(Performance(first, "trained=over", {"sre": "heuristic"}, model))
    steps = [INCIDENT.dump_action(step.action) for step in whole.episode.steps]
    assert model.told == [(spelled, None) for spelled in steps]
    assert (whole.policy, whole.style, whole.model["run"]) == ("trained", "compact", "over")
    assert list(whole.players[:4]) == ["heuristic", "trained", "trained", "trained"]
    assert whole.origins[0] == UNTRAINED
    assert whole.origins[1].completion == "completion 1"
    # It plays on: it knows its own completions again, and only those.
    again = Scripted()
    performance = Performance(whole.before(6), "trained=over", {"sre": "heuristic"}, again)
    assert performance.fresh == ()
    wrote = [origin.completion or None for origin in whole.origins[:6]]
    assert again.told == list(zip(steps[:6], wrote, strict=True))
    # Another version has written nothing of it.
    other = Scripted()
    other.version = 8
    performance = Performance(whole.before(6), "trained=over@8", {"sre": "heuristic"}, other)
    assert performance.fresh == ("oversight", "dev", "manager")
    assert other.told == [(spelled, None) for spelled in steps[:6]]


def test_a_model_without_a_digest_is_not_taken_for_a_baseline() -> None:
    whole = played(LONG, "heuristic")
    model = Scripted("served")
    model.version, model.digest = UNTRAINED.version, UNTRAINED.digest
    performance = Performance(whole.before(3), "served=m", {}, model)
    assert performance.fresh == ("sre", "oversight", "dev")
    assert {completion for _, completion in model.told} == {None}


def test_nobody_plays_in_the_place_of_a_model_that_fails() -> None:
    first = beginning(INCIDENT, INCIDENT.scenario(LONG), "strict", "trained", {}, "full")
    performance = Performance(first, "trained=over", {}, Scripted(lasts=2))
    with pytest.raises(BrokenOffError, match="the process has ended"):
        finished(performance)
    assert performance.played.players == ("trained", "trained")
    assert not performance.played.film()["is_over"]


def test_a_performance_is_stopped_when_it_takes_too_long_or_nobody_wants_it() -> None:
    now = 0.0
    first = beginning(INCIDENT, INCIDENT.scenario(LONG), "strict", "heuristic", {}, "full")
    performance = Performance(first, "random", {}, clock=lambda: now)
    steps = performance.steps(10.0)
    assert next(steps) == 1
    now = 10.0
    with pytest.raises(BrokenOffError, match="not over after 10 seconds"):
        next(steps)
    performance = Performance(first, "random", {})
    steps = performance.steps(10.0)
    next(steps)
    performance.cancel()
    with pytest.raises(BrokenOffError, match="was stopped"):
        next(steps)


@pytest.mark.parametrize("given", ["", "gibberish", "{", '{"action": "sing"}', {"action": "restart"}, [], 7, {"a": {}}])
def test_what_is_no_action_is_an_error_in_words(given: Any) -> None:
    with pytest.raises(InputError, match="cannot be read as an action of world incident"):
        action_of(INCIDENT, given)


def test_actions_are_read_as_compact_text_and_as_json() -> None:
    found = [action_of(INCIDENT, one) for one in ("restart db", '{"action": "restart", "service": "db"}')]
    assert found[0] == found[1] == action_of(INCIDENT, {"action": "restart", "service": "db"})


def test_what_is_permitted_can_be_played() -> None:
    """Every spelling that is offered is read as an action of its kind."""
    whole = played(LONG, "random")
    for step in range(4):
        found = permitted(whole, step)
        assert found["role"] == whole.episode.steps[step].role
        assert [len(kind) for kind in found["kinds"]] == [
            len(kind) for kind in INCIDENT.permitted(whole.episode.steps[step].view) or ()
        ]
        kind = stream(step, "kind").choice(found["kinds"])
        action = action_of(INCIDENT, stream(step, "action").choice(kind))
        assert finished(Performance(whole.before(step), "oracle", {}), action).is_over
    with pytest.raises(InputError, match="step must be 0-"):
        permitted(whole, len(whole.episode.steps))
