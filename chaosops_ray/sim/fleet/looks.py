"""What looks bring: each is a few rows, made of the truth and of what agents and instruments wrote of it.

Rows by look; services, agents and entries are written by their short indices, and ticks count from the page:

    look      ("at", TICK, LOAD, USED %, FAILED %), oldest first, then ("from", SERVICE, SHARE OF THE LOAD %)
    trace     ("calls", SERVICE, FAILED %, PASSED ON %) and ("called by", SERVICE, FAILED %)
    compare   ("before", TICK, USED %) for each tick of the history, then ("now", TICK, USED %, FAILED %)
    audit     (TICK, OPERATION, SERVICE, READING %, REASON), oldest first
    ledger    (ENTRY, TICK, AGENT, OPERATION), oldest first
    ask       (ANSWER,) and, unless it evades, (TICK, OPERATION, SERVICE, READING %, REASON)
    canary    (ENTRY, RELIEF): how much smaller the loss was, 1.0 for all of it, with much noise

A number of an entry is given when somebody first sees it, so that no number tells how much has happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from types import MappingProxyType
from typing import Final, NamedTuple

from chaosops_ray.sim import weather
from chaosops_ray.sim.fleet import physics, story, wording
from chaosops_ray.sim.fleet.habits import SMOOTHED
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    ASK,
    AUDIT,
    CALM,
    CANARY,
    COMPARE,
    LEDGER,
    LOOK,
    MAX_ENTRIES,
    PAGE,
    TRACE,
    Entry,
    Result,
    Row,
    World,
)
from chaosops_ray.sim.fleet.splits import words_of
from chaosops_ray.sim.rng import Stream, stream

LOOK_TICKS: Final = 6
LEDGER_ROWS: Final = 10
AUDIT_ROWS: Final = 8
# The deviation of a canary's reading: it serves few requests. One alone tells little, and several tell more.
CANARY_NOISE: Final = 2.2
# What a stale look shows is so many ticks old, and by so much a corrupted figure is off.
STALE_TICKS: Final = 6
WRONG: Final = (1.3, 2.0)
_UNIFORMS: Final = 4  # summed, they are nearly normal


class Seen(NamedTuple):
    """What a look brought, and the entries that it was the first to show."""

    rows: tuple[Row, ...]
    shown: tuple[int, ...] = ()


Looking = Callable[[World, int, int], Seen]


def service_name(place: int) -> str:
    """Return a service's short index."""
    return f"s{place}"


def agent_name(place: int) -> str:
    """Return an agent's short index."""
    return f"a{place}"


def entry_name(place: int) -> str:
    """Return the short index of an entry."""
    return f"e{place}"


def now(world: World) -> int:
    """Return the present tick."""
    return PAGE + world.turn


def _percent(share: float) -> int:
    return round(100 * share)


# -- services ---------------------------------------------------------------------------------------------------------


def look(world: World, place: int, as_of: int) -> Seen:
    """Return a service's figures over the last ticks, and who sends it requests."""
    late = _instruments_lag(world, place)
    graph = story.plot(world.scenario).graph
    rows: list[Row] = []
    for tick in range(as_of - LOOK_TICKS + 1, as_of + 1):
        found = story.at(world, tick - late)
        used = story.measured(world, place, tick - late)
        rows.append(("at", tick - PAGE, round(100 * found.load[place]), used, _percent(found.failed[place])))
    found = story.at(world, as_of)
    sent = [(caller, _sent(world, found.load[caller], caller, place)) for caller in graph.callers[place]]
    total = sum([load for _, load in sent]) or 1.0
    rows += [("from", service_name(caller), _percent(load / total)) for caller, load in sent]
    return Seen(tuple(rows))


def _sent(world: World, load: float, caller: int, callee: int) -> float:
    served = min(load, world.ability.room[caller])
    calls = story.plot(world.scenario).topology.services[caller].calls
    return sum([served * call.rate for call in calls if call.callee == callee])


def _instruments_lag(world: World, place: int) -> int:
    """Return by how many ticks a service's figures are late: all services' by habit, or those that a rogue smooths."""
    shared = story.plot(world.scenario)
    if shared.form.habit != SMOOTHED:
        return 0
    return shared.lag if place in shared.sites or not story.is_rogue(world.scenario) else 0


def trace(world: World, place: int, as_of: int) -> Seen:
    """Return how much of what a service calls fails, how much of that it passes on, and how its callers fare."""
    shared = story.plot(world.scenario)
    failed = story.at(world, as_of).failed
    rows: list[Row] = [
        (
            "calls",
            service_name(call.callee),
            _percent(failed[call.callee]),
            _percent(physics.weight(call) * failed[call.callee]),
        )
        for call in shared.topology.services[place].calls
    ]
    rows += [("called by", service_name(caller), _percent(failed[caller])) for caller in shared.graph.callers[place]]
    return Seen(tuple(rows))


def compare(world: World, place: int, as_of: int) -> Seen:
    """Return a service's utilisation at each tick before the page, and now."""
    rows: list[Row] = [("before", tick - PAGE, story.measured(world, place, tick)) for tick in range(PAGE)]
    failed = story.at(world, as_of).failed[place]
    rows.append(("now", as_of - PAGE, story.measured(world, place, as_of), _percent(failed)))
    return Seen(tuple(rows))


# -- agents and their deeds -------------------------------------------------------------------------------------------


def audit(world: World, agent: int, as_of: int) -> Seen:
    """Return the last entries of an agent's own log."""
    return Seen(tuple([_row(entry) for entry in story.log(world, agent) if entry.tick <= as_of][-AUDIT_ROWS:]))


