"""Frozen values as JSON, and JSON back into the frozen values it was made of, with every type checked."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints


def as_json(value: Any) -> str:
    """Write a value of named tuples, tuples and plain values as JSON, named tuples field by field."""
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def changes(value: Any, before: Any | None) -> list[tuple[str, str]]:
    """List the fields of a named tuple that differ from those before, as JSON on one line; its role is left out."""
    return [
        (name, as_json(now))
        for name, now in zip(value._fields, value, strict=True)
        if name != "role" and (before is None or now != getattr(before, name))
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            return {name: _plain(field) for name, field in zip(value._fields, value, strict=True)}
        return [_plain(item) for item in value]
    return value


def fields_of(kind: Any, values: list[Any], skipped: int = 0) -> list[Any]:
    """Convert values to what this named tuple's fields are annotated as, from the first that is not skipped on.

    TypeError or ValueError where one does not match.
    """
    return [_typed(value, hint) for value, hint in zip(values, _hints(kind)[skipped:], strict=True)]


@lru_cache(maxsize=64)
def _hints(kind: Any) -> tuple[Any, ...]:
    return tuple(get_type_hints(kind).values())


def _typed(value: Any, hint: Any) -> Any:
    """Convert lists to tuples and records to their named tuples; anything else must match its annotation."""
    arguments = get_args(hint)
    if isinstance(value, list):
        if hasattr(hint, "_fields"):
            return hint(*fields_of(hint, value))
        if arguments and arguments[-1] is Ellipsis:
            return tuple([_typed(item, arguments[0]) for item in value])
        if arguments and get_origin(hint) is tuple:
            return tuple([_typed(item, kind) for item, kind in zip(value, arguments, strict=True)])
    accepted = (int, float) if hint is float else arguments or (hint,)
    if type(value) not in accepted or (isinstance(value, str) and not value.isprintable()):
        raise TypeError(f"{str(value)[:40]!r} is no {hint}")
    return value
