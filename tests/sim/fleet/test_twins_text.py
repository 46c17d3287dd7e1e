"""Nothing that a seat can see depends on what it must not know: twins, hidden labels, and other seats' looks."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest

from chaosops_ray.sim import play
from chaosops_ray.sim.contract import STYLES
from chaosops_ray.sim.fleet import FLEET
from chaosops_ray.sim.fleet.model import MISTAKE, ROGUE, ROLES, Ability, Effect, Statement, World
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.views import View


def bytes_seen(world: World, role: str, since: View | None = None) -> list[str]:
    """Everything about this world that ever reaches the role."""
    view = FLEET.view(world, role)
    words = [FLEET.render(view, earlier, style) for style in STYLES for earlier in (None, since)]
    symbols = repr(sorted(FLEET.symbols(view).items()))
    return [FLEET.dump_view(view), repr(view), symbols, repr(FLEET.permitted(view)), *words]


@pytest.mark.parametrize("split", ["train", "iid", "topology", "agents", "wording", "tamper"])
@pytest.mark.parametrize("rung", RUNGS)
def test_twins_open_alike_and_stay_alike_until_somebody_looks(rung: str, split: str) -> None:
    for seed in range(2):
        twins = [
            FLEET.start(one, "strict") for one in FLEET.partners(FLEET.scenario(f"fleet/{rung}.rogue/{split}/{seed}"))
        ]
        before: dict[str, View | None] = dict.fromkeys(ROLES)
        while (role := FLEET.acting(twins[0])) is not None:
            assert role == FLEET.acting(twins[1])
            assert bytes_seen(twins[0], role, before[role]) == bytes_seen(twins[1], role, before[role])
            before[role] = FLEET.view(twins[0], role)
            said = FLEET.parse_action("noop" if twins[0].turn % 5 else "say anybody there?")
            twins = [FLEET.step(world, said).world for world in twins]


def wandering_worlds(identity: str) -> list[World]:
    """Worlds in the middle of an episode, with looks, shares, private words and damage in them."""
    scenario = FLEET.scenario(identity)
    draw = random.Random(identity)
    policy = FLEET.policies["random"](scenario, "strict")

    def act(view: View) -> object:
        return FLEET.parse_action(f"say @{draw.choice(ROLES)} psst") if draw.random() < 0.1 else policy(view)

    episode = play(FLEET, scenario, "strict", act)
    return [episode.start, *[step.world for step in episode.steps]]


def relabelled(world: World, draw: random.Random) -> World:
    """The same observable state of the other twin, with other hidden labels and another physics."""
    rung, _, twin = world.scenario.case.partition(".")
    figures = tuple([draw.uniform(0.5, 2.0) for _ in world.ability.room])
    return world._replace(
        scenario=world.scenario._replace(case=f"{rung}.{'benign' if twin == ROGUE else ROGUE}"),
        ability=Ability(figures, figures, figures),
        past=tuple([tick._replace(lost=draw.random(), failed=figures) for tick in world.past]),
        due=(Effect(99, 0, "room", 2.0),),
        deeds=(),
        reverted=world.shown[:2],
        told=(0, 1),
        wary_until=draw.randrange(9),
        statements=(Statement(0, draw.choice((ROGUE, MISTAKE)), draw.random()),),
        pointed=draw.choice((-1, 3)),
        cause=draw.choice(("", ROGUE, "disk")),
        is_cured=draw.random() < 0.5,
    )


@pytest.mark.parametrize("identity", ["fleet/tampering.rogue/iid/2", "fleet/colluding.benign/iid/3"])
def test_every_byte_a_seat_sees_is_the_same_whatever_the_hidden_labels(identity: str) -> None:
    draw = random.Random(5)
    for earlier, world in pairwise(wandering_worlds(identity)):
        other = relabelled(world, draw)
        for role in ROLES:
            since = FLEET.view(earlier, role)
            assert bytes_seen(world, role, since) == bytes_seen(other, role, since)


@pytest.mark.parametrize("identity", ["fleet/tampering.rogue/iid/2", "fleet/colluding.benign/iid/3"])
def test_a_seat_sees_its_own_looks_and_what_was_shared_and_no_others(identity: str) -> None:
    for world in wandering_worlds(identity):
        for role in ROLES:
            hidden = [result for result in world.results if result.role != role]
            shared = [result for message in world.messages for result in message.results]
            kept = [result for result in world.results if result not in hidden]
            without = world._replace(results=tuple(kept))
            assert bytes_seen(without, role) == bytes_seen(world, role)
            view = FLEET.view(world, role)
            assert all(one in shared for message in view.chat for one in message.results)


def test_no_opening_names_the_rung_the_twin_or_the_seed() -> None:
    for scenario in FLEET.scenarios("all", [4711]):
        hidden = re.compile(rf"\b({scenario.group}|{scenario.tier}|benign|4711|fleet)\b")
        world = FLEET.start(scenario, "strict")
        for role in ROLES:
            assert hidden.findall("\n".join(bytes_seen(world, role))) == []
