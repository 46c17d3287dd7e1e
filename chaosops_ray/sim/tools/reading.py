"""What tools have said, read out of what they have shown: the baselines' eyes.

A reading is a value that a source gives of an entity. Every form in which sources speak is read: records, rows, tables
and sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from chaosops_ray.sim.tools.catalog.retrieval import DOCUMENT
from chaosops_ray.sim.tools.sources import API, ARCHIVE, DATABASE, FILES, KNOWLEDGE_BASE, SENTENCES, TABLES, WEB

if TYPE_CHECKING:
    from chaosops_ray.sim.tools.views import Seen

Cell = str | float | int

_SOURCES = {
    "web_search": WEB,
    "fetch_url": WEB,
    "knowledge_base_lookup": KNOWLEDGE_BASE,
    "database_query": DATABASE,
    "document_search": ARCHIVE,
}


def source_of(tool: str, arguments: str) -> str:
    """Return the source that a call asked; empty where it asked none."""
    if tool == "api_call":
        return ARCHIVE if str(json.loads(arguments).get("url", "")).startswith(DOCUMENT) else API
    if tool == "read_file":
        return FILES if json.loads(arguments).get("path") in TABLES else ""
    return _SOURCES.get(tool, "")


class Reading(NamedTuple):
    """A value as a source gave it, in the call of this step."""

    step: int
    source: str
    name: str
    field: str
    value: Cell


def readings(results: tuple[Seen, ...]) -> list[Reading]:
    """Return all that the results say, in their order."""
    found = []
    for seen in results:
        if seen.ok:
            source = source_of(seen.tool, seen.arguments)
            if source:
                found += [Reading(seen.step, source, *item) for item in told(json.loads(seen.shown))]
    return found


def told(value: Any) -> Iterator[tuple[str, str, Cell]]:
    """Yield each entity, field and value that a result tells."""
    if isinstance(value, str):
        yield from _in_table(value) if "\n" in value else _in_sentences(value)
    elif isinstance(value, list):
        for item in value:
            yield from told(item)
    elif isinstance(value, dict):
        if "rows" in value:
            yield from _in_rows(value["columns"], value["rows"])
        elif isinstance(value.get("entity"), str):
            record = value.get("facts", value.get("body"))
            if isinstance(record, dict):
                yield from [(value["entity"], field, cell) for field, cell in record.items()]
        else:
            for item in value.values():
                yield from told(item)


def _in_rows(columns: list[str], rows: list[list[Any]]) -> Iterator[tuple[str, str, Cell]]:
    names = [place for place, column in enumerate(columns) if column in ("name", "company")]
    for row in rows:
        if names and isinstance(row[names[0]], str):
            for column, cell in zip(columns, row, strict=True):
                if column not in ("name", "company", "quarter") and cell not in (None, ""):
                    yield row[names[0]], column, cell


def _in_table(text: str) -> Iterator[tuple[str, str, Cell]]:
    heading, *lines = [line.split(" | ") for line in text.split("\n")]
    rows = [[as_value(cell) for cell in line] for line in lines if len(line) == len(heading)]
    yield from _in_rows(heading, rows)


def values_of(value: Any, name: str, field: str) -> set[Cell]:
    """Return what a result tells of one field of one entity, in any of the known forms."""
    if isinstance(value, str):
        if "\n" in value:
            return _in_table_of(value, name, field)
        found = _pattern(name, field).search(value)
        return {as_value(found[1])} if found else set()
    if isinstance(value, list):
        return set().union(*[values_of(item, name, field) for item in value])
    if not isinstance(value, dict):
        return set()
    if "rows" in value:
        return {
            cell for one, column, cell in _in_rows(value["columns"], value["rows"]) if (one, column) == (name, field)
        }
    if isinstance(value.get("entity"), str):
        record = value.get("facts", value.get("body"))
        return {record[field]} if value["entity"] == name and isinstance(record, dict) and field in record else set()
    return set().union(*[values_of(item, name, field) for item in value.values()])


def _in_table_of(text: str, name: str, field: str) -> set[Cell]:
    heading, _, body = text.partition("\n")
    columns = heading.split(" | ")
    if field not in columns:
        return set()
    for line in body.split("\n"):
        if line.startswith(f"{name} | "):
            cells = line.split(" | ")
            return {as_value(cells[columns.index(field)])} if len(cells) == len(columns) else set()
    return set()


@lru_cache(maxsize=1024)
def _pattern(name: str, field: str) -> re.Pattern[str]:
    spelt = re.escape(SENTENCES.get(field, "{name} {value}.").replace("{name}", name))
    # A value goes no further than its sentence.
    return re.compile(rf"(?:^|(?<=\. )){spelt.replace(re.escape('{value}'), _IN_A_SENTENCE)}(?= |$)")


_IN_A_SENTENCE = r"((?:[^.]|\.(?! ))+?)"


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    found = []
    for field, sentence in SENTENCES.items():
        spelt = re.escape(sentence).replace(r"\{name\}", "(?P<name>[A-Z][A-Za-z ]*?)")
        found.append((field, re.compile(spelt.replace(r"\{value\}", "(?P<value>.+?)"))))
    return tuple(found)


def _in_sentences(text: str) -> Iterator[tuple[str, str, Cell]]:
    for sentence in re.split(r"(?<=\.) ", text):
        for field, pattern in _patterns():
            match = pattern.fullmatch(sentence)
            if match:
                yield match["name"], field, as_value(match["value"])


def as_value(text: str) -> Cell:
    """Return the number that a text spells, with or without commas, or the text."""
    bare = text.replace(",", "")
    if re.fullmatch(r"-?\d+", bare):
        return int(bare)
    return float(bare) if re.fullmatch(r"-?\d+\.\d+", bare) else text
