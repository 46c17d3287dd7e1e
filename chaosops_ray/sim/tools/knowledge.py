"""The facts of an episode: countries and companies, published or drawn from the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.sim.tools.data import COMPANIES, COUNTRIES

PUBLISHED = "published"
SYNTHETIC = "synthetic"  # entities are invented and figures drawn from the seed
HELD_OUT = "heldout"  # the same, for questions and faults that training never draws
SETTINGS = (PUBLISHED, SYNTHETIC, HELD_OUT)

COUNTRY = "country"
COMPANY = "company"
# The clock is part of the world: this is its date for the published entities.
TODAY = "2026-04-08"
DISPUTED = "offices"  # the field on which the archive may contradict the other sources

Value: TypeAlias = str | int | float
Facts: TypeAlias = dict[str, Value]

_STARTS = ("Al", "Bor", "Cas", "Dun", "El", "Far", "Gor", "Hel", "Is", "Jor", "Kel", "Lor", "Mar", "Nor", "Or", "Pel")
_MIDDLES = ("a", "e", "i", "o", "u", "an", "el", "ir", "on", "ur", "av", "em")
_ENDS = ("dia", "land", "mark", "nia", "ria", "stan", "via", "wick")
_TOWNS = ("burg", "dale", "ford", "haven", "mouth", "port", "ton", "vik")
_TRADES = ("Freight", "Foods", "Grid", "Health", "Labs", "Media", "Mills", "Motors", "Optics", "Power", "Systems")
_CONTINENTS = ("Africa", "America", "Asia", "Europe", "Oceania")
_CURRENCIES = ("crown", "dinar", "florin", "franc", "lira", "mark", "peso", "pound")
_SECTORS = ("energy", "finance", "food", "hardware", "health", "logistics", "media", "software")
_AUDITORS = ("Ash and Partners", "Birch Group", "Cedar Audit", "Elm and Sons")
_SECTOR_SIZES = (2, 2, 3, 4, 4)


class Entity(NamedTuple):
    """A country or a company, and all that is true of it."""

    kind: str
    name: str
    facts: tuple[tuple[str, Value], ...]
    claimed: float = 0.0  # the revenue that a company announced, which no source repeats


@dataclass(frozen=True, eq=False, slots=True)
class Knowledge:
    """The world's entities; the seed decides the sources' habits.

    It is compared by identity: what is derived from it is kept, and to look that up takes no time.
    """

    seed: int
    today: str
    entities: tuple[Entity, ...]
    # The company whose archive has another number of offices, and that number; nobody where all sources agree.
    disputed: tuple[str, int] = ("", 0)


@lru_cache(maxsize=512)
def by_name(known: Knowledge) -> dict[str, Entity]:
    """Return the entities by name."""
    return {entity.name: entity for entity in known.entities}


@lru_cache(maxsize=512)
def facts_of(known: Knowledge, name: str) -> Facts:
    """Return what is true of this entity."""
    return dict(by_name(known)[name].facts)


def names_of(known: Knowledge, kind: str) -> list[str]:
    """Return the names of the entities of this kind."""
    return [entity.name for entity in known.entities if entity.kind == kind]


@lru_cache(maxsize=256)
def knowledge(setting: str, seed: int) -> Knowledge:
    """Return the entities of a setting; the invented ones are others for every seed."""
    if setting == PUBLISHED:
        return _published()
    draw = stream(seed, "entities" if setting == SYNTHETIC else f"entities {setting}")
    taken: set[str] = set()
    today = date(2024, 1, 1) + timedelta(days=draw.below(2500))
    countries = [_country(draw, taken) for _ in COUNTRIES]
    sectors = zip(draw.shuffled(_SECTORS), draw.shuffled(_SECTOR_SIZES), strict=False)
    companies = [_company(draw, taken, sector, countries, today) for sector, size in sectors for _ in range(size)]
    disputed = ("", 0)
    if draw.uniform() < 0.5:
        company = draw.choice(companies)
        offices = dict(company.facts)[DISPUTED]
        assert isinstance(offices, int)  # noqa: S101 - drawn as one
        disputed = company.name, max(1, round(offices * draw.choice((0.5, 0.7, 1.4, 2.0)))) + 1
    return Knowledge(seed, today.isoformat(), (*countries, *draw.shuffled(companies)), disputed)


def _published() -> Knowledge:
    countries = []
    for country in COUNTRIES:
        draw = stream(0, f"extras {country.name}")
        core: Facts = {
            "capital": country.capital,
            "population": country.population,
            "area_km2": country.area_km2,
            "gdp_per_capita": _plain(country.gdp_per_capita),
        }
        countries.append(Entity(COUNTRY, country.name, (*core.items(), *_sights(draw))))
    companies = [
        Entity(COMPANY, c.name, (("revenue_b", c.actual), *_premises(stream(0, f"extras {c.name}"))), c.claimed)
        for c in COMPANIES
    ]
    return Knowledge(0, TODAY, (*countries, *companies))


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _sights(draw: Stream) -> list[tuple[str, Value]]:
    return [
        ("coast_km", draw.below(30_000)),
        ("highest_point_m", 200 + draw.below(6_000)),
        ("calling_code", 10 + draw.below(900)),
    ]


def _premises(draw: Stream) -> list[tuple[str, Value]]:
    return [(DISPUTED, 4 + draw.below(120)), ("auditor", draw.choice(_AUDITORS))]


def _named(draw: Stream, taken: set[str], *parts: tuple[str, ...], gap: str = "") -> str:
    while True:
        name = gap.join(["".join([draw.choice(part) for part in parts[:2]]), draw.choice(parts[2])])
        if name not in taken:
            taken.add(name)
            return name


def _country(draw: Stream, taken: set[str]) -> Entity:
    population = round(10 ** draw.uniform(6.3, 9.1))
    facts: Facts = {
        "capital": _named(draw, taken, _STARTS, _MIDDLES, _TOWNS),
        "continent": draw.choice(_CONTINENTS),
        "currency": draw.choice(_CURRENCIES),
        "population": population,
        # Any change is as likely as its opposite and may be large: a pair of figures does not give away a wrong one.
        "population_2020": round(population * _apart(draw)),
        "area_km2": round(10 ** draw.uniform(4.6, 6.9)),
        "gdp_per_capita": round(10 ** draw.uniform(3.2, 4.95)),
    }
    return Entity(COUNTRY, _named(draw, taken, _STARTS, _MIDDLES, _ENDS), (*facts.items(), *_sights(draw)))


def _company(draw: Stream, taken: set[str], sector: str, countries: list[Entity], today: date) -> Entity:
    revenue = round(draw.uniform(0.6, 6.5), 2)
    facts: Facts = {
        "headquarters": draw.choice(countries).name,
        "sector": sector,
        "founded": (today - timedelta(days=1500 + draw.below(30_000))).isoformat(),
        "employees": 400 + draw.below(90_000),
        "revenue_b": revenue,
        "previous_revenue_b": round(revenue * _apart(draw), 2),
    }
    name = _named(draw, taken, _STARTS, _MIDDLES, _TRADES, gap=" ")
    return Entity(COMPANY, name, (*facts.items(), *_premises(draw)), _claim(draw, revenue))


def _apart(draw: Stream) -> float:
    """Draw a factor that is at least a tenth away from one, up or down alike."""
    factor = draw.uniform(1.1, 1.7)
    return factor if draw.uniform() < 0.5 else 1 / factor


def _claim(draw: Stream, actual: float) -> float:
    """Draw the revenue that is announced: half of the time the actual one, else 3 to 60 % above or below it.

    It is off by such factors as wrong sources are: a figure that contradicts an announcement does not tell which of
    the two is wrong.
    """
    if draw.uniform() < 0.5:
        return actual
    while True:
        claimed = round(actual / (aged(draw) if draw.uniform() < 0.5 else corrupted(draw)), 2)
        if 0.03 * actual <= abs(claimed - actual) <= 0.6 * actual:
            return claimed


def aged(draw: Stream) -> float:
    """Draw the factor by which a figure of old differs from the one of today."""
    factor = draw.uniform(1.03, 1.25)
    return factor if draw.uniform() < 0.5 else 1 / factor


def corrupted(draw: Stream) -> float:
    """Draw the factor by which a corrupt figure differs from the right one."""
    return draw.uniform(0.6, 0.9) if draw.uniform() < 0.5 else draw.uniform(1.1, 1.7)


# -- another world ----------------------------------------------------------------------------------------------------


def changed(known: Knowledge, change: Callable[[Entity, str, Value], Value]) -> Knowledge:
    """Return the world with each value replaced by what `change` makes of it."""
    entities = tuple(
        [
            entity._replace(facts=tuple([(field, change(entity, field, value)) for field, value in entity.facts]))
            for entity in known.entities
        ]
    )
    company, offices = known.disputed
    if company:
        # The archive's own figure changes with the one that it contradicts.
        before, after = (dict(one.facts)[DISPUTED] for one in (by_name(known)[company], _of(entities, company)))
        assert isinstance(before, int) and isinstance(after, int)  # noqa: S101, PT018 - numbers stay numbers
        offices = max(1, round(offices * after / before))
    return replace(known, entities=entities, disputed=(company, offices))


def _of(entities: tuple[Entity, ...], name: str) -> Entity:
    return next(entity for entity in entities if entity.name == name)


def others(known: Knowledge, entity: Entity, field: str) -> list[Value]:
    """Return the different values that entities of the same kind have of a field, but for this one's."""
    own = next(value for name, value in entity.facts if name == field)
    return [value for value in _values(known)[entity.kind, field] if value != own]


@lru_cache(maxsize=256)
def _values(known: Knowledge) -> dict[tuple[str, str], tuple[Value, ...]]:
    found: dict[tuple[str, str], dict[Value, None]] = {}
    for entity in known.entities:
        for field, value in entity.facts:
            found.setdefault((entity.kind, field), {})[value] = None
    return {key: tuple(values) for key, values in found.items()}


@lru_cache(maxsize=256)
def counterfactual(known: Knowledge) -> Knowledge:
    """Return a world in which everything is otherwise: every figure far away, every date and name another.

    What a tool says in both worlds, it does not know from the world.
    """
    draw = stream(known.seed, "counterfactual")

    def change(entity: Entity, field: str, value: Value) -> Value:
        if isinstance(value, str):
            if field == "founded":
                return (date.fromisoformat(value) - timedelta(days=40_000 + draw.below(9_000))).isoformat()
            return draw.choice(others(known, entity, field) or ["nobody"])
        factor = draw.uniform(2.5, 6.0)
        return round(value * factor, 2) if isinstance(value, float) else round(value * factor) + 1

    today = (date.fromisoformat(known.today) + timedelta(days=20_000)).isoformat()
    return replace(changed(known, change), today=today)
