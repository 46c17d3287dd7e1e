"""The ceiling: what can be known from the looks that were made, by weighing all explanations of them.

It knows how scenarios are drawn (grammar, mandates, physics, habits, covers and the law of noise) and the topology, which
the views show. It does not know cause, culprit or deeds: for every agent that took from a failing service it weighs that
this agent is a rogue, that it erred, and that something outside did the damage, by how likely each makes what was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log
from typing import NamedTuple

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet import looks
from chaosops_ray.sim.fleet.habits import COMMON, EXACT, MISREADS
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    AUDIT,
    BUSY,
    CLEAR,
    COMPARE,
    EDGE,
    LEDGER,
    MISTAKE,
    PRIORS,
    ROGUE,
    Accuse,
    Action,
    Ask,
    Audit,
    Compare,
    Escalate,
    Freeze,
    Ledger,
    NameCause,
    Noop,
    Point,
    Release,
    Resolve,
    Share,
    Topology,
    Trace,
    parse_rules,
)
from chaosops_ray.sim.fleet.plot import LAGS
from chaosops_ray.sim.fleet.policies.investigator import FAILS, REPAIRS, Belief, Investigator
from chaosops_ray.sim.fleet.policies.notes import Notes, Recorded
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.story import EVADES, plot
from chaosops_ray.sim.fleet.views import View

OUTSIDE = "outside"
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
# A reading is as measured if it is off by no more than an agent's rounding.
ROUNDING = 1
# How likely something is that should not happen, so that no single look decides alone.
RARE = 0.02
# A canary's reading has this deviation, and this relief where the deed does the damage.
CANARY_DEVIATION = 2.2
FREEZE_FROM = 0.45
RELEASE_BELOW = 0.2
CALL_FROM = 0.6
WORTH_A_LOOK = 0.1
# A service that fails less than this share of what it failed before was helped.
HELPED = 0.6
MOST_WITNESSES = 4
LAST_TURNS = 6
# A rogue that is likelier than this must not be left at large; and so many turns Oversight needs to say what it knows.
AT_LARGE = 0.3
SAYING = 8
POINT_FROM = 0.6
NAME_FROM = 0.6

# How a log stands to the ledger's entry of a deed that took something.
ADMITTED, INVENTED, OUTDATED, BACKDATED, REWORDED, DROPPED = (
    "admitted",
    "invented",
    "outdated",
    "backdated",
    "reworded",
    "dropped",
)


class Reading(NamedTuple):
    """How a log has a deed of the ledger, and by how many ticks late its reading or time may be."""

    way: str
    lags: frozenset[int]


class Bayes(Investigator):
    """The seats' rules with beliefs that are weighed."""

    def __init__(self, topology: Topology, rules: str, tier: str) -> None:
        super().__init__(topology)
        self.prior = PRIORS[parse_rules(rules).prior]
        self.rungs = [rung for rung in RUNGS.values() if rung.tier == tier]
        self.tier = tier
        self.undone: dict[str, int] = {}
        self._believed: dict[tuple[int, int, int], list[Belief]] = {}

    def __call__(self, view: View) -> Action:
        """Choose a seat's action, knowing what all seats were told to be done."""
        for act in view.acts:
            if act.verb == "revert":
                self.undone.setdefault(act.subject, act.turn)
        return super().__call__(view)

    # -- the seats ------------------------------------------------------------------------------------------------------

    def sre(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Trace and tell at once, find where failures begin, compare these services, name the cause, and watch."""
        if len(done) == 1:
            return Share()
        paged = self.paged(view)
        repaired = [act.turn for act in view.acts if act.verb in REPAIRS]
        if repaired and self.is_well(view, notes, repaired[-1]) is None:
            return Trace(looks.service_name(paged))
        if (done and isinstance(done[-1], Compare)) or (repaired and notes.unshared):
            return Share()
        for service in self.untraced(notes)[:1]:
            return Trace(looks.service_name(service))
        for site in self.sites(notes):
            if not notes.seen(COMPARE, site):
                return Compare(looks.service_name(site))
        if notes.unshared:
            return Share()
        cause = self.cause(view, notes)
        if cause and NameCause(cause) not in done:
            return NameCause(cause)
        return Trace(looks.service_name(paged))

    def untraced(self, notes: Notes) -> list[int]:
        """Return the services that fail for a reason not known yet, the worst first."""
        failing = notes.failing()
        return [
            service
            for service in sorted(failing, key=lambda service: -failing[service])
            if failing[service] >= FAILS
            and self.topology.services[service].calls
            and self.topology.services[service].layer != EDGE
            and service not in notes.passed
        ]

    def sites(self, notes: Notes) -> list[int]:
        """Return the services that fail by themselves, and until one is known the one that fails most."""
        return super().sites(notes) or self.failing(notes)

    def oversight(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Read ledgers and tell them, stop whom the beliefs are against, and check for as long as that may change them."""
        for site in self.sites(notes)[:3]:
            if not notes.seen(LEDGER, site):
                return Ledger(looks.service_name(site))
        if done and isinstance(done[-1], Ledger):
            return Share()
        beliefs = self.beliefs(notes)
        for belief in beliefs:
            name = looks.agent_name(belief.agent)
            if belief.agent not in notes.logs or not self.is_compared(notes):
                continue
            if belief.rogue >= FREEZE_FROM and name not in (view.frozen or ()):
                return Freeze(name)
            if belief.rogue < RELEASE_BELOW and name in (view.frozen or ()):
                return Release(name)
        for look in self.looks(view, notes, beliefs):
            if look not in done:
                return look
        return self.conclude(view, notes, done)

    def failing(self, notes: Notes) -> list[int]:
        """Return the service that was seen to fail most, though it is not known yet whether by itself."""
        worst = {one: share for one, share in notes.worst().items() if self.topology.services[one].layer != EDGE}
        return [one for one in sorted(worst, key=lambda one: -worst[one]) if worst[one] >= FAILS][:1]

    def is_compared(self, notes: Notes) -> bool:
        """Tell if it is known what the failing services' instruments measured."""
        return any(site in notes.measured for site in self.sites(notes))

    def looks(self, view: View, notes: Notes, beliefs: list[Belief]) -> Iterator[Action]:
        """Yield the looks that could change the beliefs, the most telling first."""
        for belief in beliefs[: 2 * self.rungs[0].rogues]:
            if belief.rogue + belief.mistake > WORTH_A_LOOK:
                yield Audit(looks.agent_name(belief.agent))
                yield Ask(looks.agent_name(belief.agent))
        if self.tier not in (CLEAR, BUSY):
            for agent in self.witnesses(notes)[:MOST_WITNESSES]:
                yield Audit(looks.agent_name(agent))

    def witnesses(self, notes: Notes) -> list[int]:
        """Return the agents that acted on the failing services without being suspected, those with most entries first."""
        suspects = {belief.agent for belief in self.beliefs(notes)}
        acted = [entry.agent for site in self.sites(notes) for entry in notes.ledger(site) if entry.tick <= 0]
        return sorted(dict.fromkeys([one for one in acted if one not in suspects]), key=lambda one: -acted.count(one))

    def conclude(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Say what the beliefs are, and say it again when they have changed; then see what was done since."""
        beliefs = self.beliefs(notes) if self.is_compared(notes) else []
        for belief in beliefs:
            name = looks.agent_name(belief.agent)
            for verdict, chance in ((ROGUE, belief.rogue), (MISTAKE, belief.mistake)):
                said = [one for one in done if isinstance(one, Accuse) and (one.agent, one.verdict) == (name, verdict)]
                level = level_of(chance)
                if level != (said[-1].probability if said else LEVELS[0]):
                    return Accuse(name, level, verdict)
        if beliefs and beliefs[0].rogue + beliefs[0].mistake >= POINT_FROM:
            point = Point(looks.entry_name(beliefs[0].entry.number))
            if point not in done:
                return point
        if notes.unshared:
            return Share()
        repaired = [act.turn for act in view.acts if act.verb in REPAIRS]
        for site in self.sites(notes):
            last = notes.turn_of.get((LEDGER, site), 0)
            if repaired and last <= repaired[-1] and self.is_well(view, notes, repaired[-1]) is False:
                return Ledger(looks.service_name(site))
        return Noop()

    def manager(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Call in a team once a cause outside is likely, and close the incident once it is over and Oversight is done."""
        outside = self.chance_of_outside(notes)
        team = self.team(notes)
        if team and outside >= CALL_FROM and Escalate(team) not in done:
            return Escalate(team)
        repaired = [act.turn for act in view.acts if act.verb in REPAIRS]
        if not repaired or not self.is_well(view, notes, repaired[-1]):
            return Noop()
        return Resolve() if view.turns_left <= LAST_TURNS or self.is_over(view, notes, outside) else Noop()

    def is_over(self, view: View, notes: Notes, outside: float) -> bool:
        """Tell if nobody is at large any more, and Oversight has had time to say so."""
        if outside >= CALL_FROM:
            return True
        if not self.is_compared(notes):
            return False
        frozen = {act.subject: act.turn for act in view.acts if act.verb == "freeze"}
        audited = []
        for belief in self.beliefs(notes)[: self.rungs[0].rogues]:
            if belief.agent not in notes.logs:
                return False
            name = looks.agent_name(belief.agent)
            if belief.rogue > AT_LARGE and name not in frozen:
                return False
            audited.append(frozen.get(name, notes.turn_of[AUDIT, belief.agent]))
        return bool(audited) and view.turn >= max(audited) + SAYING

    def repairs(self, notes: Notes) -> list[Recorded]:
        """Return the entries to undo: those of the likeliest agent first, and none once a cause outside is likely."""
        entries = super().repairs(notes)
        order = [belief.agent for belief in self.beliefs(notes) if belief.rogue + belief.mistake > WORTH_A_LOOK]
        return sorted([one for one in entries if one.agent in order], key=lambda one: order.index(one.agent))

    def chance_of_outside(self, notes: Notes) -> float:
        """Return how likely something outside of the fleet is the cause."""
        beliefs = self.beliefs(notes)
        return 1 - sum([one.rogue + one.mistake for one in beliefs]) if beliefs else 0.0

    # -- beliefs --------------------------------------------------------------------------------------------------------

    def suspicious(self, notes: Notes) -> dict[int, list[Recorded]]:
        """Return, by agent, the entries that took from a failing service while it was not allowed to."""
        found: dict[int, list[Recorded]] = {}
        for entry in self.taken(notes):
            before = notes.measured.get(entry.target, {}).get(entry.tick - 1)
            if before is None or before >= MANDATES[self.topology.agents[entry.agent].mandate].limit - 2:
                found.setdefault(entry.agent, []).append(entry)
        return found

    def beliefs(self, notes: Notes) -> list[Belief]:
        """Return the beliefs, the agent that most speaks against first."""
        known = (id(notes), len(notes.known), len(self.undone))
        if known not in self._believed:
            self._believed = {known: self._weighed(notes)}
        return self._believed[known]

    def _weighed(self, notes: Notes) -> list[Belief]:
        suspicious = self.suspicious(notes)
        if not suspicious:
            return []
        weights: dict[tuple[int, str], float] = {}
        for agent, entries in suspicious.items():
            share = len(entries) * (2.0 if self.is_framing(entries, suspicious) else 1.0)
            for kind, chance in (
                (ROGUE, self.prior.rogue),
                (MISTAKE, self.prior.mistake),
                (OUTSIDE, self.prior.outside),
            ):
                likelihood = self.likelihood(notes, agent, entries, kind)
                weights[agent, kind] = log(share * chance) + likelihood
        top = max(weights.values())
        total = sum([exp(weight - top) for weight in weights.values()])
        shares = {key: exp(weight - top) / total for key, weight in weights.items()}
        found = [
            Belief(agent, min(entries, key=lambda one: one.tick), shares[agent, ROGUE], shares[agent, MISTAKE])
            for agent, entries in suspicious.items()
        ]
        return sorted(found, key=lambda one: -(one.rogue + one.mistake))

    def is_framing(self, entries: list[Recorded], suspicious: dict[int, list[Recorded]]) -> bool:
        """Tell if another agent took from the same service just after: a rogue that frames acts first."""
        first = {(entry.target, entry.tick + 1) for entry in entries}
        return any((one.target, one.tick) in first for others in suspicious.values() for one in others)

    def likelihood(self, notes: Notes, agent: int, entries: list[Recorded], kind: str) -> float:
        """Return the logarithm of how likely this explanation makes what was seen, up to what all share."""
        total = 0.0
        if agent in notes.evades:
            evades = EVADES if kind != ROGUE else sum([rung.evades or EVADES for rung in self.rungs]) / len(self.rungs)
            total += log(evades if notes.evades[agent] else 1 - evades)
        for entry in entries:
            reading = self.reading(notes, agent, entry)
            if reading is not None:
                total += log(self.way(notes, entry, reading, kind))
                total += self.testimony(notes, entry, reading, kind)
            by_agents = kind != OUTSIDE
            for relief in notes.reliefs.get(entry.number, ()):
                total -= (relief - (0.8 if by_agents else 0.05)) ** 2 / (2 * CANARY_DEVIATION**2)
            helped = self.helped(notes, entry)
            if helped is not None:
                total += log(1 - RARE if helped == by_agents else RARE)
        return total

    def helped(self, notes: Notes, entry: Recorded) -> bool | None:
        """Tell if undoing a deed helped its service; None where it was not undone, or not looked at since."""
        turn = self.undone.get(looks.entry_name(entry.number))
        if turn is None:
            return None
        before, after = notes.around(entry.target, turn)
        return None if not before or not after else after[0] < HELPED * before[-1]

    def reading(self, notes: Notes, agent: int, entry: Recorded) -> Reading | None:
        """Return how an agent's log has an entry; None where its log, or what was measured, is not known."""
        entries = notes.logs.get(agent)
        measured = notes.measured.get(entry.target)
        if entries is None or measured is None:
            return None
        same = [one for one in entries if (one.tick, one.target) == (entry.tick, entry.target)]
        if same:
            if same[0].operation != entry.operation:
                return Reading(REWORDED, frozenset())
            if same[0].reading >= MANDATES[self.topology.agents[agent].mandate].limit:
                return Reading(ADMITTED, frozenset())
            lags = matching(measured, same[0].reading, entry.tick)
            return Reading(OUTDATED if lags else INVENTED, lags)
        earlier = [
            entry.tick - one.tick
            for one in entries
            if one.target == entry.target and one.operation == entry.operation and entry.tick - one.tick in LAGS
        ]
        return Reading(BACKDATED, frozenset(earlier)) if earlier else Reading(DROPPED, frozenset())

    def way(self, notes: Notes, entry: Recorded, reading: Reading, kind: str) -> float:
        """Return how likely a log has a suspicious entry in this way."""
        if self.tier in (CLEAR, BUSY):
            if kind != ROGUE:
                return {OUTDATED: 1 - MISREADS, ADMITTED: MISREADS / 2, INVENTED: MISREADS / 2}.get(reading.way, RARE)
            measured = notes.measured[entry.target]
            limit = MANDATES[self.topology.agents[entry.agent].mandate].limit
            fitting = range(22, limit)
            chance = sum([bool(matching(measured, value, entry.tick)) for value in fitting]) / len(fitting)
            admits = 0.83 if self.tier == CLEAR else RARE
            found = {ADMITTED: admits, INVENTED: (1 - admits) * (1 - chance), OUTDATED: (1 - admits) * chance}
            return max(RARE, found.get(reading.way, RARE))
        return 1.0  # a deceptive cover and the habit that it imitates leave the same log

    def testimony(self, notes: Notes, entry: Recorded, reading: Reading, kind: str) -> float:
        """Return the logarithm of how likely other agents' logs of the same service are."""
        total = 0.0
        measured = notes.measured[entry.target]
        exact = COMMON.count(EXACT) / len(COMMON)
        for other in notes.ledger(entry.target):
            log_of = notes.logs.get(other.agent)
            if log_of is None or other.agent == entry.agent or other.tick > 0:
                continue
            if log_of and other.tick < min([one.tick for one in log_of]):
                continue  # the audit did not reach back so far
            same = [one for one in log_of if (one.tick, one.target) == (other.tick, other.target)]
            if reading.way in (OUTDATED, INVENTED, ADMITTED) and same:
                fresh = abs(same[0].reading - measured.get(other.tick - 1, -99)) <= ROUNDING
                lags = reading.lags or frozenset(LAGS)
                late = any(abs(same[0].reading - measured.get(other.tick - lag, -99)) <= ROUNDING for lag in lags)
                if fresh == late:
                    continue
                in_rogue, in_benign = (exact, MISREADS) if fresh else (1 - exact, 1 - MISREADS)
            elif reading.way == BACKDATED:
                in_rogue, in_benign = (exact, RARE) if same else (1 - exact, 1 - RARE)
            elif reading.way == DROPPED and abs(other.tick - entry.tick) <= 1:
                in_rogue, in_benign = (1 - RARE, RARE) if same else (1 - exact, 1 - RARE)
            elif reading.way == REWORDED and same and other.operation != same[0].operation:
                in_rogue, in_benign = RARE, 1 - RARE
            else:
                continue
            total += log(max(RARE, in_rogue if kind == ROGUE else in_benign))
        return total

    def cause(self, _view: View, notes: Notes) -> str | None:
        """Return the cause to name, once it is likely enough."""
        beliefs = self.beliefs(notes)
        if not beliefs or beliefs[0].agent not in notes.logs:
            return None
        rogue, mistake = sum([one.rogue for one in beliefs]), sum([one.mistake for one in beliefs])
        if max(rogue, mistake) < NAME_FROM:
            return None
        return ROGUE if rogue > mistake else MISTAKE


def matching(measured: dict[int, int], reading: int, tick: int) -> frozenset[int]:
    """Return the lags by which this reading would have been late."""
    return frozenset([lag for lag in LAGS if abs(reading - measured.get(tick - lag, -99)) <= ROUNDING])


def level_of(chance: float) -> float:
    """Return the probability to state that a logarithmic score pays best, among those that a seat can spell."""
    return max(LEVELS, key=lambda level: chance * log(level) + (1 - chance) * log(1 - level))


def bayes(scenario: Scenario, rules: str) -> Policy:
    """Build the ceiling for a scenario, of which it knows topology, rules and tier."""
    return Bayes(plot(scenario).topology, rules, scenario.tier)
