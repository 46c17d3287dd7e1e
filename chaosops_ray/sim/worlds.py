"""The list of worlds; a world that is added here is known to every command."""

from __future__ import annotations

from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.fleet import FLEET
from chaosops_ray.sim.incident import INCIDENT
from chaosops_ray.sim.tools import TOOLS

_ALL: tuple[AnyEnvironment, ...] = (INCIDENT, TOOLS, FLEET)
ENVIRONMENTS = {environment.name: environment for environment in _ALL}


def environment_named(name: str) -> AnyEnvironment:
    """Return the world of this name."""
    if name not in ENVIRONMENTS:
        raise unknown("world", name, ENVIRONMENTS)
    return ENVIRONMENTS[name]


def environment_of(identity: str) -> AnyEnvironment:
    """Return the world that a scenario id belongs to."""
    name, slash, _ = identity.partition("/")
    if not slash or name not in ENVIRONMENTS:
        raise InputError(f"{identity[:80]!r} is no scenario; its first part must be a world: {', '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[name]
