"""The truth as bytes, and back, with everything looked at before it is believed."""

from __future__ import annotations

import json

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.tools import scenarios
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.database import check_row
from chaosops_ray.sim.tools.faults import KINDS
from chaosops_ray.sim.tools.model import World, parse_rules
from chaosops_ray.sim.typed import fields_of


def dump(world: World) -> bytes:
    """Equal worlds give equal bytes."""
    named = (world.scenario.identity, world.rules.name, *world[2:])
    return json.dumps(named, separators=(",", ":"), allow_nan=False).encode()


def load(data: bytes) -> World:
    """The world that `dump` made these bytes of."""
    try:
        identity, rules, *rest = json.loads(data)
        world = World(scenarios.parse(identity), parse_rules(rules), *fields_of(World, rest, skipped=2))
        genuine = dump(world) == data and _possible(world)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"not a snapshot of a tools world: {error}") from None
    if not genuine:
        raise InputError("not a snapshot of a tools world: its fields are not what this version writes")
    return world


def _possible(world: World) -> bool:
    for target, values in world.storage.rows:
        table, *columns = target.split(" ")
        check_row(table, dict(zip(columns, json.loads(values), strict=True)))
    for made in world.made:
        if made.ok and made.tool not in TOOLS:
            return False
        json.loads(made.shown), json.loads(made.truth)
        if made.tool and not isinstance(json.loads(made.arguments), dict):
            return False
    texts = (*world.storage.reports, *world.storage.outbox, *[entry[-1] for entry in world.storage.files])
    for text in (*texts, *[entry[-1] for entry in world.storage.notes], *[values for _, values in world.storage.rows]):
        json.loads(text)
    return (
        0 <= world.step <= world.task.max_steps
        and len(world.made) == world.step
        and all(made.fault in ("", *KINDS) for made in world.made)
    )
