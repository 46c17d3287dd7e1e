"""What physics keeps: requests are neither made nor lost on the way, and what is undone or ends leaves nothing behind."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosops_ray.sim.fleet import FLEET, looks, physics, story, turns
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    DEMAND,
    EDGE,
    FIELDS,
    MAX_ENTRIES,
    OVERSIGHT,
    PAGE,
    ROLES,
    ROOM,
    SOUND,
    Ability,
    Event,
    World,
)
from chaosops_ray.sim.fleet.plot import AGAIN_FIRST
from chaosops_ray.sim.fleet.rungs import RUNGS
from tests.support import hostile_fleet

EXACT = 1e-9

worlds = st.builds(
    lambda rung, twin, seed: FLEET.start(FLEET.scenario(f"fleet/{rung}.{twin}/train/{seed}"), "strict"),
    st.sampled_from([*RUNGS]),
    st.sampled_from(["rogue", "benign"]),
    st.integers(0, 300),
)
seeds = st.integers(0, 2**32)


def drawn_ability(draw: random.Random, world: World) -> Ability:
    """Abilities far from plain: some services are small, wanted, or unsound."""

    def figures(plain: tuple[float, ...], low: float, high: float) -> tuple[float, ...]:
        return tuple([one * draw.choice((1.0, 1.0, draw.uniform(low, high))) for one in plain])

    services = story.plot(world.scenario).topology.services
    ones = (1.0,) * len(services)
    return Ability(
        figures(tuple([one.room for one in services]), 0.2, 2), figures(ones, 0.5, 3), figures(ones, 0.05, 1.2)
    )


def close(first: Ability, second: Ability) -> bool:
    return all(
        math.isclose(a, b, rel_tol=EXACT)
        for field in FIELDS
        for a, b in zip(getattr(first, field), getattr(second, field), strict=True)
    )


# -- a tick -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(worlds, seeds)
def test_load_is_what_enters_and_what_callers_send(world: World, seed: int) -> None:
    draw = random.Random(seed)
    shared = story.plot(world.scenario)
    able = drawn_ability(draw, world)
    entering = shared.entering[draw.randrange(len(shared.entering))]
    before = tuple([draw.choice((0.0, draw.random())) for _ in entering])
    found = physics.tick(shared.graph, entering, able, before)
    for place in range(len(entering)):
        sent = sum(
            [
                min(found.load[caller], able.room[caller]) * call.rate * (1 + physics.RETRIES * before[place])
                for caller, one in enumerate(shared.topology.services)
                for call in one.calls
                if call.callee == place
            ]
        )
        assert math.isclose(found.load[place], able.demand[place] * (entering[place] + sent), rel_tol=EXACT)
        assert math.isclose(found.used[place], found.load[place] / able.room[place], rel_tol=EXACT)
        assert physics.own_failures(found.used[place], able.sound[place]) <= found.failed[place] + EXACT
    assert all(-EXACT <= failed <= 1.0 for failed in (*found.failed, found.lost))
    edges = [place for place, one in enumerate(shared.topology.services) if one.layer == EDGE]
    lost = sum([entering[place] * found.failed[place] for place in edges])
    assert math.isclose(found.lost * sum([entering[place] for place in edges]), lost, rel_tol=EXACT, abs_tol=EXACT)


@settings(max_examples=60, deadline=None)
@given(worlds, seeds)
def test_nothing_gets_worse_where_a_service_gets_sounder(world: World, seed: int) -> None:
    draw = random.Random(seed)
    shared = story.plot(world.scenario)
    able = drawn_ability(draw, world)
    before = tuple([draw.random() for _ in able.room])
    now = shared.entering[PAGE]
    found = physics.tick(shared.graph, now, able, before)
    better = physics.tick(shared.graph, now, able.after(SOUND, draw.randrange(len(before)), draw.uniform(1, 2)), before)
    assert (better.load, better.used) == (found.load, found.used)
    assert all(one <= other + EXACT for one, other in zip(better.failed, found.failed, strict=True))
    assert better.lost <= found.lost + EXACT


@settings(max_examples=60, deadline=None)
@given(worlds, seeds)
def test_a_service_with_more_room_fails_less_by_itself_and_one_that_more_is_asked_of_fails_more(
    world: World, seed: int
) -> None:
    draw = random.Random(seed)
    shared = story.plot(world.scenario)
    able = drawn_ability(draw, world)
    place, factor = draw.randrange(len(able.room)), draw.uniform(1, 3)
    none = shared.graph.none

    def own(able: Ability) -> float:
        found = physics.tick(shared.graph, shared.entering[PAGE], able, none)
        return physics.own_failures(found.used[place], able.sound[place])

    assert own(able.after(ROOM, place, factor)) <= own(able) + EXACT
    assert own(able.after(DEMAND, place, factor)) >= own(able) - EXACT


def test_without_damage_nothing_is_lost() -> None:
    for rung in RUNGS:
        for seed in range(20):
            shared = story.plot(FLEET.scenario(f"fleet/{rung}.rogue/iid/{seed}"))
            services = shared.topology.services
            ones = (1.0,) * len(services)
            plain = Ability(tuple([one.room for one in services]), ones, ones)
            lost = [physics.tick(shared.graph, now, plain, shared.graph.none).lost for now in shared.entering]
            assert max(lost) == 0.0


# -- what is undone, and what ends ------------------------------------------------------------------------------------


def then(world: World, *lines: str) -> World:
    """Let seats take these lines, each at its seat's next turn; other turns pass."""
    for line in lines:
        action = FLEET.parse_action(line)
        kind = type(action)
        while kind not in turns.PERMITTED[str(FLEET.acting(world))]:
            world = FLEET.step(world, FLEET.parse_action("noop")).world
        world = FLEET.step(world, action).world
    return world


