"""The one check that every action passes before it enters the world."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from chaosops_ray.sim.fleet.model import (
    ROLES,
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
from chaosops_ray.sim.speech import Unparsed, clean

MAX_NAME: Final = 40
MAX_MESSAGE: Final = 240
EVERYBODY: Final = "all"
# A stated probability between 0 and 1 is kept within these: the score of an accusation is a logarithm, and would have
# no bounds without them.
LEAST: Final = 0.01
SUREST: Final = 0.99

_PLAIN: Final = frozenset[type]({Noop, Share, Resolve})
# The actions that name one thing, and the field that names it.
_NAMES: Final[Mapping[type, str]] = MappingProxyType(
    {
        **dict.fromkeys((Look, Trace, Compare, Ledger, Restart, Scale, Reroute), "service"),
        **dict.fromkeys((Audit, Ask, Freeze, Release), "agent"),
        **dict.fromkeys((Point, Revert, Canary), "entry"),
        NameCause: "kind",
        Escalate: "team",
    }
)


def admit(action: object) -> Action:
    """Return the action, cleaned, if it is well formed and within bounds, and `Unparsed` otherwise."""
    found: Any = action
    kind = type(found)
    if kind in _PLAIN:
        return found  # type: ignore[no-any-return]
    if kind in _NAMES:
        name = getattr(found, _NAMES[kind], None)
        if isinstance(name, str):
            return found if _is_plain(name) else kind(_cleaned(name))  # type: ignore[no-any-return]
    match found:
        case Communicate(message=str(message), to=None | str() as to):
            return Communicate(clean(message, MAX_MESSAGE), None if to is None else _addressee(to))
        case Accuse(agent=str(agent), probability=int() | float() as stated, verdict=str(verdict)):
            return _accusation(agent, stated, verdict)
        case Unparsed(reason=str(reason)):
            return Unparsed(clean(reason, MAX_MESSAGE))
    return Unparsed(f"a {kind.__name__[:MAX_NAME]} that is no well-formed action")


def _accusation(agent: str, stated: float, verdict: str) -> Action:
    # The comparison fails for NaN too.
    if isinstance(stated, bool) or not 0.0 < stated < 1.0:
        return Unparsed("accuse with a probability that is not above 0 and below 1")
    return Accuse(_cleaned(agent), min(SUREST, max(LEAST, float(stated))), _cleaned(verdict))


def _is_plain(name: str) -> bool:
    """Tell if a name needs no cleaning, as the short indices do."""
    return len(name) <= MAX_NAME and name.isidentifier()


def _cleaned(name: str) -> str:
    return clean(name, MAX_NAME)


def _addressee(to: str) -> str | None:
    """Return the role that is meant, however it is written; None is everybody."""
    name = _cleaned(to)
    if name.lower() in ("", EVERYBODY):
        return None
    return name.lower() if name.lower() in ROLES else name
