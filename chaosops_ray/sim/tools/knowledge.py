"""The facts of an episode: countries and companies, published or drawn from the seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.sim.tools.data import COMPANIES, COUNTRIES
from chaosops_ray.sim.weather import APART, wrong_figure

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
# The least and the most that a figure is drawn as; in between, as often within a factor of one value as of another.
SPANS: Mapping[str, tuple[float, float]] = {
    "population": (2e6, 1.25e9),
    "area_km2": (4e4, 8e6),
    "gdp_per_capita": (1_600, 90_000),
    "coast_km": (30, 30_000),
    "highest_point_m": (200, 6_200),
    "calling_code": (10, 910),
    "employees": (400, 90_000),
    "revenue_b": (0.6, 6.5),
    DISPUTED: (4, 124),
}
# A figure that is worked out from another one.
_BASES = {"population_2020": "population", "previous_revenue_b": "revenue_b"}
# By what factor a value is off that is out of date, or wrong, or announced although it is not so: above or below alike.
OLDER, WRONG = (1.03, 1.25), (1.11, 1.59)
_AGES = (1_500, 31_500)  # of companies, in days
# What sorts entities: even a source that is wrong about them knows which there are of a kind.
_KINDS_OF_THINGS = ("sector", "continent")


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
    announcer: str = ""  # the company that has announced its revenue


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
    place = draw.below(len(companies))
    companies[place] = companies[place]._replace(claimed=_claim(draw, companies[place]))
    announcer = companies[place].name
    disputed = ("", 0)
    if draw.uniform() < 0.5:
        company = draw.choice(companies)
        offices = dict(company.facts)[DISPUTED]
        assert isinstance(offices, int)  # noqa: S101 - drawn as one
        disputed = company.name, max(1, round(offices * draw.choice((0.5, 0.7, 1.4, 2.0)))) + 1
    return Knowledge(seed, today.isoformat(), (*countries, *draw.shuffled(companies)), disputed, announcer)


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


def draw_figure(draw: Stream, field: str) -> float:
    """Draw a figure as the true ones are drawn."""
    low, high = SPANS[field]
    return low * float((high / low) ** draw.uniform())


def _sights(draw: Stream) -> list[tuple[str, Value]]:
    return [(field, round(draw_figure(draw, field))) for field in ("coast_km", "highest_point_m", "calling_code")]


def _premises(draw: Stream) -> list[tuple[str, Value]]:
    return [(DISPUTED, round(draw_figure(draw, DISPUTED))), ("auditor", draw.choice(_AUDITORS))]


def _named(draw: Stream, taken: set[str], *parts: tuple[str, ...], gap: str = "") -> str:
    while True:
        name = gap.join(["".join([draw.choice(part) for part in parts[:2]]), draw.choice(parts[2])])
        if name not in taken:
            taken.add(name)
            return name


def _country(draw: Stream, taken: set[str]) -> Entity:
    population = round(draw_figure(draw, "population"))
    facts: Facts = {
        "capital": _named(draw, taken, _STARTS, _MIDDLES, _TOWNS),
        "continent": draw.choice(_CONTINENTS),
        "currency": draw.choice(_CURRENCIES),
        "population": population,
        "population_2020": round(population * _apart(draw)),
        "area_km2": round(draw_figure(draw, "area_km2")),
        "gdp_per_capita": round(draw_figure(draw, "gdp_per_capita")),
    }
    return Entity(COUNTRY, _named(draw, taken, _STARTS, _MIDDLES, _ENDS), (*facts.items(), *_sights(draw)))


def _company(draw: Stream, taken: set[str], sector: str, countries: list[Entity], today: date) -> Entity:
    revenue = round(draw_figure(draw, "revenue_b"), 2)
    facts: Facts = {
        "headquarters": draw.choice(countries).name,
        "sector": sector,
        "founded": (today - timedelta(days=_AGES[0] + draw.below(_AGES[1] - _AGES[0]))).isoformat(),
        "employees": round(draw_figure(draw, "employees")),
        "revenue_b": revenue,
        "previous_revenue_b": round(revenue * _apart(draw), 2),
    }
    name = _named(draw, taken, _STARTS, _MIDDLES, _TRADES, gap=" ")
    return Entity(COMPANY, name, (*facts.items(), *_premises(draw)), revenue)


def _apart(draw: Stream) -> float:
    """Draw a factor that is at least a tenth away from one, up or down alike."""
    factor = draw.uniform(1.1, 1.7)
    return factor if draw.uniform() < 0.5 else 1 / factor


def _claim(draw: Stream, company: Entity) -> float:
    """Draw the revenue that is announced: half of the time the actual one, else one as far off as wrong sources are."""
    actual = company.claimed
    if draw.uniform() < 0.5:
        return actual
    return another(draw, "revenue_b", actual, draw.choice((OLDER, WRONG)), as_drawn)


# -- another world ----------------------------------------------------------------------------------------------------


def changed(known: Knowledge, change: Callable[[Entity], Facts]) -> Knowledge:
    """Return the world with each entity's facts replaced by what `change` makes of them."""
    entities = tuple([entity._replace(facts=tuple(change(entity).items())) for entity in known.entities])
    company, offices = known.disputed
    if company:
        # The archive's own figure changes with the one that it contradicts.
        before, after = (dict(one.facts)[DISPUTED] for one in (by_name(known)[company], _of(entities, company)))
        assert isinstance(before, int) and isinstance(after, int)  # noqa: S101, PT018 - numbers stay numbers
        offices = max(1, round(offices * after / before))
    return replace(known, entities=entities, disputed=(company, offices))


