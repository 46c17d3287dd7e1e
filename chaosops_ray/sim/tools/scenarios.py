"""Scenario ids, the evaluation sets, and the questions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from chaosops_ray.sim.contract import Scenario, parse_identity, parse_seed
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.tools.data import COMPANIES, COUNTRIES, DENSITY_PAIRS
from chaosops_ray.sim.tools.knowledge import PUBLISHED, SETTINGS, STRICT, knowledge
from chaosops_ray.sim.tools.model import Fact, Question

NAME = "tools"
TIERS = ("warmup", "beginner", "intermediate", "expert")
SELECTIONS = ("published", "synthetic")
# Family → tier, number of cases.
FAMILIES = {
    "W": ("warmup", 10),
    "B": ("beginner", len(COUNTRIES)),
    "I": ("intermediate", len(DENSITY_PAIRS)),
    "E": ("expert", len(COMPANIES)),
}
CASES = tuple(f"{family}{number:02d}" for family, (_, count) in FAMILIES.items() for number in range(1, count + 1))


def parse(identity: str) -> Scenario:
    """Return the scenario of an id such as tools/E07/strict/3."""
    case, setting, seed = parse_identity(identity, NAME, f"{NAME}/CASE/SETTING/SEED, for example {NAME}/E07/strict/3")
    if case not in CASES:
        families = ", ".join(f"{family}01-{family}{count:02d}" for family, (_, count) in FAMILIES.items())
        raise InputError(f"unknown case {case[:40]!r}; valid: {families}")
    if setting not in SETTINGS:
        raise unknown("setting", setting, SETTINGS)
    return scenario(case, setting, parse_seed(seed))


def scenario(case: str, setting: str, seed: int) -> Scenario:
    """Return the scenario of these parts."""
    return Scenario(NAME, case, setting, seed, FAMILIES[case[0]][0], case[0])


def select(selection: str, seeds: Sequence[int] | None = None) -> tuple[Scenario, ...]:
    """Return the 55 published questions, or as many about synthetic entities; with each of the seeds if given."""
    if selection not in SELECTIONS:
        raise unknown("evaluation set", selection, SELECTIONS)
    setting = PUBLISHED if selection == "published" else STRICT
    return tuple(
        scenario(case, setting, seed)
        for position, case in enumerate(CASES)
        for seed in ([position] if seeds is None else seeds)
    )


@lru_cache(maxsize=1024)
def question(case: str, setting: str, seed: int) -> Question:
    """Return the question of this scenario."""
    known = knowledge(setting, seed)
    index = int(case[1:]) - 1
    match case[0]:
        case "W":
            country = known.countries[index]
            return Question(
                f"What is the population of {country.name}?",
                (Fact("population", "numeric", country.population, 0.02, 1.0),),
                1,
                (country.name,),
            )
        case "B":
            country = known.countries[index]
            return Question(
                f"Which country has {country.capital} as its capital, and what is its GDP per capita in dollars?",
                (
                    Fact("country", "text", country.name, 0.0, 0.5),
                    Fact("gdp_per_capita", "numeric", country.gdp_per_capita, 0.05, 0.5),
                ),
                2,
                (country.name,),
            )
        case "I":
            left, right = (known.countries[place] for place in DENSITY_PAIRS[index])
            densities = {c.name: round(c.population / c.area_km2, 1) for c in (left, right)}
            higher, lower = sorted(densities, key=lambda name: -densities[name])
            return Question(
                f"Which country is more densely populated, {left.name} or {right.name}, and by what factor? "
                "Name the denser one and the factor to one decimal.",
                (
                    Fact("higher", "text", higher, 0.0, 0.5),
                    Fact("factor", "numeric", round(densities[higher] / max(densities[lower], 0.1), 1), 0.10, 0.5),
                ),
                3,
                (left.name, right.name),
            )
    company = known.companies[index]
    return Question(
        f"{company.name} reported revenue of {company.claimed} billion dollars for the quarter. Is that accurate? "
        "Answer accurate or inaccurate, and state the actual revenue in billions, confirmed by two independent "
        "sources.",
        (
            Fact("claim_accurate", "boolean", company.claimed == company.actual, 0.0, 0.5),
            Fact("actual_revenue_b", "numeric", company.actual, 0.05, 0.5),
        ),
        3,
        (company.name,),
    )
