"""Twins in long play: whatever the seats do, their views stay the same bytes until a look brings different rows."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from chaosops_ray.sim.contract import STYLES, Episode, Scenario, Step, Style
from chaosops_ray.sim.fleet import FLEET, looks
from chaosops_ray.sim.fleet.model import PAGE, ROLES, TWINS, Action, World
from chaosops_ray.sim.fleet.plot import AGAIN_FIRST
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.splits import SPLITS
from chaosops_ray.sim.fleet.views import View
from tests.support import hostile_fleet

RULES = ("strict", "strict,prior=rare", "strict,weather=expert")


def shown(world: World, role: str, since: View | None, styles: tuple[Style, ...] = STYLES) -> list[str]:
    """Everything that reaches the seat."""
    view = FLEET.view(world, role)
    words = [FLEET.render(view, earlier, style) for style in styles for earlier in (None, since)]
    return [repr(view), FLEET.dump_view(view), repr(FLEET.symbols(view)), repr(FLEET.permitted(view)), *words]


class Pair:
    """The twins of a plot, in which the same is done."""

    def __init__(self, scenario: Scenario, rules: str) -> None:
        self.worlds = [FLEET.start(one, rules) for one in FLEET.partners(scenario)]
        self.before: dict[str, View | None] = dict.fromkeys(ROLES)
        self.told_apart = 0
        self.done: Counter[str] = Counter()

    def take(self, action: object) -> bool:
        """Take the action in both, or let the turn pass where it brings rows that differ; tell if both go on."""
        after = [FLEET.step(world, action) for world in self.worlds]
        if after[0].world.results != after[1].world.results:
            self.told_apart += 1
            action = FLEET.parse_action("noop")
            after = [FLEET.step(world, action) for world in self.worlds]
        self.done[type(after[0].action).__name__] += 1
        self.worlds = [one.world for one in after]
        return all(FLEET.acting(world) is not None for world in self.worlds)

    def is_alike(self, styles: tuple[Style, ...] = STYLES) -> None:
        first, second = self.worlds
        for role in ROLES:
            assert shown(first, role, self.before[role], styles) == shown(second, role, self.before[role], styles)
        role = str(FLEET.acting(first))
        self.before[role] = FLEET.view(first, role)


def plays(seed: int, rungs: tuple[str, ...], splits: tuple[str, ...]) -> tuple[int, int, Counter[str]]:
    """Play twins of these; return the turns, how often a look told them apart, and what was done."""
    draw = random.Random(seed)
    turns = apart = 0
    done: Counter[str] = Counter()
    for rung in rungs:
        for split in splits:
            pair = Pair(FLEET.scenario(f"fleet/{rung}.rogue/{split}/{draw.randrange(9999)}"), draw.choice(RULES))
            pair.is_alike()
            while pair.take(hostile_fleet.turn(draw, pair.worlds[0])):
                pair.is_alike((draw.choice(STYLES),))
                turns += 1
            apart += pair.told_apart
            done += pair.done
    return turns, apart, done


def test_whatever_is_done_the_twins_stay_alike_until_a_look_tells_them_apart() -> None:
    turns, apart, done = plays(1, tuple(RUNGS), SPLITS[::3])
    assert turns > 500
    assert 0 < apart < 0.2 * turns
    assert {kind.__name__ for kind in hostile_fleet.KINDS} <= set(done)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_twins_stay_alike_in_many_plays(seed: int) -> None:
    turns, _, done = plays(seed, tuple(RUNGS), SPLITS)
    assert turns > 1500
    assert {kind.__name__ for kind in hostile_fleet.KINDS} <= set(done)


@pytest.mark.parametrize("rung", RUNGS)
def test_what_instruments_show_is_the_same_until_a_suspect_acts_again(rung: str) -> None:
    """What is traced, compared and recorded is; a look's figures are late in one twin where instruments lag by habit."""
    for seed in range(6):
        pair = Pair(FLEET.scenario(f"fleet/{rung}.benign/iid/{seed}"), "strict")
        for turn in range(AGAIN_FIRST[0] - 1):
            first, second = pair.worlds
            assert (first.past, first.ability, first.deeds) == (second.past, second.ability, second.deeds)
            for place in range(len(first.ability.room)):
                now = PAGE + turn
                assert looks.trace(first, place, now) == looks.trace(second, place, now)
                assert looks.ledger(first, place, now) == looks.ledger(second, place, now)
                assert looks.compare(first, place, now) == looks.compare(second, place, now)
            pair.take(FLEET.parse_action("noop"))


# -- labels -----------------------------------------------------------------------------------------------------------


def relabelled(world: World) -> World:
    """The same world under the other twin's label: all that was seen is as it was, what is true is not."""
    rung, _, twin = world.scenario.case.partition(".")
    other = TWINS[1 - TWINS.index(twin)]
    return world._replace(scenario=world.scenario._replace(case=f"{rung}.{other}"))


@pytest.mark.parametrize("rules", RULES[1:])
@pytest.mark.parametrize("rung", RUNGS)
def test_a_spectator_is_told_no_label(rung: str, rules: str) -> None:
    """The board and the charts are the same to the byte where all is the same but the label."""
    draw = random.Random(rung)
    scenario = FLEET.scenario(f"fleet/{rung}.rogue/iid/7")
    world = start = FLEET.start(scenario, rules)
    steps: list[Step[World, View, Action]] = []
    while (role := FLEET.acting(world)) is not None:
        view = FLEET.view(world, role)
        after = FLEET.step(world, hostile_fleet.turn(draw, world))
        steps.append(Step(role, view, after.action, after.outcome, after.score, after.world))
        world = after.world
        if world.turn % 5 and FLEET.acting(world) is not None:
            continue
        episode = Episode(scenario, rules, start, tuple(steps))
        other = Episode(
            relabelled(start).scenario,
            rules,
            relabelled(start),
            tuple([step._replace(world=relabelled(step.world)) for step in steps]),
        )
        assert repr(FLEET.board(episode)) == repr(FLEET.board(other))
        assert repr(FLEET.charts(episode)) == repr(FLEET.charts(other))
        assert repr(FLEET.truth(episode)) != repr(FLEET.truth(other))
        for seat in ROLES:
            assert repr(FLEET.seen(FLEET.view(world, seat))) == repr(FLEET.seen(FLEET.view(relabelled(world), seat)))
