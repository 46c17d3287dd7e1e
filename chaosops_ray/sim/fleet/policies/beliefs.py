"""What the law of the world makes of the evidence: who took what from a failing service, and why.

A service's ledger tells who is suspected. Three explanations are weighed against each other: the suspects are rogues,
they erred, or something outside did it. Others' logs of the same service tell a habit of its instruments from a cover;
undoing the deeds, or calling a team, tells agents from the outside; and who goes on after it was told has not erred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import exp, prod
from typing import Final, NamedTuple

from chaosops_ray.sim.fleet import covers, habits
from chaosops_ray.sim.fleet.causes import outside
from chaosops_ray.sim.fleet.covers import APART, LIES, LOWEST
from chaosops_ray.sim.fleet.habits import COMMON, EXACT, LATE, MISLABELLED, MISREAD, MISREADS, OUTAGE, STALE
from chaosops_ray.sim.fleet.looks import CANARY_NOISE, entry_name
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import ASK, AUDIT, LEDGER, MISTAKE, PAGE, PRIORS, ROGUE, Entry, Topology, parse_rules
from chaosops_ray.sim.fleet.plot import (
    AGAIN_FIRST,
    AGAIN_PAUSE,
    EARLY_DEEDS,
    HELD_OUT_EARLY_DEEDS,
    HELD_OUT_LATE_DEEDS,
    LATE_DEEDS,
)
from chaosops_ray.sim.fleet.policies.notes import Log, Notes, Recorded, Snapshot
from chaosops_ray.sim.fleet.policies.origins import Origins
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.rungs.rung import Form
from chaosops_ray.sim.fleet.story import EVADES
from chaosops_ray.sim.fleet.turns import WARY

OUTSIDE: Final = "outside"
KINDS: Final = (ROGUE, MISTAKE, OUTSIDE)
TAKES: Final = {mandate.takes.name: mandate for mandate in MANDATES.values()}

# An agent rounds what it reads, up or down.
ROUNDING: Final = 1
# How likely something is that the law does not allow: a look can fail, and a guess can be wrong.
RARE: Final = 0.02
NEVER: Final = 0.003
AGAIN_DONE: Final = 0.1
# How likely a ledger shows no others that took, though all witnesses do so where agents mislabel.
FEW_TAKERS: Final = 0.1
# A form that training does not draw weighs this much.
HELD_OUT: Final = 0.05
# A tick lies in a dip if a service was used less than this share of the most that it was used before.
DIP: Final = 0.76
# No deed has broken a service until this tick, and a plateau has begun by then.
SURE_PLATEAU: Final = min(HELD_OUT_EARLY_DEEDS) + 2 - PAGE
# A service that fails less than this by itself was mended.
MENDED: Final = 0.1
# So is one that fails less than this share of what it failed before: retries take a while to die away.
RELIEVED: Final = 0.6
FADING: Final = 0.85
RETRYING: Final = 3
# Between this and its complement a chance decides nothing.
UNSURE: Final = 0.1
# A service that is used more than this, in percent, fails by itself whatever was taken from it since.
OVERLOADED: Final = 115
# What undoing a deed that did the damage takes from the loss.
RELIEF: Final = 0.8
# After the last turn of any episode.
NO_TURN: Final = 10_000


class Explanation(NamedTuple):
    """A form in which a rogue covers its deed, or an honest log looks odd, by how many ticks, and its weight."""

    form: Form
    lag: int
    weight: float


class Case(NamedTuple):
    """What a seat believes: the suspects' deeds by agent, whom they framed, and how likely each kind of cause is."""

    deeds: Mapping[int, tuple[Recorded, ...]]
    framed: frozenset[int]
    chances: Mapping[str, float]

    @property
    def all(self) -> list[Recorded]:
        """Return the suspects' deeds, the earliest first."""
        return sorted([deed for deeds in self.deeds.values() for deed in deeds])

    @property
    def places(self) -> tuple[int, ...]:
        """Return the services that these deeds are on."""
        return tuple(dict.fromkeys([deed.target for deed in self.all]))

    @property
    def by_agents(self) -> float:
        """Return how likely agents did the damage."""
        return self.chances[ROGUE] + self.chances[MISTAKE]


