"""The families of questions: how each is worded, what it is about, and how its answer follows from the sources.

A family's `solve` works out the answer from whatever it looks up. On the truth it makes the answer key and tells which
figures the answer rests on; on what sources have said, it is what a careful agent works out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from hashlib import sha256
from typing import NamedTuple, Protocol, TypeAlias

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
from chaosops_ray.sim.tools.model import Deed, Fact
from chaosops_ray.sim.tools.sources import ARCHIVE, DATABASE, DOCUMENTS, PAGES, profile, prose, slug

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


class Family(NamedTuple):
    """A family of questions. The last wording is for held-out questions, and so is a family that `is_held_out`."""

    name: str
    tier: str
    wordings: tuple[str, str, str]
    draw: Callable[[Knowledge, Stream], dict[str, str]]
    solve: Callable[[Slots, Look], tuple[Fact, ...]]
    work: tuple[str, ...] = ()  # the tools of which one shows how the answer was worked out
    tools_needed: int = 2
    is_held_out: bool = False


# -- facts ------------------------------------------------------------------------------------------------------------

BILLION = 1e9


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


def _country(known: Knowledge, draw: Stream) -> dict[str, str]:
    return {"country": _drawn(known, draw, COUNTRY)[0]}


def _company(known: Knowledge, draw: Stream) -> dict[str, str]:
    return {"company": _drawn(known, draw, COMPANY)[0]}


def _countries(*slots: str) -> Callable[[Knowledge, Stream], dict[str, str]]:
    return lambda known, draw: dict(zip(slots, _drawn(known, draw, COUNTRY, len(slots)), strict=True))


def _companies(*slots: str) -> Callable[[Knowledge, Stream], dict[str, str]]:
    return lambda known, draw: dict(zip(slots, _drawn(known, draw, COMPANY, len(slots)), strict=True))


def _limit(draw: Stream) -> str:
    """Draw a round number of people, whatever the true ones are, or it would show which figures are wrong."""
    limit = draw_figure(draw, "population")
    return f"{float(f'{limit:.2g}'):,.0f}"


# -- one look-up ------------------------------------------------------------------------------------------------------


def _population(slots: Slots, look: Look) -> tuple[Fact, ...]:
    return (numeric("population", look(slots["country"], "population"), 0.02),)


def _capital(slots: Slots, look: Look) -> tuple[Fact, ...]:
    return (text("capital", look(slots["country"], "capital")),)


def _area(slots: Slots, look: Look) -> tuple[Fact, ...]:
    return (numeric("area", look(slots["country"], "area_km2"), 0.02),)


def _founded(slots: Slots, look: Look) -> tuple[Fact, ...]:
    return (dated("founded", look(slots["company"], "founded")),)


def _noted(known: Knowledge, draw: Stream) -> dict[str, str]:
    return {"key": draw.choice(("handover", "request", "todo")), "company": _drawn(known, draw, COMPANY)[0]}


def _from_note(slots: Slots, look: Look) -> tuple[Fact, ...]:
    company = slots.get("company") or look.note(slots["key"])
    return (numeric("employees", look(company, "employees"), 0.02),)


def _page(slots: Slots, look: Look) -> tuple[Fact, ...]:
    company = slots["company"]
    page = look.page(company)
    return text("page", page), numeric("employees", look(company, "employees"), 0.02)


# -- chains -----------------------------------------------------------------------------------------------------------


def _capital_of(known: Knowledge, draw: Stream) -> dict[str, str]:
    return {"capital": str(facts_of(known, _drawn(known, draw, COUNTRY)[0])["capital"])}


def _capital_gdp(slots: Slots, look: Look) -> tuple[Fact, ...]:
    (country, *_) = look.having(COUNTRY, "capital", slots["capital"])
    return text("country", country), numeric("gdp_per_capita", look(country, "gdp_per_capita"), 0.05)


def _headquarters_population(slots: Slots, look: Look) -> tuple[Fact, ...]:
    country = str(look(slots["company"], "headquarters"))
    return text("country", country), numeric("population", look(country, "population"), 0.02)


def _headquarters_gdp(slots: Slots, look: Look) -> tuple[Fact, ...]:
    country = str(look(slots["company"], "headquarters"))
    return text("country", country), numeric("gdp_per_capita", look(country, "gdp_per_capita"), 0.05)


# -- worked out of one entity's figures -------------------------------------------------------------------------------


def _per_head(slots: Slots, look: Look) -> tuple[Fact, ...]:
    revenue = _number(look(slots["company"], "revenue_b")) * BILLION
    return (numeric("per_head", round(revenue / _number(look(slots["company"], "employees"))), 0.03),)


def _age(slots: Slots, look: Look) -> tuple[Fact, ...]:
    founded, today = date.fromisoformat(str(look(slots["company"], "founded"))), date.fromisoformat(look.today())
    years = today.year - founded.year - ((today.month, today.day) < (founded.month, founded.day))
    return dated("founded", founded.isoformat()), numeric("years", years, 0.0)


_LANGUAGES = {"French": ("non", "oui"), "German": ("nein", "ja")}


def _bilingual_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    country = _drawn(known, draw, COUNTRY)[0]
    return {"country": country, "limit": _limit(draw), "language": draw.choice(tuple(_LANGUAGES))}


def _bilingual(slots: Slots, look: Look) -> tuple[Fact, ...]:
    population = _number(look(slots["country"], "population"))
    words = _LANGUAGES[slots["language"]]
    word = words[population > float(slots["limit"].replace(",", ""))]
    return text("word", word, words), numeric("population", population, 0.02)


def _growth(slots: Slots, look: Look) -> tuple[Fact, ...]:
    now, before = (_number(look(slots["country"], field)) for field in ("population", "population_2020"))
    return (numeric("change", round(100 * (now - before) / before, 1), 0.05),)


# -- several entities -------------------------------------------------------------------------------------------------


def _denser(slots: Slots, look: Look) -> tuple[Fact, ...]:
    names = slots["left"], slots["right"]
    densities = {
        name: round(_number(look(name, "population")) / _number(look(name, "area_km2")), 1) for name in names
    }
    higher, lower = sorted(densities, key=lambda name: -densities[name])
    return (
        text("higher", higher, names),
        numeric("factor", round(densities[higher] / max(densities[lower], 0.1), 1), 0.10),
    )


def _largest(slots: Slots, look: Look) -> tuple[Fact, ...]:
    names = slots["first"], slots["second"], slots["third"]
    revenues = {name: _number(look(name, "revenue_b")) for name in names}
    largest = max(revenues, key=lambda name: revenues[name])
    return text("largest", largest, names), numeric("revenue_b", revenues[largest], 0.04, BILLION)


def _count_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    names = _drawn(known, draw, COUNTRY, 3)
    return {**dict(zip(("first", "second", "third"), names, strict=True)), "limit": _limit(draw)}


def _count(slots: Slots, look: Look) -> tuple[Fact, ...]:
    names = slots["first"], slots["second"], slots["third"]
    populations = [_number(look(name, "population")) for name in names]
    limit = float(slots["limit"].replace(",", ""))
    return (
        numeric("count", sum([population > limit for population in populations]), 0.0),
        numeric("total", sum(populations), 0.02),
    )


def _older(slots: Slots, look: Look) -> tuple[Fact, ...]:
    names = slots["left"], slots["right"]
    dates = {name: date.fromisoformat(str(look(name, "founded"))) for name in names}
    older, younger = sorted(dates, key=lambda name: dates[name])
    return text("older", older, names), numeric("days", (dates[younger] - dates[older]).days, 0.01)


def _sector_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    return {"sector": str(facts_of(known, _drawn(known, draw, COMPANY)[0])["sector"])}


def _sector_total(slots: Slots, look: Look) -> tuple[Fact, ...]:
    names = look.having(COMPANY, "sector", slots["sector"])
    total = sum([_number(look(name, "revenue_b")) for name in names])
    return numeric("companies", len(names), 0.0), numeric("total_b", round(total, 2), 0.03, BILLION)


# -- claims and contradictions ----------------------------------------------------------------------------------------


def _claim_slots(known: Knowledge, _draw: Stream) -> dict[str, str]:
    return {"company": known.announcer, "claim": f"{by_name(known)[known.announcer].claimed:g}"}


def claim(slots: Slots, look: Look) -> tuple[Fact, ...]:
    """Work out whether a company's announced revenue is the actual one."""
    actual = _number(look(slots["company"], "revenue_b"))
    return (
        boolean("claim_accurate", abs(actual - float(slots["claim"])) < 0.005),
        numeric("actual_revenue_b", actual, 0.05, BILLION),
    )


