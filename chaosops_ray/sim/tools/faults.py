"""Six ways in which a tool lets its caller down, as pure functions of the result and of (seed, call, tool).

Timeouts and rate limits announce themselves. The other four do not: what they leave has the shape, the length and the
precision of a clean result, and differs from it only in what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.sim.tools.figures import FIGURE
from chaosops_ray.sim.tools.knowledge import Knowledge

TIMEOUT = "timeout"
RATE_LIMIT = "rate_limit"
STALE = "stale"
SILENT_DROP = "silent_drop"
TRUNCATION = "truncation"
CORRUPTION = "corruption"
KINDS = (TIMEOUT, RATE_LIMIT, STALE, SILENT_DROP, TRUNCATION, CORRUPTION)
ANNOUNCED = (TIMEOUT, RATE_LIMIT)
SILENT = (STALE, SILENT_DROP, TRUNCATION, CORRUPTION)

# By tier, in the order of KINDS; drawn cumulatively.
RATES = {
    "warmup": (0.08, 0.04, 0.0, 0.0, 0.0, 0.0),
    "beginner": (0.10, 0.06, 0.08, 0.0, 0.0, 0.0),
    "intermediate": (0.12, 0.08, 0.10, 0.06, 0.08, 0.0),
    "expert": (0.15, 0.10, 0.15, 0.10, 0.12, 0.08),
}
NEVER_FAULTED = frozenset(("submit_answer", "calculator", "python_execute", "scratchpad_read", "scratchpad_write"))

# What names a thing rather than saying something of it is left as it is, or the fault would show.
_NAMES = frozenset(("url", "id", "path", "status", "entity", "columns", "key", "ticket_id", "timezone", "now"))
_SENTENCE = re.compile(r"(?<=\.) ")
CORRUPTION_FACTOR = 1.37
_LARGEST = 1e18  # beyond it are no figures of this world, and floats end somewhere


def drawn(seed: int, call: int, tool: str, tier: str) -> str | None:
    """The fault that this call meets; of nothing else does it depend, so two policies meet the same weather."""
    if tool in NEVER_FAULTED:
        return None
    left = stream(seed, f"weather {tool}", call).uniform()
    for kind, rate in zip(KINDS, RATES[tier], strict=True):
        left -= rate
        if left < 0:
            return kind
    return None


def distorted(kind: str, result: Any, known: Knowledge, seed: int, call: int) -> Any:
    """The result as a silent fault leaves it; the same object where there is nothing in it to distort."""
    draw = stream(seed, f"distortion {kind}", call)
    if kind == STALE:
        return _mapped(result, lambda number: _older(seed, number), None)
    if kind == CORRUPTION:
        return _mapped(result, lambda number: number * CORRUPTION_FACTOR, _Swap(known, draw))
    if kind == SILENT_DROP:
        return _shortened(result, lambda items: _without_one(items, draw), draw)
    return _shortened(result, lambda items: items[: max(1, (2 * len(items)) // 3)], draw)


def _older(seed: int, number: float) -> float:
    """What the figure was before: always the same for the same figure, and always less."""
    return number * stream(seed, f"older {float(number)!r}").uniform(0.80, 0.93)


# -- other values ---------------------------------------------------------------------------------------------------


class _Swap:
    """Names and truth values as corruption leaves them."""

    def __init__(self, known: Knowledge, draw: Stream) -> None:
        self.groups = (
            [country.name for country in known.countries],
            [country.capital for country in known.countries],
            [company.name for company in known.companies],
        )
        self.draw = draw

    def text(self, text: str) -> str:
        for group in self.groups:
            if text in group:
                return self.draw.choice([name for name in group if name != text])
        return text


def _mapped(value: Any, change: Callable[[float], float], swap: _Swap | None) -> Any:
    if isinstance(value, bool):
        return value if swap is None else not value
    if isinstance(value, int | float):
        return _reprecised(value, change(value)) if abs(value) < _LARGEST else value
    if isinstance(value, str):
        changed = FIGURE.sub(lambda found: _renumbered(found[0], change), value)
        return changed if swap is None or changed != value else swap.text(value)
    if isinstance(value, list):
        return [_mapped(item, change, swap) for item in value]
    if isinstance(value, dict):
        return {key: item if key in _NAMES else _mapped(item, change, swap) for key, item in value.items()}
    return value


def _reprecised(before: float, after: float) -> float | int:
    """The new figure, as round as the old one was: its decimals, at most four, or its noughts at the end."""
    if isinstance(before, int):
        noughts = len(str(before)) - len(str(before).rstrip("0")) if before else 0
        while noughts and round(after / 10**noughts) * 10**noughts == before:
            noughts -= 1
        return int(round(after / 10**noughts) * 10**noughts)
    _, _, decimals = repr(before).partition(".")
    return round(after, min(4, len(decimals) if "e" not in decimals else 4))


def _renumbered(text: str, change: Callable[[float], float]) -> str:
    bare = text.replace(",", "")
    whole, point, decimals = bare.partition(".")
    if len(whole) > 15:
        return text
    number = _reprecised(float(bare) if point else int(bare), change(float(bare)))
    shown = f"{number:.{min(4, len(decimals))}f}" if point else str(number)
    return f"{float(shown):,.{len(shown.partition('.')[2])}f}" if "," in text else shown


# -- fewer values ---------------------------------------------------------------------------------------------------


def _without_one(items: list[Any], draw: Stream) -> list[Any]:
    gone = draw.below(len(items))
    return [item for index, item in enumerate(items) if index != gone]


def _shortened(value: Any, cut: Callable[[list[Any]], list[Any]], draw: Stream) -> Any:
    """The first part of the value that consists of several things, with fewer of them."""
    if isinstance(value, str):
        return _shortened_text(value, cut)
    if isinstance(value, list):
        if len(value) > 1:
            return cut(value)
        return [_shortened(item, cut, draw) for item in value]
    if not isinstance(value, dict):
        return value
    if "rows" in value and len(value["rows"]) == 1:
        return {**value, "rows": [_blanked(value["rows"][0], draw)]}
    for key, item in value.items():
        if key in _NAMES:
            continue
        if isinstance(item, dict) and len(item) > 1:
            kept = cut(list(item.items()))
            return {**value, key: dict(kept)}
        shorter = _shortened(item, cut, draw)
        if shorter != item:
            return {**value, key: shorter}
    return value


def _shortened_text(text: str, cut: Callable[[list[Any]], list[Any]]) -> str:
    if "\n" in text:
        heading, *lines = text.split("\n")
        return "\n".join([heading, *cut(lines)]) if len(lines) > 1 else text
    sentences = _SENTENCE.split(text)
    return " ".join(cut(sentences)) if len(sentences) > 1 else text


def _blanked(row: list[Any], draw: Stream) -> list[Any]:
    """A row has as many cells as there are columns; one that is missing is empty."""
    gone = draw.below(len(row)) if row else 0
    return [None if index == gone else cell for index, cell in enumerate(row)]
