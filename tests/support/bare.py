"""A seat of a world played by nothing but the contract's own methods, for ways into the worlds to be compared with."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from chaosops_ray.agents.seat_spec import SeatSpec
from chaosops_ray.sim import seats


class Bare(NamedTuple):
    """An episode: what the seat was told before each turn, what it did, what was earned, and the end as bytes."""

    texts: list[str]
    calls: list[tuple[str, dict[str, Any]]]
    completions: list[str]
    components: dict[str, float]
    total: float
    end: bytes


def bare(seat: SeatSpec, seed: int, policy: str) -> Bare:
    """Play the scenario of this seed, with the baseline in the seat."""
    environment, scenario = seat.environment, seat.scenario(seed)
    choose = environment.policies[policy](scenario, seat.rules)
    colleagues = seats.built(environment, seat.colleagues, scenario, seat.rules)
    world, since, total = environment.start(scenario, seat.rules), None, 0.0
    texts, calls, completions, components = [], [], [], dict[str, float]()
    while (role := environment.acting(world)) is not None:
        view = environment.view(world, role)
        if role == seat.role:
            texts.append(environment.render(view, since, seat.style))
            since = view
        step = environment.step(world, choose(view) if role == seat.role else colleagues[role](view))
        world = step.world
        total += step.score.total
        for name, value in step.score.components:
            components[name] = components.get(name, 0.0) + value
        if role == seat.role:
            calls.append(as_call(environment.dump_action(step.action)))
            completions.append(environment.format_action(step.action, "full"))
    return Bare(texts, calls, completions, components, total, environment.dump(world))


def as_call(record: str) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of a recorded action."""
    fields = json.loads(record)
    name = fields.pop("tool", None) or fields.pop("action")
    return name, fields.get("arguments", fields)
