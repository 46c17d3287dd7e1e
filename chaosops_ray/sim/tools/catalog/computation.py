"""Tools that work on what was found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from chaosops_ray.sim.speech import decode, is_shallow
from chaosops_ray.sim.tools import regex, sandbox
from chaosops_ray.sim.tools.catalog.tool import COMPUTATION, Desk, Tool, number, scalar, text
from chaosops_ray.sim.tools.limits import ToolError

MAX_MATCHES = 20
MAX_ITEMS = 200
MAX_DEPTH = 16


def calculator(_desk: Desk, expression: str) -> Any:
    """Compute an arithmetic expression."""
    return {"value": sandbox.calculate(expression)}


def python_execute(_desk: Desk, code: str) -> Any:
    """Run a small program; what it prints and its value."""
    return sandbox.run(code)


def text_extract(_desk: Desk, text: str, pattern: str) -> Any:
    """Find the matches of a regular expression in a text."""
    return {"matches": regex.find_all(pattern, text, MAX_MATCHES)}


def parsed(data: str) -> Any:
    """Read a JSON argument."""
    try:
        value = decode(data)
    except ValueError as error:
        raise ToolError(f"data is no JSON: {str(error)[:80]}") from None
    if not is_shallow(value, MAX_DEPTH):
        raise ToolError(f"data is nested deeper than {MAX_DEPTH}")
    return value


def data_transform(_desk: Desk, data: str, operation: str) -> Any:
    """Count, sort, sum or filter a JSON list of objects."""
    items = parsed(data)
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        raise ToolError(f"data must be a JSON list of at most {MAX_ITEMS} items")
    verb, _, rest = operation.partition(":")
    if verb == "count" and not rest:
        return {"value": len(items)}
    if verb == "filter" and "=" in rest:
        field, _, wanted = rest.partition("=")
        return {"items": [item for item in items if isinstance(item, dict) and str(item.get(field)) == wanted]}
    if verb == "sort" and rest:
        return {"items": [item for _, item in sorted(_figures(items, rest), key=lambda pair: pair[0])]}
    if verb in _AGGREGATES and rest:
        return {"value": _AGGREGATES[verb]([figure for figure, _ in _figures(items, rest)])}
    raise ToolError("operation must be count, sort:f, sum:f, avg:f, min:f, max:f or filter:f=v")


_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "avg": lambda figures: sum(figures) / len(figures),
    "min": min,
    "max": max,
}


def _figures(items: list[Any], field: str) -> list[tuple[float, Any]]:
    pairs = []
    for item in items:
        value = item.get(field) if isinstance(item, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e18:
            raise ToolError(f"every item needs a number {field[:40]!r}")
        pairs.append((value, item))
    if not pairs:
        raise ToolError("data holds no items")
    return pairs


def compare_values(_desk: Desk, value1: str | float, value2: str | float, tolerance: float) -> Any:
    """Compare two values, within a relative tolerance if they are numbers."""
    first, second = as_number(value1), as_number(value2)
    if first is None or second is None:
        return {"equal": str(value1).strip().casefold() == str(value2).strip().casefold()}
    difference = abs(first - second) / max(abs(first), abs(second), 1e-9)
    return {"equal": difference <= max(tolerance, 0.0), "relative_difference": round(difference, 6)}


def as_number(value: str | float) -> float | None:
    """Return the number that a value is or spells."""
    if not isinstance(value, str):
        return float(value)
    bare = value.strip().replace(",", "")
    return float(bare) if re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", bare) else None


_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\[[0-9]{1,4}\]")


def json_query(_desk: Desk, data: str, query: str) -> Any:
    """Return the value at a path such as items[0].name."""
    value = parsed(data)
    parts = _PATH.findall(query)
    if not parts or "".join(parts) != query.replace(".", ""):
        raise ToolError("query must be a path such as items[0].name")
    for part in parts:
        key: Any = int(part[1:-1]) if part.startswith("[") else part
        fits = isinstance(value, list) and isinstance(key, int) and key < len(value)
        if not fits and not (isinstance(value, dict) and key in value):
            raise ToolError(f"nothing at {part[:40]!r}")
        value = value[key]
    return {"value": value}


_WORDS = {
    "es": {"yes": "sí", "no": "no", "population": "población", "capital": "capital", "revenue": "ingresos"},
    "fr": {"yes": "oui", "no": "non", "population": "population", "capital": "capitale", "revenue": "revenus"},
    "de": {"yes": "ja", "no": "nein", "population": "Bevölkerung", "capital": "Hauptstadt", "revenue": "Umsatz"},
}


def translate(_desk: Desk, text: str, target_language: str) -> Any:
    """Translate the words of a text that the small dictionary knows."""
    if target_language not in _WORDS:
        raise ToolError(f"unknown language {target_language[:20]!r}; known: {', '.join(_WORDS)}")
    words = _WORDS[target_language]
    return {"text": " ".join([words.get(word.lower(), word) for word in text.split(" ")])}


TOOLS = (
    Tool("calculator", COMPUTATION, "work out an arithmetic expression", (text("expression"),), calculator),
    Tool(
        "python_execute",
        COMPUTATION,
        "run a small Python program; its output and the value of its last line",
        (text("code"),),
        python_execute,
    ),
    Tool(
        "text_extract",
        COMPUTATION,
        "find what a regular expression matches in a text",
        (text("text"), text("pattern")),
        text_extract,
    ),
    Tool(
        "data_transform",
        COMPUTATION,
        "count | sort:f | sum:f | avg:f | min:f | max:f | filter:f=v over a JSON list of objects",
        (text("data"), text("operation")),
        data_transform,
    ),
    Tool(
        "compare_values",
        COMPUTATION,
        "compare two values, numbers within a relative tolerance",
        (scalar("value1"), scalar("value2"), number("tolerance", 0.0)),
        compare_values,
    ),
    Tool("json_query", COMPUTATION, "take a value out of JSON by its path", (text("data"), text("query")), json_query),
    Tool(
        "translate",
        COMPUTATION,
        "translate into es, fr or de",
        (text("text"), text("target_language")),
        translate,
    ),
)
