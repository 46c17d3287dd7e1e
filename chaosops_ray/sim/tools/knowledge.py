"""The facts of an episode, and each source's account of them.

No source says everything: which fields a record holds, which sentences a document has and how many documents a search
finds all vary by source and entity, as they do in life. So a result that lacks something tells nothing by itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.sim.tools.data import COMPANIES, COUNTRIES, Company, Country

PUBLISHED = "published"
STRICT = "strict"  # entities renamed and figures redrawn from the seed
SETTINGS = (PUBLISHED, STRICT)

Value: TypeAlias = str | int | float
Facts: TypeAlias = dict[str, Value]

_CORE_SHARE = 0.9
_ROW_SHARE = 0.94

_STARTS = ("Al", "Bor", "Cas", "Dun", "El", "Far", "Gor", "Hel", "Is", "Jor", "Kel", "Lor", "Mar", "Nor", "Or", "Pel")
_MIDDLES = ("a", "e", "i", "o", "u", "an", "el", "ir", "on", "ur", "av", "em")
_ENDS = ("dia", "land", "mark", "nia", "ria", "stan", "via", "wick")
_TOWNS = ("burg", "dale", "ford", "haven", "mouth", "port", "ton", "vik")
_TRADES = ("Freight", "Foods", "Grid", "Health", "Labs", "Media", "Mills", "Motors", "Optics", "Power", "Systems")
_CONTINENTS = ("Africa", "America", "Asia", "Europe", "Oceania")
_CURRENCIES = ("crown", "dinar", "florin", "franc", "lira", "mark", "peso", "pound")
_SECTORS = ("energy", "finance", "food", "hardware", "health", "logistics", "media", "software")
_AUDITORS = ("Ash and Partners", "Birch Group", "Cedar Audit", "Elm and Sons")


class Knowledge(NamedTuple):
    """The world's entities; the seed decides the sources' habits."""

    seed: int
    countries: tuple[Country, ...]
    companies: tuple[Company, ...]


@lru_cache(maxsize=256)
def knowledge(setting: str, seed: int) -> Knowledge:
    """Return the entities of a setting; under `strict` every seed has its own."""
    if setting == PUBLISHED:
        return Knowledge(0, COUNTRIES, COMPANIES)
    draw = stream(seed, "entities")
    names: set[str] = set()
    countries = tuple([_country(draw, names) for _ in COUNTRIES])
    return Knowledge(seed, countries, tuple([_company(draw, names) for _ in COMPANIES]))


def _named(draw: Stream, taken: set[str], *parts: tuple[str, ...], gap: str = "") -> str:
    while True:
        name = gap.join(["".join([draw.choice(part) for part in parts[:2]]), draw.choice(parts[2])])
        if name not in taken:
            taken.add(name)
            return name


def _country(draw: Stream, taken: set[str]) -> Country:
    population = round(10 ** draw.uniform(6.3, 9.1))
    per_capita = float(round(10 ** draw.uniform(3.2, 4.95)))
    return Country(
        _named(draw, taken, _STARTS, _MIDDLES, _ENDS),
        _named(draw, taken, _STARTS, _MIDDLES, _TOWNS),
        population,
        round(10 ** draw.uniform(4.6, 6.9)),
        population * per_capita,
        per_capita,
    )


def _company(draw: Stream, taken: set[str]) -> Company:
    actual = round(draw.uniform(0.3, 6.5), 2)
    overstated = draw.uniform() < 0.6
    claimed = round(actual * draw.uniform(1.06, 1.25), 2) if overstated else actual
    return Company(_named(draw, taken, _STARTS, _MIDDLES, _TRADES, gap=" "), claimed, actual)


# -- what a source says ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def profile(known: Knowledge, source: str, name: str) -> tuple[tuple[str, Value], ...]:
    """Return the fields that this source has of this entity, in the order it gives them."""
    core, extras = _fields(known, source, name)
    draw = stream(known.seed, f"profile {source} {name}")
    fullness = draw.uniform(0.1, 0.9)
    kept = [field for field in core.items() if draw.uniform() < _CORE_SHARE]
    kept += [field for field in extras.items() if draw.uniform() < fullness]
    return draw.shuffled(kept or list(core.items()))


def _fields(known: Knowledge, source: str, name: str) -> tuple[Facts, Facts]:
    country = next((entry for entry in known.countries if entry.name == name), None)
    draw = stream(known.seed, f"extras {name}")
    if country is not None:
        core: Facts = {
            "capital": country.capital,
            "population": country.population,
            "area_km2": country.area_km2,
            "gdp_per_capita": _plain(country.gdp_per_capita),
        }
        return core, {
            "continent": draw.choice(_CONTINENTS),
            "currency": draw.choice(_CURRENCIES),
            "coast_km": draw.below(30_000),
            "highest_point_m": 200 + draw.below(6_000),
            "calling_code": 10 + draw.below(900),
        }
    company = next(entry for entry in known.companies if entry.name == name)
    revenue: Facts = {"claimed_revenue_b": company.claimed, "actual_revenue_b": company.actual}
    if source in ("filing", "analyst"):
        del revenue["claimed_revenue_b"]
    if source == "press":
        del revenue["actual_revenue_b"]
    return revenue, {
        "employees": 200 + draw.below(90_000),
        "offices": 1 + draw.below(120),
        "sector": draw.choice(_SECTORS),
        "auditor": draw.choice(_AUDITORS),
        "founded_employees": 2 + draw.below(40),
    }


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


_SENTENCES: dict[str, str] = {
    "capital": "The capital of {name} is {value}.",
    "population": "{name} has a population of {value}.",
    "area_km2": "{name} covers {value} square kilometres.",
    "gdp_per_capita": "Output per person in {name} is {value} dollars.",
    "continent": "{name} lies in {value}.",
    "currency": "People in {name} pay with the {value}.",
    "coast_km": "The coast of {name} runs for {value} kilometres.",
    "highest_point_m": "The highest point of {name} stands at {value} metres.",
    "calling_code": "Calls to {name} begin with {value}.",
    "claimed_revenue_b": "{name} announced revenue of {value} billion dollars for the quarter.",
    "actual_revenue_b": "Audited revenue of {name} for the quarter came to {value} billion dollars.",
    "employees": "{name} employs {value} people.",
    "offices": "{name} has {value} offices.",
    "sector": "{name} works in {value}.",
    "auditor": "The books of {name} are kept by {value}.",
    "founded_employees": "{name} began with {value} people.",
}


def prose(known: Knowledge, source: str, name: str) -> str:
    """Write the source's account in sentences."""
    return " ".join(
        [_SENTENCES[field].format(name=name, value=worded(value)) for field, value in profile(known, source, name)]
    )