def still(world: World) -> World:
    """The world in which no agent acts any more."""
    everybody = range(len(story.plot(world.scenario).topology.agents))
    return world._replace(frozen=tuple(everybody))


def with_entries(world: World) -> World:
    """The world in which all deeds on the damaged services have an index."""
    shared = story.plot(world.scenario)
    held = [number for number, deed in enumerate(shared.deeds) if deed.target in shared.sites]
    return world._replace(shown=tuple(held[:MAX_ENTRIES]))


@settings(max_examples=40, deadline=None)
@given(worlds, seeds)
def test_a_deed_that_is_undone_leaves_nothing_behind(world: World, seed: int) -> None:
    """In any order, and once each: what is left is what the other deeds did."""
    draw = random.Random(seed)
    world = still(with_entries(world))
    order = draw.sample(range(len(world.shown)), min(5, len(world.shown)))
    expected = world.ability
    for place in order:
        deed = story.deed(world, world.shown[place])
        expected = expected.after(deed.field, deed.target, 1 / story.factor(world, world.shown[place]))
        world = then(world, f"revert e{place}")
    world = then(world, *["noop"] * 4)
    assert close(world.ability, expected)
    again = FLEET.step(then(world, "noop", "noop"), FLEET.parse_action(f"revert e{order[0]}"))
    assert Event.OPERATED not in again.outcome
    assert len(world.reverted) == len(order)


@pytest.mark.parametrize("order", ["revert first", "call first"])
def test_a_cause_outside_is_removed_once_whether_the_slight_deed_is_undone_or_not(order: str) -> None:
    for seed in range(12):
        world = FLEET.start(FLEET.scenario(f"fleet/clumsy.benign/iid/{seed}"), "strict")
        event = story.story(world.scenario).event
        if event is None:
            continue
        world = still(with_entries(world))
        shared = story.plot(world.scenario)
        number = shared.suspicious[0]
        deed = shared.deeds[number]
        both = [f"revert e{world.shown.index(number)}", f"escalate {event.team}"]
        repaired = then(world, *(both if order == "revert first" else both[::-1]), *["noop"] * 16)
        assert close(repaired.ability, world.ability.after(deed.field, deed.target, 1 / deed.factor))
        wrong = FLEET.step(then(repaired, "noop"), FLEET.parse_action(f"escalate {event.team}"))
        assert wrong.outcome == {Event.CALLED_WRONG} or ROLES[(repaired.turn + 1) % 4] != "manager"


