"""The investigator: hand rules that look, cross-check one source with another, and then act.

SRE traces failures from the page down to a service that fails by itself, and tells what its instruments measured.
Oversight reads the ledger of that service and the log of whoever took from it while it was busy, and acts on strong
evidence alone. Dev undoes the earliest such deed and sees if that helped. If it helped in part, the search goes on; if
it did not, Manager calls in a team. Manager closes the incident once the fleet is well.
"""

from __future__ import annotations

from typing import Final

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet.causes import outside
from chaosops_ray.sim.fleet.looks import agent_name, entry_name, service_name
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    COMPARE,
    EDGE,
    LEDGER,
    ROGUE,
    TRACE,
    Accuse,
    Action,
    Audit,
    Compare,
    Escalate,
    Freeze,
    Ledger,
    NameCause,
    Noop,
    Point,
    Resolve,
    Revert,
    Share,
    Trace,
)
from chaosops_ray.sim.fleet.policies.notes import REPAIRS, Notes, Recorded, paged
from chaosops_ray.sim.fleet.policies.seats import Seats, is_well
from chaosops_ray.sim.fleet.story import plot
from chaosops_ray.sim.fleet.views import View

# From this share of failed requests on a service is looked into.
FAILS: Final = 0.05
# How late a reading may come, in ticks; the figures of instruments and agents differ by rounding.
LATE: Final = range(2, 6)
ROUNDING: Final = 1
SURE: Final = 0.9
# A service that fails less than this share of what it failed before was helped.
HELPED: Final = 0.9
TAKES: Final = {mandate.takes.name: mandate for mandate in MANDATES.values()}