def worded(value: Value) -> str:
    """Write a figure for a sentence."""
    return f"{value:,}" if isinstance(value, int | float) else value


def names_of(known: Knowledge) -> list[str]:
    """Return the name of every entity."""
    return [country.name for country in known.countries] + [company.name for company in known.companies]


# -- finding --------------------------------------------------------------------------------------------------------


def slug(name: str) -> str:
    """Write a name for an address."""
    return name.lower().replace(" ", "-")


def entity_named(known: Knowledge, name: str) -> str | None:
    """Return the entity of this name, however it is written; a capital stands for its country."""
    return _by_name(known).get(name.strip().casefold())


@lru_cache(maxsize=256)
def _by_name(known: Knowledge) -> dict[str, str]:
    names = names_of(known)
    found = {name.casefold(): name for name in names} | {slug(name): name for name in names}
    return found | {entry.capital.casefold(): entry.name for entry in known.countries}


@lru_cache(maxsize=256)
def _by_word(known: Knowledge) -> dict[str, tuple[str, ...]]:
    words: dict[str, list[str]] = {}
    for name, entity in _by_name(known).items():
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


def sources_of(known: Knowledge, entity: str, online: bool) -> tuple[str, ...]:
    """Return the documents on an entity: on the web, or in the archive."""
    is_country = any(entry.name == entity for entry in known.countries)
    if online:
        return ("atlas", "almanac") if is_country else ("press", "newswire")
    return ("overview", "figures") if is_country else ("filing", "analyst")


SOURCES = ("atlas", "almanac", "press", "newswire", "overview", "figures", "filing", "analyst")


def table(known: Knowledge, which: str) -> str:
    """Return a file of figures; no file is complete."""
    draw = stream(known.seed, f"table {which}")
    rows: list[tuple[Value, ...]]
    if which == "countries.txt":
        lines = ["name | capital | population | area_km2 | gdp_per_capita"]
        rows = [(c.name, c.capital, c.population, c.area_km2, _plain(c.gdp_per_capita)) for c in known.countries]
    else:
        lines = ["company | claimed_revenue_b | actual_revenue_b"]
        rows = [(c.name, c.claimed, c.actual) for c in known.companies]
    kept = [row for row in rows if draw.uniform() < _ROW_SHARE]
    return "\n".join([*lines, *[" | ".join([str(value) for value in row]) for row in kept]])


TABLES = ("countries.txt", "companies.txt")
