"""Each source's account of the facts: records, pages, documents and files, and how they are found.

No source says everything: which fields a record holds, which sentences a document has and how many documents a search
finds all vary by source and entity, as they do in life. So a result that lacks something tells nothing by itself.
"""

from __future__ import annotations

from functools import lru_cache

from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.tools.knowledge import (
    COMPANY,
    COUNTRY,
    DISPUTED,
    Entity,
    Facts,
    Knowledge,
    Value,
    facts_of,
)

# Sources that do not copy from each other, by the tools that ask them: pages and their search are one, and so on.
KNOWLEDGE_BASE, DATABASE, API, WEB, ARCHIVE, FILES = "knowledge base", "database", "api", "web", "archive", "files"
REFERENCE = "reference desk"

PAGES = {COUNTRY: ("atlas", "almanac"), COMPANY: ("press", "newswire")}
DOCUMENTS = {COUNTRY: ("overview", "figures"), COMPANY: ("filing", "analyst")}
PAGE_SOURCES = tuple([source for sources in PAGES.values() for source in sources])

# Fields that a source seldom lacks; it has more or fewer of the others.
_CORE = frozenset(
    (
        *("capital", "population", "area_km2", "gdp_per_capita", "population_2020"),
        *("headquarters", "founded", "sector", "employees", "revenue_b", "previous_revenue_b", DISPUTED),
    )
)
_CORE_SHARE = 0.94
_SHORT_SHARE = 0.1  # of the accounts, which hold a third less
_ROW_SHARE = 0.95

# The columns of the database's two tables and of the two files.
COLUMNS = {
    COUNTRY: (
        *("name", "capital", "continent", "currency"),
        *("population", "population_2020", "area_km2", "gdp_per_capita"),
    ),
    COMPANY: (
        *("company", "headquarters", "sector", "founded", "employees", "offices"),
        *("quarter", "revenue_b", "previous_revenue_b"),
    ),
}
FILLED = ("name", "company", "quarter", DISPUTED)  # columns of the database without empty cells
FILE_OF = {COUNTRY: "countries.txt", COMPANY: "companies.txt"}
TABLES = tuple(FILE_OF.values())
QUARTER = "Q3-2025"


def account(known: Knowledge, source: str, name: str) -> Facts:
    """Return all that could be in this source of this entity."""
    facts = dict(facts_of(known, name))
    if source in DOCUMENTS[COMPANY] and known.disputed[0] == name:
        facts[DISPUTED] = known.disputed[1]
    return facts


@lru_cache(maxsize=4096)
def profile(known: Knowledge, source: str, name: str) -> tuple[tuple[str, Value], ...]:
    """Return the fields that this source has of this entity, in the order it gives them."""
    draw = stream(known.seed, f"profile {source} {name}")
    fullness = draw.uniform(0.1, 0.9)
    facts = account(known, source, name)
    shares = [_CORE_SHARE if field in _CORE else fullness for field in facts]
    kept = [item for item, share in zip(facts.items(), shares, strict=True) if draw.uniform() < share]
    shuffled = draw.shuffled(kept or list(facts.items()))
    return shuffled[: (2 * len(shuffled)) // 3 or 1] if draw.uniform() < _SHORT_SHARE else shuffled


SENTENCES: dict[str, str] = {
    "capital": "The capital of {name} is {value}.",
    "population": "{name} has a population of {value}.",
    "population_2020": "In 2020, {value} people lived in {name}.",
    "area_km2": "{name} covers {value} square kilometres.",
    "gdp_per_capita": "Output per person in {name} is {value} dollars.",
    "continent": "{name} lies in {value}.",
    "currency": "People in {name} pay with the {value}.",
    "coast_km": "The coast of {name} runs for {value} kilometres.",
    "highest_point_m": "The highest point of {name} stands at {value} metres.",
    "calling_code": "Calls to {name} begin with {value}.",
    "headquarters": "{name} has its headquarters in {value}.",
    "founded": "{name} was founded on {value}.",
    "revenue_b": "Audited revenue of {name} for the quarter came to {value} billion dollars.",
    "previous_revenue_b": "In the quarter before, {name} had revenue of {value} billion dollars.",
    "employees": "{name} employs {value} people.",
    "offices": "{name} has {value} offices.",
    "sector": "{name} works in {value}.",
    "auditor": "The books of {name} are kept by {value}.",
}


def prose(known: Knowledge, source: str, name: str) -> str:
    """Write the source's account in sentences."""
    return " ".join(
        [SENTENCES[field].format(name=name, value=worded(value)) for field, value in profile(known, source, name)]
    )


def worded(value: Value) -> str:
    """Write a value for a sentence."""
    return f"{value:,}" if isinstance(value, int | float) else value


@lru_cache(maxsize=512)
def table(known: Knowledge, path: str) -> str:
    """Return a file of figures; no file is complete."""
    kind = next(kind for kind, name in FILE_OF.items() if name == path)
    draw = stream(known.seed, f"table {path}")
    rows = [row(entity) for entity in known.entities if entity.kind == kind and draw.uniform() < _ROW_SHARE]
    lines = [["" if value is None else str(value) for value in cells] for cells in rows]
    return "\n".join([" | ".join(cells) for cells in (COLUMNS[kind], *lines)])


def row(entity: Entity) -> list[Value | None]:
    """Return an entity's row of its table."""
    facts: Facts = dict(entity.facts)
    facts |= {"name": entity.name, "company": entity.name, "quarter": QUARTER}
    return [facts.get(column) for column in COLUMNS[entity.kind]]


# -- finding ----------------------------------------------------------------------------------------------------------


def slug(name: str) -> str:
    """Write a name for an address."""
    return name.lower().replace(" ", "-")


def entity_named(known: Knowledge, name: str) -> str | None:
    """Return the entity of this name, however it is written; a capital stands for its country."""
    return _names(known).get(name.strip().casefold())


@lru_cache(maxsize=512)
def _names(known: Knowledge) -> dict[str, str]:
    names = [entity.name for entity in known.entities]
    found = {name.casefold(): name for name in names} | {slug(name): name for name in names}
    capitals = {str(dict(entity.facts)["capital"]): entity.name for entity in known.entities if entity.kind == COUNTRY}
    return {capital.casefold(): name for capital, name in capitals.items()} | found


@lru_cache(maxsize=512)
def _by_word(known: Knowledge) -> dict[str, tuple[str, ...]]:
    words: dict[str, list[str]] = {}
    for name, entity in _names(known).items():
        for word in name.replace("-", " ").split():
            words.setdefault(word, []).append(entity)
    return {word: tuple(dict.fromkeys(entities)) for word, entities in words.items()}


def entities_about(known: Knowledge, query: str) -> list[str]:
    """Return the entities whose names share words with the query, those that share most first."""
    words = "".join([c if c.isalnum() else " " for c in query.casefold()[:400]]).split()
    scores: dict[str, int] = {}
    for word in dict.fromkeys(words):
        for entity in _by_word(known).get(word, ()):
            scores[entity] = scores.get(entity, 0) + 1
    return sorted(scores, key=lambda entity: -scores[entity])


def page_of(name: str, kind: str) -> str:
    """Return the address of a page about this entity."""
    return f"https://{PAGES[kind][0]}.example/{slug(name)}"
