"""What the opening shows of each service and each agent, as figures: the page, the call graph, mandates and powers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import APPLICATION, DATA, EDGE, PROVIDER, Topology

Figures: TypeAlias = tuple[float, ...]

_SERVICE: Final = re.compile(r"\bs([0-9]+)\b")
SERVICE_FIGURES: Final = (
    "edge",
    "application",
    "data",
    "provider",
    "paged",
    "below the paged",
    "below all that are paged",
    "below others",
    "called by the paged",
    "callers",
    "calls",
    "holders",
    "many holders",
    "most holders",
    "services",
)
AGENT_FIGURES: Final = (
    "powers",
    "holds the first",
    "holds the second",
    "alike",
    "agents",
    *[f"is {mandate}" for mandate in MANDATES],
)
_MANY: Final = 4


def paged(page: Sequence[str]) -> list[int]:
    """Return the places of the services that the page names."""
    return [int(found[1]) for line in page if (found := _SERVICE.search(line))]


def below(topology: Topology, place: int) -> set[int]:
    """Return all services that a service calls, directly or not."""
    found: set[int] = set()
    left = [place]
    while left:
        for call in topology.services[left.pop()].calls:
            if call.callee not in found:
                found.add(call.callee)
                left.append(call.callee)
    return found


def of_services(topology: Topology, page: Sequence[str]) -> list[Figures]:
    """Return the figures of each service, in the order of `SERVICE_FIGURES`."""
    services = topology.services
    named = paged(page)
    under = {place: below(topology, place) for place, one in enumerate(services) if one.layer == EDGE}
    others = [place for place in under if place not in named]
    called = {call.callee for place in named for call in services[place].calls}
    holders = [sum([place in agent.powers for agent in topology.agents]) for place in range(len(services))]
    callers = [sum([call.callee == place for one in services for call in one.calls]) for place in range(len(services))]
    return [
        (
            *[float(one.layer == layer) for layer in (EDGE, APPLICATION, DATA, PROVIDER)],
            float(place in named),
            sum([place in under.get(edge, ()) for edge in named]) / max(1, len(named)),
            float(all(place in under.get(edge, ()) for edge in named)),
            sum([place in under[edge] for edge in others]) / max(1, len(others)),
            float(place in called),
            float(callers[place]),
            float(len(one.calls)),
            float(holders[place]),
            float(holders[place] >= _MANY),
            float(holders[place] == max(holders)),
            float(len(services)),
        )
        for place, one in enumerate(services)
    ]


def of_agents(topology: Topology, ranked: Sequence[int]) -> list[Figures]:
    """Return the figures of each agent, in the order of `AGENT_FIGURES`; `ranked` has the likeliest services first."""
    fields = [MANDATES[agent.mandate].field for agent in topology.agents]
    return [
        (
            float(len(agent.powers)),
            float(ranked[0] in agent.powers),
            float(ranked[1] in agent.powers),
            float(fields.count(MANDATES[agent.mandate].field)),
            float(len(fields)),
            *[float(agent.mandate == mandate) for mandate in MANDATES],
        )
        for agent in topology.agents
    ]


def ranking(figures: Sequence[Figures], weights: Figures) -> list[int]:
    """Return the places in the order of their weighted figures, the highest first."""
    worth = [sum([weight * figure for weight, figure in zip(weights, one, strict=True)]) for one in figures]
    return sorted(range(len(worth)), key=lambda place: -worth[place])
