"""How each question's answer follows from the sources, and what the question is drawn from.

Each function of slots and a `Look` works out the answer from whatever it looks up. On the truth it makes the answer key
and tells which values the answer rests on; on what sources have said, it is what a careful agent works out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from hashlib import sha256
from typing import Protocol, TypeAlias

from chaosops_ray.sim.rng import Stream
from chaosops_ray.sim.tools.knowledge import (
    COMPANY,
    COUNTRY,
    DISPUTED,
    Knowledge,
    Value,
    by_name,
    draw_figure,
    facts_of,
    names_of,
)
from chaosops_ray.sim.tools.model import Fact
from chaosops_ray.sim.tools.sources import ARCHIVE, DATABASE, DOCUMENTS, profile, prose

Slots: TypeAlias = Mapping[str, str]


class Look(Protocol):
    """What an answer is worked out from."""

    def __call__(self, name: str, field: str, source: str = "") -> Value:
        """Return a value, as this source has it or as any has."""
        ...

    def having(self, kind: str, field: str, value: str) -> list[str]:
        """Return the names of all entities of this kind with this value."""
        ...

    def today(self) -> str:
        """Return the world's date."""
        ...

    def note(self, key: str) -> str:
        """Return what stands in the note of this name."""
        ...

    def page(self, name: str) -> str:
        """Return the address of a page about this entity."""
        ...


# -- facts ------------------------------------------------------------------------------------------------------------

BILLION = 1e9
_SPARSE = 0.6  # people per square kilometre


def _number(value: Value) -> float:
    if isinstance(value, str):
        raise TypeError(f"{value!r} is no number")
    return value


def numeric(name: str, value: Value, tolerance: float, scale: float = 1.0) -> Fact:
    """Make a fact that is a number; with a scale, the question asks for it in units of that."""
    return Fact(name, "numeric", _number(value), tolerance, 1.0, scale)


def text(name: str, value: Value, rivals: tuple[str, ...] = ()) -> Fact:
    """Make a fact that is a name; an answer may state one name among it and its rivals."""
    return Fact(name, "text", str(value), 0.0, 1.0, 1.0, rivals)


def boolean(name: str, value: bool) -> Fact:
    """Make a fact that is a yes or a no."""
    return Fact(name, "boolean", value, 0.0, 1.0)


def dated(name: str, value: Value) -> Fact:
    """Make a fact that is a date."""
    return Fact(name, "date", str(value), 0.0, 1.0)


# -- drawing ----------------------------------------------------------------------------------------------------------


def _drawn(known: Knowledge, draw: Stream, kind: str, count: int = 1) -> list[str]:
    return list(draw.shuffled(names_of(known, kind))[:count])


