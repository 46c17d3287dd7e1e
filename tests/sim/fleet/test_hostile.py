"""Hostile turns: none raises, none does much, and what they come to depends on nothing but themselves."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaosops_ray.sim.contract import AFTER_END, STYLES
from chaosops_ray.sim.fleet import FLEET, physics, story
from chaosops_ray.sim.fleet.actions import admit
from chaosops_ray.sim.fleet.model import CAPS, MAX_ENTRIES, Event, Tick, World
from chaosops_ray.sim.fleet.plot import plot_of
from chaosops_ray.sim.speech import Unparsed
from tests.support import hostile_fleet

ROOT = Path(__file__).parents[3]
TURNS = 4_000
MANY = 100_000
MOST_BYTES = 60_000  # of a snapshot


def is_shown(world: World) -> None:
    """All that anybody may ask of a world is answered, and it is read back as it was."""
    data = FLEET.dump(world)
    assert len(data) < MOST_BYTES
    assert FLEET.load(data) == world
    for role in FLEET.roles:
        view = FLEET.view(world, role)
        for style in STYLES:
            assert FLEET.render(view, None, style).encode()
        assert FLEET.dump_view(view).isprintable()
        assert all(math.isfinite(found) for found in FLEET.symbols(view).values())
        spelt = {FLEET.format_action(action, "compact") for kind in FLEET.permitted(view) or () for action in kind}
        assert spelt <= vocabulary[role]


vocabulary = {role: set(FLEET.vocabulary(role) or ()) for role in FLEET.roles}


@pytest.mark.parametrize(
    ("seed", "count"), [(0, TURNS), *[pytest.param(seed, MANY, marks=pytest.mark.slow) for seed in (1, 2)]]
)
def test_no_turn_raises(seed: int, count: int) -> None:
    refused = happened = over = 0
    seen: set[str] = set()
    for place, (before, _, after) in enumerate(hostile_fleet.turns(seed, count)):
        world = after.world
        assert after.action == admit(after.action)
        assert FLEET.load_action(FLEET.dump_action(after.action)) == after.action
        if FLEET.acting(before) is None:
            over += 1
            assert (world, after.outcome, after.score.total) == (before, AFTER_END, 0.0)
            continue
        assert world.turn == before.turn + 1 <= CAPS[world.scenario.tier]
        assert math.isfinite(after.score.total)
        assert {name for name, _ in after.score.components} <= {*FLEET.components}
        assert len(world.shown) <= MAX_ENTRIES
        refused += Event.MISCOMMUNICATION in after.outcome
        happened += Event.MISCOMMUNICATION not in after.outcome and not isinstance(after.action, Unparsed)
        seen |= after.outcome
        if FLEET.acting(world) is None or place % 40 == 0:
            is_shown(world)
    assert refused > 0.2 * count
    assert happened > 0.4 * count
    assert over
    rare = {Event.POINTED_RIGHT}
    assert {value for name, value in vars(Event).items() if name.isupper()} - seen <= rare


def test_the_work_of_a_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in plots and ticks, which are what takes time; a load computes each tick of an episode once."""
    ticks: list[int] = []
    tick = physics.tick

    def counted(*given: object) -> Tick:
        ticks.append(1)
        return tick(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(physics, "tick", counted)
    worst = 0
    for before, action, after in hostile_fleet.turns(5, 600):
        story.plot(before.scenario)
        ticks.clear()
        assert FLEET.step(before, action) == after
        worst = max(worst, len(ticks))
        ticks.clear()
        assert FLEET.load(FLEET.dump(after.world)) == after.world
        assert len(ticks) == after.world.turn
    assert worst == 2  # the tick itself, and one that is tried: a canary, or the fleet without what was granted


# -- the same everywhere ----------------------------------------------------------------------------------------------

SAMPLE = 600
_PROGRAM = "from tests.support.hostile_fleet import digest; print(digest(11, {}))"


@pytest.fixture(scope="module")
def expected() -> str:
    return hostile_fleet.digest(11, SAMPLE)


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (("-W", "error"), {"PYTHONHASHSEED": "0"}),
        (("-O",), {"PYTHONHASHSEED": "4242", "PYTHONINTMAXSTRDIGITS": "640"}),
    ],
)
def test_results_depend_on_no_setting_of_the_process(
    expected: str, options: tuple[str, ...], environment: dict[str, str]
) -> None:
    ran = subprocess.run(
        [sys.executable, *options, "-c", _PROGRAM.format(SAMPLE)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == expected


def test_results_do_not_depend_on_what_was_played_before(expected: str) -> None:
    """The caches are full of other scenarios, or empty."""
    hostile_fleet.digest(12, 300)
    assert hostile_fleet.digest(11, SAMPLE) == expected
    plot_of.cache_clear()
    story.story.cache_clear()
    assert hostile_fleet.digest(11, SAMPLE) == expected


def test_a_fork_and_a_replay_come_to_the_same() -> None:
    worlds = list(hostile_fleet.turns(3, 400))
    for before, action, after in worlds:
        assert FLEET.step(before, action) == after
        assert FLEET.step(before, after.action).world == after.world
        assert FLEET.step(FLEET.load(FLEET.dump(before)), action) == after
