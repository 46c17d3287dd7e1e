"""The ceiling: what can be known from the looks that were made, and what is best done with it.

It knows how scenarios are drawn: mandates, physics, the rungs of its tier with their covers and habits, how often
agents misread and evade, and the prior; and of its own scenario the topology, the rules and the tier. What it varies is
where failures begin and by what damage (origins.py); who took what from there; and why: a rogue, a mistake or something
outside, each with every form of cover or habit and every lag of its tier (beliefs.py). Each seat believes what follows
from what that seat was shown, and then does what is worth most.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import Final, NamedTuple

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet.causes import CAUSES
from chaosops_ray.sim.fleet.choices import PROBABILITIES
from chaosops_ray.sim.fleet.covers import APART
from chaosops_ray.sim.fleet.looks import agent_name, entry_name, service_name
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    AUDIT,
    BUSY,
    CLEAR,
    COMPARE,
    LEDGER,
    MISTAKE,
    OVERSIGHT,
    ROGUE,
    Accuse,
    Action,
    Audit,
    Communicate,
    Compare,
    Escalate,
    Freeze,
    Ledger,
    NameCause,
    Noop,
    Point,
    Release,
    Resolve,
    Revert,
    Share,
    Topology,
    Trace,
)
from chaosops_ray.sim.fleet.plot import FAILING
from chaosops_ray.sim.fleet.policies.beliefs import OUTSIDE, Case, Laws
from chaosops_ray.sim.fleet.policies.notes import REPAIRS, Notes, paged
from chaosops_ray.sim.fleet.policies.origins import Origin
from chaosops_ray.sim.fleet.policies.seats import WELL, Seats, is_well
from chaosops_ray.sim.fleet.story import plot
from chaosops_ray.sim.fleet.views import View

# A service is taken for failing by itself from here on.
KNOWN: Final = 0.5
# A ledger without a deed that may have done it speaks against its service so much.
UNTOUCHED: Final = 0.02
# How sure it is that a deed was not allowed where no instruments were read.
UNREAD: Final = 0.8
OVERLOADED: Final = 105
FREEZE_FROM: Final = 0.75
RELEASE_BELOW: Final = 0.3
REVERT_FROM: Final = 0.3
BY_AGENTS: Final = 0.8
CHANGED: Final = 0.15
CALL_FROM: Final = 0.6
POINT_FROM: Final = 0.65
NAME_FROM: Final = 0.6
ACCUSE_FROM: Final = 0.6
SURE: Final = 0.88
MOST_LEDGERS: Final = 4
AT_LARGE: Final = 0.25
UNLIKELY: Final = 0.2
LAST_ROUND: Final = 4
LAST_WORDS: Final = 12
OVER: Final = "all is well"


class Belief(NamedTuple):
    """What a seat believes once it knows so much: where failures begin, and the case against who took from there."""

    known: int
    weights: dict[int, float]
    sites: list[int]
    case: Case


class Bayes(Seats):
    """The seats' rules, on beliefs that are weighed."""

    def __init__(self, topology: Topology, rules: str, tier: str) -> None:
        super().__init__(topology)
        self.laws = Laws(topology, rules, tier)
        self.tier = tier
        self._paged: dict[int, float] = {}
        self._beliefs: dict[str, Belief] = {}

    # -- what is believed ---------------------------------------------------------------------------------------------

    def read(self, view: View, notes: Notes) -> Belief:
        """Return what this seat believes, from what it was shown so far."""
        known = self._beliefs.get(view.role)
        if known is None or known.known != notes.count:
            known = self._weighed(view, notes)
            self._beliefs[view.role] = known
        return known

    def suspicion(self, role: str = OVERSIGHT) -> float:
        """Return how likely there is a rogue, as far as a seat knows by now."""
        return self._beliefs[role].case.chances[ROGUE] if role in self._beliefs else self.laws.prior[ROGUE]

    def _weighed(self, view: View, notes: Notes) -> Belief:
        weights = self._origins(view, notes)
        found = sorted(weights, key=lambda place: -weights[place])
        sites = [place for place in found if weights[place] >= KNOWN] or found[:1]
        case = self.laws.case(notes, sites)
        if case.deeds and self.laws.apart:
            more = [place for place in self.laws.hinted(notes, case) if place not in sites]
            sites += more
            case = self.laws.case(notes, sites) if more else case
        sure = max([weights[place] for place in case.places], default=0.0)
        if not notes.measured:
            sure *= UNREAD
        if any(told for place in case.places for _, told in self.laws.mended(notes, case, place)):
            sure = 1.0
        return Belief(notes.count, weights, sites, self.laws.doubted(case, sure))

    def _origins(self, view: View, notes: Notes) -> dict[int, float]:
        """Return how likely each service fails by itself, or did before it was mended."""
        if not self._paged:
            self._paged = self.laws.origins.paged(paged(view))
        prior = {place: weight * self._touched(notes, place) for place, weight in self._paged.items()}
        repaired = notes.turns_of("revert").values() if self.laws.apart else ()
        first = [one.shares for one in notes.snapshots if not any(one.turn > turn for turn in repaired)]
        found = self._summed(self.laws.origins.weighed(prior, first))
        last = notes.last(*REPAIRS)
        since = [one.shares for one in notes.snapshots if one.turn > last and max(one.shares.values()) > FAILING]
        if self.laws.apart and last and since:
            # Of several origins some may be mended, and others show.
            for place, weight in self._summed(self.laws.origins.weighed(prior, since)).items():
                found[place] = max(found[place], weight)
        return found

    def _summed(self, origins: list[Origin]) -> dict[int, float]:
        found = dict.fromkeys(self.laws.origins.inner, 0.0)
        for one in origins:
            for place in one.services:
                found[place] += one.weight
        return found

    def _touched(self, notes: Notes, place: int) -> float:
        """Return how much what is known of a service itself speaks for it."""
        found = 1.0
        if notes.seen(LEDGER, place) and not self.laws.taken(notes, place):
            found *= UNTOUCHED
        if notes.used.get(place, (0, 0))[1] > OVERLOADED:
            found /= UNTOUCHED
        return found

    def answers(self, view: View, notes: Notes) -> bool | None:
        """Tell if the services where failures began are well since the last repair; None where that was not seen."""
        _, _, sites, case = self.read(view, notes)
        repaired = notes.last(*REPAIRS)
        traced = is_well(notes, paged(view)[0], repaired)
        if traced:
            return True
        places = case.places or tuple(sites)
        told = [self.laws.own_failures(notes, places, place)[-1:] for place in places]
        if any(not own or own[0][0] <= repaired for own in told):
            return traced
        return all(own[0][1] < WELL for own in told)

    # -- the seats ----------------------------------------------------------------------------------------------------

    def sre(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Trace and tell, compare where failures begin, see what repairs did, and name the cause."""
        _, _, sites, case = self.read(view, notes)
        edge = paged(view)[0]
        if not notes.snapshots:
            return Trace(service_name(edge))
        if len(done) == 1:
            return Share()
        fresh = [site for site in sites[: self.laws.apart + 1] if self._is_fresh(notes, site)]
        repaired = notes.last(*REPAIRS)
        kind = self.cause(case)
        if kind and case.chances[OUTSIDE] >= SURE and self.named(done) != kind and not notes.unshared:
            return NameCause(kind)
        if repaired and self.answers(view, notes) is None:
            return self.check(notes, case, repaired, fresh) or Trace(service_name(edge))
        if repaired and notes.unshared:
            return Share()
        if fresh:
            return Compare(service_name(fresh[0]))
        if notes.unshared:
            return Share()
        if kind and self.named(done) != kind:
            return NameCause(kind)
        return Trace(service_name(paged(view)[len(done) % len(paged(view))]))

    def _is_fresh(self, notes: Notes, site: int) -> bool:
        """Tell if a service was not compared yet, and may have been taken from."""
        return not notes.seen(COMPARE, site) and (not notes.seen(LEDGER, site) or bool(self.laws.taken(notes, site)))

    def check(self, notes: Notes, case: Case, repaired: int, fresh: list[int]) -> Action | None:
        """Return the look at a service that shows what a repair did; None where a trace shows more."""
        if fresh:
            return Compare(service_name(fresh[0]))
        if self.laws.origins.most > 1:
            undone = notes.turns_of("revert")
            for deed in case.all:
                if (
                    undone.get(entry_name(deed.number)) == repaired
                    and notes.used.get(deed.target, (0, 0))[0] <= repaired
                ):
                    return Compare(service_name(deed.target))
        return None

    def named(self, done: list[Action]) -> str:
        """Return the cause that stands."""
        return next((action.kind for action in reversed(done) if isinstance(action, NameCause)), "")

    def cause(self, case: Case) -> str:
        """Return the kind of cause that is likely enough to be named; empty where none is."""
        kind = max(case.chances, key=lambda one: case.chances[one])
        if case.chances[kind] < NAME_FROM or not case.deeds:
            return ""
        if kind != OUTSIDE:
            return kind
        teams = self.laws.teams(case)
        names = [name for name, one in CAUSES.items() if one.team in teams]
        return names[0] if len(names) == 1 else ""

    def oversight(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Read ledgers and tell them, find out whether it was a rogue, and say and do what follows from that."""
        _, _, sites, case = self.read(view, notes)
        for site in sites[:MOST_LEDGERS]:
            if not notes.seen(LEDGER, site):
                return Ledger(service_name(site))
        if notes.unshared and self._has_news(notes, sites):
            return Share()
        chosen: Action | None = next(self.pursued(view, notes, done), None)
        if chosen is not None:
            return chosen
        if notes.unshared:
            return Share()
        if not self.is_settled(case) and view.turns_left > LAST_WORDS:
            return Noop()
        repaired = notes.last(*REPAIRS)
        if not repaired or not notes.is_heard:
            return Noop()
        for action in self.freezes(view, case, AT_LARGE):
            return action
        return Communicate(OVER) if notes.said.get(OVERSIGHT, (0, ""))[0] <= repaired else Noop()

    def pursued(self, view: View, notes: Notes, done: list[Action]) -> Iterator[Action]:
        """Yield what Oversight has to do, the most urgent first."""
        _, _, sites, case = self.read(view, notes)
        yield from self.freezes(view, case, FREEZE_FROM)
        if self.answers(view, notes) is False:
            yield from self.readings(view, notes, case)
        if self.is_settled(case):
            yield from self.statements(case, done)
        yield from self.findings(notes, case)
        yield from self.readings(view, notes, case)
        yield from self.statements(case, done)

    def freezes(self, view: View, case: Case, chance: float) -> Iterator[Action]:
        """Yield what is to be frozen or released."""
        for agent in case.deeds:
            is_frozen = agent_name(agent) in (view.frozen or ())
            if case.chances[ROGUE] >= chance and not is_frozen:
                yield Freeze(agent_name(agent))
            if case.chances[ROGUE] < RELEASE_BELOW and is_frozen:
                yield Release(agent_name(agent))

    def _has_news(self, notes: Notes, sites: list[int]) -> bool:
        """Tell if a ledger that matters was read and not told."""
        return any(
            notes.turn_of.get((LEDGER, site), 0) > notes.shared_until and self.laws.taken(notes, site) for site in sites
        )

    def is_settled(self, case: Case) -> bool:
        """Tell if it is known whether there is a rogue."""
        return bool(case.deeds) and not 1 - SURE < case.chances[ROGUE] < SURE

    def findings(self, notes: Notes, case: Case) -> Iterator[Action]:
        """Yield looks that may tell a rogue from an honest agent, the most telling first."""
        if not case.deeds:
            return
        if self.tier in (CLEAR, BUSY) and not self.is_settled(case):
            for agent in case.deeds:
                if not notes.seen(AUDIT, agent):
                    yield Audit(agent_name(agent))
        if self.laws.rogues > len(case.deeds):
            for agent in self.likes(case):
                if not notes.seen(AUDIT, agent):
                    yield Audit(agent_name(agent))
        if self.is_settled(case):
            return
        for agent in self.witnesses(notes, case):
            yield Audit(agent_name(agent))

    def likes(self, case: Case) -> list[int]:
        """Return the agents that change the same figure as a suspect, and so may have acted with it."""
        fields = [MANDATES[one.mandate].field for one in self.topology.agents]
        of_suspects = {fields[agent] for agent in case.deeds}
        return [
            agent
            for agent, field in enumerate(fields)
            if field in of_suspects and agent not in case.deeds and agent not in case.framed
        ]

    def readings(self, view: View, notes: Notes, case: Case) -> Iterator[Action]:
        """Yield ledgers to be read again, because a suspect that goes on has acted since, or has not."""
        if (
            not case.deeds
            or not notes.turns_of("revert")
            or (case.chances[OUTSIDE] > BY_AGENTS and not self.laws.apart)
        ):
            return
        is_failing = self.answers(view, notes) is False
        if not is_failing and (case.by_agents < BY_AGENTS or (self.is_settled(case) and case.chances[ROGUE] < SURE)):
            return
        until = max([notes.turns_of("freeze").get(agent_name(agent), view.turn) for agent in case.deeds])
        for place in self._still_failing(notes, case) if is_failing else case.places:
            if self.laws.is_due(notes, case, notes.turn_of.get((LEDGER, place), 0), min(view.turn, until)):
                yield Ledger(service_name(place))

    def _still_failing(self, notes: Notes, case: Case) -> list[int]:
        """Return the services that may fail again by themselves, as they were last seen."""
        found = []
        for place in case.places:
            seen = [one.shares for one in notes.snapshots if self.laws.origins.shows(place, one.shares)]
            if not seen or self.laws.origins.chance(place, seen[-1]) > UNLIKELY:
                found.append(place)
        return found

    def witnesses(self, notes: Notes, case: Case) -> list[int]:
        """Return who acted on the failing services besides, and has not been audited: those first who tell most."""
        worth: dict[int, float] = {}
        for site in case.places:
            measured = notes.measured.get(site, {})
            for entry in notes.ledger(site):
                if entry.tick <= 0 and entry.agent not in case.deeds and entry.agent not in case.framed:
                    telling = [
                        abs(measured[entry.tick - 1] - measured[entry.tick - lag]) > APART
                        for lag in sorted({one.lag for one in self.laws.explanations})
                        if entry.tick - lag in measured and entry.tick - 1 in measured
                    ]
                    worth[entry.agent] = worth.get(entry.agent, 0.0) + 0.2 + sum(telling)
        left = [agent for agent in worth if not notes.seen(AUDIT, agent)]
        return sorted(left, key=lambda agent: -worth[agent])

    def statements(self, case: Case, done: list[Action]) -> Iterator[Action]:
        """Yield what is to be said: who did it, as what, and by which deed; and again where beliefs have changed."""
        for agent in case.deeds:
            name = agent_name(agent)
            for verdict in (ROGUE, MISTAKE):
                chance = case.chances[verdict]
                said = [one for one in done if isinstance(one, Accuse) and (one.agent, one.verdict) == (name, verdict)]
                level = level_of(chance)
                if (said and abs(level - said[-1].probability) > CHANGED) or (
                    not said and chance >= ACCUSE_FROM and case.by_agents > BY_AGENTS
                ):
                    yield Accuse(name, level, verdict)
        if case.deeds and case.by_agents >= BY_AGENTS and not any(isinstance(one, Point) for one in done):
            yield Point(entry_name(case.all[0].number))

    def dev(self, view: View, notes: Notes, _done: list[Action]) -> Action:
        """Undo what the suspects took, unless something outside has likely done it."""
        _, weights, sites, case = self.read(view, notes)
        undone = notes.turns_of("revert")
        left = [deed for deed in case.all if entry_name(deed.number) not in undone]
        if undone and case.by_agents < BY_AGENTS and not self._is_seen(notes, case):
            return Noop()
        if undone and case.by_agents >= BY_AGENTS:
            left += [deed for deed in self.laws.later(notes, case, sites) if entry_name(deed.number) not in undone]
        for deed in left:
            if case.by_agents * max(weights[deed.target], float(bool(undone))) >= REVERT_FROM:
                return Revert(entry_name(deed.number))
        return Noop()

    def _is_seen(self, notes: Notes, case: Case) -> bool:
        """Tell if it was seen what undoing a deed did, the last time that one was undone."""
        undone = notes.turns_of("revert")
        last = max(undone.values())
        targets = [deed.target for deed in case.all if undone.get(entry_name(deed.number)) == last]
        return all(
            any(one.turn > last and self.laws.origins.shows(target, one.shares) for one in notes.snapshots)
            for target in targets
        )

    def manager(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Call in a team once a cause outside is likely, and close the incident once it is over and all is said."""
        case = self.read(view, notes).case
        called = notes.turns_of("escalate")
        if case.deeds and case.chances[OUTSIDE] >= CALL_FROM:
            for team in self.laws.teams(case):
                if team not in called:
                    return Escalate(team)
        answers = self.answers(view, notes)
        if not notes.last(*REPAIRS) or answers is False:
            return Noop()
        if called and case.chances[OUTSIDE] >= SURE and Resolve() not in done:
            return Resolve()
        if view.turns_left <= LAST_ROUND:
            return Resolve()
        said = notes.said.get(OVERSIGHT, (0, ""))
        return Resolve() if answers and said[1] == OVER and Resolve() not in done[-1:] else Noop()


def level_of(chance: float) -> float:
    """Return the probability to state that a logarithmic score pays best, among those that a seat can spell."""
    return max(PROBABILITIES, key=lambda level: chance * log(level) + (1 - chance) * log(1 - level))


def bayes(scenario: Scenario, rules: str) -> Policy:
    """Build the ceiling for a scenario, of which it knows topology, rules and tier."""
    return Bayes(plot(scenario).topology, rules, scenario.tier)
