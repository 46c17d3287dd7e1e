"""The six faults of tools, as pure functions of (seed, call, tool) and what the tool works on.

Timeouts and rate limits announce themselves. The other four do not: what they leave has the shape, the length and the
precision of a clean result, and differs from it only in what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.sim.tools.data import Country
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
_NAMES = frozenset(("url", "id", "path", "status", "entity", "columns", "key", "own", "ticket_id", "timezone", "now"))
_SENTENCE = re.compile(r"(?<=\.) ")
CORRUPTION_FACTOR = 1.37


def drawn(seed: int, call: int, tool: str, tier: str) -> str | None:
    """Draw the fault of this call; it depends on nothing else, so two policies meet the same faults."""
    if tool in NEVER_FAULTED:
        return None
    left = stream(seed, f"weather {tool}", call).uniform()
    for kind, rate in zip(KINDS, RATES[tier], strict=True):
        left -= rate
        if left < 0:
            return kind
    return None


# -- other values ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def misinformed(kind: str, known: Knowledge, seed: int, call: int) -> Knowledge:
    """Return the facts as a stale or corrupt source has them.

    The fault is in the source, not in what is said of it, so whatever is asked hangs together: a table with its sums, a
    verdict with its evidence, and what the agent itself wrote or asked with stays as it was.
    """
    if kind == STALE:
        return _refigured(known, lambda number: number * stream(seed, f"older {number!r}").uniform(0.80, 0.93))
    corrupt = _refigured(known, lambda number: number * CORRUPTION_FACTOR)
    turn = 1 + stream(seed, "corruption", call).below(len(known.countries) - 1)
    capitals = [country.capital for country in known.countries]
    return corrupt._replace(
        countries=tuple(
            [
                country._replace(capital=capital)
                for country, capital in zip(corrupt.countries, capitals[turn:] + capitals[:turn], strict=True)
            ]
        )
    )


def _refigured(known: Knowledge, change: Callable[[float], float]) -> Knowledge:
    def new(number: float) -> float:
        return _as_round(number, change(float(number)))

    countries = []
    for country in known.countries:
        population, per_capita = int(new(country.population)), new(country.gdp_per_capita)
        # Where the total is the product of the two, it goes on to be.
        is_product = country.gdp_usd == country.population * country.gdp_per_capita
        ratio = population / country.population * per_capita / country.gdp_per_capita
        gdp = population * per_capita if is_product else _as_round(country.gdp_usd, country.gdp_usd * ratio)
        area = int(new(country.area_km2))
        countries.append(Country(country.name, country.capital, population, area, gdp, per_capita))
    companies = [c._replace(claimed=new(c.claimed), actual=new(c.actual)) for c in known.companies]
    return known._replace(countries=tuple(countries), companies=tuple(companies))


def _as_round(before: float, after: float) -> float:
    """Round the new figure like the old one: to its decimals, at most four, or to its zeros at the end."""
    if before != int(before):
        return round(after, min(4, len(repr(before).partition(".")[2])))
    digits = str(int(before))
    noughts = len(digits) - len(digits.rstrip("0"))
    while noughts and round(after / 10**noughts) * 10**noughts == before:
        noughts -= 1
    return float(round(after / 10**noughts) * 10**noughts)


def contradicted(result: Any) -> Any:
    """Return the opposite of a verdict, where nothing beside it would show that."""
    if isinstance(result, dict) and list(result) in _BARE_VERDICTS:
        return {key: not verdict for key, verdict in result.items()}
    return result


_BARE_VERDICTS = (["equal"], ["match"])


# -- fewer values ---------------------------------------------------------------------------------------------------


def distorted(kind: str, result: Any, seed: int, call: int) -> Any:
    """Return the result with something silently removed; the same object where nothing can be."""
    draw = stream(seed, f"distortion {kind}", call)
    if kind == SILENT_DROP:
        return _shortened(result, lambda items: _without_one(items, draw), draw)
    return _shortened(result, lambda items: items[: max(1, (2 * len(items)) // 3)], draw)


def _without_one(items: list[Any], draw: Stream) -> list[Any]:
    gone = draw.below(len(items))
    return [item for index, item in enumerate(items) if index != gone]


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
    rows = value.get("rows")
    if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], list):
        return {**value, "rows": [_blanked(rows[0], draw)]}
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
    """Empty a cell of a row: it keeps as many cells as there are columns."""
    gone = draw.below(len(row)) if row else 0
    return [None if index == gone else cell for index, cell in enumerate(row)]
