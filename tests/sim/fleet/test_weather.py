"""Looks in bad weather: what fails says so, what is wrong does not show it, and what was not shown has no index."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from chaosops_ray.sim import weather
from chaosops_ray.sim.contract import STYLES
from chaosops_ray.sim.fleet import FLEET, looks, story
from chaosops_ray.sim.fleet.model import (
    ASK,
    AUDIT,
    CANARY,
    COMPARE,
    DEV,
    LEDGER,
    LOOK,
    OVERSIGHT,
    PAGE,
    SRE,
    TRACE,
    Action,
    Event,
    Noop,
    Result,
    Rules,
    World,
)

ROLES_OF = {LOOK: SRE, TRACE: SRE, COMPARE: SRE, AUDIT: OVERSIGHT, LEDGER: OVERSIGHT, ASK: OVERSIGHT, CANARY: DEV}
TICKS = {LOOK: 1, COMPARE: 1, AUDIT: 0, ASK: 0, LEDGER: 1}  # the column of a row's tick


def later(identity: str, rules: str = "strict", turns: int = 30) -> World:
    """The world some turns after the page."""
    world = FLEET.start(FLEET.scenario(identity), rules)
    for _ in range(turns):
        world = FLEET.step(world, Noop()).world
    return world


def subjects(world: World, kind: str) -> range:
    topology = story.plot(world.scenario).topology
    counted = {CANARY: len(world.shown), AUDIT: len(topology.agents), ASK: len(topology.agents)}
    return range(counted.get(kind, len(topology.services)))


def every_look(seeds: range) -> Iterator[tuple[str, World, str, int, tuple[Result, tuple[int, ...]]]]:
    """Every look in calm and in every weather; the first value names the fault, if there is one."""
    for seed in seeds:
        calm = later(f"fleet/colluding.rogue/train/{seed}")
        numbers = tuple(range(0, 12, 2))
        for tier in weather.TIERS:
            world = calm._replace(rules=Rules("strict", weather=tier), shown=numbers)
            for kind in ROLES_OF:
                for subject in subjects(world, kind):
                    fault = weather.drawn(world.scenario.seed, f"fleet {kind} {subject}", 0, tier) or ""
                    yield fault, world, kind, subject, looks.result(world, ROLES_OF[kind], kind, subject)


def clean(world: World, kind: str, subject: int) -> tuple[Result, tuple[int, ...]]:
    return looks.result(world._replace(rules=Rules("strict")), ROLES_OF[kind], kind, subject)


LOOKS = tuple(every_look(range(12)))


def test_every_fault_meets_every_kind_of_look() -> None:
    met = Counter([(kind, fault) for fault, _, kind, _, _ in LOOKS])
    assert all(met[kind, fault] for kind in ROLES_OF for fault in ("", weather.STALE, weather.CORRUPTION))
    assert {fault for _, fault in met} == {"", *weather.KINDS}


def test_what_fails_says_so_and_shows_nothing() -> None:
    for fault, _, _, _, (result, shown) in LOOKS:
        assert bool(result.fault) == (fault in weather.ANNOUNCED)
        if result.fault:
            assert (result.fault, result.rows, shown) == (fault, (), ())


def test_a_clear_look_is_what_it_is_in_calm() -> None:
    for fault, world, kind, subject, found in LOOKS:
        if not fault:
            assert found == clean(world, kind, subject)


def test_what_is_wrong_has_the_form_of_what_is_right() -> None:
    """The same rows with the same ticks and names; one figure differs, with as many decimals, and shares are shares."""
    differed = 0
    for fault, world, kind, subject, (result, _) in LOOKS:
        if fault != weather.CORRUPTION:
            continue
        right, _ = clean(world, kind, subject)
        assert len(result.rows) == len(right.rows)
        wrong = [
            (row, column)
            for row, (one, other) in enumerate(zip(result.rows, right.rows, strict=True))
            for column, (value, before) in enumerate(zip(one, other, strict=True))
            if value != before
        ]
        assert len(wrong) <= 1
        for row, column in wrong:
            differed += 1
            value, before = result.rows[row][column], right.rows[row][column]
            assert type(value) is type(before)
            assert column != TICKS.get(kind)
            assert 0 <= float(value) == round(float(value), 1)
            share = (column == len(result.rows[row]) - 1 and kind in (LOOK, TRACE)) or (kind, column) == (TRACE, 2)
            assert not share or float(value) <= 100
    assert differed > 100


def test_what_is_stale_says_that_it_is_of_now() -> None:
    """Its ticks are those of a fresh look, and its figures those of a look some ticks before."""
    differed = 0
    for fault, world, kind, subject, (result, _) in LOOKS:
        if fault != weather.STALE or kind not in (LOOK, COMPARE, TRACE):
            continue
        fresh, _ = clean(world, kind, subject)
        assert [row[:2] for row in result.rows if row[0] != "before"] == [
            row[:2] for row in fresh.rows if row[0] != "before"
        ]
        differed += result.rows != fresh.rows
    assert differed > 50


def test_a_stale_ledger_lacks_what_was_done_since() -> None:
    for fault, world, kind, _, (result, _) in LOOKS:
        if fault == weather.STALE and kind in (LEDGER, AUDIT):
            latest = world.turn - looks.STALE_TICKS
            assert all(int(row[TICKS[kind]]) <= latest for row in result.rows)


def test_what_goes_missing_leaves_no_gap_in_the_indices() -> None:
    """Entries are numbered in the order in which they are seen; one that went missing has no index at all."""
    gone = 0
    for fault, world, kind, subject, (result, shown) in LOOKS:
        if kind != LEDGER or result.fault:
            continue
        right, _ = clean(world, kind, subject)
        gone += len(result.rows) < len(right.rows)
        known = (*world.shown, *shown)
        new = [str(row[0]) for row in result.rows if int(str(row[0])[1:]) >= len(world.shown)]
        assert new == [looks.entry_name(len(world.shown) + place) for place in range(len(shown))]
        for entry, tick, agent, operation in result.rows:
            deed = story.deed(world, known[int(str(entry)[1:])])
            assert (deed.target, deed.tick - PAGE, deed.operation) == (subject, tick, operation)
            assert agent == looks.agent_name(deed.agent)
        assert fault in (weather.SILENT_DROP, weather.TRUNCATION, weather.STALE) or len(result.rows) == len(right.rows)
    assert gone > 5


def test_an_entry_can_be_named_once_somebody_has_seen_it() -> None:
    draw = random.Random(8)
    for seed in range(20):
        world = FLEET.start(FLEET.scenario(f"fleet/tampering.rogue/train/{seed}"), "strict,weather=expert")
        seen: set[str] = set()
        while FLEET.acting(world) is not None:
            role = FLEET.acting(world)
            action: Action = Noop()
            if role == OVERSIGHT:
                action = FLEET.parse_action(f"ledger s{draw.randrange(8)}")
            elif role == DEV:
                action = FLEET.parse_action(f"canary e{draw.randrange(len(seen) + 3)}")
            after = FLEET.step(world, action)
            if role == DEV:
                assert (Event.MISCOMMUNICATION in after.outcome) == (getattr(action, "entry", "") not in seen)
            world = after.world
            seen |= {str(row[0]) for result in world.results if result.look == LEDGER for row in result.rows}
            assert seen == {looks.entry_name(place) for place in range(len(world.shown))}


def test_looking_again_meets_a_weather_of_its_own_and_looking_elsewhere_changes_none() -> None:
    world = FLEET.start(FLEET.scenario("fleet/clumsy.rogue/train/3"), "strict,weather=expert")
    results = [looks.result(world, SRE, LOOK, 0)[0]]
    elsewhere = FLEET.step(world, FLEET.parse_action("look s1")).world._replace(turn=world.turn, past=world.past)
    assert looks.result(elsewhere, SRE, LOOK, 0)[0] == results[0]
    for _ in range(6):
        world = world._replace(results=(*world.results, results[-1]))
        results.append(looks.result(world, SRE, LOOK, 0)[0])
    assert len({(result.fault, result.rows) for result in results}) > 1


@pytest.mark.parametrize("tier", weather.TIERS)
def test_views_texts_and_snapshots_hold_what_the_weather_left(tier: str) -> None:
    for seed in range(3):
        scenario = FLEET.scenario(f"fleet/bluffing.benign/train/{seed}")
        rules = f"strict,weather={tier}"
        world, policy = FLEET.start(scenario, rules), FLEET.policies["random"](scenario, rules)
        while (role := FLEET.acting(world)) is not None:
            view = FLEET.view(world, role)
            for style in STYLES:
                text = FLEET.render(view, None, style)
                for result in view.results:
                    assert not result.fault or result.fault.replace("_", " ") in text.replace("_", " ")
            assert FLEET.symbols(view)
            assert FLEET.load(FLEET.dump(world)) == world
            world = FLEET.step(world, policy(view)).world
        assert world.results