def country(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw a country."""
    return {"country": _drawn(known, draw, COUNTRY)[0]}


def company(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw a company."""
    return {"company": _drawn(known, draw, COMPANY)[0]}


def two_countries(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw two countries of which one is denser, also after densities are rounded to one decimal."""
    while True:
        left, right = _drawn(known, draw, COUNTRY, 2)
        densities = [_number(facts["population"]) / _number(facts["area_km2"]) for facts in _facts(known, left, right)]
        # A small density changes too much when it is rounded.
        if min(densities) > _SPARSE and round(densities[0], 1) != round(densities[1], 1):
            return {"left": left, "right": right}


def companies(field: str, *slots: str) -> Callable[[Knowledge, Stream], dict[str, str]]:
    """Draw as many companies as there are slots, no two of them with the same value of this field."""

    def drawn(known: Knowledge, draw: Stream) -> dict[str, str]:
        while True:
            names = _drawn(known, draw, COMPANY, len(slots))
            if len({facts[field] for facts in _facts(known, *names)}) == len(slots):
                return dict(zip(slots, names, strict=True))

    return drawn


def _facts(known: Knowledge, *names: str) -> list[dict[str, Value]]:
    return [facts_of(known, name) for name in names]


def _limit(draw: Stream) -> str:
    """Draw a round number of people, whatever the true ones are, or it would show which figures are wrong."""
    limit = draw_figure(draw, "population")
    return f"{float(f'{limit:.2g}'):,.0f}"


# -- one look-up ------------------------------------------------------------------------------------------------------


def population(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the population of a country."""
    return (numeric("population", look(slots["country"], "population"), 0.02),)


def capital(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the capital of a country."""
    return (text("capital", look(slots["country"], "capital")),)


def area(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the area of a country."""
    return (numeric("area", look(slots["country"], "area_km2"), 0.02),)


def founded(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the date on which a company was founded."""
    return (dated("founded", look(slots["company"], "founded")),)


def noted(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw a note and the company that it names."""
    return {"key": draw.choice(("handover", "request", "todo")), "company": _drawn(known, draw, COMPANY)[0]}


def from_note(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the employees of the company that a note names."""
    company = slots.get("company") or look.note(slots["key"])
    return (numeric("employees", look(company, "employees"), 0.02),)


def page(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the press page about a company, and its employees."""
    company = slots["company"]
    page = look.page(company)
    return text("page", page), numeric("employees", look(company, "employees"), 0.02)


# -- chains -----------------------------------------------------------------------------------------------------------


def capital_of(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw the capital of a country."""
    return {"capital": str(facts_of(known, _drawn(known, draw, COUNTRY)[0])["capital"])}


def capital_gdp(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the country of a capital, and its GDP per capita."""
    (country, *_) = look.having(COUNTRY, "capital", slots["capital"])
    return text("country", country), numeric("gdp_per_capita", look(country, "gdp_per_capita"), 0.05)


def headquarters_population(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the country that a company is run from, and its population."""
    country = str(look(slots["company"], "headquarters"))
    return text("country", country), numeric("population", look(country, "population"), 0.02)


def headquarters_gdp(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the country that a company is run from, and its GDP per capita."""
    country = str(look(slots["company"], "headquarters"))
    return text("country", country), numeric("gdp_per_capita", look(country, "gdp_per_capita"), 0.05)


# -- worked out of one entity's figures -------------------------------------------------------------------------------


def per_head(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the revenue of a company per employee."""
    revenue = _number(look(slots["company"], "revenue_b")) * BILLION
    return (numeric("per_head", round(revenue / _number(look(slots["company"], "employees"))), 0.03),)


def age(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the date on which a company was founded, and its age in years."""
    founded, today = date.fromisoformat(str(look(slots["company"], "founded"))), date.fromisoformat(look.today())
    years = today.year - founded.year - ((today.month, today.day) < (founded.month, founded.day))
    return dated("founded", founded.isoformat()), numeric("years", years, 0.0)


_LANGUAGES = {"French": ("non", "oui"), "German": ("nein", "ja")}


def bilingual_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw a country, a limit for its population, and a language."""
    country = _drawn(known, draw, COUNTRY)[0]
    return {"country": country, "limit": _limit(draw), "language": draw.choice(tuple(_LANGUAGES))}


def bilingual(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out yes or no in another language, and the population."""
    population = _number(look(slots["country"], "population"))
    words = _LANGUAGES[slots["language"]]
    word = words[population > float(slots["limit"].replace(",", ""))]
    return text("word", word, words), numeric("population", population, 0.02)


def growth(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the change of a population since 2020, in percent."""
    now, before = (_number(look(slots["country"], field)) for field in ("population", "population_2020"))
    return (numeric("change", round(100 * (now - before) / before, 1), 0.05),)


# -- several entities -------------------------------------------------------------------------------------------------


def denser(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the denser of two countries, and by what factor."""
    names = slots["left"], slots["right"]
    densities = {name: round(_number(look(name, "population")) / _number(look(name, "area_km2")), 1) for name in names}
    higher, lower = sorted(densities, key=lambda name: -densities[name])
    return (
        text("higher", higher, names),
        numeric("factor", round(densities[higher] / max(densities[lower], 0.1), 1), 0.10),
    )


def largest(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the company with the largest revenue of three, and the revenue."""
    names = slots["first"], slots["second"], slots["third"]
    revenues = {name: _number(look(name, "revenue_b")) for name in names}
    largest = max(revenues, key=lambda name: revenues[name])
    return text("largest", largest, names), numeric("revenue_b", revenues[largest], 0.04, BILLION)


def count_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw three countries, and a limit for the population of one."""
    names = _drawn(known, draw, COUNTRY, 3)
    return {**dict(zip(("first", "second", "third"), names, strict=True)), "limit": _limit(draw)}


def count(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out how many of three countries are above a limit, and how many people live in all."""
    names = slots["first"], slots["second"], slots["third"]
    populations = [_number(look(name, "population")) for name in names]
    limit = float(slots["limit"].replace(",", ""))
    return (
        numeric("count", sum([population > limit for population in populations]), 0.0),
        numeric("total", sum(populations), 0.02),
    )


def older(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the older of two companies, and the days between."""
    names = slots["left"], slots["right"]
    dates = {name: date.fromisoformat(str(look(name, "founded"))) for name in names}
    older, younger = sorted(dates, key=lambda name: dates[name])
    return text("older", older, names), numeric("days", (dates[younger] - dates[older]).days, 0.01)


def sector_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw a sector."""
    return {"sector": str(facts_of(known, _drawn(known, draw, COMPANY)[0])["sector"])}


def sector_total(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the number of companies in a sector, and their revenue together."""
    names = look.having(COMPANY, "sector", slots["sector"])
    total = sum([_number(look(name, "revenue_b")) for name in names])
    return numeric("companies", len(names), 0.0), numeric("total_b", round(total, 2), 0.03, BILLION)


# -- claims and contradictions ----------------------------------------------------------------------------------------


def claim_slots(known: Knowledge, _draw: Stream) -> dict[str, str]:
    """Return the company that announced its revenue, and what it announced."""
    return {"company": known.announcer, "claim": f"{by_name(known)[known.announcer].claimed:g}"}


def claim(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out whether a company's announced revenue is the actual one."""
    actual = _number(look(slots["company"], "revenue_b"))
    return (
        boolean("claim_accurate", abs(actual - float(slots["claim"])) < 0.005),
        numeric("actual_revenue_b", actual, 0.05, BILLION),
    )


def trend_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw a company, and a claim of how its revenue changed."""
    company = _drawn(known, draw, COMPANY)[0]
    facts = facts_of(known, company)
    change = _change(facts["revenue_b"], facts["previous_revenue_b"])
    if draw.uniform() < 0.5:
        change = round(change * draw.choice((0.4, 0.7, 1.4, 2.0)) + draw.choice((-1, 1)), 1)
    return {"company": company, "claim": f"{change:+.1f}"}


def _change(now: Value, before: Value) -> float:
    return round(100 * (_number(now) - _number(before)) / _number(before), 1)


def trend(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out whether a claimed change of revenue is the actual one."""
    actual = _change(*(look(slots["company"], field) for field in ("revenue_b", "previous_revenue_b")))
    return (
        boolean("claim_accurate", abs(actual - float(slots["claim"])) < 0.2),
        numeric("actual_change", actual, 0.05),
    )


def contradiction_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Return the company on which sources contradict each other, or draw one on which they agree."""
    archived = [
        name
        for name in names_of(known, COMPANY)
        if any(DISPUTED in dict(profile(known, document, name)) for document in DOCUMENTS[COMPANY])
    ]
    return {"company": known.disputed[0] if known.disputed[0] in archived else draw.choice(archived)}


def contradiction(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out whether the database and the archive agree, and what each has."""
    here, there = (_number(look(slots["company"], DISPUTED, source)) for source in (DATABASE, ARCHIVE))
    return boolean("agree", here == there), numeric("database", here, 0.0), numeric("archive", there, 0.0)


def filed_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    """Draw a company with its revenue in its filing, and the filing's hash."""
    filed = [
        name
        for name in names_of(known, COMPANY)
        if "revenue_b" in [field for field, _ in profile(known, "filing", name)]
    ]
    company = draw.choice(filed)
    return {"company": company, "hash": sha256(prose(known, "filing", company).encode()).hexdigest()}


def filed(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out the revenue in a filing."""
    return (numeric("revenue_b", look(slots["company"], "revenue_b", ARCHIVE), 0.02, BILLION),)
