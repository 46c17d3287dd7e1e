"""Nothing that a role can see depends on what it must not know."""

import random
import re
from itertools import pairwise

import pytest

from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import ROLES, World
from chaosops_ray.sim.incident.scenarios import scenario
from chaosops_ray.sim.incident.text import vocabulary
from chaosops_ray.sim.incident.views import View

INCIDENT = ENVIRONMENTS["incident"]
STYLES = ("full", "compact")


def wandering_worlds(rules: str, number: int) -> list[World]:
    """Worlds in the middle of episodes, with chat, private messages, flags and damage in them."""
    draw = random.Random(number)
    begun = INCIDENT.scenario(f"incident/{draw.choice(list(FAILURES))}/{draw.choice(INCIDENT.tiers)}/{number}")
    world = INCIDENT.start(begun, rules)
    worlds = [world]
    while (role := INCIDENT.acting(world)) is not None:
        world = INCIDENT.step(world, draw.choice(draw.choice(vocabulary(role)))).world
        worlds.append(world)
    return worlds


def relabelled(world: World, draw: random.Random) -> World:
    """The same observable state with other hidden labels: failure (and so the rogue), seed, intents, decoy marks."""
    failure = draw.choice(list(FAILURES))
    return world._replace(
        scenario=scenario(failure, world.scenario.tier, draw.randrange(10**9)),
        intents=tuple(draw.choice(("routine", "malice", "greed")) for _ in world.intents),
        decoys=tuple(draw.random() < 0.5 for _ in world.decoys),
        first_declaration=draw.randrange(5),
        root_cause_known=draw.random() < 0.5,
        flags=tuple(draw.sample(("autoscaler", "load_balancer", "deploy_bot", "skynet"), draw.randrange(5))),
    )


def bytes_seen(world: World, role: str, since: View | None) -> list[bytes]:
    """Everything about this world that ever reaches the role."""
    view = INCIDENT.view(world, role)
    words = [INCIDENT.render(view, earlier, style) for style in STYLES for earlier in (None, since)]
    return [text.encode() for text in (INCIDENT.dump_view(view), repr(view), *words)]


@pytest.mark.parametrize("rules", ["strict", "published"])
def test_every_byte_a_role_sees_is_the_same_whatever_the_hidden_labels(rules: str) -> None:
    draw = random.Random(5)
    for number in range(60):
        worlds = wandering_worlds(rules, number)
        for earlier, world in pairwise(worlds):
            other = relabelled(world, draw)
            for role in ROLES:
                since = INCIDENT.view(earlier, role)
                assert bytes_seen(world, role, since) == bytes_seen(other, role, since)


def test_the_brief_depends_on_role_and_rules_alone() -> None:
    """It takes nothing else, so it can say nothing else; and Oversight's states no rule by which a rogue is known."""
    brief = INCIDENT.system_prompt("oversight", "strict", "full")
    for giveaway in ("scale_down", "route_override", "push_config", "payments", "cost_cut", "routing"):
        assert giveaway not in brief


@pytest.mark.parametrize("failure", FAILURES)
def test_what_is_seen_names_no_failure_no_rogue_no_intent_and_no_decoy(failure: str) -> None:
    misdeed = FAILURES[failure].misdeed
    hidden = [*FAILURES, "rogue", "decoy", "herring", "hard", "incident", *([misdeed.intent] if misdeed else [])]
    pattern = re.compile(r"\b(" + "|".join(hidden) + r")\b")
    for seed in range(50):
        world = INCIDENT.start(INCIDENT.scenario(f"incident/{failure}/hard/{seed}"), "strict")
        for role in ROLES:
            seen = b"\n".join(bytes_seen(world, role, None)).decode()
            assert pattern.findall(seen) == []


def test_another_roles_inbox_is_in_no_view() -> None:
    world = INCIDENT.start(INCIDENT.scenario("incident/cascade/hard/3"), "strict")
    world = INCIDENT.step(world, INCIDENT.parse_action('say @dev the word is "marmalade"')).world
    for role in ROLES:
        seen = b"\n".join(bytes_seen(world, role, None)).decode()
        assert ("marmalade" in seen) == (role == "dev")


def test_an_inbox_shows_the_last_eight() -> None:
    world = INCIDENT.start(INCIDENT.scenario("incident/cascade/hard/3"), "published")
    for number in range(12):
        world = INCIDENT.step(world, INCIDENT.parse_action(f"say @dev number {number}")).world
    inbox = INCIDENT.view(world, "dev").inbox
    assert [message.text for message in inbox] == [f"number {number}" for number in range(4, 12)]


def test_windows_are_those_of_the_table() -> None:
    world = INCIDENT.start(INCIDENT.scenario("incident/cascade/hard/3"), "published")
    for _ in range(3):
        for _ in ROLES:
            world = INCIDENT.step(world, INCIDENT.parse_action("say hello")).world
    views = {role: INCIDENT.view(world, role) for role in ROLES}
    assert {role: view.services is not None for role, view in views.items()} == {
        "sre": True,
        "oversight": True,
        "dev": True,
        "manager": False,
    }
    assert {role: view.logs and len(view.logs) for role, view in views.items()} == {
        "sre": 6,
        "oversight": 6,
        "dev": 3,
        "manager": None,
    }
    assert [role for role, view in views.items() if view.fleet is not None] == ["oversight"]
    assert all(len(view.alerts) == 1 and len(view.chat) == 8 for view in views.values())
    assert views["sre"].logs == world.logs[-6:]
    assert views["dev"].logs == world.logs[-3:]
