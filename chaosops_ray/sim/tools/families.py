"""The families of questions: how each is worded, in which tier it is asked, and how it is answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from chaosops_ray.sim.rng import Stream
from chaosops_ray.sim.tools import solutions
from chaosops_ray.sim.tools.knowledge import Knowledge
from chaosops_ray.sim.tools.model import Fact
from chaosops_ray.sim.tools.solutions import Look, Slots


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
        solutions.country,
        solutions.population,
        tools_needed=1,
    ),
    Family(
        "capital",
        "warmup",
        ("What is the capital of {country}?", "Name the capital of {country}.", "Which town governs {country}?"),
        solutions.country,
        solutions.capital,
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
        solutions.company,
        solutions.founded,
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
        solutions.noted,
        solutions.from_note,
    ),
    Family(
        "area",
        "warmup",
        ("What is the area of {country} in square kilometres?",) * 3,
        solutions.country,
        solutions.area,
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
        solutions.capital_of,
        solutions.capital_gdp,
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
        solutions.company,
        solutions.headquarters_population,
    ),
    Family(
        "headquarters-gdp",
        "beginner",
        ("{company} is run from one country. Name it, and give the GDP per capita there in dollars.",) * 3,
        solutions.company,
        solutions.headquarters_gdp,
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
        solutions.company,
        solutions.per_head,
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
        solutions.company,
        solutions.age,
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
        solutions.bilingual_slots,
        solutions.bilingual,
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
        solutions.company,
        solutions.page,
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
            "Of {left} and {right}, which is the more crowded, and what is the ratio of their densities to one "
            "decimal?",
        ),
        solutions.two_countries,
        solutions.denser,
        _SUMS,
        3,
    ),
    Family(
        "growth",
        "intermediate",
        (
            "By how many percent has the population of {country} changed since 2020? Give one decimal, and a minus "
            "sign "
            "for a fall.",
            "What is the change in the population of {country} from 2020 to now, in percent with one decimal and a "
            "sign?",
            "Since 2020, {country} has grown by how many percent (negative if it shrank)? One decimal.",
        ),
        solutions.country,
        solutions.growth,
        _SUMS,
    ),
    Family(
        "largest",
        "intermediate",
        (
            "Which has the largest quarterly revenue: {first}, {second} or {third}? State it in billions of dollars.",
            "Of {first}, {second} and {third}, name the one with the most revenue in the quarter, in billions of "
            "dollars.",
            "Rank {first}, {second} and {third} by quarterly revenue; give the first, with its billions of dollars.",
        ),
        solutions.companies("revenue_b", "first", "second", "third"),
        solutions.largest,
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
        solutions.count_slots,
        solutions.count,
        _LISTS,
        3,
    ),
    Family(
        "older",
        "intermediate",
        ("Which was founded first, {left} or {right}, and how many days before the other?",) * 3,
        solutions.companies("founded", "left", "right"),
        solutions.older,
        tools_needed=3,
        is_held_out=True,
    ),
    Family(
        "claim",
        "expert",
        (
            "{company} reported revenue of {claim} billion dollars for the quarter. Is that accurate? Answer accurate "
            "or "
            "inaccurate, and state the actual revenue in billions, confirmed by two independent sources.",
            "According to {company}, revenue came to {claim} billion dollars. Accurate or inaccurate? Give the actual "
            "revenue in billions, from two independent sources.",
            "Check the statement of {company} that it took {claim} billion dollars in the quarter: accurate or "
            "inaccurate, and what is the actual figure in billions?",
        ),
        solutions.claim_slots,
        solutions.claim,
        tools_needed=3,
    ),
    Family(
        "sector-total",
        "expert",
        (
            "How many companies work in {sector}, and what is their quarterly revenue together, in billions of "
            "dollars?",
            "Add up the quarterly revenue of all companies in {sector}, in billions of dollars, and say how many they "
            "are.",
            "State the number of {sector} companies and their joint quarterly revenue in billions of dollars.",
        ),
        solutions.sector_slots,
        solutions.sector_total,
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
            "Compare the database with the archive on the offices of {company}: the same, yes or no, and which "
            "figures?",
        ),
        solutions.contradiction_slots,
        solutions.contradiction,
        tools_needed=3,
    ),
    Family(
        "filed",
        "expert",
        (
            "The genuine filing of {company} in the archive has the SHA-256 {hash}. What quarterly revenue does it "
            "state, "
            "in billions of dollars?",
            "A filing of {company} is genuine if its SHA-256 is {hash}. Give the quarterly revenue in it, in billions "
            "of "
            "dollars.",
            "By the filing of {company} with the SHA-256 {hash}, how many billions of dollars was its quarterly "
            "revenue?",
        ),
        solutions.filed_slots,
        solutions.filed,
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
        solutions.trend_slots,
        solutions.trend,
        _SUMS,
        3,
        is_held_out=True,
    ),
)
FAMILIES = {family.name: family for family in _ALL}


_KEY, _WORDS = r"[^ ;?]+", "[^?;]+?"


@cache
def _patterns() -> tuple[tuple[Family, re.Pattern[str]], ...]:
    return tuple([(family, pattern(wording)) for family in _ALL for wording in dict.fromkeys(family.wordings)])


def pattern(wording: str) -> re.Pattern[str]:
    """Return the pattern that finds a text of this wording and what its slots were filled with."""
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
