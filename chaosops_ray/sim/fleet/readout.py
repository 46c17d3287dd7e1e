"""What looks brought, in words: sentences with units for readers, short regular lines for a small policy.

Rows of an announced failure, and rows that went missing on the way, look like any others that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from chaosops_ray.sim.fleet.model import ASK, AUDIT, CANARY, COMPARE, LEDGER, LOOK, TRACE, Result, Row

# Figures of successive ticks that stand on one line.
_ON_A_LINE: Final = 8
_LETTER: Final = {LOOK: "s", TRACE: "s", COMPARE: "s", LEDGER: "s", AUDIT: "a", ASK: "a", CANARY: "e"}
_TITLES: Final = {
    LOOK: "LOOK AT {}",
    TRACE: "TRACE OF {}",
    COMPARE: "COMPARISON OF {}",
    LEDGER: "LEDGER OF {}",
    AUDIT: "LOG OF {}, WRITTEN BY ITSELF",
    ASK: "ANSWER OF {}",
    CANARY: "CANARY OF {}",
}
_NO_ROWS: Final = {
    LOOK: "no figures",
    TRACE: "it calls nothing, and nothing calls it",
    COMPARE: "no figures",
    LEDGER: "nothing is recorded",
    AUDIT: "no entries",
    ASK: "no answer",
    CANARY: "no reading",
}


def subject(result: Result) -> str:
    """Return the short index of what was looked at."""
    return f"{_LETTER[result.look]}{result.subject}"


def entries(results: Iterable[Result]) -> dict[str, str]:
    """Return what the entries stand for that ledgers among these results have, by short index."""
    return {
        str(row[0]): f"({row[2]} {row[3]} on {subject(result)})"
        for result in results
        if result.look == LEDGER
        for row in result.rows
    }


# -- in full ----------------------------------------------------------------------------------------------------------


def full(result: Result, names: Mapping[str, str]) -> list[str]:
    """Write a result as a title and sentences; `names` are the full names that the reader knows, by short index."""
    short = subject(result)
    named = f"{short} {names[short]}" if short in names else short
    title = f"{_TITLES[result.look].format(named)} (tick {tick(result.turn - 1)})"
    if result.fault:
        return [title, f"  failed: {result.fault.replace('_', ' ')}"]
    lines = _FULL[result.look](short, result.rows) if result.rows else [_NO_ROWS[result.look]]
    return [title, *[f"  {line}" for line in lines]]


def tick(number: Any) -> str:
    """Write a tick, which counts from the page, with its sign."""
    return f"{number:+d}" if number else "0"


def _look(_: str, rows: Iterable[Row]) -> list[str]:
    return [
        f"{row[2]} % of its requests come from {row[1]}"
        if row[0] == "from"
        else f"tick {tick(row[1])}: load {row[2]}, utilisation {row[3]} %, failed {row[4]} %"
        for row in rows
    ]


def _trace(short: str, rows: Iterable[Row]) -> list[str]:
    return [
        f"calls {row[1]}: {row[2]} % of these calls fail, which fails {row[3]} % of the requests to {short}"
        if row[0] == "calls"
        else f"is called by {row[1]}, which fails {row[2]} % of its requests"
        for row in rows
    ]


def _compare(_: str, rows: Iterable[Row]) -> list[str]:
    lines = [
        f"ticks {tick(start)} to {tick(start + len(figures) - 1)}: utilisation {' '.join(figures)} %"
        for start, figures in _runs(rows)
    ]
    return lines + [
        f"now, tick {tick(row[1])}: utilisation {row[2]} %, failed {row[3]} %" for row in rows if row[0] == "now"
    ]


def _runs(rows: Iterable[Row]) -> list[tuple[int, list[str]]]:
    """Gather the figures of successive ticks, each run with its first tick."""
    found: list[tuple[int, list[str]]] = []
    for row in rows:
        if row[0] != "before":
            continue
        at = int(row[1])
        if not found or found[-1][0] + len(found[-1][1]) != at or len(found[-1][1]) == _ON_A_LINE:
            found.append((at, []))
        found[-1][1].append(str(row[2]))
    return found


def _audit(_: str, rows: Iterable[Row]) -> list[str]:
    return [_entry(row) for row in rows]


def _entry(row: Row) -> str:
    at, operation, service, reading, reason = row
    return f'tick {tick(at)}: {operation} on {service}, having read a utilisation of {reading} %; "{reason}"'


def _ledger(_: str, rows: Iterable[Row]) -> list[str]:
    return [f"{row[0]}: {row[2]} did {row[3]} at tick {tick(row[1])}" for row in rows]


def _ask(_: str, rows: Iterable[Row]) -> list[str]:
    return [f'"{row[0]}"' if len(row) == 1 else f"points to its entry, {_entry(row)}" for row in rows]


def _canary(_: str, rows: Iterable[Row]) -> list[str]:
    return [f"without {row[0]} the loss would be smaller by {_percent(row[1])} %, as far as this shows" for row in rows]


def _percent(share: Any) -> int:
    return round(100 * float(share))


_FULL: Final[dict[str, Callable[[str, Iterable[Row]], list[str]]]] = {
    LOOK: _look,
    TRACE: _trace,
    COMPARE: _compare,
    LEDGER: _ledger,
    AUDIT: _audit,
    ASK: _ask,
    CANARY: _canary,
}

# -- compact ----------------------------------------------------------------------------------------------------------


def compact(result: Result) -> list[str]:
    """Write a result as one short line for what was done and one for each row."""
    short = subject(result)
    head = f"{result.look} {short} at {result.turn - 1}"
    if result.fault:
        return [f"{head} failed {result.fault}"]
    if result.look == COMPARE:
        return [head, *_compact_compare(short, result.rows)]
    return [head, *[_COMPACT[result.look](short, row) for row in result.rows]]


def _compact_look(short: str, row: Row) -> str:
    if row[0] == "from":
        return f"{short} from {row[1]} part {row[2]}"
    return f"{short} at {row[1]} load {row[2]} used {row[3]} fail {row[4]}"


def _compact_trace(short: str, row: Row) -> str:
    if row[0] == "calls":
        return f"{short} calls {row[1]} fail {row[2]} pass {row[3]}"
    return f"{short} called by {row[1]} fail {row[2]}"


def _compact_compare(short: str, rows: Iterable[Row]) -> list[str]:
    lines = [f"{short} from {start} used {' '.join(figures)}" for start, figures in _runs(rows)]
    return lines + [f"{short} at {row[1]} used {row[2]} fail {row[3]}" for row in rows if row[0] == "now"]


def _compact_entry(short: str, row: Row) -> str:
    return f"{short} {row[1]} {row[2]} at {row[0]} read {row[3]} {row[4]}"


def _compact_ledger(short: str, row: Row) -> str:
    return f"{row[0]} {row[2]} {row[3]} {short} at {row[1]}"


def _compact_ask(short: str, row: Row) -> str:
    return f"{short} says {row[0]}" if len(row) == 1 else _compact_entry(short, row)


def _compact_canary(_: str, row: Row) -> str:
    return f"{row[0]} relief {_percent(row[1])}"


_COMPACT: Final[dict[str, Callable[[str, Row], str]]] = {
    LOOK: _compact_look,
    TRACE: _compact_trace,
    LEDGER: _compact_ledger,
    AUDIT: _compact_entry,
    ASK: _compact_ask,
    CANARY: _compact_canary,
}