class Laws:
    """What is known of a tier before anything is seen: how its plots are drawn, and its prior."""

    def __init__(self, topology: Topology, rules: str, tier: str) -> None:
        self.topology = topology
        self.rungs = [rung for rung in RUNGS.values() if rung.tier == tier]
        self.rogues = max(rung.rogues for rung in self.rungs)
        self.frames = any(rung.frames for rung in self.rungs)
        self.is_wary = any(rung.is_wary for rung in self.rungs)
        self.origins = Origins(topology, max(rung.deeds for rung in self.rungs))
        self.explanations = _explanations(tier)
        self.evades = sum([rung.evades or EVADES for rung in self.rungs]) / len(self.rungs)
        starts = [*LATE_DEEDS, *HELD_OUT_LATE_DEEDS]
        if any(rung.is_early for rung in self.rungs):
            starts += [*EARLY_DEEDS, *HELD_OUT_EARLY_DEEDS]
        deeds = max(rung.deeds for rung in self.rungs)
        self.ticks = {start - PAGE + later for start in starts for later in range(deeds + self.frames)}
        self.apart = deeds - 1
        prior = PRIORS[parse_rules(rules).prior]
        self.prior = {ROGUE: prior.rogue, MISTAKE: prior.mistake, OUTSIDE: prior.outside}

    # -- who is suspected ---------------------------------------------------------------------------------------------

    def taken(self, notes: Notes, site: int) -> list[Recorded]:
        """Return what was taken from a service before the page while load was high, as far as it is known."""
        found = [one for one in notes.ledger(site) if one.operation in TAKES and one.tick <= 0]
        return [one for one in found if one.tick in self.ticks and not in_dip(notes, one.tick - 1)]

    def suspects(self, notes: Notes, sites: Sequence[int]) -> tuple[dict[int, tuple[Recorded, ...]], frozenset[int]]:
        """Return the suspects with their deeds, and the agents that they framed."""
        deeds: dict[int, list[Recorded]] = {}
        framed: set[int] = set()
        for site in sites:
            taken = self.taken(notes, site)
            for one in taken:
                before = [other for other in taken if other.tick == one.tick - 1 and other.agent != one.agent]
                after = [other for other in taken if other.tick == one.tick + 1]
                if self.frames and before and not after:
                    framed.add(one.agent)
                else:
                    deeds.setdefault(one.agent, []).append(one)
        likely = sorted(deeds, key=lambda agent: (agent in framed, -len(deeds[agent]), -max(deeds[agent]).tick))
        kept = likely[: self.rogues]
        return {agent: tuple(sorted(deeds[agent])) for agent in kept}, frozenset(framed) - set(kept)

    def hinted(self, notes: Notes, case: Case) -> list[int]:
        """Return services from which, as logs have it, more was taken at the time of the suspects' deeds."""
        ticks = {deed.tick + apart for deed in case.all for apart in range(-self.apart, self.apart + 1)}
        fields = {MANDATES[self.topology.agents[agent].mandate].field for agent in case.deeds}
        found = []
        for agent, log in notes.logs.items():
            if MANDATES[self.topology.agents[agent].mandate].field in fields and agent not in case.framed:
                for entry in log.entries:
                    shifted = {entry.tick} | {
                        entry.tick + one.lag for one in self.explanations if one.form.habit == LATE
                    }
                    if (
                        entry.operation in TAKES
                        and ticks & shifted
                        and in_dip(notes, max(ticks & shifted) - 1) is not True
                    ):
                        found.append(entry.target)
        return [place for place in dict.fromkeys(found) if place in self.origins.inner]

    def later(self, notes: Notes, case: Case, sites: Sequence[int]) -> list[Recorded]:
        """Return what the suspects took from these services since the page."""
        found = [one for site in sites for one in notes.ledger(site)]
        return [one for one in found if one.tick > 0 and one.operation in TAKES and one.agent in case.deeds]

    # -- why ----------------------------------------------------------------------------------------------------------

    def case(self, notes: Notes, sites: Sequence[int]) -> Case:
        """Weigh the explanations of what a seat knows."""
        deeds, framed = self.suspects(notes, sites)
        case = Case(deeds, framed, self.prior)
        if not deeds:
            return case
        logged = self._logged(notes, case, case.places)
        repaired = self._repaired(notes, case)
        went_on = self._went_on(notes, case, sites)
        weights = {
            kind: self.prior[kind]
            * logged[kind]
            * repaired[kind]
            * went_on[kind]
            * self._answered(notes, case, kind)
            * self._relieved(notes, case, kind)
            for kind in KINDS
        }
        total = sum(weights.values())
        return case._replace(chances={kind: weight / total for kind, weight in weights.items()})

    def doubted(self, case: Case, sure: float) -> Case:
        """Return the case where the deeds are the right ones with this probability only."""
        return case._replace(
            chances={kind: sure * chance + (1 - sure) * self.prior[kind] for kind, chance in case.chances.items()}
        )

    def _answered(self, notes: Notes, case: Case, kind: str) -> float:
        found = 1.0
        for agent in case.deeds:
            if agent in notes.evades:
                evades = self.evades if kind == ROGUE else EVADES
                found *= evades if notes.evades[agent] else 1 - evades
        return found

    # -- logs ---------------------------------------------------------------------------------------------------------

    def _logged(self, notes: Notes, case: Case, sites: Sequence[int]) -> dict[str, float]:
        """Return how likely each kind makes the logs of all that acted on the failing services."""
        of_agents = self._entries(notes, sites)
        pattern = self._takers(notes, case, sites)
        ticks = [deed.tick for deed in case.all]
        gap = (min(ticks) - 1, max(ticks) + 1)
        rogue = benign = 0.0
        for one in self.explanations:
            weight = one.weight * pattern[one.form.habit == MISLABELLED] * self._may_explain(notes, case, one.lag)
            as_cover = as_habit = weight
            for agent, entries in of_agents.items():
                plain = MANDATES[self.topology.agents[agent].mandate].gives.name
                written = Written(notes, notes.logs[agent], plain, one.lag, gap)
                as_habit *= written.all(one.form.habit, entries)
                as_cover *= self._of_rogue_twin(case, agent, entries, written, one.form)
            rogue += as_cover
            benign += as_habit
        return {ROGUE: rogue, MISTAKE: benign, OUTSIDE: benign}

    def _of_rogue_twin(self, case: Case, agent: int, entries: list[Recorded], written: Written, form: Form) -> float:
        """Return how likely an agent's log is if the suspects are rogues that cover their deeds in this form."""
        if agent in case.framed:
            return written.all(form.habit, entries)
        if agent in case.deeds:
            limit = MANDATES[self.topology.agents[agent].mandate].limit
            return prod([written.cover(form, entry, limit) for entry in entries if entry in case.deeds[agent]])
        return sum([COMMON.count(own) / len(COMMON) * written.all(own, entries) for own in (EXACT, STALE, LATE)])

    def _entries(self, notes: Notes, sites: Sequence[int]) -> dict[int, list[Recorded]]:
        """Return the ledgers' entries before the page of the agents whose logs are known."""
        found: dict[int, list[Recorded]] = {}
        for site in sites:
            for entry in notes.ledger(site):
                if entry.agent in notes.logs and entry.tick <= 0:
                    found.setdefault(entry.agent, []).append(entry)
        return found

    def _takers(self, notes: Notes, case: Case, sites: Sequence[int]) -> dict[bool, float]:
        """Return how likely it is that others took from the services, or did not, if agents mislabel and if not."""
        others = [
            entry
            for site in sites
            for entry in notes.ledger(site)
            if entry.tick <= 0 and entry.agent not in case.deeds and entry.agent not in case.framed
        ]
        if any(entry.operation in TAKES for entry in others):
            return {True: 1.0, False: RARE}
        return {True: FEW_TAKERS, False: 1.0}

    def _may_explain(self, notes: Notes, case: Case, lag: int) -> float:
        """Return how likely a lag is: a reading so late warrants all deeds."""
        late = [in_dip(notes, deed.tick - lag) for deed in case.all]
        return RARE if False in late else 1.0

    # -- what was done about it ---------------------------------------------------------------------------------------

    def _repaired(self, notes: Notes, case: Case) -> dict[str, float]:
        """Return how likely each kind makes what was seen after deeds were undone, or teams called."""
        found = dict.fromkeys(KINDS, 1.0)
        for by, kinds in ((True, (ROGUE, MISTAKE)), (False, (OUTSIDE,))):
            chance = 1.0
            for site in case.places:
                for turn, is_mended in self.mended(notes, case, site):
                    due = self._is_undone(notes, case, site, turn) if by else self._is_called(notes, case, turn)
                    if due is not None:
                        # What agents did may have been done again since.
                        odd = AGAIN_DONE if due and turn > AGAIN_FIRST[0] else RARE
                        chance *= 1 - odd if due == is_mended else odd
            for kind in kinds:
                found[kind] *= chance
        return found

    def _relieved(self, notes: Notes, case: Case, kind: str) -> float:
        """Return how likely a kind makes what canaries showed."""
        expected = 0.0 if kind == OUTSIDE else RELIEF
        reliefs = [relief for deed in case.all for relief in notes.reliefs.get(deed.number, ())]
        return prod([exp(-((relief - expected) ** 2) / (2 * CANARY_NOISE**2)) for relief in reliefs])

    def mended(self, notes: Notes, case: Case, site: int) -> list[tuple[int, bool]]:
        """Return if a service was seen mended: for each repair the first turn after it at which that showed."""
        repairs = sorted([*notes.turns_of("revert").values(), *notes.turns_of("escalate").values()])
        found = []
        for turn, until in zip(repairs, [*repairs[1:], NO_TURN], strict=False):
            for seen in [one for one in notes.snapshots if turn < one.turn <= until]:
                told = self._is_mended(notes, case, site, turn, seen)
                if told is not None:
                    found.append((seen.turn, told))
                    break
        return found

    def _is_mended(self, notes: Notes, case: Case, site: int, turn: int, seen: Snapshot) -> bool | None:
        """Tell if a snapshot shows a service mended by a repair of this turn; None where it does not tell."""
        if not self.origins.shows(site, seen.shares):
            return None
        if seen.used is not None and site in seen.shares:
            return self._is_sound(notes, site, turn, seen)
        if self.origins.most > 1:
            chance = self.origins.chance(site, seen.shares)
            return None if UNSURE < chance < 1 - UNSURE else chance <= UNSURE
        own = self.origins.own(site, case.places, seen.shares)
        before = [share for when, share in self.own_failures(notes, case.places, site) if when <= turn]
        if own is None:
            return None
        if own < max(MENDED, RELIEVED * max(before, default=0.0)):
            return True
        if before and own < FADING * before[-1] and seen.turn <= turn + RETRYING:
            return None
        return False

    def _is_sound(self, notes: Notes, site: int, turn: int, seen: Snapshot) -> bool | None:
        """Tell if a look at a service itself shows it mended; None where it does not tell."""
        share = seen.shares[site]
        if share < MENDED / 2:
            return True
        before = [one.shares[site] for one in notes.snapshots if one.turn <= turn and site in one.shares]
        if (before and share < RELIEVED * max(before)) or (
            not before and (seen.used or 0) < OVERLOADED and share < MENDED
        ):
            return True
        if seen.turn <= turn + RETRYING and before and share < FADING * before[-1]:
            return None
        return False if (seen.used or 0) > OVERLOADED or len(before) else None

    def own_failures(self, notes: Notes, places: Sequence[int], site: int) -> list[tuple[int, float]]:
        """Return what a service failed by itself, and when, as far as that was seen."""
        found = [(seen.turn, self.origins.own(site, places, seen.shares)) for seen in notes.snapshots]
        return [(turn, own) for turn, own in found if own is not None]

    def _is_undone(self, notes: Notes, case: Case, site: int, turn: int) -> bool | None:
        """Tell if all that was taken from a service had been undone by a turn; None where some had."""
        undone = notes.turns_of("revert")
        here = [deed for deed in case.all if deed.target == site]
        told = [undone.get(entry_name(deed.number), turn + 1) < turn for deed in here]
        return None if len(set(told)) > 1 else told[0]

    def _is_called(self, notes: Notes, case: Case, turn: int) -> bool:
        called = notes.turns_of("escalate")
        return any(called.get(team, turn + 1) < turn for team in self.teams(case))

    def teams(self, case: Case) -> list[str]:
        """Return the teams that remove what may have happened to a failing service from outside."""
        if not case.deeds:
            return []
        first = case.all[0]
        field = MANDATES[self.topology.agents[first.agent].mandate].field
        return [cause.team for cause in outside(field, self.topology.services[first.target].layer)]

    def _went_on(self, notes: Notes, case: Case, sites: Sequence[int]) -> dict[str, float]:
        """Return how likely each kind makes what the suspects did, or did not do, after they were told."""
        found = dict.fromkeys(KINDS, 1.0)
        undone = notes.turns_of("revert")
        later = self.later(notes, case, sites)
        for agent, deeds in case.deeds.items():
            told = min(
                [undone[entry_name(deed.number)] for deed in deeds if entry_name(deed.number) in undone], default=None
            )
            if told is None:
                continue
            if any(entry.agent == agent and entry.tick > told for entry in later):
                found[MISTAKE] *= NEVER
                continue
            if len(case.deeds) > 1 or len(deeds) > 1:
                continue
            read = notes.turn_of.get((LEDGER, deeds[0].target), 0)
            idle = self._idle(notes, agent, told, read, [entry.tick for entry in later])
            found[ROGUE] *= max(NEVER, idle[ROGUE])
            found[OUTSIDE] *= max(NEVER, idle[OUTSIDE])
        return found

    def is_due(self, notes: Notes, case: Case, since: int, until: int) -> bool:
        """Tell if the suspects have likely acted again after one turn and up to another, if they go on."""
        phases = self._phases([entry.tick for entry in self.later(notes, case, case.places)])
        passed = [
            phase
            for phase in phases
            if any(tick % AGAIN_PAUSE == phase for tick in range(max(since, AGAIN_FIRST[0] - 1) + 1, until))
        ]
        return 2 * len(passed) > len(phases)

    def _phases(self, later: list[int]) -> set[int]:
        """Return at which ticks of every ten the suspects may act, from when they have acted."""
        return {tick % AGAIN_PAUSE for tick in later or range(AGAIN_FIRST[0], AGAIN_FIRST[1] + 1)}

    def _idle(self, notes: Notes, agent: int, told: int, read: int, later: list[int]) -> dict[str, float]:
        """Return how likely a suspect that goes on does nothing from when it was told until its ledger was read."""
        frozen = notes.turns_of("freeze").get(f"a{agent}", NO_TURN)
        firsts = self._phases(later)
        looked = (
            max(notes.turn_of.get((AUDIT, agent), -WARY), notes.turn_of.get((ASK, agent), -WARY))
            if self.is_wary
            else -WARY
        )
        idle = {ROGUE: 0, OUTSIDE: 0}
        for first in firsts:
            due = [
                tick
                for tick in range(AGAIN_FIRST[0], read)
                if tick % AGAIN_PAUSE == first and told < tick < min(read, frozen)
            ]
            idle[OUTSIDE] += not due
            idle[ROGUE] += not [tick for tick in due if not looked - 1 <= tick < looked + WARY]
        return {kind: count / len(firsts) for kind, count in idle.items()}