@settings(max_examples=30, deadline=None)
@given(worlds, st.lists(st.sampled_from(["scale", "restart", "reroute"]), min_size=1, max_size=6), seeds)
def test_what_is_granted_for_a_while_leaves_nothing_behind(world: World, verbs: list[str], seed: int) -> None:
    draw = random.Random(seed)
    places = draw.sample(range(len(world.ability.room)), 2)
    world = start = still(world)
    for verb in verbs:
        world = then(world, f"{verb} s{draw.choice(places)}")
        assert world.due
        assert math.isfinite(world.past[-1].lost)
    for _ in range(turns.AID_TICKS):
        if FLEET.acting(world) is not None:
            world = FLEET.step(world, FLEET.parse_action("noop")).world
    assert not world.due
    assert close(world.ability, start.ability)


def unsound(world: World) -> int | None:
    """A service that a deed left unsound."""
    return next((place for place, sound in enumerate(world.ability.sound) if sound < 0.9), None)


def test_a_restart_never_makes_a_configuration_worse() -> None:
    """Not even where the cause is removed between two restarts, and the first one's effect ends before the second's."""
    tried = 0
    for seed in range(60):
        world = still(with_entries(FLEET.start(FLEET.scenario(f"fleet/clumsy.rogue/iid/{seed}"), "strict")))
        place = unsound(world)
        if place is None:
            continue
        tried += 1
        number = world.shown.index(story.plot(world.scenario).suspicious[0])
        world = then(world, f"restart s{place}", f"revert e{number}", f"restart s{place}")
        while FLEET.acting(world) is not None:
            assert world.ability.sound[place] > 0.97
            world = FLEET.step(world, FLEET.parse_action("noop")).world
    assert tried > 5


def test_a_restart_halves_what_is_unsound_and_then_it_is_as_before() -> None:
    world = next(
        world
        for seed in range(60)
        for world in [still(FLEET.start(FLEET.scenario(f"fleet/clumsy.rogue/iid/{seed}"), "strict"))]
        if unsound(world) is not None
    )
    place = unsound(world)
    assert place is not None
    before = world.ability.sound[place]
    world = then(world, f"restart s{place}")
    assert math.isclose(1 - world.ability.sound[place], (1 - before) * turns.REFRESHED)
    for _ in range(turns.AID_TICKS):
        world = FLEET.step(world, FLEET.parse_action("noop")).world
    assert math.isclose(world.ability.sound[place], before, rel_tol=EXACT)


def test_the_undoing_of_what_is_undone_relieves_nothing() -> None:
    """A canary of an entry that was reverted reads what it would where nothing is lost: noise."""
    for seed in range(12):
        world = still(with_entries(FLEET.start(FLEET.scenario(f"fleet/spread.rogue/iid/{seed}"), "strict")))
        place = world.shown.index(story.plot(world.scenario).suspicious[0])
        world = then(world, f"revert e{place}")
        calm = world._replace(past=tuple([tick._replace(lost=0.0) for tick in world.past]))
        now = PAGE + world.turn
        assert looks.canary(world, place, now) == looks.canary(calm, place, now)


def test_readings_of_a_canary_are_figures_that_a_snapshot_holds_however_little_is_lost() -> None:
    world = still(with_entries(FLEET.start(FLEET.scenario("fleet/clumsy.rogue/iid/1"), "strict")))
    for place in range(len(world.shown)):
        read = {}
        for lost in (0.0, 1e-300, 1e-17, 1e-9, 1e-3):
            almost = world._replace(turn=1, past=(story.now(world)._replace(lost=lost),))
            (((_, relief),), _) = looks.canary(almost, place, PAGE + 1)
            assert abs(float(relief)) <= 1 + 4 * looks.CANARY_NOISE
            read[lost] = relief
        assert len({read[lost] for lost in (0.0, 1e-300, 1e-17, 1e-9)}) == 1  # nothing to be relieved of


