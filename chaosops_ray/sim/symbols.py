"""A view as named numbers, for learners that read no text: made of the view's fields, so that any world has them.

A number is itself. A text is counted word by word. An item of a list is counted as the sentence of its one-word texts
(`services db critical`), and its numbers and longer texts stand under the first of these (`services db cpu`), so that a
feature keeps its meaning wherever in the list the item stands. Of several items with the same name the numbers of the
last one count, which in a list in the order of time is the latest.
"""

from __future__ import annotations

import re
from typing import Any

_LONGEST_NAME = 40
# Letters only: a figure in a sentence would be a feature of its own for each value.
_WORDS = re.compile(r"[^\W\d]+")


def symbols_of(view: Any) -> dict[str, float]:
    """Return the features of a named tuple of texts, numbers, and tuples of texts, numbers or such named tuples."""
    found: dict[str, float] = {}
    for name, value in zip(view._fields, view, strict=True):
        _add(found, name, value)
    return found


def _add(found: dict[str, float], path: str, value: Any) -> None:
    if isinstance(value, str):
        for word in [value] if _is_name(value) else _WORDS.findall(value.lower()):
            _count(found, f"{path} {word}")
    elif isinstance(value, bool | int | float):
        found[path] = float(value)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        _add_item(found, path, value)
    elif isinstance(value, tuple):
        for place, item in enumerate(value):
            # A number in a list has no name but its place.
            _add(found, f"{path} {place}" if isinstance(item, int | float) else path, item)


def _add_item(found: dict[str, float], path: str, item: Any) -> None:
    names = [value for value in item if isinstance(value, str) and _is_name(value)]
    _count(found, " ".join([path, *names]))
    head = " ".join([path, *names[:1]])
    for field, value in zip(item._fields, item, strict=True):
        if not (isinstance(value, str) and _is_name(value)):
            _add(found, f"{head} {field}", value)


def _count(found: dict[str, float], name: str) -> None:
    found[name] = found.get(name, 0.0) + 1.0


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and text.isidentifier()
