"""The faults of tools, as pure functions of the weather and of what the tool works on.

Timeouts and rate limits announce themselves. The other four do not: what they leave has the shape, the length and the
precision of a clean result, and differs from it only in what it says. What does not depend on the facts of this world
is in `sim/weather.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from chaosops_ray.sim import weather
from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.sim.tools.knowledge import (
    HELD_OUT,
    OLDER,
    PUBLISHED,
    WRONG,
    Entity,
    Facts,
    Knowledge,
    Value,
    another,
    as_drawn,
    changed,
    moved_capitals,
    retold,
)
from chaosops_ray.sim.tools.sources import FILLED

PUBLISHED_RATES: weather.Rates = {
    "warmup": (0.08, 0.04, 0.0, 0.0, 0.0, 0.0),
    "beginner": (0.10, 0.06, 0.08, 0.0, 0.0, 0.0),
    "intermediate": (0.12, 0.08, 0.10, 0.06, 0.08, 0.0),
    "expert": (0.15, 0.10, 0.15, 0.10, 0.12, 0.08),
}
HELD_OUT_RATES: weather.Rates = {
    "warmup": (0.04, 0.08, 0.0, 0.0, 0.0, 0.0),
    "beginner": (0.04, 0.06, 0.04, 0.0, 0.0, 0.12),
    "intermediate": (0.03, 0.06, 0.09, 0.06, 0.02, 0.20),
    "expert": (0.03, 0.05, 0.12, 0.06, 0.02, 0.26),
}
NEVER_FAULTED = frozenset(("submit_answer", "calculator", "python_execute", "scratchpad_read", "scratchpad_write"))

# What names a thing rather than saying something of it is left as it is, or the fault would show.
_NAMES = frozenset(("url", "id", "path", "status", "entity", "columns", "key", "own", "ticket_id", "timezone", "now"))
_SENTENCE = re.compile(r"(?<=\.) ")
CORRUPTION_FACTOR = 1.37


class Call(NamedTuple):
    """All that a fault depends on. `number` counts the steps under published rules, and the calls of the tool else."""

    seed: int
    tool: str
    number: int
    tier: str
    setting: str
    are_published: bool


def drawn(made: Call) -> str | None:
    """Draw the fault of this call; it depends on nothing else, so two policies meet the same faults."""
    if made.tool in NEVER_FAULTED:
        return None
    kind = _kind(made)
    if made.setting == HELD_OUT and not made.are_published and kind not in weather.ANNOUNCED and made.number:
        # A failure lasts: the call after one that failed is refused as well.
        before = _kind(made._replace(number=made.number - 1))
        return weather.RATE_LIMIT if before == weather.TIMEOUT else kind
    return kind


def _kind(made: Call) -> str | None:
    return weather.drawn(made.seed, made.tool, made.number, made.tier, _rates(made))


def _rates(made: Call) -> weather.Rates:
    if made.are_published:
        return PUBLISHED_RATES
    return HELD_OUT_RATES if made.setting == HELD_OUT else weather.STRICT_RATES


# -- other values ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def misinformed(kind: str, known: Knowledge, made: Call) -> Knowledge:
    """Return the facts as a stale or corrupt source has them.

    The fault is in the source, not in what is said of it, so whatever is asked hangs together: a table with its sums, a
    verdict with its evidence, and what the agent itself wrote or asked with stays as it was.
    """
    if made.are_published:
        return changed(known, _published(kind, known, made))
    draw = stream(made.seed, f"misinformed {kind} {made.tool}", made.number)
    by = OLDER if kind == weather.STALE else WRONG
    # Published figures are round, and so are wrong ones.
    rounded = weather.rounded_like if made.setting == PUBLISHED else as_drawn

    def figure(field: str, value: float) -> float:
        # A wrong revenue is as far from the true one as a wrong announcement is, in every setting.
        if kind == weather.CORRUPTION and made.setting == HELD_OUT and field != "revenue_b":
            return _exchanged(known, draw, field, value)
        return another(draw, field, value, by, rounded)

    return retold(known, draw, figure)


def _published(kind: str, known: Knowledge, made: Call) -> Callable[[Entity], Facts]:
    """As published: what is old is smaller and the same wherever it is old; what is corrupt is times 1.37."""
    moved = moved_capitals(known, stream(made.seed, "corruption", made.number))

    def other(field: str, value: Value) -> Value:
        if isinstance(value, str):
            return value if kind == weather.STALE or field != "capital" else moved[value]
        factor = (
            stream(made.seed, f"older {value!r}").uniform(0.80, 0.93) if kind == weather.STALE else CORRUPTION_FACTOR
        )
        return weather.rounded_like(value, value * factor)

    return lambda entity: {field: other(field, value) for field, value in entity.facts}


def _exchanged(known: Knowledge, draw: Stream, field: str, value: float) -> float:
    """Draw the figure of another entity."""
    figures = [figure for entity in known.entities for name, figure in entity.facts if name == field]
    others = [figure for figure in dict.fromkeys(figures) if figure != value and not isinstance(figure, str)]
    return draw.choice(others)


def contradicted(result: Any) -> Any:
    """Return the opposite of a verdict, where nothing beside it would show that."""
    if isinstance(result, dict) and list(result) in _BARE_VERDICTS:
        return {key: not verdict for key, verdict in result.items()}
    return result


_BARE_VERDICTS = (["equal"], ["match"])


# -- fewer values ---------------------------------------------------------------------------------------------------


def distorted(kind: str, result: Any, made: Call) -> Any:
    """Return the result with something silently removed; the same object where nothing can be."""
    draw = stream(made.seed, f"distortion {kind}", made.number)
    if kind == weather.SILENT_DROP:
        return _shortened(result, lambda items: weather.without_one(items, draw), draw)
    return _shortened(result, weather.truncated, draw)


def _shortened(value: Any, cut: Callable[[list[Any]], list[Any]], draw: Stream) -> Any:
    """Shorten the first part of the value that consists of several things."""
    if isinstance(value, str):
        return _shortened_text(value, cut)
    if isinstance(value, list):
        if len(value) > 1:
            return cut(value)
        return [_shortened(item, cut, draw) for item in value]
    if not isinstance(value, dict):
        return value
    rows, columns = value.get("rows"), value.get("columns")
    if isinstance(rows, list) and isinstance(columns, list) and len(rows) == 1 and isinstance(rows[0], list):
        return {**value, "rows": [_blanked(rows[0], columns, draw)]}
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


def _blanked(row: list[Any], columns: list[str], draw: Stream) -> list[Any]:
    """Empty a cell of a row, which keeps as many cells as there are columns; none of those that never are empty."""
    places = [place for place, column in enumerate(columns) if column not in FILLED]
    gone = draw.choice(places) if places else None
    return [None if place == gone else cell for place, cell in enumerate(row)]
