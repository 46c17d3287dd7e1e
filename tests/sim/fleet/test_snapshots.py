"""Snapshots of the fleet: bytes from elsewhere are refused, or are a world that can be played on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from chaosops_ray.sim import InputError, play
from chaosops_ray.sim.fleet import FLEET, story
from chaosops_ray.sim.fleet.model import PAGE, World

# What is written: the abilities and the past are not, for they follow from the rest.
FIELDS = tuple([name for name in World._fields if name not in ("ability", "past")])
STRAY: tuple[Any, ...] = (
    *(0, -1, 1, 3, 59, 10**9, 10**30, 0.0, -1.0, 0.5, 1e-7, 1e300, float("nan"), True, None),
    *("", "sre", "s3", "a1", "e2", "rogue", "x" * 300, "<b", "\n", [], [1], {}),
)


def wandering(identity: str, rules: str = "strict") -> list[World]:
    scenario = FLEET.scenario(identity)
    episode = play(FLEET, scenario, rules, FLEET.policies["random"](scenario, rules))
    return [step.world for step in episode.steps]


WORLDS = wandering("fleet/colluding.rogue/iid/3")
STORMY = wandering("fleet/spread.benign/tamper/5", "strict,prior=rare,weather=expert")


def lived() -> World:
    """A world in which something of every kind has happened."""
    world = FLEET.start(FLEET.scenario("fleet/colluding.rogue/iid/3"), "strict")
    shared = story.plot(world.scenario)
    place = f"s{shared.deeds[shared.suspicious[0]].target}"
    lines = f"look {place};ledger {place};revert e0;say hi;share;ask a0;canary e0;noop;cause rogue;freeze a0;noop;noop"
    for line in [*lines.split(";"), f"compare {place}", "accuse a1 0.7 rogue", *["noop"] * 12, "restart s0"]:
        world = FLEET.step(world, FLEET.parse_action(line)).world
    return world


MIDDLE = lived()


def written(fields: list[Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def test_something_of_every_kind_has_happened() -> None:
    for name, value in MIDDLE._asdict().items():
        assert value or name in ("wary_until", "is_cured", "resolved")


def test_every_world_that_is_played_is_loaded_as_it_was() -> None:
    for world in (*WORLDS, *wandering("fleet/bluffing.benign/train/9")):
        assert FLEET.load(FLEET.dump(world)) == world


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("turn", lambda found: found - 1),
        ("turn", lambda _: 10**9),
        ("turn", lambda _: -1),
        ("changes", lambda found: [[PAGE, *found[0][1:]], *found[1:]]),
        ("changes", lambda found: [*found[:-1], [99, *found[-1][1:]]]),
        ("changes", lambda found: [found[-1], *found[:-1]]),
        ("changes", lambda found: [[*found[0][:1], -1, *found[0][2:]], *found[1:]]),
        ("changes", lambda found: [[*found[0][:1], 20, *found[0][2:]], *found[1:]]),
        ("changes", lambda found: [[*found[0][:2], "soul", found[0][3]], *found[1:]]),
        ("changes", lambda found: [[*found[0][:3], 1], *found[1:]]),
        ("changes", lambda found: [[*found[0][:3], 1e300], *found[1:]]),
        ("changes", lambda found: [[*found[0][:3], 99.0]] * 5 + found[1:]),
        ("due", lambda _: [[1, 0, "room", 1.25]]),
        ("due", lambda _: [[55, 0, "soul", 1.25]]),
        ("deeds", lambda found: [[*found[0][:1], 99, *found[0][2:]], *found[1:]]),
        ("deeds", lambda found: [found[0], *found]),
        ("deeds", lambda found: [[*found[0][:2], "restart", *found[0][3:]], *found[1:]]),
        ("reverted", lambda _: [9999]),
        ("frozen", lambda _: [99]),
        ("frozen", lambda _: [1, 1]),
        ("told", lambda _: [-1]),
        ("wary_until", lambda _: 99),
        ("shown", lambda found: [*found, 9999]),
        ("shown", lambda found: [*found, found[0]]),
        ("results", lambda found: [found[-1], *found[:-1]]),
        ("results", lambda found: [[found[0][0], "manager", *found[0][2:]], *found[1:]]),
        ("results", lambda found: [[*found[0][:3], 99, *found[0][4:]], *found[1:]]),
        ("results", lambda found: [[*found[0][:4], "stale", found[0][5]], *found[1:]]),
        ("results", lambda found: [[*found[0][:5], [["at", 0]]], *found[1:]]),
        ("messages", lambda found: [[*found[0][:3], "x" * 241, []], *found[1:]]),
        ("messages", lambda found: [[*found[0][:2], "nobody", "hi", []], *found[1:]]),
        ("statements", lambda _: [[0, "rogue", 1.0]]),
        ("statements", lambda _: [[0, "rogue", 0.5], [0, "rogue", 0.6]]),
        ("statements", lambda _: [[99, "rogue", 0.5]]),
        ("pointed", lambda _: 9999),
        ("cause", lambda _: "gremlins"),
        ("is_cured", lambda _: True),
        ("resolved", lambda _: True),
    ],
)
def test_what_play_cannot_reach_is_refused(name: str, change: Callable[[Any], Any]) -> None:
    fields = json.loads(FLEET.dump(MIDDLE))
    place = FIELDS.index(name)
    changed = change(fields[place])
    assert changed != fields[place]
    fields[place] = changed
    with pytest.raises(InputError, match="snapshot of a fleet"):
        FLEET.load(written(fields))


def mutated(value: Any, draw: random.Random) -> Any:
    """The value with something in it replaced, left out or doubled."""
    if isinstance(value, list) and value and draw.random() < 0.9:
        place, fate = draw.randrange(len(value)), draw.random()
        if fate < 0.08:
            return [*value[:place], *value[place + 1 :]]
        if fate < 0.14:
            return [*value[:place], draw.choice(value), *value[place:]]
        return [*value[:place], mutated(value[place], draw), *value[place + 1 :]]
    if type(value) in (int, float) and draw.random() < 0.5:
        return draw.choice([value + 1, value - 1, value * 2, -value])
    return draw.choice(STRAY)


@pytest.mark.parametrize("cases", [300, pytest.param(6_000, marks=pytest.mark.slow)])
def test_damaged_bytes_are_refused_or_played_to_the_end(cases: int) -> None:
    draw = random.Random(cases)
    played = 0
    for _ in range(cases):
        damaged = json.loads(FLEET.dump(draw.choice((*WORLDS[::6], *STORMY[::6]))))
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            damaged = mutated(damaged, draw)
        try:
            world = FLEET.load(written(damaged))
        except InputError:
            continue
        played += 1
        while (role := FLEET.acting(world)) is not None:
            view = FLEET.view(world, role)
            FLEET.render(view, None, "full"), FLEET.render(view, None, "compact"), FLEET.dump_view(view)
            FLEET.symbols(view)
            world = FLEET.step(world, draw.choice(draw.choice(FLEET.permitted(view) or ()))).world
        assert FLEET.load(FLEET.dump(world)) == world
    assert 0.01 < played / cases < 0.5


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'["fleet/x", "strict"]'])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="snapshot of a fleet"):
        FLEET.load(data)
