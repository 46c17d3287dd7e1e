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

A look that is stale has the figures, or the entries, of some ticks before. The instruments say that they are of now.
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
    LEDGER_ROWS,
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
AUDIT_ROWS: Final = 8
# The deviation of a canary's reading: it serves few requests. One alone tells little, and several tell more.
CANARY_NOISE: Final = 2.2
# There is no relief from a smaller loss than this: the last bit of a figure is off where a deed was undone.
LEAST_LOSS: Final = 1e-6
# What a stale look shows is so many ticks old, and by so much a corrupted figure is off.
STALE_TICKS: Final = 6
WRONG: Final = (1.3, 2.0)
# The figures of a row that may be wrong, by look and the length of the row: each with its place and its greatest value.
_ANY: Final = inf
_ALL: Final = 100.0  # per cent
_FIGURES: Final[Mapping[tuple[str, int], tuple[tuple[int, float], ...]]] = MappingProxyType(
    {
        (LOOK, 5): ((2, _ANY), (3, _ANY), (4, _ALL)),
        (LOOK, 3): ((2, _ALL),),
        (TRACE, 4): ((2, _ALL), (3, _ALL)),
        (TRACE, 3): ((2, _ALL),),
        (COMPARE, 3): ((2, _ANY),),
        (COMPARE, 4): ((2, _ANY), (3, _ALL)),
        (AUDIT, 5): ((3, _ANY),),
        (ASK, 5): ((3, _ANY),),
        (CANARY, 2): ((1, _ANY),),
    }
)
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
    for ago in reversed(range(LOOK_TICKS)):
        tick = as_of - ago - late
        found = story.at(world, tick)
        used = story.measured(world, place, tick)
        rows.append(
            ("at", now(world) - ago - PAGE, round(100 * found.load[place]), used, _percent(found.failed[place]))
        )
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
    rows.append(("now", now(world) - PAGE, story.measured(world, place, as_of), _percent(failed)))
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
    """Return how much smaller the loss would be if the deed of this entry were undone, with noise."""
    shared = story.plot(world.scenario)
    number = world.shown[short]
    deed = story.deed(world, number)
    before = story.at(world, as_of)
    relief = 0.0
    if before.lost > LEAST_LOSS and number not in world.reverted:
        undone = world.ability.after(deed.field, deed.target, 1 / story.factor(world, number))
        after = physics.tick(shared.graph, shared.entering[as_of], undone, before.failed)
        relief = max(-1.0, (before.lost - after.lost) / before.lost)
    draw = stream(world.scenario.seed, f"fleet canary {number}", _times(world, CANARY, short))
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
        draw = stream(world.scenario.seed, f"fleet fault {kind} {subject}", _times(world, kind, subject))
        rows = _distorted(fault, kind, rows, draw)
        if kind == LEDGER:
            rows, shown = _indexed(world, rows, shown)
    return Result(world.turn + 1, role, kind, subject, "", rows), shown


def _fault(world: World, kind: str, subject: int) -> str | None:
    """Draw the fault of this look; it depends on how often the same was looked at before, and on nothing else."""
    tier = world.rules.weather
    if tier == CALM:
        return None
    return weather.drawn(world.scenario.seed, f"fleet {kind} {subject}", _times(world, kind, subject), tier)


def _times(world: World, kind: str, subject: int) -> int:
    """Return how often the same was looked at before."""
    return sum([1 for one in world.results if (one.look, one.subject) == (kind, subject)])


def _indexed(world: World, rows: tuple[Row, ...], shown: tuple[int, ...]) -> Seen:
    """Number the entries that are left as if there were no others: who was not shown an entry has no index of it."""
    names = {entry_name(len(world.shown) + place): number for place, number in enumerate(shown)}
    left = [str(row[0]) for row in rows if row[0] in names]
    renamed = {name: entry_name(len(world.shown) + place) for place, name in enumerate(left)}
    rows = tuple([(renamed.get(str(row[0]), row[0]), *row[1:]) for row in rows])
    return Seen(rows, tuple([names[name] for name in left]))


def _distorted(fault: str, kind: str, rows: tuple[Row, ...], draw: Stream) -> tuple[Row, ...]:
    if fault == weather.SILENT_DROP:
        return weather.without_one(rows, draw)
    if fault == weather.TRUNCATION:
        return weather.truncated(rows)
    if fault == weather.CORRUPTION:
        return _corrupted(kind, rows, draw)
    return rows


def _corrupted(kind: str, rows: tuple[Row, ...], draw: Stream) -> tuple[Row, ...]:
    """Put a wrong figure in the place of one that is above zero; times and names stay."""
    places = [
        (line, column, most)
        for line, row in enumerate(rows)
        for column, most in _FIGURES.get((kind, len(row)), ())
        if float(row[column]) > 0
    ]
    if not places:
        return rows
    line, column, most = draw.choice(places)
    row = rows[line]
    is_whole = isinstance(row[column], int)
    wrong = weather.wrong_figure(draw, float(row[column]), WRONG, (0.0, most), _whole if is_whole else _tenths)
    found = round(wrong) if is_whole else wrong
    return (*rows[:line], (*row[:column], found, *row[column + 1 :]), *rows[line + 1 :])


def _whole(_before: float, after: float) -> float:
    return float(round(after))


def _tenths(_before: float, after: float) -> float:
    return round(after, 1)