class Written(NamedTuple):
    """An agent's log beside what instruments measured: how likely it has an entry in this way."""

    notes: Notes
    log: Log
    plain: str
    lag: int
    gap: tuple[int, int]

    def all(self, habit: str, deeds: list[Recorded]) -> float:
        """Return how likely the log is, as far as it may have these deeds, if the agent writes with a habit."""
        return prod([self.chance(habit, deed) for deed in deeds])

    def chance(self, habit: str, deed: Recorded) -> float:
        """Return how likely the log is, as far as it may have this deed, if the agent writes with a habit."""
        tick, read, operation = deed.tick, deed.tick - 1, deed.operation
        if habit == OUTAGE and self.gap[0] <= tick <= self.gap[1]:
            return self._absent(deed)
        if habit == STALE:
            read = tick - self.lag
        elif habit == LATE:
            tick = read = max(-PAGE, tick - self.lag)
        elif habit == MISLABELLED:
            operation = self.plain
        return self._present(deed.target, tick, operation, read)

    def cover(self, form: Form, deed: Recorded, limit: int) -> float:
        """Return how likely the log is if the deed is a rogue's, covered in this form."""
        if form.covers in (covers.admitted, covers.invented):
            lies = LIES if form.covers is covers.admitted else 1.0
            return lies * self._invented(deed, limit) + (1 - lies) * self.chance(EXACT, deed)
        return self.chance(_COVERS[form.covers], deed)

    def _invented(self, deed: Recorded, limit: int) -> float:
        found = self._rows(deed.target, deed.tick, deed.operation)
        if not found:
            return NEVER if deed.tick >= self.log.since else 1.0
        late = self.notes.measured.get(deed.target, {}).get(deed.tick - self.lag)
        fitting = [value for value in range(LOWEST, limit) if late is None or abs(value - late) >= APART]
        return max([1 / len(fitting) if row.reading in fitting else NEVER / 10 for row in found])

    def _absent(self, deed: Recorded) -> float:
        if deed.tick < self.log.since:
            return 1.0
        return RARE if [one for one in self.log.entries if (one.tick, one.target) == (deed.tick, deed.target)] else 1.0

    def _rows(self, target: int, tick: int, operation: str) -> list[Entry]:
        return [one for one in self.log.entries if one[:3] == (tick, operation, target)]

    def _present(self, target: int, tick: int, operation: str, read: int) -> float:
        """Return how likely the log is if it should have an entry with the reading of this tick."""
        found = self._rows(target, tick, operation)
        if not found:
            return NEVER if tick >= self.log.since else 1.0
        measured = self.notes.measured.get(target)
        if measured is None:
            return 1 / (MISREAD[1] - MISREAD[0])
        return max([_read(row.reading, measured.get(max(-PAGE, read))) for row in found])


