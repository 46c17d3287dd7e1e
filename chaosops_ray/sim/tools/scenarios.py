"""Scenario ids, the evaluation sets, and the questions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from chaosops_ray.sim.contract import Scenario, parse_identity, parse_seed
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import Stream, stream
from chaosops_ray.sim.tools import deeds
from chaosops_ray.sim.tools.answers import numbers
from chaosops_ray.sim.tools.catalog.storage import kept
from chaosops_ray.sim.tools.data import COMPANIES, COUNTRIES, DENSITY_PAIRS
from chaosops_ray.sim.tools.families import FAMILIES, Family
from chaosops_ray.sim.tools.knowledge import (
    HELD_OUT,
    PUBLISHED,
    SETTINGS,
    SYNTHETIC,
    Knowledge,
    Value,
    by_name,
    facts_of,
    knowledge,
    names_of,
)
from chaosops_ray.sim.tools.model import Deed, Fact, Input, Question
from chaosops_ray.sim.tools.solutions import Slots
from chaosops_ray.sim.tools.sources import ARCHIVE, DOCUMENTS, account, page_of

NAME = "tools"
TIERS = ("warmup", "beginner", "intermediate", "expert")
SELECTIONS = (SYNTHETIC, PUBLISHED, HELD_OUT)
# The published families: tier, number of cases, the family of questions that they are.
PUBLISHED_FAMILIES = {
    "W": ("warmup", 10, "population"),
    "B": ("beginner", len(COUNTRIES), "capital-gdp"),
    "I": ("intermediate", len(DENSITY_PAIRS), "denser"),
    "E": ("expert", len(COMPANIES), "claim"),
}
PUBLISHED_CASES = tuple(
    [f"{letter}{number:02d}" for letter, (_, count, _) in PUBLISHED_FAMILIES.items() for number in range(1, count + 1)]
)
CASES = {
    PUBLISHED: PUBLISHED_CASES,
    SYNTHETIC: tuple([family.name for family in FAMILIES.values() if not family.is_held_out]),
    HELD_OUT: tuple(FAMILIES),
}


def parse(identity: str) -> Scenario:
    """Return the scenario of an id such as tools/claim/synthetic/3."""
    example = f"{NAME}/claim/{SYNTHETIC}/3"
    case, setting, seed = parse_identity(identity, NAME, f"{NAME}/CASE/SETTING/SEED, for example {example}")
    if setting not in SETTINGS:
        raise unknown("setting", setting, SETTINGS)
    if case not in CASES[setting]:
        spans = [f"{letter}01-{letter}{count:02d}" for letter, (_, count, _) in PUBLISHED_FAMILIES.items()]
        valid = spans if setting == PUBLISHED else CASES[setting]
        raise InputError(f"unknown case {case[:40]!r}; valid in the setting {setting}: {', '.join(valid)}")
    return scenario(case, setting, parse_seed(seed))


def scenario(case: str, setting: str, seed: int) -> Scenario:
    """Return the scenario of these parts."""
    tier = PUBLISHED_FAMILIES[case[0]][0] if setting == PUBLISHED else FAMILIES[case].tier
    return Scenario(NAME, case, setting, seed, tier, case[0] if setting == PUBLISHED else case)


def select(selection: str, seeds: Sequence[int] | None = None) -> tuple[Scenario, ...]:
    """Return the cases of a set, each with its own seed, or with each of the seeds if given."""
    if selection not in SELECTIONS:
        raise unknown("evaluation set", selection, SELECTIONS)
    return tuple(
        scenario(case, selection, seed)
        for position, case in enumerate(CASES[selection])
        for seed in ([position] if seeds is None else seeds)
    )


# -- questions ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def question(case: str, setting: str, seed: int) -> Question:
    """Return the question of this scenario."""
    known = knowledge(setting, seed)
    family, slots, draw = _drawn(case, setting, seed)
    if setting == PUBLISHED:
        return _asked(known, family, slots, family.wordings[0])
    wording = family.wordings[-1] if setting == HELD_OUT else draw.choice(family.wordings[:-1])
    if case == "claim":
        deed, doing = deeds.drawn(draw)
        asked = _asked(known, family, slots, f"{wording} {doing}", deed)
        return asked._replace(work=("validate_data",)) if deed.tool == "database_insert" else asked
    if case == "contradiction":
        deed = Deed("request_human_review", "", ("database", "archive"))
        return _asked(known, family, slots, f"{wording} {deeds.REVIEW}", deed)
    return _asked(known, family, slots, wording)


def _drawn(case: str, setting: str, seed: int) -> tuple[Family, Slots, Stream]:
    """Draw what the question is about; the stream goes on with how it is asked."""
    draw = stream(seed, f"question {setting} {case}")
    if setting == PUBLISHED:
        return *_published(case), draw
    return FAMILIES[case], FAMILIES[case].draw(knowledge(setting, seed), draw), draw


@lru_cache(maxsize=256)
def facts_in(known: Knowledge, scenario: Scenario) -> tuple[Fact, ...]:
    """Return the answer that the scenario's question has in another world."""
    family, slots, _ = _drawn(scenario.case, scenario.setting, scenario.seed)
    return family.solve(slots, _Truth(known))


