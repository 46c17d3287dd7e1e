"""The truth as bytes, and back. Bytes may come from a file: all that is in them is looked at before it is believed."""

from __future__ import annotations

import json

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.incident import scenarios
from chaosops_ray.sim.incident.model import SERVICES, SEVERITY, World, parse_rules
from chaosops_ray.sim.typed import fields_of


def dump(world: World) -> bytes:
    """Equal worlds give equal bytes: every field in its order, nothing hashed, nothing unordered."""
    named = (world.scenario.identity, world.rules.spelling, *world[2:])
    return json.dumps(named, separators=(",", ":"), allow_nan=False).encode()


def load(data: bytes) -> World:
    """The world that `dump` made these bytes of."""
    try:
        identity, rules, *rest = json.loads(data)
        opened = (scenarios.parse(identity), parse_rules(rules))
        world = World(*opened, *fields_of(World, rest, skipped=2))
        names = tuple([service.name for service in world.services])
        healths = {service.health for service in world.services}
        genuine = dump(world) == data and names == SERVICES and healths <= set(SEVERITY)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"not a snapshot of an incident: {error}") from None
    if not genuine:
        raise InputError("not a snapshot of an incident: its fields are not what this version writes")
    return world
