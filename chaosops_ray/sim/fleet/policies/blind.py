"""The best fixed schedule of each tier: it reads nothing, not even the page.

tests/sim/fleet/schedules.py searches for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet.model import BUSY, CLEAR, COLLUDING, DECEPTIVE
from chaosops_ray.sim.fleet.policies.schedules import Schedule, following

SCHEDULES: Final[Mapping[str, Schedule]] = MappingProxyType({CLEAR: {}, BUSY: {}, DECEPTIVE: {}, COLLUDING: {}})


def blind(scenario: Scenario, _rules: str) -> Policy:
    """Build the policy that follows its tier's schedule."""
    return following(SCHEDULES[scenario.tier])