def _trend_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    company = _drawn(known, draw, COMPANY)[0]
    facts = facts_of(known, company)
    change = _change(facts["revenue_b"], facts["previous_revenue_b"])
    if draw.uniform() < 0.5:
        change = round(change * draw.choice((0.4, 0.7, 1.4, 2.0)) + draw.choice((-1, 1)), 1)
    return {"company": company, "claim": f"{change:+.1f}"}


def _change(now: Value, before: Value) -> float:
    return round(100 * (_number(now) - _number(before)) / _number(before), 1)


def _trend(slots: Slots, look: Look) -> tuple[Fact, ...]:
    actual = _change(*(look(slots["company"], field) for field in ("revenue_b", "previous_revenue_b")))
    return (
        boolean("claim_accurate", abs(actual - float(slots["claim"])) < 0.2),
        numeric("actual_change", actual, 0.05),
    )


def _contradiction_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    archived = [
        name
        for name in names_of(known, COMPANY)
        if any(DISPUTED in dict(profile(known, document, name)) for document in DOCUMENTS[COMPANY])
    ]
    return {"company": known.disputed[0] if known.disputed[0] in archived else draw.choice(archived)}


def _contradiction(slots: Slots, look: Look) -> tuple[Fact, ...]:
    here, there = (_number(look(slots["company"], DISPUTED, source)) for source in (DATABASE, ARCHIVE))
    return boolean("agree", here == there), numeric("database", here, 0.0), numeric("archive", there, 0.0)


