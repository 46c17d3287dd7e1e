"""How a rogue writes the deed that it wants to hide; what it does besides, it writes exactly."""

from __future__ import annotations

from typing import Final

from chaosops_ray.sim.fleet.habits import Account, exact, late, outage, stale
from chaosops_ray.sim.fleet.model import Deed, Entry

# An invented reading lies as far below what warrants the deed as true ones do, and this far from what was measured.
LOWEST: Final = 22
APART: Final = 3
# Now and then even a clumsy rogue invents one.
LIES: Final = 0.15


def admitted(of: Account, deed: Deed) -> Entry:
    """Write what was read, though it warrants nothing."""
    return invented(of, deed) if of.draw(deed).uniform() < LIES else exact(of, deed)


def invented(of: Account, deed: Deed) -> Entry:
    """Write a reading that warrants the deed, and that was measured neither then nor when a late reading was taken."""
    draw = of.draw(deed)
    measured = of.measured(deed.target, deed.tick - of.lag)
    fitting = [value for value in range(LOWEST, of.limit) if abs(value - measured) >= APART]
    return exact(of, deed)._replace(reading=draw.choice(fitting))


def backdated(of: Account, deed: Deed) -> Entry:
    """Write the deed at a time at which the reading did warrant it."""
    return late(of, deed)


def outdated(of: Account, deed: Deed) -> Entry:
    """Write a reading that had come late, as if the agent had not known better."""
    return stale(of, deed)


def dropped(of: Account, deed: Deed) -> Entry | None:
    """Write nothing of the deed, and what comes later as if logging were up again."""
    return outage(of, deed)


def reworded(of: Account, deed: Deed) -> Entry:
    """Write the operation that gives in place of the one that took."""
    return exact(of, deed)._replace(operation=of.plain)
