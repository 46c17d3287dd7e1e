"""What a seat may do, written out: by its role, and with the names that its scenario has and that it knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.fleet.causes import TEAMS
from chaosops_ray.sim.fleet.looks import agent_name, entry_name, service_name
from chaosops_ray.sim.fleet.model import (
    MAX_AGENTS,
    MAX_ENTRIES,
    MAX_SERVICES,
    OVERSIGHT,
    ROLES,
    SRE,
    VERDICTS,
    Accuse,
    Action,
    Ask,
    Audit,
    Canary,
    Communicate,
    Compare,
    Escalate,
    Freeze,
    Ledger,
    Look,
    NameCause,
    Noop,
    Point,
    Release,
    Reroute,
    Resolve,
    Restart,
    Revert,
    Scale,
    Share,
    Trace,
)
from chaosops_ray.sim.fleet.spelling import format_action
from chaosops_ray.sim.fleet.turns import CAUSE_KINDS, PERMITTED
from chaosops_ray.sim.fleet.views import View, known_entries

PHRASES: Final = ("looking into it", "no news yet", "please share", "standing by", "all is well")
PROBABILITIES: Final = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


class Known(NamedTuple):
    """What decides what a seat may do: its role, how many services and agents it knows, which entries, and so on."""

    role: str
    services: int
    agents: int
    entries: tuple[str, ...]
    frozen: tuple[str, ...]
    has_news: bool


_ARGUMENTS: Final[dict[type[Any], Callable[[Known], tuple[Action, ...]]]] = {
    Noop: lambda _: (Noop(),),
    Communicate: lambda known: tuple([Communicate(phrase) for phrase in _phrases(known)]),
    Share: lambda known: (Share(),) if known.has_news else (),
    Look: lambda known: tuple([Look(name) for name in _services(known)]),
    Trace: lambda known: tuple([Trace(name) for name in _services(known)]),
    Compare: lambda known: tuple([Compare(name) for name in _services(known)]),
    NameCause: lambda _: tuple([NameCause(kind) for kind in CAUSE_KINDS]),
    Audit: lambda known: tuple([Audit(name) for name in _agents(known)]),
    Ledger: lambda known: tuple([Ledger(name) for name in _services(known)]),
    Ask: lambda known: tuple([Ask(name) for name in _agents(known)]),
    Freeze: lambda known: tuple([Freeze(name) for name in _agents(known) if name not in known.frozen]),
    Release: lambda known: tuple([Release(name) for name in known.frozen]),
    Accuse: lambda known: tuple(
        [Accuse(name, stated, verdict) for name in _agents(known) for stated in PROBABILITIES for verdict in VERDICTS]
    ),
    Point: lambda known: tuple([Point(name) for name in known.entries]),
    Revert: lambda known: tuple([Revert(name) for name in known.entries]),
    Restart: lambda known: tuple([Restart(name) for name in _services(known)]),
    Scale: lambda known: tuple([Scale(name) for name in _services(known)]),
    Reroute: lambda known: tuple([Reroute(name) for name in _services(known)]),
    Canary: lambda known: tuple([Canary(name) for name in known.entries]),
    Escalate: lambda _: tuple([Escalate(team) for team in TEAMS]),
    Resolve: lambda _: (Resolve(),),
}


def _services(known: Known) -> list[str]:
    return [service_name(place) for place in range(known.services)]


def _agents(known: Known) -> list[str]:
    return [agent_name(place) for place in range(known.agents)]


def _phrases(known: Known) -> tuple[str, ...]:
    """Return what a seat may say: the SRE and Oversight ask for looks and operations, which others can carry out."""
    if known.role not in (SRE, OVERSIGHT):
        return PHRASES
    asked = [*[f"look at {name}" for name in _services(known)], *[f"call {team}" for team in TEAMS]]
    return (*PHRASES, *asked, *[f"undo {name}" for name in known.entries])


@lru_cache(maxsize=512)
def _kinds(known: Known) -> tuple[tuple[Action, ...], ...]:
    found = [_ARGUMENTS[kind](known) for kind in PERMITTED[known.role]]
    return tuple([kind for kind in found if kind])


def permitted(seen: View) -> tuple[tuple[Action, ...], ...]:
    """List what the seat of this view may do, with the names that it knows; equal situations have the same tuples."""
    return _kinds(
        Known(
            seen.role,
            len(seen.services or ()),
            len(seen.agents or ()),
            known_entries(seen),
            seen.frozen or (),
            _has_news(seen),
        )
    )


def _has_news(seen: View) -> bool:
    """Tell if the seat has looked up something that it has not shared, as far as its chat shows."""
    if not seen.results:
        return False
    shared = [message.turn for message in seen.chat if message.results and message.sender == seen.role]
    return seen.results[-1].turn > max(shared, default=0)


@cache
def vocabulary(role: str) -> tuple[str, ...]:
    """List the compact spellings of all that this seat may ever do, in any scenario."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    entries = tuple([entry_name(place) for place in range(MAX_ENTRIES)])
    everything = Known(role, MAX_SERVICES, MAX_AGENTS, entries, (), has_news=True)
    kinds = [*_kinds(everything), *_kinds(everything._replace(frozen=tuple(_agents(everything))))]
    return tuple(dict.fromkeys([format_action(action, "compact") for kind in kinds for action in kind]))
