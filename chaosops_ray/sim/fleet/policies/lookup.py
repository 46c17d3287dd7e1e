"""The best that the opening allows without a look: services and agents ranked by what it shows, and a fixed schedule.

The weights of the ranking are those of a logistic regression on scenarios of training, and the schedules are the best
that a search finds: see tests/sim/fleet/schedules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet.policies import opening
from chaosops_ray.sim.fleet.policies.schedules import Schedule, following
from chaosops_ray.sim.fleet.story import plot


class Table(NamedTuple):
    """A tier's weights of what the opening shows, in the order of opening.py's figures, and its schedule."""

    services: opening.Figures
    agents: opening.Figures
    schedule: Schedule


TABLES: Final[Mapping[str, Table]] = MappingProxyType({})


def lookup(scenario: Scenario, _rules: str) -> Policy:
    """Build the policy for a scenario, of which it knows what stands in the views as the page goes out."""
    shared, table = plot(scenario), TABLES[scenario.tier]
    services = opening.ranking(opening.of_services(shared.topology, shared.page), table.services)
    agents = opening.ranking(opening.of_agents(shared.topology, services), table.agents)
    return following(table.schedule, services, agents)
