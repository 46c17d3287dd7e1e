"""Views as vectors and actions as numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from chaosops_ray.integrations import symbolic
from chaosops_ray.integrations.scenarios import Scenarios
from chaosops_ray.sim import ENVIRONMENTS, InputError
from chaosops_ray.sim.contract import Environment
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.symbols import symbols_of
from tests.support.toy_world import TOY, Toy

INCIDENT, TOOLS = ENVIRONMENTS["incident"], ENVIRONMENTS["tools"]
WORLDS = (*ENVIRONMENTS.values(), TOY)


class Item(NamedTuple):
    name: str
    state: str
    load: float
    note: str
    spare: None = None


class View(NamedTuple):
    role: str
    step: int
    ready: bool
    hint: str
    missing: None
    items: tuple[Item, ...]
    tags: tuple[str, ...]
    levels: tuple[float, ...]


VIEW = View(
    "dev",
    3,
    True,  # noqa: FBT003
    "Lock wait, 42 of 50",
    None,
    (Item("db", "down", 9.5, "timeout after timeout"), Item("auth", "up", 0.0, ""), Item("db", "down", 4.0, "")),
    ("red", "red", "blue"),
    (0.5, 2.0),
)


def test_a_view_is_named_by_its_fields() -> None:
    assert symbols_of(VIEW) == {
        "role dev": 1.0,
        "step": 3.0,
        "ready": 1.0,
        "hint lock": 1.0,
        "hint wait": 1.0,
        "hint of": 1.0,
        "items db down": 2.0,
        "items db load": 4.0,  # of the last one
        "items db note timeout": 2.0,
        "items db note after": 1.0,
        "items auth up": 1.0,
        "items auth load": 0.0,
        "tags red": 2.0,
        "tags blue": 1.0,
        "levels 0": 0.5,
        "levels 1": 2.0,
    }


def test_the_order_of_the_items_does_not_matter_but_for_which_is_last() -> None:
    swapped = VIEW._replace(items=(VIEW.items[1], VIEW.items[0], VIEW.items[2]))
    assert symbols_of(swapped) == symbols_of(VIEW)
    assert symbols_of(VIEW._replace(items=VIEW.items[::-1])) != symbols_of(VIEW)


class Named(Toy):
    """A world that gives symbols of its own."""

    def symbols(self, _view: object, /) -> dict[str, float]:
        return self.given

    given: dict[str, float] = {}  # noqa: RUF012


def test_features_are_signed_logarithms_at_the_places_of_their_names() -> None:
    world = Named()
    world.given = {"one": 1.0, "big": 1e300, "negative": -3.0, "nothing": 0.0}
    found = symbolic.features(world, None, 64)
    assert (found.dtype, found.shape) == (np.float32, (64,))
    assert sorted(np.abs(found[found != 0]).tolist()) == pytest.approx([np.log(2), np.log(4), symbolic.BOUND])
    world.given = {name: -value for name, value in world.given.items()}
    assert np.array_equal(symbolic.features(world, None, 64), -found)
    # The same in every process, whatever its hash seed: CRC-32 of the name.
    assert symbolic._place("services db cpu", 512) == ((0xA6E88C04 >> 1) % 512, -1.0)


@pytest.mark.parametrize("environment", WORLDS, ids=lambda world: world.name)
def test_numbers_stand_for_the_actions_of_the_world(environment: Environment) -> None:
    scenario = environment.cases[-1]
    world = environment.start(scenario, environment.rule_sets[0])
    while (role := environment.acting(world)) is not None:
        view = environment.view(world, role)
        mask, listed = symbolic.mask(environment, view), environment.vocabulary(role)
        assert listed is not None
        permitted = {
            environment.format_action(one, "compact") for kind in environment.permitted(view) or () for one in kind
        }
        assert {spelling for spelling, allowed in zip(listed, mask, strict=True) if allowed} == permitted
        number = int(np.flatnonzero(mask)[-1])
        action = symbolic.action(environment, role, number)
        assert environment.format_action(action, "compact") == listed[number]
        world = environment.step(world, action).world


def test_a_number_that_stands_for_nothing_is_refused() -> None:
    for number in (-1, 4, 10**30):
        with pytest.raises(InputError, match=f"action {number} of guesser is not from 0 to 3"):
            symbolic.action(TOY, "guesser", number)


def test_a_world_without_a_list_of_actions_is_refused() -> None:
    class Free(Toy):
        vocabulary = Environment.vocabulary

    with pytest.raises(InputError, match="world toy has no fixed list of actions for opener"):
        symbolic.vocabulary(Free(), "opener")


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=lambda world: world.name)
def test_drawn_scenarios_have_seeds_that_no_report_uses(environment: Environment) -> None:
    tiers = environment.tiers[1:]
    scenarios = Scenarios(environment, environment.selections[-1], tiers)
    drawn = [scenarios.drawn(stream(number, "test")) for number in range(300)]
    assert min(scenario.seed for scenario in drawn) >= 100_000
    assert {scenario.tier for scenario in drawn} == set(tiers)
    assert len({scenario.identity for scenario in drawn}) == len(drawn)
    assert drawn == [scenarios.drawn(stream(number, "test")) for number in range(300)]


def test_tiers_and_sets_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match="unknown tier of world incident 'easiest'"):
        Scenarios(INCIDENT, None, ["easiest"])
    with pytest.raises(InputError, match="unknown evaluation set 'none'"):
        Scenarios(INCIDENT, "none")
