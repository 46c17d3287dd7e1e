"""The truth as bytes, and back. Bytes may come from a file: all that is in them is looked at before it is believed."""

from __future__ import annotations

import json

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.incident import scenarios
from chaosops_ray.sim.incident.model import (
    CAPS,
    MAX_REPLICAS,
    ROLES,
    SERVICES,
    SEVERITIES,
    SEVERITY,
    World,
    parse_rules,
)
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
        genuine = dump(world) == data and _possible(world)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"not a snapshot of an incident: {error}") from None
    if not genuine:
        raise InputError("not a snapshot of an incident: its fields are not what this version writes")
    return world


def _possible(world: World) -> bool:
    """Whether the fields, each of the right type, can stand together in a world."""
    metrics = [metric for service in world.services for metric in service[1:] if not isinstance(metric, str)]
    return (
        tuple([service.name for service in world.services]) == SERVICES
        and all(service.health in SEVERITY for service in world.services)
        and all(abs(metric) <= MAX_REPLICAS for metric in metrics)
        and 0 <= world.step <= CAPS[world.scenario.tier]
        and 0 <= world.first_declaration <= world.step
        and len(world.decoys) == len(world.logs)
        and len(world.intents) == len(world.fleet)
        and all(alert.severity in SEVERITIES for alert in world.alerts)
        and all(message.sender in ROLES and message.to in (None, *ROLES) for message in world.messages)
    )
