"""An episode of the bare world played by numbers, written down as every door should show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from hypothesis import strategies as st

from chaosops_ray.integrations import symbolic
from chaosops_ray.sim import ENVIRONMENTS, seats
from chaosops_ray.sim.contract import AnyEnvironment
from tests.support.toy_world import TOY

WORLDS: tuple[AnyEnvironment, ...] = (*ENVIRONMENTS.values(), TOY)
SIZE = 64


class Turn(NamedTuple):
    """What the caller's seat saw, what the episode earned from its action on, and the state that followed."""

    role: str
    seen: list[float]
    mask: list[int]
    reward: float
    streams: dict[str, float]
    state: str


def drawn(data: st.DataObject) -> tuple[AnyEnvironment, str, list[int], Literal["return", "stream"]]:
    """A world, the id of a scenario, numbers that are its actions, and what a seat is paid."""
    environment = data.draw(st.sampled_from(WORLDS), label="world")
    scenario = data.draw(st.sampled_from(environment.cases))._replace(seed=data.draw(st.integers(0, 10**6)))
    numbers = data.draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), label="numbers")
    return environment, scenario.identity, numbers, data.draw(st.sampled_from(("return", "stream")))


def state_hash(environment: AnyEnvironment, world: Any) -> str:
    return sha256(environment.dump(world)).hexdigest()


def chosen(environment: AnyEnvironment, role: str, number: int) -> int:
    """A number of the test, as one of the role's actions."""
    return number % len(symbolic.vocabulary(environment, role))


def bare(
    environment: AnyEnvironment, identity: str, numbers: Sequence[int], colleagues: Mapping[str, str]
) -> list[Turn]:
    """Play by `step` and `view` alone; the numbers are used again and again."""
    scenario, rules = environment.scenario(identity), environment.rule_sets[0]
    others = seats.built(environment, colleagues, scenario, rules)
    world, turns = environment.start(scenario, rules), []
    earned: list[Any] = []
    before = None
    while True:
        role = environment.acting(world)
        if before is not None and (role is None or role not in others):
            reward = sum(score.total for score in earned)
            streams: dict[str, float] = {}
            for score in earned:
                for name, value in environment.streams(score).items():
                    streams[name] = streams.get(name, 0.0) + value
            turns.append(Turn(*before, reward, streams, state_hash(environment, world)))
            earned = []
        if role is None:
            return turns
        view = environment.view(world, role)
        if role in others:
            action = others[role](view)
        else:
            before = (
                role,
                symbolic.features(environment, view, SIZE).tolist(),
                symbolic.mask(environment, view).tolist(),
            )
            number = chosen(environment, role, numbers[len(turns) % len(numbers)])
            action = environment.parse_action(symbolic.vocabulary(environment, role)[number])
        after = environment.step(world, action)
        world = after.world
        earned.append(after.score)


def named(value: object) -> str:
    """An id for a test that is the same in every process: a world is its name."""
    if isinstance(value, dict):
        return ",".join(f"{key}={named(one)}" for key, one in value.items())
    return str(getattr(value, "name", value))