def _filed_slots(known: Knowledge, draw: Stream) -> dict[str, str]:
    filed = [
        name for name in names_of(known, COMPANY) if "revenue_b" in [field for field, _ in profile(known, "filing", name)]
    ]
    company = draw.choice(filed)
    return {"company": company, "hash": sha256(prose(known, "filing", company).encode()).hexdigest()}


def _filed(slots: Slots, look: Look) -> tuple[Fact, ...]:
    return (numeric("revenue_b", look(slots["company"], "revenue_b", ARCHIVE), 0.02, BILLION),)


# -- all of them ------------------------------------------------------------------------------------------------------

_SUMS = ("calculator", "python_execute")
_LISTS = ("data_transform", "python_execute")

_ALL = (
    Family(
        "population",
        "warmup",
        (
            "What is the population of {country}?",
            "How many people live in {country}?",
            "Give the number of inhabitants of {country}.",
        ),
        _country,
        _population,
        tools_needed=1,
    ),
    Family(
        "capital",
        "warmup",
        ("What is the capital of {country}?", "Name the capital of {country}.", "Which town governs {country}?"),
        _country,
        _capital,
        tools_needed=1,
    ),
    Family(
        "founded",
        "warmup",
        (
            "On which date was {company} founded?",
            "When was {company} founded? Give the date.",
            "Give the date on which {company} began.",
        ),
        _company,
        _founded,
        tools_needed=1,
    ),
    Family(
        "note",
        "warmup",
        (
            "A colleague left a note under the key {key}; it names a company. How many people does it employ?",
            "Read the note {key}. How many employees does the company in it have?",
            "Your predecessor wrote a company's name into the note {key}. How large is its staff?",
        ),
        _noted,
        _from_note,
    ),
    Family(
        "area",
        "warmup",
        ("What is the area of {country} in square kilometres?",) * 3,
        _country,
        _area,
        tools_needed=1,
        is_held_out=True,
    ),
    Family(
        "capital-gdp",
        "beginner",
        (
            "Which country has {capital} as its capital, and what is its GDP per capita in dollars?",
            "{capital} is the capital of which country? State also its GDP per capita in dollars.",
            "Name the country governed from {capital}, and its output per person in dollars.",
        ),
        _capital_of,
        _capital_gdp,
        ("json_query",),
    ),
    Family(
        "headquarters-population",
        "beginner",
        (
            "In which country does {company} have its headquarters, and how many people live there?",
            "{company} is based in a country: which one, and what is its population?",
            "Name the country from which {company} is run, and the number of its inhabitants.",
        ),
        _company,
        _headquarters_population,
    ),
    Family(
        "headquarters-gdp",
        "beginner",
        ("{company} is run from one country. Name it, and give the GDP per capita there in dollars.",) * 3,
        _company,
        _headquarters_gdp,
        is_held_out=True,
    ),
    Family(
        "per-head",
        "beginner",
        (
            "How many dollars of quarterly revenue does {company} have for each employee?",
            "What is the quarterly revenue per employee of {company}, in dollars?",
            "Divide the quarterly revenue of {company} by its staff. How many dollars is that?",
        ),
        _company,
        _per_head,
        _SUMS,
    ),
    Family(
        "age",
        "beginner",
        (
            "On which date was {company} founded, and how many full years ago is that today?",
            "How many full years has {company} existed today? Give also the date of its foundation.",
            "State the founding date of {company} and its age in full years as of today.",
        ),
        _company,
        _age,
        ("get_current_datetime",),
    ),
    Family(
        "bilingual",
        "beginner",
        (
            "Do more than {limit} people live in {country}? Answer yes or no in {language}, and give the population.",
            "Is the population of {country} above {limit}? Say yes or no in {language}, and state the figure.",
            "Has {country} over {limit} inhabitants? Reply with a {language} yes or no and with the number.",
        ),
        _bilingual_slots,
        _bilingual,
        ("translate",),
    ),
    Family(
        "page",
        "beginner",
        (
            "Give the address of the press page about {company}, checked to be reachable, and its number of employees.",
            "Where is the press page on {company}? Give the address, checked, and say how many people it employs.",
            "Cite the press page on {company}, after a check of its address, and state the size of its staff.",
        ),
        _company,
        _page,
        ("validate_url",),
    ),
    Family(
        "denser",
        "intermediate",
        (
            "Which country is more densely populated, {left} or {right}, and by what factor? Name the denser one and "
            "the factor to one decimal.",
            "Compare people per square kilometre of {left} and {right}: which has more, and how many times as many, to "
            "one decimal?",
            "Of {left} and {right}, which is the more crowded, and what is the ratio of their densities to one decimal?",
        ),
        _countries("left", "right"),
        _denser,
        _SUMS,
        3,
    ),
    Family(
        "growth",
        "intermediate",
        (
            "By how many percent has the population of {country} changed since 2020? Give one decimal, and a minus sign "
            "for a fall.",
            "What is the change in the population of {country} from 2020 to now, in percent with one decimal and a sign?",
            "Since 2020, {country} has grown by how many percent (negative if it shrank)? One decimal.",
        ),
        _country,
        _growth,
        _SUMS,
    ),
    Family(
        "largest",
        "intermediate",
        (
            "Which has the largest quarterly revenue: {first}, {second} or {third}? State it in billions of dollars.",
            "Of {first}, {second} and {third}, name the one with the most revenue in the quarter, in billions of dollars.",
            "Rank {first}, {second} and {third} by quarterly revenue; give the first, with its billions of dollars.",
        ),
        _companies("first", "second", "third"),
        _largest,
        _LISTS,
        3,
    ),
    Family(
        "count",
        "intermediate",
        (
            "How many of {first}, {second} and {third} have more than {limit} inhabitants, and how many have the three "
            "together?",
            "Of {first}, {second} and {third}, how many are above {limit} people? Give also the sum of the three.",
            "Count which of {first}, {second} and {third} exceed a population of {limit}, and add up all three.",
        ),
        _count_slots,
        _count,
        _LISTS,
        3,
    ),
    Family(
        "older",
        "intermediate",
        ("Which was founded first, {left} or {right}, and how many days before the other?",) * 3,
        _companies("left", "right"),
        _older,
        tools_needed=3,
        is_held_out=True,
    ),
    Family(
        "claim",
        "expert",
        (
            "{company} reported revenue of {claim} billion dollars for the quarter. Is that accurate? Answer accurate or "
            "inaccurate, and state the actual revenue in billions, confirmed by two independent sources.",
            "According to {company}, revenue came to {claim} billion dollars. Accurate or inaccurate? Give the actual "
            "revenue in billions, from two independent sources.",
            "Check the statement of {company} that it took {claim} billion dollars in the quarter: accurate or "
            "inaccurate, and what is the actual figure in billions?",
        ),
        _claim_slots,
        claim,
        tools_needed=3,
    ),
    Family(
        "sector-total",
        "expert",
        (
            "How many companies work in {sector}, and what is their quarterly revenue together, in billions of dollars?",
            "Add up the quarterly revenue of all companies in {sector}, in billions of dollars, and say how many they are.",
            "State the number of {sector} companies and their joint quarterly revenue in billions of dollars.",
        ),
        _sector_slots,
        _sector_total,
        _LISTS,
        3,
    ),
    Family(
        "contradiction",
        "expert",
        (
            "Do the database and the archive agree on the number of offices of {company}? Answer yes or no, and state "
            "both figures.",
            "How many offices does {company} have by the database, and how many by the archive? Say yes if they agree, "
            "else no.",
            "Compare the database with the archive on the offices of {company}: the same, yes or no, and which figures?",
        ),
        _contradiction_slots,
        _contradiction,
        tools_needed=3,
    ),
    Family(
        "filed",
        "expert",
        (
            "The genuine filing of {company} in the archive has the SHA-256 {hash}. What quarterly revenue does it state, "
            "in billions of dollars?",
            "A filing of {company} is genuine if its SHA-256 is {hash}. Give the quarterly revenue in it, in billions of "
            "dollars.",
            "By the filing of {company} with the SHA-256 {hash}, how many billions of dollars was its quarterly revenue?",
        ),
        _filed_slots,
        _filed,
        ("text_extract",),
        3,
    ),
    Family(
        "trend",
        "expert",
        (
            "{company} says that its revenue changed by {claim} percent against the quarter before. Is that accurate? "
            "Answer accurate or inaccurate, and state the actual change in percent.",
        )
        * 3,
        _trend_slots,
        _trend,
        _SUMS,
        3,
        is_held_out=True,
    ),
)
FAMILIES = {family.name: family for family in _ALL}


