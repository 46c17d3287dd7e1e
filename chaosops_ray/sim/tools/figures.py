"""Figures in text: one definition of a number for tools, faults and the grader."""

from __future__ import annotations

import re
from typing import Any

# Thousands may be parted by commas; digits that belong to a word, such as km2, are no figure. The number of commas is
# bounded because a text of nothing but digits and commas would be gone through again from each of them.
FIGURE = re.compile(r"(?<![\w.])(?:\d{1,3}(?:,\d{3}){1,8}(?!\d)|\d+)(?:\.\d+)?(?!\w|\.\d)")
_LONGEST = 24


def figures(text: str) -> list[float]:
    """Return the figures in a text, in order."""
    return [float(found.replace(",", "")) for found in FIGURE.findall(text) if len(found) <= _LONGEST]


def figures_within(value: Any) -> set[float]:
    """Return the figures anywhere in a JSON value, numbers and texts alike."""
    found: set[float] = set()
    _gather(value, found)
    return found


def _gather(value: Any, found: set[float]) -> None:
    if isinstance(value, str):
        found.update(figures(value))
    elif isinstance(value, list):
        for item in value:
            _gather(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _gather(item, found)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18:
        found.add(float(value))
