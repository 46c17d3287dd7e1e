"""JSON back into the frozen values it was made of, with every type looked at."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints


def fields_of(kind: Any, values: list[Any], skipped: int = 0) -> list[Any]:
    """The values as this named tuple's fields are annotated, from the first that is not skipped on.

    TypeError or ValueError where one does not match.
    """
    return [_typed(value, hint) for value, hint in zip(values, _hints(kind)[skipped:], strict=True)]


@lru_cache(maxsize=64)
def _hints(kind: Any) -> tuple[Any, ...]:
    return tuple(get_type_hints(kind).values())


def _typed(value: Any, hint: Any) -> Any:
    """Lists become tuples, records their named tuples, the rest must match its annotation."""
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
