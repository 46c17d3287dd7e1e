"""Policies that try to score in a world without doing what it asks for, by world and by what they try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chaosops_ray.sim.contract import PolicyFactory
from tests.support import redteam_fleet, redteam_incident, redteam_tools


class Attempt(NamedTuple):
    """A policy and the kind of thing that it tries."""

    kind: str
    factory: PolicyFactory


ATTEMPTS: Mapping[str, Mapping[str, Attempt]] = {
    world: {name: Attempt(kind, factory) for kind, factories in kinds.items() for name, factory in factories.items()}
    for world, kinds in {
        "incident": redteam_incident.KINDS,
        "tools": redteam_tools.KINDS,
        "fleet": redteam_fleet.KINDS,
    }.items()
}
