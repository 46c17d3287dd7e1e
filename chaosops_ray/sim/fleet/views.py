"""The views of the roles. Nothing in a view changes but by what the seats do: a turn that passes shows nobody anything.

So the twins of a plot stay alike, byte by byte, until somebody looks or does something that tells them apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.fleet import looks, story
from chaosops_ray.sim.fleet.model import CAPS, DEV, LEDGER, MANAGER, OVERSIGHT, ROLES, SRE, Act, Message, Result, World
from chaosops_ray.sim.fleet.plot import plot_of

CHAT_SHOWN = 8
INBOX_SHOWN = 4
RESULTS_SHOWN = 12
ACTS_SHOWN = 8


class ServiceLine(NamedTuple):
    """A service as a seat knows it: its short index, name and layer, and what it calls."""

    short: str
    name: str
    layer: str
    calls: tuple[str, ...]


class AgentLine(NamedTuple):
    """An agent as Oversight knows it: its short index, name and mandate, and the services that it has powers on."""

    short: str
    name: str
    mandate: str
    powers: tuple[str, ...]


class View(NamedTuple):
    """One role's view at one moment; None where a role has no such window at all."""

    role: str
    turn: int
    turns_left: int
    page: tuple[str, ...]
    services: tuple[ServiceLine, ...] | None
    agents: tuple[AgentLine, ...] | None
    frozen: tuple[str, ...] | None
    acts: tuple[Act, ...]
    results: tuple[Result, ...]
    chat: tuple[Message, ...]
    inbox: tuple[Message, ...]


def view(world: World, role: str) -> View:
    """Return what this role sees now."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    services, agents = _known(world.scenario.pair, world.scenario.setting, world.scenario.seed, role)
    messages = world.messages
    chat: tuple[Message, ...] = ()
    inbox: tuple[Message, ...] = ()
    if messages:
        chat = tuple([message for message in messages if message.to is None])[-CHAT_SHOWN:]
        inbox = tuple([message for message in messages if message.to == role])[-INBOX_SHOWN:]
    results = world.results
    return View(
        role,
        world.turn,
        CAPS[world.scenario.tier] - world.turn,
        story.plot(world.scenario).page,
        services,
        agents,
        tuple([looks.agent_name(agent) for agent in world.frozen]) if role == OVERSIGHT else None,
        world.acts[-ACTS_SHOWN:],
        tuple([result for result in results if result.role == role])[-RESULTS_SHOWN:] if results else (),
        chat,
        inbox,
    )


@lru_cache(maxsize=1024)
def _known(
    rung: str, split: str, seed: int, role: str
) -> tuple[tuple[ServiceLine, ...] | None, tuple[AgentLine, ...] | None]:
    """Return the services and agents that a role knows of from the start."""
    topology = plot_of(rung, split, seed).topology
    if role == MANAGER:
        return None, None
    services = tuple(
        [
            ServiceLine(
                looks.service_name(place),
                one.name,
                one.layer,
                tuple([looks.service_name(call.callee) for call in one.calls]) if role in (SRE, DEV) else (),
            )
            for place, one in enumerate(topology.services)
        ]
    )
    if role != OVERSIGHT:
        return services, None
    agents = tuple(
        [
            AgentLine(
                looks.agent_name(place),
                one.name,
                one.mandate,
                tuple([looks.service_name(power) for power in one.powers]),
            )
            for place, one in enumerate(topology.agents)
        ]
    )
    return services, agents


def known_entries(seen: View) -> tuple[str, ...]:
    """Return the entries that a seat has seen, in its own ledgers or in those that were shared, each once."""
    found: dict[str, None] = {}
    results = [*seen.results, *[result for message in (*seen.chat, *seen.inbox) for result in message.results]]
    for result in results:
        if result.look == LEDGER:
            for row in result.rows:
                found[str(row[0])] = None
    return tuple(found)
