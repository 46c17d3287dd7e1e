"""A view as named numbers, for learners that read no text: what each look last brought, by its kind and subject.

Results that were shared count like those that the seat looked up itself. Of each look the latest that brought
something counts. Names say what a number is about:

    page s3, s3 edge, s3 calls s5, a2 cost, a2 on s5, a2 frozen
    look s3 turn, look s3 failed        when a look was last made, and whether it failed
    look s3 used 0                      the figure of the last row, and 1 that of the tick before it
    look s3 from s1, trace s3 calls s5 fails, trace s3 called by s1 fails, compare s3 before 24
    audit a2 0 tick                     of the last entry: its tick, reading, operation, service; 1 is the one before it
    e4 tick, e4 a2, e4 s3, e4 undeploy  an entry of the ledger
    canary e4 relief, canary e4 readings the mean of its readings, and their number
    dev revert e4                       the turn of an act
    sre says look, sre says s3          how often a word was said
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from chaosops_ray.sim.fleet import model, readout
from chaosops_ray.sim.fleet.model import CANARY, Message, Result, Row
from chaosops_ray.sim.fleet.views import View

_INDEX = re.compile(r"\bs[0-9]+\b")
# Words, and short indices; other figures would be a name of their own for each value.
_WORDS = re.compile(r"\b[sae][0-9]{1,2}\b|[^\W\d]+")


def symbols(seen: View) -> dict[str, float]:
    """Return what is seen as named numbers; equal views give equal ones."""
    found = {"turn": float(seen.turn), "turns_left": float(seen.turns_left)}
    _add_room(found, seen)
    told = [message for message in (*seen.chat, *seen.inbox) if message.results]
    by_turn = {result.turn: result for message in told for result in message.results}
    by_turn.update({result.turn: result for result in seen.results})
    results = [by_turn[turn] for turn in sorted(by_turn)]
    for result in results:
        found[f"{_name(result)} turn"] = float(result.turn)
        found[f"{_name(result)} failed"] = float(bool(result.fault))
    for result in {_name(result): result for result in results if not result.fault}.values():
        _add_rows(found, _name(result), result)
    _add_canaries(found, results)
    for act in seen.acts:
        found[f"{act.role} {act.verb} {act.subject}"] = float(act.turn)
    for message in (*seen.chat, *seen.inbox):
        _add_words(found, message)
    return found


def _add_room(found: dict[str, float], seen: View) -> None:
    for line in seen.page:
        for name in _INDEX.findall(line):
            found[f"page {name}"] = 1.0
    for service in seen.services or ():
        found[f"{service.short} {service.layer}"] = 1.0
        found.update({f"{service.short} calls {name}": 1.0 for name in service.calls})
    for agent in seen.agents or ():
        found[f"{agent.short} {agent.mandate}"] = 1.0
        found.update({f"{agent.short} on {name}": 1.0 for name in agent.powers})
    found.update({f"{name} frozen": 1.0 for name in seen.frozen or ()})


def _add_words(found: dict[str, float], message: Message) -> None:
    for word in _WORDS.findall(message.text.lower()):
        name = f"{message.sender} says {word}"
        found[name] = found.get(name, 0.0) + 1.0


def _name(result: Result) -> str:
    return f"{result.look} {readout.subject(result)}"


def _add_rows(found: dict[str, float], name: str, result: Result) -> None:
    rows = result.rows
    match result.look:
        case model.LOOK:
            _add_figures(found, name, rows)
        case model.TRACE:
            for row in rows:
                _add(found, f"{name} {row[0]} {row[1]}", ("fails", "passes"), row[2:])
        case model.COMPARE:
            for row in rows:
                head = f"{name} before {-int(row[1])}" if row[0] == "before" else name
                _add(found, head, ("used", "fails"), row[2:])
        case model.LEDGER:
            for entry, tick, agent, operation in rows:
                found[f"{entry} tick"] = float(tick)
                found.update({f"{entry} {one}": 1.0 for one in (agent, operation, readout.subject(result))})
        case model.AUDIT | model.ASK:
            _add_entries(found, name, [row for row in rows if len(row) > 1])


def _add_figures(found: dict[str, float], name: str, rows: Iterable[Row]) -> None:
    at = [row for row in rows if row[0] == "at"]
    for row in at:
        ago = int(at[-1][1]) - int(row[1])
        found.update(
            {
                f"{name} {what} {ago}": float(value)
                for what, value in zip(("load", "used", "fails"), row[2:], strict=True)
            }
        )
    found.update({f"{name} from {row[1]}": float(row[2]) for row in rows if row[0] == "from"})


def _add_entries(found: dict[str, float], name: str, rows: Sequence[Row]) -> None:
    for place, (tick, operation, service, reading, _reason) in enumerate(reversed(rows)):
        found.update({f"{name} {place} tick": float(tick), f"{name} {place} reading": float(reading)})
        found.update({f"{name} {place} {one}": 1.0 for one in (operation, service)})


def _add_canaries(found: dict[str, float], results: Iterable[Result]) -> None:
    read: dict[str, list[float]] = {}
    for result in results:
        for entry, relief in result.rows if result.look == CANARY else ():
            read.setdefault(str(entry), []).append(float(relief))
    for entry, reliefs in read.items():
        _add(found, f"canary {entry}", ("relief", "readings"), (sum(reliefs) / len(reliefs), len(reliefs)))


def _add(found: dict[str, float], name: str, fields: Sequence[str], values: Sequence[Any]) -> None:
    found.update({f"{name} {field}": float(value) for field, value in zip(fields, values, strict=False)})
