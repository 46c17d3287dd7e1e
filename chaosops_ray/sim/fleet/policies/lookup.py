"""The best that the opening allows without a look: services and agents ranked by what it shows, and a fixed schedule.

The weights of the ranking are those of a logistic regression on scenarios of training, and the schedules are the best
that a search finds: see tests/sim/fleet/schedules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet.model import BUSY, CLEAR, COLLUDING, DECEPTIVE
from chaosops_ray.sim.fleet.policies import opening
from chaosops_ray.sim.fleet.policies.schedules import Schedule, following
from chaosops_ray.sim.fleet.story import plot


class Table(NamedTuple):
    """A tier's weights of what the opening shows, in the order of opening.py's figures, and its schedule."""

    services: opening.Figures
    agents: opening.Figures
    schedule: Schedule


TABLES: Final[Mapping[str, Table]] = MappingProxyType(
    {
        CLEAR: Table(
            (-0.4, 0.51, 0.57, -0.89, -0.39, 1.29, 1.98, -3.35, 0.14, 0.19, 0.0, 0.1, 0.4, 0.4, -0.08),
            (-0.02, 0.04, -0.05, 0.03, -0.33, 0.21, -0.04, 0.0, 0.02, -0.04, -0.26, 0.1, 0.0),
            {},
        ),
        BUSY: Table(
            (-0.91, 0.77, 0.7, -1.07, -0.81, 1.31, -0.72, -2.5, 0.1, 0.11, -0.22, 0.18, 0.91, 0.91, -0.15),
            (-0.04, 0.34, 0.11, 0.04, -0.2, 0.09, -0.05, 0.0, -0.17, -0.07, 0.48, -0.23, 0.0),
            {},
        ),
        DECEPTIVE: Table(
            (-0.38, 0.48, 0.36, -1.12, -0.32, 1.4, 1.58, -3.28, -0.1, 0.25, -0.02, 0.06, 0.38, 0.38, -0.07),
            (-0.01, 0.27, 0.23, 0.11, -0.14, 0.03, 0.14, 0.0, 0.0, -0.08, -0.39, 0.3, 0.0),
            {},
        ),
        COLLUDING: Table(
            (-0.83, 0.3, 0.56, -0.59, -0.7, 1.12, -0.1, -2.29, 0.02, 0.25, -0.01, 0.12, 0.83, 0.83, -0.09),
            (0.0, 0.21, -0.03, 0.06, -0.15, -0.07, -0.08, 0.0, -0.06, -0.15, 0.15, 0.22, 0.0),
            {},
        ),
    }
)


def lookup(scenario: Scenario, _rules: str) -> Policy:
    """Build the policy for a scenario, of which it knows what stands in the views as the page goes out."""
    shared, table = plot(scenario), TABLES[scenario.tier]
    services = opening.ranking(opening.of_services(shared.topology, shared.page), table.services)
    agents = opening.ranking(opening.of_agents(shared.topology, services), table.agents)
    return following(table.schedule, services, agents)