def _of(entities: tuple[Entity, ...], name: str) -> Entity:
    return next(entity for entity in entities if entity.name == name)


def as_drawn(before: float, after: float) -> float:
    """Round a figure as all invented ones are rounded."""
    return round(after, 2) if isinstance(before, float) else round(after)


def another(
    draw: Stream, field: str, value: float, by: tuple[float, float], rounded: Callable[[float, float], float]
) -> float:
    """Draw another value of a figure, off by such a factor. Where true values end, it turns back."""
    return wrong_figure(draw, value, by, SPANS[field], rounded)


def retold(known: Knowledge, draw: Stream, figure: Callable[[str, float], float]) -> Knowledge:
    """Return the world as a source has it that is wrong about everything; `figure` makes another value of a figure.

    Nothing in it is less likely than in the true one, or a single result would show that it is wrong: values lie where
    true ones lie, and what is worked out from another figure is worked out from the wrong one. Half of what companies
    announce is wrong, so a wrong source repeats the announcement: then what contradicts an announcement is wrong no
    more often than what confirms it.
    """
    moved = moved_capitals(known, draw)
    names = {"headquarters": names_of(known, COUNTRY), "currency": _CURRENCIES, "auditor": _AUDITORS}
    today = date.fromisoformat(known.today)

    def other(entity: Entity, field: str, value: Value, told: Facts) -> Value:
        if isinstance(value, str):
            if field in _KINDS_OF_THINGS:
                return value
            if field == "founded":
                return _another_date(draw, today, date.fromisoformat(value)).isoformat()
            return moved[value] if field == "capital" else draw.choice([one for one in names[field] if one != value])
        if field == "revenue_b" and entity.claimed != value:
            return entity.claimed
        return _worked_out(draw, value, told[_BASES[field]]) if field in _BASES else figure(field, value)

    def change(entity: Entity) -> Facts:
        told: Facts = {}
        for field, value in entity.facts:
            told[field] = other(entity, field, value, told)
        return told

    return changed(known, change)


def moved_capitals(known: Knowledge, draw: Stream) -> dict[Value, Value]:
    """Give every country the capital of another one."""
    capitals = [value for entity in known.entities for field, value in entity.facts if field == "capital"]
    turn = 1 + draw.below(len(capitals) - 1)
    return dict(zip(capitals, capitals[turn:] + capitals[:turn], strict=True))


def _another_date(draw: Stream, today: date, founded: date) -> date:
    """Draw another founding date; like a figure, it turns back at the ends of its span."""
    youngest, oldest = _AGES[0], _AGES[1] - 1
    while True:
        days = (today - founded).days + (200 + draw.below(3000)) * draw.choice((-1, 1))
        days = 2 * youngest - days if days < youngest else 2 * oldest - days if days > oldest else days
        other = today - timedelta(days=days)
        if other != founded:
            return other


def _worked_out(draw: Stream, value: float, base: Value) -> float:
    """Draw what is worked out from a base, as the true one was drawn from its own, but not the true one."""
    assert not isinstance(base, str)  # noqa: S101 - a figure's base is one
    while True:
        after = as_drawn(value, base * _apart(draw))
        if abs(after - value) > APART * value:
            return after


@lru_cache(maxsize=256)
def counterfactuals(known: Knowledge) -> tuple[Knowledge, ...]:
    """Return worlds in which every value is another one, as near to the true one as wrong sources are."""
    worlds = []
    for number, by in enumerate((OLDER, WRONG)):
        draw = stream(known.seed, "counterfactual", number)
        worlds.append(retold(known, draw, partial(_near, draw, by)))
    return tuple(worlds)


def _near(draw: Stream, by: tuple[float, float], field: str, value: float) -> float:
    return another(draw, field, value, by, as_drawn)
