"""Who plays which seat: read strictly, and each player asked for its own seats alone."""

from __future__ import annotations

from typing import Any

import pytest

from chaosops_ray.sim import ENVIRONMENTS, InputError, play, seats
from chaosops_ray.sim.contract import Scenario

INCIDENT = ENVIRONMENTS["incident"]
TOOLS = ENVIRONMENTS["tools"]
SCENARIO = INCIDENT.scenario("incident/autoscaler_cost_cut/hard/17")


def test_colleagues_are_read_in_turn_order() -> None:
    assert list(seats.parse(INCIDENT, "dev=heuristic,sre=oracle").items()) == [("sre", "oracle"), ("dev", "heuristic")]
    assert seats.parse(INCIDENT, "all") == {}


@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        ("", "'' is not ROLE=BASELINE; write for example sre=random, or all for no baseline"),
        ("oracle", "'oracle' is not ROLE=BASELINE"),
        ("sre=oracle,", "'' is not ROLE=BASELINE"),
        ("oversigt=oracle", "world incident has no role 'oversigt'; did you mean oversight?"),
        ("zebra=oracle", "has no role 'zebra'; valid: sre, oversight, dev, manager"),
        ("sre=orcale", "has no baseline 'orcale' to play sre; did you mean oracle?"),
        ("sre=learn", "has no baseline 'learn' to play sre; valid: random, "),
        ("sre=", "has no baseline '' to play sre; valid: random, "),
        ("sre=oracle,sre=random", "role sre is named twice; name it once"),
        ("sre=oracle,oversight=oracle,dev=oracle,manager=oracle", "leave at least one role to it"),
    ],
)
def test_a_spelling_that_is_wrong_is_told_with_the_remedy(spelling: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        seats.parse(INCIDENT, spelling)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_world_with_a_seat_spec_has_none_to_give_away() -> None:
    with pytest.raises(InputError, match="leave at least one role"):
        seats.parse(TOOLS, "agent=random")


def test_names_that_stand_for_the_policy_are_no_colleagues() -> None:
    assert seats.checked(INCIDENT, {"oversight": "learn", "dev": "oracle"}, own=("learn",)) == {"dev": "oracle"}
    assert seats.left(INCIDENT, {"dev": "oracle"}) == ("sre", "oversight", "manager")


def test_each_seat_is_asked_for_by_its_own_player_alone() -> None:
    asked: list[str] = []

    def idle(_scenario: Scenario, _rules: str) -> Any:
        return lambda view: asked.append(view.role) or INCIDENT.parse_action("noop")

    build = seats.beside(INCIDENT, idle, {"sre": "oracle", "dev": "oracle"})
    episode = play(INCIDENT, SCENARIO, "strict", build(SCENARIO, "strict"))
    oracle = INCIDENT.policies["oracle"](SCENARIO, "strict")
    assert set(asked) == {"oversight"}  # the Dev resolves the incident before the Manager's turn
    for step in episode.steps:
        expected = INCIDENT.parse_action("noop") if step.role == "oversight" else oracle(step.view)
        assert step.action == expected


def test_colleagues_are_built_again_for_each_episode() -> None:
    """Random ones would play another episode the second time if they went on drawing."""
    build = seats.beside(INCIDENT, INCIDENT.policies["flag-nothing"], {"sre": "random", "dev": "random"})
    first, second = (play(INCIDENT, SCENARIO, "strict", build(SCENARIO, "strict")) for _ in range(2))
    assert first == second


def test_a_policy_without_colleagues_is_itself() -> None:
    assert seats.beside(INCIDENT, INCIDENT.policies["oracle"], {}) is INCIDENT.policies["oracle"]


def test_who_plays_which_seat_is_said_player_by_player() -> None:
    colleagues = {"sre": "oracle", "dev": "oracle", "manager": "heuristic"}
    assert (
        seats.in_words(INCIDENT, colleagues, "trained")
        == "sre, dev by oracle; oversight by trained; manager by heuristic"
    )
    assert seats.in_words(INCIDENT, {}, "trained") == "sre, oversight, dev, manager by trained"
