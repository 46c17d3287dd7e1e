"""What models write, read without harm: one printable line, or one JSON object found in a completion."""

from __future__ import annotations

import json
from typing import Any

# A completion beyond this is not read: no model needs it to say one action.
MAX_COMPLETION = 16_384
# How many opening braces are tried as the start of an object before the completion counts as holding none.
MAX_OBJECTS = 16


def clean(text: str, limit: int) -> str:
    """One printable line of at most `limit` characters.

    What one model writes another one reads: without line breaks it cannot forge a section of the other's prompt, and
    with its angle brackets parted it cannot spell a chat template's control tokens.
    """
    text = text[: 4 * limit]
    if not text.isprintable():
        text = "".join([c if c.isprintable() else " " for c in text])
    return " ".join(text.replace("<|", "< |").split())[:limit].rstrip()


def decode(text: str) -> Any:
    """The JSON value; ValueError or RecursionError where it is none, holds NaN, or names a field twice."""
    return _DECODER.decode(text)


def first_object(completion: str, marker: str) -> dict[str, Any] | None:
    """The first JSON object in a completion that has the marker among its fields, wherever it stands."""
    start = completion.find("{")
    for _ in range(MAX_OBJECTS):
        if start < 0:
            break
        try:
            value, end = _DECODER.raw_decode(completion, start)
        except (ValueError, RecursionError):
            start = completion.find("{", start + 1)
            continue
        if isinstance(value, dict) and marker in value:
            return value
        start = completion.find("{", end)
    return None


def last_line(completion: str) -> str:
    """The last line that is not empty, without the space around it."""
    return next((line for raw in reversed(completion.split("\n")) if (line := raw.strip())), "")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)