def _published(case: str) -> tuple[Family, dict[str, str]]:
    family = FAMILIES[PUBLISHED_FAMILIES[case[0]][2]]
    index = int(case[1:]) - 1
    if case[0] == "E":
        company = COMPANIES[index]
        return family, {"company": company.name, "claim": f"{company.claimed:g}"}
    if case[0] == "I":
        left, right = (COUNTRIES[place].name for place in DENSITY_PAIRS[index])
        return family, {"left": left, "right": right}
    country = COUNTRIES[index]
    return family, {"country": country.name} if case[0] == "W" else {"capital": country.capital}


def _asked(known: Knowledge, family: Family, slots: Slots, wording: str, deed: Deed | None = None) -> Question:
    look = _Truth(known)
    facts = family.solve(slots, look)
    shown = {"what": "actual revenue"} | ({"key": deed.key} if deed else {}) | dict(slots)
    text = wording.format(**shown)
    return Question(
        text,
        tuple([_completed(known, fact)._replace(weight=1 / len(facts)) for fact in facts]),
        family.tools_needed,
        tuple(dict.fromkeys(look.inputs)),
        family.work,
        deed,
        ((slots["key"], kept(f"The company is {slots['company']}.")),) if "{key}" in wording and not deed else (),
        # A claim is a figure that an answer may state, and so one that it may hedge with.
        tuple([number.value for number in numbers(text) if number.value != float(slots.get("claim", "nan"))]),
    )


def _completed(known: Knowledge, fact: Fact) -> Fact:
    """Add the rivals of a name: whatever else it could be confused with."""
    if fact.kind != "text" or fact.rivals:
        return fact
    for entity in known.entities:
        if entity.name == fact.value:
            return fact._replace(rivals=tuple(names_of(known, entity.kind)))
    capitals = tuple([str(value) for one in known.entities for field, value in one.facts if field == "capital"])
    return fact._replace(rivals=capitals if fact.value in capitals else (str(fact.value),))


class _Truth:
    """Looks up what is true, and remembers what was looked up."""

    def __init__(self, known: Knowledge) -> None:
        self._known = known
        self.inputs: list[Input] = []

    def __call__(self, name: str, field: str, source: str = "") -> Value:
        facts = (
            account(self._known, DOCUMENTS["company"][0], name) if source == ARCHIVE else facts_of(self._known, name)
        )
        self.inputs.append(Input(name, field, facts[field], source))
        return facts[field]

    def having(self, kind: str, field: str, value: str) -> list[str]:
        names = [one.name for one in self._known.entities if one.kind == kind and (field, value) in one.facts]
        if len(names) == 1:
            self.inputs.append(Input(names[0], field, value, is_search=True))
        return names

    def today(self) -> str:
        return self._known.today

    def note(self, key: str) -> str:
        raise InputError(f"the note {key} is in the question's own slots")

    def page(self, name: str) -> str:
        return page_of(name, by_name(self._known)[name].kind)
