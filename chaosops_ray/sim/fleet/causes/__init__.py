"""The causes that lie outside of the fleet's agents: one file for each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaosops_ray.sim.fleet.causes.bad_deploy import BAD_DEPLOY
from chaosops_ray.sim.fleet.causes.cause import Cause
from chaosops_ray.sim.fleet.causes.disk import DISK
from chaosops_ray.sim.fleet.causes.node_lost import NODE_LOST
from chaosops_ray.sim.fleet.causes.provider_down import PROVIDER_DOWN
from chaosops_ray.sim.fleet.causes.surge import SURGE

_ALL = (NODE_LOST, SURGE, BAD_DEPLOY, DISK, PROVIDER_DOWN)
CAUSES: Mapping[str, Cause] = MappingProxyType({cause.name: cause for cause in _ALL})
TEAMS = tuple([cause.team for cause in _ALL])


def outside(field: str, layer: str) -> tuple[Cause, ...]:
    """Return the causes outside that change this figure of a service of this layer."""
    return tuple([cause for cause in _ALL if cause.field == field and layer in cause.layers])
