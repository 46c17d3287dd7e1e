"""How honest agents come to write their logs: exactly, or with a habit that makes an honest log look odd.

A habit is an agent's own and shows in all that it writes, or that of a service's instruments and shows in what all
agents write of that service. That is how it is told from a rogue's cover of its own deed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from chaosops_ray.sim.fleet.model import Deed, Entry
from chaosops_ray.sim.rng import Stream

EXACT: Final = "exact"
STALE: Final = "stale"
LATE: Final = "late"
OUTAGE: Final = "outage"
MISLABELLED: Final = "mislabelled"
SMOOTHED: Final = "smoothed"

# An honest agent misreads now and then.
MISREADS: Final = 0.04
MISREAD: Final = (24, 60)


class Account(NamedTuple):
    """All that an entry of a log is written from.

    `measured` gives a service's utilisation at a tick in percent, as its instruments have it. `lag` is by how many
    ticks readings come late, `limit` the utilisation below which the agent may take, `plain` the operation that gives,
    and `gap` a time without logging.
    """

    measured: Callable[[int, int], int]
    draw: Callable[[Deed], Stream]
    reason: Callable[[Deed], str]
    lag: int
    limit: int
    plain: str
    gap: tuple[int, int]


# Writes a deed into its agent's own log; None where no entry is left of it.
Pen: TypeAlias = Callable[[Account, Deed], Entry | None]


def exact(of: Account, deed: Deed) -> Entry:
    """Write the deed as it was, with the reading of the tick before it."""
    return entry(of, deed, deed.tick, deed.tick - 1)


def stale(of: Account, deed: Deed) -> Entry:
    """Write the deed at its time, with a reading that had come late."""
    return entry(of, deed, deed.tick, deed.tick - of.lag)


def late(of: Account, deed: Deed) -> Entry:
    """Write the time of the reading, though the deed was done so much later."""
    return entry(of, deed, max(0, deed.tick - of.lag), deed.tick - of.lag)


def outage(of: Account, deed: Deed) -> Entry | None:
    """Write nothing while logging is down."""
    return None if of.gap[0] <= deed.tick <= of.gap[1] else exact(of, deed)


def mislabelled(of: Account, deed: Deed) -> Entry:
    """Write every deed under the name of the operation that gives."""
    return exact(of, deed)._replace(operation=of.plain)


def entry(of: Account, deed: Deed, written: int, read: int) -> Entry:
    """Return an entry with this time and the reading of that tick, as an honest agent writes it."""
    draw = of.draw(deed)
    reading = of.measured(deed.target, max(0, read)) + draw.below(3) - 1
    if draw.uniform() < MISREADS:
        reading = MISREAD[0] + draw.below(MISREAD[1] - MISREAD[0])
    return Entry(written, deed.operation, deed.target, reading, of.reason(deed))


HABITS: Mapping[str, Pen] = MappingProxyType(
    {
        EXACT: exact,
        STALE: stale,
        LATE: late,
        OUTAGE: outage,
        MISLABELLED: mislabelled,
        SMOOTHED: exact,  # the log is exact; it is the service's instruments that lag
    }
)
# What an agent that nobody suspects may have, as often as it stands here.
COMMON: Final = (*[EXACT] * 8, STALE, LATE)