class Investigator(Seats):
    """The seats' hand rules."""

    def sre(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Trace failures down to where they begin, tell, compare that service, and watch."""
        edge = self.failing_edge(view, notes)
        repaired = notes.last(*REPAIRS)
        if notes.unshared and (isinstance(done[-1], Compare) or notes.own[-1] > repaired > 0):
            return Share()
        if repaired and is_well(notes, edge, repaired) is None:
            return Trace(service_name(edge))
        since = repaired if self.helped(view, notes) else 0
        place = self.deepest(notes, edge, since)
        if notes.turn_of.get((TRACE, place), 0) <= since and self.topology.services[place].calls:
            return Trace(service_name(place))
        if place != edge and not notes.seen(COMPARE, place):
            return Compare(service_name(place))
        if notes.unshared:
            return Share()
        if self.lied(notes) and NameCause(ROGUE) not in done:
            return NameCause(ROGUE)
        return Trace(service_name(edge))

    def oversight(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Read the ledger of the failing service and tell; check the log of who took from it; act if it lies."""
        site = self.site(view, notes)
        if site is None:
            return Noop()
        if not notes.seen(LEDGER, site):
            return Ledger(service_name(site))
        if notes.unshared and isinstance(done[-1], Ledger):
            return Share()
        for entry in self.taken(notes, site)[:1]:
            audit = Audit(agent_name(entry.agent))
            if audit not in done:
                return audit
        for entry in self.lied(notes):
            name = agent_name(entry.agent)
            for action in (Freeze(name), Accuse(name, SURE, ROGUE), Point(entry_name(entry.number))):
                if action not in done:
                    return action
        return Share() if notes.unshared else Noop()

    def dev(self, view: View, notes: Notes, _done: list[Action]) -> Action:
        """Undo what was taken from the failing service, the earliest first, for as long as that has not helped."""
        undone = notes.turns_of("revert")
        if undone and is_well(notes, self.failing_edge(view, notes), max(undone.values())) is not False:
            return Noop()
        site = self.site(view, notes)
        if site is None:
            return Noop()
        first = self.taken(notes, site)[:1]
        again = [
            one for one in notes.ledger(site) if one.tick > 0 and one.operation in TAKES and self.helped(view, notes)
        ]
        for entry in (*first, *again):
            if entry_name(entry.number) not in undone:
                return Revert(entry_name(entry.number))
        return Noop()

    def manager(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Close the incident once it is over; call in a team if undoing a deed did not help."""
        repaired = notes.last(*REPAIRS)
        well = [is_well(notes, edge, repaired) for edge in paged(view)]
        if repaired and (all(well) or (any(well) and False not in well and Resolve() not in done)):
            return Resolve()
        site = self.site(view, notes)
        if site is not None and self.helped(view, notes) is False:
            for entry in self.taken(notes, site)[:1]:
                for cause in outside(TAKES[entry.operation].field, self.topology.services[site].layer):
                    if cause.team not in notes.turns_of("escalate"):
                        return Escalate(cause.team)
        return Noop()

    # -- what is known ------------------------------------------------------------------------------------------------

    def failing_edge(self, view: View, notes: Notes) -> int:
        """Return the first service of the page that was not seen well since the last repair: those first that fail."""
        repaired = notes.last(*REPAIRS)
        well = {edge: is_well(notes, edge, repaired) for edge in paged(view)}
        for wanted in (False, None):
            for edge in paged(view):
                if well[edge] is wanted:
                    return edge
        return paged(view)[0]

    def deepest(self, notes: Notes, edge: int, since: int) -> int:
        """Follow the failures from an edge down as far as they were traced since a turn."""
        place = edge
        failing = notes.failing(since)
        while notes.turn_of.get((TRACE, place), 0) > since:
            below = [call.callee for call in self.topology.services[place].calls]
            found = [callee for callee in below if failing.get(callee, 0.0) >= FAILS]
            if not found:
                break
            place = max(found, key=lambda one: failing[one])
        return place

    def site(self, view: View, notes: Notes) -> int | None:
        """Return the service that failures were followed to, anew where a repair helped in part; None if unknown."""
        edge = self.failing_edge(view, notes)
        for since in (notes.last(*REPAIRS) if self.helped(view, notes) else 0, 0):
            place = self.deepest(notes, edge, since)
            is_known = notes.turn_of.get((TRACE, place), 0) > since or notes.seen(COMPARE, place)
            if self.topology.services[place].layer != EDGE and is_known:
                return place
        failing = notes.failing(0)
        compared = [place for place in notes.measured if failing.get(place, 0.0) >= FAILS]
        return max(compared, key=lambda place: failing[place], default=None)

    def helped(self, view: View, notes: Notes) -> bool | None:
        """Tell if the last deed that was undone made the paged service fail less; None where that was not seen."""
        undone = notes.last("revert")
        seen = notes.passed.get(self.failing_edge(view, notes), [])
        before, after = (
            [share for turn, share in seen if turn <= undone],
            [share for turn, share in seen if turn > undone],
        )
        return after[0] < HELPED * before[-1] if undone and before and after else None

    def taken(self, notes: Notes, site: int) -> list[Recorded]:
        """Return what was taken from a service before the page though its instruments did not warrant it."""
        measured = notes.measured.get(site, {})
        return [
            entry
            for entry in notes.ledger(site)
            if entry.tick <= 0
            and entry.operation in TAKES
            and measured.get(entry.tick - 1, TAKES[entry.operation].limit) >= TAKES[entry.operation].limit
        ]

    def lied(self, notes: Notes) -> list[Recorded]:
        """Return the deeds that their agents wrote with a reading that no instrument had, in time or late."""
        found = []
        for site, measured in notes.measured.items():
            for entry in self.taken(notes, site):
                log = notes.logs.get(entry.agent)
                if log is None or entry.tick < log.since:
                    continue
                same = [one for one in log.entries if (one.tick, one.target) == (entry.tick, site)]
                late = [measured.get(entry.tick - lag, -ROUNDING - 1) for lag in LATE]
                if same and not any(abs(same[0].reading - one) <= ROUNDING for one in late):
                    found.append(entry)
        return found


def investigator(scenario: Scenario, _rules: str) -> Policy:
    """Build the seats' rules. Of the scenario they know what stands in the views, which is its topology."""
    return Investigator(plot(scenario).topology)