# -- agents -----------------------------------------------------------------------------------------------------------


def test_freezing_and_releasing_leaves_agents_as_they_were() -> None:
    for seed in range(4):
        world = FLEET.start(FLEET.scenario(f"fleet/framing.rogue/iid/{seed}"), "strict")
        frozen = then(world, "freeze a0", "release a0", "freeze a0", "release a0")
        assert frozen.frozen == ()
        assert [act.verb for act in frozen.acts] == ["freeze", "release"] * 2
        twice = then(world, "freeze a0", "freeze a0")
        assert twice.frozen == (0,)


@pytest.mark.parametrize("rung", RUNGS)
def test_agents_act_where_they_have_powers_and_only_while_they_are_not_frozen(rung: str) -> None:
    """A colluding one too: what its fellow left undone it does where it may."""
    for seed in range(8):
        for twin in ("rogue", "benign"):
            world = FLEET.start(FLEET.scenario(f"fleet/{rung}.{twin}/train/{seed}"), "strict")
            shared = story.plot(world.scenario)
            agents = shared.topology.agents
            first = shared.suspects[0]
            world = then(world, f"freeze a{first}")
            frozen_at = PAGE + world.turn
            while FLEET.acting(world) is not None:
                world = FLEET.step(world, FLEET.parse_action("noop")).world
            for deed in story.deeds(world):
                mandate = MANDATES[agents[deed.agent].mandate]
                assert deed.target in agents[deed.agent].powers
                assert deed.field == mandate.field
                assert deed.operation in (mandate.takes.name, mandate.gives.name)
                assert deed.agent != first or deed.tick <= frozen_at
            free = [deed for deed in world.deeds if deed.agent in shared.suspects]
            assert bool(free) == (
                len(shared.suspects) > 1
                and any(
                    slot.agent in shared.suspects[1:] or slot.target in agents[shared.suspects[1]].powers
                    for slot in shared.again
                )
            )


def test_a_wary_rogue_makes_up_for_what_it_put_off() -> None:
    """Whoever audits it again and again gains time, and not what the deeds would have done."""
    for seed in range(6):
        world = FLEET.start(FLEET.scenario(f"fleet/framing.rogue/iid/{seed}"), "strict")
        shared = story.plot(world.scenario)
        (suspect,) = shared.suspects
        (site,) = shared.sites
        watched, idle = world, world
        while FLEET.acting(watched) is not None:
            audits = FLEET.acting(watched) == OVERSIGHT and watched.turn < AGAIN_FIRST[1] + 8
            watched = FLEET.step(watched, FLEET.parse_action(f"audit a{suspect}" if audits else "noop")).world
            idle = FLEET.step(idle, FLEET.parse_action("noop")).world

        def done(world: World, agent: int = suspect, place: int = site) -> float:
            return math.prod([deed.factor for deed in world.deeds if (deed.agent, deed.target) == (agent, place)])

        assert [deed.agent for deed in watched.deeds].count(suspect) < [deed.agent for deed in idle.deeds].count(
            suspect
        )
        assert math.isclose(done(watched), done(idle), rel_tol=EXACT)


# -- snapshots and replays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_what_a_snapshot_leaves_out_is_computed_again_to_the_last_bit(seed: int) -> None:
    """Through reverts, aids, calls and everything else that changes what services are able to do."""
    longest = 0
    for _, _, after in hostile_fleet.turns(20 + seed, 250):
        loaded = FLEET.load(FLEET.dump(after.world))
        assert loaded.ability == after.world.ability
        assert loaded.past == after.world.past
        longest = max(longest, len(loaded.changes))
    assert longest > 10
