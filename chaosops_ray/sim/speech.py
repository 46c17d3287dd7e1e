"""Safe readers for what models write: one printable line, or one JSON object found in a completion."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from chaosops_ray.sim.errors import InputError

A = TypeVar("A")

# A completion beyond this is not read: no model needs it to say one action.
MAX_COMPLETION = 16_384
# How many opening braces are looked at before the completion counts as holding no object.
MAX_OBJECTS = 64
# What stands before a brace that opens a value inside JSON: a key's colon, a comma, another opening.
_INSIDE = re.compile(r'(?:"\s*:|[,\[{])\s*\Z')
_LOOK_BACK = 40
# How deep JSON may be nested, and how long its whole numbers may be. Python's own limits depend on the depth of the
# caller's stack and on the process's settings, so what they would decide is decided here.
MAX_NESTING = 64
MAX_DIGITS = 600
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A completion that holds no valid action; every world takes it as an action and lets it cost something."""

    reason: str


def read_action(
    completion: object,
    markers: str | frozenset[str],
    from_fields: Callable[[dict[str, Any]], A | Unparsed],
    from_line: Callable[[str], A | Unparsed],
) -> A | Unparsed:
    """Read the action of a completion; nothing that is passed raises.

    The last JSON object with a marker counts; without one, the last line that is not empty is read.
    """
    if not isinstance(completion, str):
        return Unparsed("no text")
    if len(completion) > MAX_COMPLETION:
        return Unparsed(f"longer than {MAX_COMPLETION} characters")
    fields = last_object(completion, frozenset([markers]) if isinstance(markers, str) else markers)
    return from_line(last_line(completion)) if fields is None else from_fields(fields)


def load_record(text: str, build: Callable[[Any], A | Unparsed]) -> A | Unparsed:
    """Read the action of a record: a recorded parse failure as itself, anything else is built from its fields."""
    try:
        fields = decode(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"not a recorded action: {str(text)[:80]!r} ({error})") from None
    if isinstance(fields, dict) and list(fields) == ["unparsed"] and isinstance(fields["unparsed"], str):
        return Unparsed(fields["unparsed"])
    action = build(fields)
    if isinstance(action, Unparsed):
        raise InputError(f"not a recorded action: {text[:80]!r} ({action.reason})")
    return action


def clean(text: str, limit: int) -> str:
    """Reduce a text to one printable line of at most `limit` characters.

    What one model writes another one reads: without line breaks it cannot forge a section of the other's prompt, and
    without an opening angle bracket it cannot spell the control tokens that chat templates write as tags.
    """
    text = text[: 4 * limit]
    if not text.isprintable():
        text = "".join([c if c.isprintable() else " " for c in text])
    return " ".join(text.replace("<", "‹").split())[:limit].rstrip()


def decode(text: str) -> Any:
    """Read a JSON value; ValueError if it is malformed, nested too deeply, holds NaN, or names a field twice."""
    if not isinstance(text, str):
        raise TypeError("JSON is read from text")
    if _may_nest(text) and _depth(text) > MAX_NESTING:
        raise ValueError("nested too deeply")
    return _DECODER.decode(text)


def _may_nest(text: str) -> bool:
    """Tell if a text has brackets enough to be nested too deeply; most have not."""
    return text.count("[") + text.count("{") > MAX_NESTING


def _depth(text: str) -> int:
    """Return how deep the brackets of a JSON text are nested, at most one more than they may be."""
    depth = deepest = 0
    for bracket in _BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket[0], 0)
        deepest = max(deepest, depth)
        if deepest > MAX_NESTING:
            break
    return deepest


def last_object(completion: str, markers: frozenset[str]) -> dict[str, Any] | None:
    """Find the last JSON object that has a marker among its fields: models think first and answer last.

    An object inside another one never counts, nor does one inside something that failed to be an object.
    """
    found = None
    may_nest = _may_nest(completion)
    start = completion.find("{")
    for _ in range(MAX_OBJECTS):
        if start < 0:
            return found
        end = start + 1
        if not _INSIDE.search(completion, max(0, start - _LOOK_BACK), start):
            try:
                value, after = _DECODER.raw_decode(completion, start)
            except (ValueError, RecursionError):
                pass
            else:
                # What is nested too deeply is no object, as it is where Python gives up first.
                if not may_nest or is_shallow(value, MAX_NESTING):
                    end = after
                    found = found if markers.isdisjoint(value) else value
        start = completion.find("{", end)
    return None  # so many braces that the last object may not have been reached: no guess is made


def is_shallow(value: Any, depth: int) -> bool:
    """Tell if a JSON value is nested no deeper than this; deeper ones run into limits of Python itself."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return True
    return False


def last_line(completion: str) -> str:
    """Return the last line that is not empty, stripped."""
    return next((line for raw in reversed(completion.split("\n")) if (line := raw.strip())), "")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


_DECODER = json.JSONDecoder(parse_int=_whole, parse_constant=_refuse_constant, object_pairs_hook=_unique)
