"""The truth as bytes, and back. Bytes may come from a file: all that is in them is looked at before it is believed."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.incident import scenarios
from chaosops_ray.sim.incident.model import SERVICES, SEVERITY, World, parse_rules


def dump(world: World) -> bytes:
    """Equal worlds give equal bytes: every field in its order, nothing hashed, nothing unordered."""
    named = (world.scenario.identity, world.rules.spelling, *world[2:])
    return json.dumps(named, separators=(",", ":"), allow_nan=False).encode()


def load(data: bytes) -> World:
    """The world that `dump` made these bytes of."""
    try:
        identity, rules, *fields = json.loads(data)
        world = World(
            scenarios.parse(identity),
            parse_rules(rules),
            *[_typed(field, hint) for field, hint in zip(fields, _hints(World)[2:], strict=True)],
        )
        names = tuple([service.name for service in world.services])
        healths = {service.health for service in world.services}
        genuine = dump(world) == data and names == SERVICES and healths <= set(SEVERITY)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"not a snapshot of an incident: {error}") from None
    if not genuine:
        raise InputError("not a snapshot of an incident: its fields are not what this version writes")
    return world


@lru_cache(maxsize=16)
def _hints(kind: type[Any]) -> tuple[Any, ...]:
    return tuple(get_type_hints(kind).values())


def _typed(value: Any, hint: Any) -> Any:
    """The JSON value as the annotation has it: lists become tuples, records their named tuples, the rest must match."""
    arguments = get_args(hint)
    if isinstance(value, list):
        if hasattr(hint, "_fields"):
            return hint(*[_typed(item, kind) for item, kind in zip(value, _hints(hint), strict=True)])
        if arguments and arguments[-1] is Ellipsis:
            return tuple([_typed(item, arguments[0]) for item in value])
    accepted = (int, float) if hint is float else arguments or (hint,)
    if type(value) not in accepted or (isinstance(value, str) and not value.isprintable()):
        raise TypeError(f"{str(value)[:40]!r} is no {hint}")
    return value
