"""The investigator: hand rules that look, cross-check one source with another, and then act.

SRE traces failures from the page down to the services that fail by themselves. Oversight reads the ledgers of these, and
the log of whoever took something from them last; it checks the one against the other, and asks. Dev undoes the deed, and
what was taken before if that was not enough. Manager calls in a team if nothing helped, and closes the incident.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet import looks
from chaosops_ray.sim.fleet.causes import outside
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    COMPARE,
    DEV,
    EDGE,
    LEDGER,
    MISTAKE,
    OVERSIGHT,
    ROGUE,
    SRE,
    TRACE,
    Accuse,
    Action,
    Ask,
    Audit,
    Compare,
    Entry,
    Escalate,
    Freeze,
    Ledger,
    NameCause,
    Noop,
    Point,
    Resolve,
    Revert,
    Share,
    Topology,
    Trace,
)
from chaosops_ray.sim.fleet.policies.notes import Notes, Recorded
from chaosops_ray.sim.fleet.story import plot
from chaosops_ray.sim.fleet.views import View

# Shares of failed requests, in percent: from here on a service fails by itself, and below the fleet is well again.
FAILS = 5
WELL = 3
REPAIRS = ("revert", "escalate", "scale", "restart", "reroute")
# How sure the rules are of what they conclude.
SURE = 0.9
LIKELY = 0.6

TAKES = {mandate.takes.name: mandate for mandate in MANDATES.values()}
_SERVICE = re.compile(r"\bs([0-9]+)\b")


class Belief(NamedTuple):
    """What a seat believes of an agent, and the entry that this rests on."""

    agent: int
    entry: Recorded
    rogue: float
    mistake: float


class Investigator:
    """The seats' rules; an instance plays one seat or several, each from what that seat has been shown."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.notes: dict[str, Notes] = {}
        self.done: dict[str, list[Action]] = {}

    def __call__(self, view: View) -> Action:
        """Choose a seat's action."""
        notes = self.notes.setdefault(view.role, Notes())
        notes.read(view)
        done = self.done.setdefault(view.role, [])
        act = {SRE: self.sre, OVERSIGHT: self.oversight, DEV: self.dev}.get(view.role, self.manager)
        action = act(view, notes, done)
        done.append(action)
        return action

    # -- the seats ------------------------------------------------------------------------------------------------------

    def sre(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Trace failures down to where they begin, compare these services, tell, and watch."""
        paged = self.paged(view)
        failing = notes.failing()
        repaired = [act.turn for act in view.acts if act.verb in REPAIRS]
        unknown = [paged] if not notes.seen(TRACE, paged) else []
        if repaired and self.is_well(view, notes, repaired[-1]) is None:
            unknown = [paged]
        unknown += [
            service
            for service in sorted(failing, key=lambda service: -failing[service])
            if failing[service] >= FAILS and self.topology.services[service].calls and service not in notes.passed
        ]
        if unknown:
            return Trace(looks.service_name(unknown[0]))
        if notes.unshared:
            return Share()
        for site in self.sites(notes):
            if not notes.seen(COMPARE, site):
                return Compare(looks.service_name(site))
        cause = self.cause(view, notes)
        if cause and NameCause(cause) not in done:
            return NameCause(cause)
        return Trace(looks.service_name(paged))

    def oversight(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Read the ledgers of the failing services, then check the log of who took from them, and act on that."""
        sites = self.sites(notes)
        for site in sites:
            if not notes.seen(LEDGER, site):
                return Ledger(looks.service_name(site))
        if sites and notes.unshared and any(isinstance(action, Ledger) for action in done[-1:]):
            return Share()
        for agent in self.suspects(notes):
            for look in self.checks(notes, agent):
                if look not in done:
                    return look
        return self.conclude(view, notes, done)

    def conclude(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Freeze, accuse and point as the beliefs have it."""
        for belief in self.beliefs(notes):
            name = looks.agent_name(belief.agent)
            if belief.rogue >= LIKELY and name not in (view.frozen or ()):
                return Freeze(name)
            verdict, chance = (ROGUE, belief.rogue) if belief.rogue >= belief.mistake else (MISTAKE, belief.mistake)
            accusation = Accuse(name, stated(chance), verdict)
            if chance >= LIKELY and accusation not in done:
                return accusation
            if chance >= LIKELY and not any(isinstance(action, Point) for action in done):
                return Point(looks.entry_name(belief.entry.number))
        return Share() if notes.unshared else Noop()

    def dev(self, view: View, notes: Notes, _done: list[Action]) -> Action:
        """Undo what was taken, one deed after the other, for as long as that has not helped."""
        reverted = [act for act in view.acts if act.verb == "revert"]
        if reverted and self.is_well(view, notes, reverted[-1].turn) is not False:
            return Noop()
        names = [act.subject for act in reverted]
        for entry in self.repairs(notes):
            if looks.entry_name(entry.number) not in names:
                return Revert(looks.entry_name(entry.number))
        return Noop()

    def manager(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Close the incident once it is over; call in a team if undoing deeds did not help."""
        acts = [act for act in view.acts if act.verb in REPAIRS]
        if acts and self.is_well(view, notes, acts[-1].turn):
            return Resolve()
        tried = {act.subject for act in acts if act.verb == "revert"}
        left = [entry for entry in self.repairs(notes) if looks.entry_name(entry.number) not in tried]
        team = self.team(notes)
        if team and tried and not left and self.is_well(view, notes, acts[-1].turn) is False:
            call = Escalate(team)
            if call not in done:
                return call
        return Noop()

    # -- what is known ------------------------------------------------------------------------------------------------

    def paged(self, view: View) -> int:
        """Return the service that the page names first."""
        found = _SERVICE.search(view.page[0])
        return int(found[1]) if found else 0

    def sites(self, notes: Notes) -> list[int]:
        """Return the services that were seen to fail by themselves, the worst first."""
        inner = [one for one in notes.worst() if self.topology.services[one].layer != EDGE]
        own = {service: self.own_failures(notes, service) for service in inner}
        return sorted([service for service, share in own.items() if share >= FAILS], key=lambda service: -own[service])

    def own_failures(self, notes: Notes, service: int) -> float:
        """Return the share of requests, in percent, that a service failed by itself when it was worst; 0 if unknown."""
        passed = notes.passed.get(service) if self.topology.services[service].calls else {}
        if passed is None:
            return 0.0
        answered = 1 - notes.worst()[service] / 100
        for share in passed.values():
            answered /= max(0.01, 1 - share / 100)
        return 100 * (1 - answered)

    def taken(self, notes: Notes) -> list[Recorded]:
        """Return the entries that took something from a failing service before the page, the last one first."""
        entries = [entry for site in self.sites(notes) for entry in notes.ledger(site)]
        return sorted([one for one in entries if one.operation in TAKES and one.tick <= 0], key=lambda one: -one.tick)

    def repairs(self, notes: Notes) -> list[Recorded]:
        """Return the entries to undo, in this order; what was taken since the page comes last."""
        entries = [entry for site in self.sites(notes) for entry in notes.ledger(site)]
        return [*self.taken(notes), *[one for one in entries if one.operation in TAKES and one.tick > 0]]

    def is_well(self, view: View, notes: Notes, since: int) -> bool | None:
        """Tell if the paged service answers again; None where nobody has looked since that turn."""
        turn, share = notes.paged_failures.get(self.paged(view), (0, 0))
        return None if turn <= since else share < WELL

    def team(self, notes: Notes) -> str | None:
        """Return the team for what may have happened to a failing service from outside."""
        taken = self.taken(notes)
        if not taken:
            return None
        layer = self.topology.services[taken[0].target].layer
        found = outside(TAKES[taken[0].operation].field, layer)
        return found[0].team if found else None

    # -- what is concluded ----------------------------------------------------------------------------------------------

    def suspects(self, notes: Notes) -> list[int]:
        """Return the agents to check: whoever took last."""
        return [entry.agent for entry in self.taken(notes)[:1]]

    def checks(self, _notes: Notes, agent: int) -> list[Action]:
        """Return the looks that check an agent."""
        return [Audit(looks.agent_name(agent)), Ask(looks.agent_name(agent))]

    def beliefs(self, notes: Notes) -> list[Belief]:
        """Return what the checks say: who admits, hides or evades is a rogue, and everybody else has erred."""
        found = []
        for entry in self.taken(notes)[:1]:
            if entry.agent not in notes.logs:
                continue
            logged = written(notes.logs[entry.agent], entry)
            evades = notes.evades.get(entry.agent, False)
            limit = MANDATES[self.topology.agents[entry.agent].mandate].limit
            is_rogue = evades or logged is None or logged.reading >= limit
            found.append(Belief(entry.agent, entry, SURE if is_rogue else 0.0, 0.0 if is_rogue else LIKELY))
        return found

    def cause(self, _view: View, notes: Notes) -> str | None:
        """Return the cause to name, where the beliefs are strong enough."""
        for belief in self.beliefs(notes):
            if belief.rogue >= LIKELY:
                return ROGUE
            if belief.mistake >= LIKELY:
                return MISTAKE
        return None


def written(log: list[Entry], entry: Recorded) -> Entry | None:
    """Return what an agent's log has of a deed in the ledger, under its time; None where it has nothing."""
    found = [one for one in log if (one.tick, one.target) == (entry.tick, entry.target)]
    return found[0] if found else None


def stated(chance: float) -> float:
    """Return the probability to state: one of those that every seat can spell, the nearest below."""
    return max([level for level in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99) if level <= max(0.1, chance)])


def investigator(scenario: Scenario, _rules: str) -> Policy:
    """Build the seats' rules. Of the scenario they know what stands in the views, which is its topology."""
    return Investigator(plot(scenario).topology)