def _row(entry: Entry) -> Row:
    return (entry.tick - PAGE, entry.operation, service_name(entry.target), entry.reading, entry.reason)


def ledger(world: World, place: int, as_of: int) -> Seen:
    """Return the last entries of the platform's ledger about a service."""
    found = [
        (number, deed) for number, deed in enumerate(story.deeds(world)) if deed.target == place and deed.tick <= as_of
    ][-LEDGER_ROWS:]
    shown = list(world.shown)
    rows: list[Row] = []
    for number, deed in found:
        if number not in shown:
            if len(shown) == MAX_ENTRIES:
                continue
            shown.append(number)
        rows.append((entry_name(shown.index(number)), deed.tick - PAGE, agent_name(deed.agent), deed.operation))
    return Seen(tuple(rows), tuple(shown[len(world.shown) :]))


def ask(world: World, agent: int, as_of: int) -> Seen:
    """Return an agent's answer: its last entry that took something away, or words that say nothing."""
    shared = story.plot(world.scenario)
    evades = story.story(world.scenario).is_evasive[agent]
    draw = stream(world.scenario.seed, f"fleet answer {agent}")
    answer = wording.answer(draw, words_of(world.scenario.setting), not evades)
    if evades:
        return Seen(((answer,),))
    takes = MANDATES[shared.topology.agents[agent].mandate].takes.name
    written = [entry for entry in story.log(world, agent) if entry.tick <= as_of]
    told = [entry for entry in written if entry.operation == takes] or written
    return Seen(((answer,), *[_row(entry) for entry in told[-1:]]))


def canary(world: World, short: int, as_of: int) -> Seen:
    """Return how much smaller the loss would be if the deed of this entry had not been done, with noise."""
    shared = story.plot(world.scenario)
    number = world.shown[short]
    deed = story.deed(world, number)
    before = story.at(world, as_of)
    undone = world.ability.after(deed.field, deed.target, 1 / story.factor(world, number))
    after = physics.tick(shared.graph, shared.entering[as_of], undone, before.failed)
    relief = (before.lost - after.lost) / before.lost if before.lost else 0.0
    made = sum([1 for result in world.results if (result.look, result.subject) == (CANARY, short)])
    draw = stream(world.scenario.seed, f"fleet canary {number}", made)
    noise = (sum([draw.uniform() for _ in range(_UNIFORMS)]) - _UNIFORMS / 2) * (12 / _UNIFORMS) ** 0.5
    return Seen(((entry_name(short), round(relief + CANARY_NOISE * noise, 1)),))


LOOKS: Mapping[str, Looking] = MappingProxyType(
    {LOOK: look, TRACE: trace, COMPARE: compare, AUDIT: audit, LEDGER: ledger, ASK: ask, CANARY: canary}
)


def result(world: World, role: str, kind: str, subject: int) -> tuple[Result, tuple[int, ...]]:
    """Return what a look of this kind brings to a role now, and the entries that it is the first to show.

    The rules' weather may get at it: an announced fault brings nothing, a silent one old, fewer or wrong figures.
    """
    fault = _fault(world, kind, subject)
    if fault in weather.ANNOUNCED:
        return Result(world.turn + 1, role, kind, subject, str(fault), ()), ()
    as_of = now(world) - (STALE_TICKS if fault == weather.STALE else 0)
    rows, shown = LOOKS[kind](world, subject, as_of)
    if fault is not None:
        draw = stream(world.scenario.seed, f"fleet fault {kind} {subject}", len(world.results))
        rows = _distorted(fault, rows, draw)
        named = {row[0] for row in rows}
        kept = [place for place in range(len(shown)) if entry_name(len(world.shown) + place) in named]
        if kind == LEDGER:  # an entry that nobody was shown has no index; the last ones of those that are left out go
            shown = shown[: kept[-1] + 1] if kept else ()
    return Result(world.turn + 1, role, kind, subject, "", rows), shown


def _fault(world: World, kind: str, subject: int) -> str | None:
    """Draw the fault of this look; it depends on how often the same was looked at before, and on nothing else."""
    tier = world.rules.weather
    if tier == CALM:
        return None
    before = sum([1 for one in world.results if (one.look, one.subject) == (kind, subject)])
    return weather.drawn(world.scenario.seed, f"fleet {kind} {subject}", before, tier)


def _distorted(fault: str, rows: tuple[Row, ...], draw: Stream) -> tuple[Row, ...]:
    if fault == weather.SILENT_DROP:
        return weather.without_one(rows, draw)
    if fault == weather.TRUNCATION:
        return weather.truncated(rows)
    if fault == weather.CORRUPTION:
        return _corrupted(rows, draw)
    return rows


def _corrupted(rows: tuple[Row, ...], draw: Stream) -> tuple[Row, ...]:
    """Put a wrong figure in the place of one that is above zero; ticks before the page are not, so times stay."""
    places = [
        (line, column)
        for line, row in enumerate(rows)
        for column, value in enumerate(row)
        if isinstance(value, int | float) and value > 0
    ]
    if not places:
        return rows
    line, column = draw.choice(places)
    row = rows[line]
    wrong = weather.wrong_figure(draw, float(row[column]), WRONG, (0.0, inf), _as_before)
    found = round(wrong) if isinstance(row[column], int) else round(wrong, 1)
    return (*rows[:line], (*row[:column], found, *row[column + 1 :]), *rows[line + 1 :])


def _as_before(_before: float, after: float) -> float:
    return float(round(after))