_KEY, _WORDS = r"[^ ;?]+", "[^?;]+?"


@cache
def _patterns() -> tuple[tuple[Family, re.Pattern[str]], ...]:
    return tuple([(family, _pattern(wording)) for family in _ALL for wording in dict.fromkeys(family.wordings)])


def _pattern(wording: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", wording)
    for place in range(1, len(pieces), 2):  # every other piece is a slot, which ends where the next words begin
        pieces[place] = f"(?P<{pieces[place]}>{_KEY if pieces[place] == 'key' else _WORDS})"
    return re.compile("".join([piece if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)]))


def understood(question: str) -> tuple[Family, dict[str, str]]:
    """Return the family of a question and what its slots were filled with."""
    for family, pattern in _patterns():
        found = pattern.match(question)
        if found:
            return family, found.groupdict()
    raise ValueError(f"no family of question: {question[:80]!r}")


# -- things to do beside the answer -----------------------------------------------------------------------------------

_DEEDS = {
    "update_ticket": "Then put the {what} into the ticket {key}.",
    "send_notification": "Then send a notification with the {what}.",
    "create_report": "Then file a report that states the {what}.",
    "write_file": "Then write the {what} to the file {key}.",
    "scratchpad_write": "Then keep the {what} as the note {key}.",
    "schedule_task": "Then schedule a task for {key} whose text states the {what}.",
    "database_insert": "Then insert a validated row for {company} into the table financials, with the quarter {key} and "
    "the {what} as revenue_b.",
}


def drawn_deed(draw: Stream) -> tuple[Deed, str]:
    """Draw what is to be done with a claim's actual revenue, and how the question says so."""
    tool = draw.choice(tuple(_DEEDS))
    number = 100 + draw.below(900)
    key = {
        "update_ticket": f"FIN-{number}",
        "write_file": f"claims/check-{number}.txt",
        "scratchpad_write": f"claim-{number}",
        "schedule_task": f"2031-0{1 + number % 9}-1{number % 10}T08:00Z",
        "database_insert": f"Q4-20{10 + number % 15}",
    }.get(tool, "")
    return Deed(tool, key, ("actual_revenue_b",)), _DEEDS[tool]


def read_deed(question: str) -> tuple[str, str] | None:
    """Return the tool and the key of what a question asks to be done."""
    for tool, wording in _DEEDS.items():
        found = _pattern(wording.replace("{what}", "actual revenue")).search(question)
        if found:
            return tool, found.groupdict().get("key", "")
    return None


REVIEW = "If they contradict each other, ask for a human review that states both figures."


def page_of(name: str, kind: str) -> str:
    """Return the address of a page about this entity."""
    return f"https://{PAGES[kind][0]}.example/{slug(name)}"