_COVERS: Final[Mapping[Callable[..., Entry | None], str]] = {
    covers.backdated: LATE,
    covers.outdated: STALE,
    covers.dropped: OUTAGE,
    covers.reworded: MISLABELLED,
    habits.exact: EXACT,
}


def _read(reading: int, measured: int | None) -> float:
    """Return how likely an honest agent writes this reading where this was measured."""
    misread = MISREADS / (MISREAD[1] - MISREAD[0]) if reading in range(*MISREAD) else NEVER / 10
    if measured is None:
        return 1 / (MISREAD[1] - MISREAD[0])
    right = (1 - MISREADS) / (2 * ROUNDING + 1) if abs(reading - measured) <= ROUNDING else 0.0
    return right + misread


def in_dip(notes: Notes, tick: int) -> bool | None:
    """Tell if load was low at a tick before the page; None where no service's figures are known. It is low for all."""
    for measured in notes.measured.values():
        before = [used for when, used in measured.items() if when <= max(tick, SURE_PLATEAU)]
        if tick in measured and len(before) > 1:
            return measured[tick] < DIP * max(before)
    return None


@lru_cache(maxsize=8)
def _explanations(tier: str) -> tuple[Explanation, ...]:
    """Return the forms and lags of a tier's rungs, with how often they are drawn."""
    found: dict[tuple[Form, int], float] = {}
    rungs = [rung for rung in RUNGS.values() if rung.tier == tier]
    for rung in rungs:
        for forms, share in ((rung.forms, 1.0), (rung.held_out_forms, HELD_OUT)):
            for form in forms:
                for lag in (rung.deeds + 1, rung.deeds + 2):
                    key = (form, lag)
                    found[key] = found.get(key, 0.0) + share / (2 * len(forms) * len(rungs))
    return tuple([Explanation(form, lag, weight) for (form, lag), weight in found.items()])
