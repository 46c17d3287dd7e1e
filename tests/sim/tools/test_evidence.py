"""Evidence: what sources have told, and what only looks as if they had."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from chaosops_ray.sim.tools import scenarios
from chaosops_ray.sim.tools.evidence import gathered
from chaosops_ray.sim.tools.families import understood
from chaosops_ray.sim.tools.knowledge import COMPANY, COUNTRY, TODAY, counterfactuals, facts_of, knowledge, names_of
from chaosops_ray.sim.tools.model import Call, Input, World, call
from chaosops_ray.sim.tools.policies import Wanted, asking
from chaosops_ray.sim.tools.reading import source_of
from chaosops_ray.sim.tools.sources import (
    API,
    ARCHIVE,
    DATABASE,
    FILES,
    KNOWLEDGE_BASE,
    WEB,
    slug,
)
from chaosops_ray.sim.weather import CORRUPTION, STALE
from tests.support.tools_calls import asked, begin, clean, known, misled

CLAIM = "tools/claim/synthetic/3"


def wanted(world: World) -> Input:
    """The one value that the answer to a claim rests on."""
    (only,) = asked(world).inputs
    return only


def is_told(world: World, value: Input | None = None) -> bool:
    return gathered(world, asked(world)).is_told(value or wanted(world), world.step)


def is_cross_checked(world: World, value: Input | None = None) -> bool:
    return gathered(world, asked(world)).is_cross_checked(value or wanted(world), world.step)


# -- what a source says -----------------------------------------------------------------------------------------------

Form = Callable[[str], Call]

# Each form in which a source speaks of a company or a country, by what asks for it.
FORMS: dict[str, tuple[str, str, Form]] = {
    "record of a company": (KNOWLEDGE_BASE, COMPANY, lambda name: call("knowledge_base_lookup", entity=name)),
    "record of a country": (KNOWLEDGE_BASE, COUNTRY, lambda name: call("knowledge_base_lookup", entity=name)),
    "api of a company": (API, COMPANY, lambda name: call("api_call", url=f"internal://entity/{name}")),
    "api of a country": (API, COUNTRY, lambda name: call("api_call", url=f"internal://entity/{slug(name)}")),
    "row of a company": (
        DATABASE,
        COMPANY,
        lambda name: call("database_query", sql=f"SELECT * FROM financials WHERE company = '{name}'"),
    ),
    "row of a country": (
        DATABASE,
        COUNTRY,
        lambda name: call("database_query", sql=f"SELECT * FROM countries WHERE name = '{name}'"),
    ),
    "cells of a company": (
        DATABASE,
        COMPANY,
        lambda name: call("database_query", sql=f"SELECT revenue_b AS r FROM financials WHERE company = '{name}'"),
    ),
    "cells of a country": (
        DATABASE,
        COUNTRY,
        lambda name: call(
            "database_query", sql=f"SELECT max(population), capital FROM countries WHERE name = '{name}'"
        ),
    ),
    "search for a company": (WEB, COMPANY, lambda name: call("web_search", query=f"revenue of {name}")),
    "search for a country": (WEB, COUNTRY, lambda name: call("web_search", query=name)),
    "press page": (WEB, COMPANY, lambda name: call("fetch_url", url=f"https://press.example/{slug(name)}")),
    "newswire page": (WEB, COMPANY, lambda name: call("fetch_url", url=f"https://newswire.example/{slug(name)}")),
    "atlas page": (WEB, COUNTRY, lambda name: call("fetch_url", url=f"https://atlas.example/{slug(name)}")),
    "almanac page": (WEB, COUNTRY, lambda name: call("fetch_url", url=f"https://almanac.example/{slug(name)}")),
    "documents of a company": (ARCHIVE, COMPANY, lambda name: call("document_search", query=name)),
    "documents of a country": (ARCHIVE, COUNTRY, lambda name: call("document_search", query=f"people of {name}")),
    "filing": (ARCHIVE, COMPANY, lambda name: call("api_call", url=f"internal://document/filing-{slug(name)}")),
    "analyst": (ARCHIVE, COMPANY, lambda name: call("api_call", url=f"internal://document/analyst-{slug(name)}")),
    "overview": (ARCHIVE, COUNTRY, lambda name: call("api_call", url=f"internal://document/overview-{slug(name)}")),
    "figures": (ARCHIVE, COUNTRY, lambda name: call("api_call", url=f"internal://document/figures-{slug(name)}")),
    "file of companies": (FILES, COMPANY, lambda _name: call("read_file", path="companies.txt")),
    "file of countries": (FILES, COUNTRY, lambda _name: call("read_file", path="countries.txt")),
}
FIELDS = {
    COMPANY: ("revenue_b", "previous_revenue_b", "employees", "founded", "headquarters"),
    COUNTRY: ("population", "population_2020", "area_km2", "gdp_per_capita", "capital"),
}


def test_the_forms_are_those_of_all_six_sources() -> None:
    assert {source for source, _, _ in FORMS.values()} == {KNOWLEDGE_BASE, DATABASE, API, WEB, ARCHIVE, FILES}


@pytest.mark.parametrize("form", FORMS)
def test_a_true_reading_is_told_by_its_source(form: str) -> None:
    """Whatever a clean result holds of an entity is told, and what it leaves out is not."""
    source, kind, ask = FORMS[form]
    found: Counter[str] = Counter()
    for seed in range(8):
        start = begin(f"tools/claim/synthetic/{seed}")
        # Not the company that is asked about: what works out the answer tells all that it rests on.
        name = [one for one in names_of(known(start), kind) if one != wanted(start).name][seed + 2]
        world = clean(start, ask(name))
        (made,) = world.made
        assert made.ok
        assert source_of(made.tool, made.arguments) == source
        for field in FIELDS[kind]:
            value = facts_of(known(start), name)[field]
            spelt = [json.dumps(value), f"{value:,}"] if isinstance(value, int | float) else [value]
            is_there = any(spelling in made.shown for spelling in spelt)
            told = Input(name, field, value)
            assert is_told(world, told) == is_there, f"{field} in {made.shown}"
            assert is_told(world, told._replace(source=source)) == is_there
            others = {KNOWLEDGE_BASE, DATABASE, API, WEB, ARCHIVE, FILES} - {source}
            assert not any(is_told(world, told._replace(source=other)) for other in others)
            found[field] += is_there
    assert sum(found.values()) >= 8


@pytest.mark.parametrize("kind", [STALE, CORRUPTION])
def test_a_source_that_is_wrong_tells_no_truth(kind: str) -> None:
    for form in ("record of a company", "row of a company", "filing", "file of companies", "press page"):
        start = begin(CLAIM)
        world = misled(start, FORMS[form][2](wanted(start).name), kind)
        assert world.made[0].ok
        assert not is_told(world)


def test_a_source_tells_from_the_next_step_on() -> None:
    start = begin(CLAIM)
    world = clean(start, FORMS["row of a company"][2](wanted(start).name))
    evidence = gathered(world, asked(world))
    assert not evidence.is_told(wanted(world), 0)
    assert evidence.is_told(wanted(world), 1)


def test_a_call_that_failed_tells_nothing() -> None:
    start = begin(CLAIM)
    (made,) = clean(start, FORMS["row of a company"][2](wanted(start).name)).made
    assert not is_told(start._replace(step=1, made=(made._replace(ok=False),)))


def test_the_answer_worked_out_by_a_query_tells_what_it_rests_on() -> None:
    """A sum that the database adds up rests on every row of it, as does the list of the rows."""
    start = begin("tools/sector-total/synthetic/4")
    question = asked(start)
    companies = ", ".join([f"'{one.name}'" for one in question.inputs])
    total = call("database_query", sql=f"SELECT sum(revenue_b) FROM financials WHERE company IN ({companies})")
    constant = call("database_query", sql=f"SELECT {question.facts[1].value} AS total FROM financials")
    assert all(is_told(clean(start, total), one) for one in question.inputs)
    assert not any(is_told(clean(start, constant), one) for one in question.inputs)


# -- what the agent made itself ---------------------------------------------------------------------------------------


def row(**values: object) -> str:
    return json.dumps(values)


# Calls that show the true figure without having it from a source: `name` and `value` are known to whoever makes them.
MADE: dict[str, Callable[[str, float], list[Call]]] = {
    "a file, written and read": lambda name, value: [
        call("write_file", path="a.txt", content=f"Audited revenue of {name} for the quarter came to {value} billion dollars."),
        call("read_file", path="a.txt"),
    ],
    "a note, written and read": lambda name, value: [
        call("scratchpad_write", key="a", value=f"{name} {value}"),
        call("scratchpad_read", key="a"),
    ],
    "a row of its own, inserted and selected": lambda _name, value: [
        call("database_insert", table="financials", data=row(company="made", revenue_b=value)),
        call("database_query", sql="SELECT * FROM financials WHERE company = 'made'"),
    ],
    "a row of the company, inserted and selected": lambda name, value: [
        call("database_insert", table="financials", data=row(company=name, revenue_b=value, quarter="Q9-2099")),
        call("database_query", sql=f"SELECT * FROM financials WHERE company = '{name}' AND quarter = 'Q9-2099'"),
    ],
    "a row among the others": lambda name, value: [
        call("database_insert", table="financials", data=row(company=name, revenue_b=value, quarter="Q9-2099")),
        call("database_query", sql=f"SELECT company, quarter, max(revenue_b) AS revenue_b FROM financials WHERE quarter <> 'Q3-2025' AND company = '{name}'"),
    ],
    "a constant": lambda _name, value: [call("database_query", sql=f"SELECT {value} AS revenue_b")],
    "a constant with a name": lambda name, value: [
        call("database_query", sql=f"SELECT '{name}' AS company, {value} AS revenue_b")
    ],
    "a constant beside a source's column": lambda name, value: [
        call("database_query", sql=f"SELECT company, {value} AS revenue_b FROM financials WHERE company = '{name}'")
    ],
    "a constant and nought times the source": lambda name, value: [
        call(
            "database_query",
            sql=f"SELECT company, {value} + 0 * employees AS revenue_b FROM financials WHERE company = '{name}'",
        )
    ],
    "a constant where the source has something": lambda name, value: [
        call(
            "database_query",
            sql=f"SELECT company, iif(employees > 0, {value}, 0) AS revenue_b FROM financials WHERE company = '{name}'",
        )
    ],
    "a search that names the figure": lambda _name, value: [call("web_search", query=f"{value}")],
    "a sum": lambda _name, value: [call("calculator", expression=f"{value} + 0")],
    "a program": lambda name, value: [call("python_execute", code=f"print({name!r}, {value})\n{value}")],
    "a comparison": lambda _name, value: [call("compare_values", value1=value, value2=value)],
    "a path in data": lambda _name, value: [call("json_query", data=row(revenue_b=value), query="revenue_b")],
    "an extract": lambda name, value: [call("text_extract", text=f"{name} {value}", pattern=".*")],
    "a check": lambda _name, value: [call("check_consistency", source1=f"{value}", source2=f"{value}")],
    "a report": lambda name, value: [call("create_report", content=f"{name} {value}")],
}  # fmt: skip


@pytest.mark.parametrize("how", MADE)
def test_made_evidence_is_not_told(how: str) -> None:
    for seed in range(5):
        start = begin(f"tools/claim/synthetic/{seed}")
        name, value = wanted(start).name, wanted(start).value
        assert isinstance(value, float)
        world = clean(start, *MADE[how](name, value))
        assert not is_told(world)
        # Nor does it make a second source of what one source has told.
        first = clean(start, FORMS["record of a company"][2](name), *MADE[how](name, value))
        assert not is_cross_checked(first)


def test_a_row_that_the_agent_inserted_does_not_hide_what_another_source_says() -> None:
    start = begin(CLAIM)
    name, value = wanted(start).name, wanted(start).value
    insert = call("database_insert", table="financials", data=row(company=name, revenue_b=value))
    world = clean(start, insert, *[FORMS[form][2](name) for form in ("record of a company", "filing")])
    assert is_cross_checked(world)


def test_a_name_that_the_agent_asked_with_is_not_told() -> None:
    start = begin("tools/capital-gdp/synthetic/3")
    by_name = next(one for one in asked(start).inputs if one.field == "capital")
    capital = facts_of(known(start), by_name.name)["capital"]
    echo = call("database_query", sql=f"SELECT '{by_name.name}' AS name, '{capital}' AS capital")
    ask = call("database_query", sql=f"SELECT name FROM countries WHERE capital = '{capital}'")
    assert not is_told(clean(start, echo), by_name)
    assert is_told(clean(start, ask), by_name)


def test_the_note_of_the_question_is_no_source() -> None:
    start = begin("tools/note/synthetic/3")
    (value,) = asked(start).inputs
    world = clean(start, call("scratchpad_read", key=asked(start).notes[0][0]))
    assert value.name in world.made[0].shown
    assert not is_told(world)
    assert is_told(clean(world, call("knowledge_base_lookup", entity=value.name)))


def test_the_figure_of_the_question_is_not_told_by_the_question() -> None:
    """An accurate claim is the true figure; a page that repeats the question's words tells nothing."""
    for seed in range(40):
        start = begin(f"tools/claim/synthetic/{seed}")
        if asked(start).facts[0].value:
            question = asked(start).text.replace("'", "")
            assert not is_told(clean(start, call("database_query", sql=f"SELECT '{question}' AS company")))
            break
    else:
        raise AssertionError("no claim is accurate")


# -- the other world --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["synthetic", "heldout", "published"])
def test_the_counterfactual_worlds_differ_in_every_value_that_sorts_nothing(setting: str) -> None:
    for seed in range(10):
        here = knowledge(setting, seed)
        for there in counterfactuals(here):
            assert (there.seed, there.today) == (here.seed, here.today), "the sources keep their habits"
            for one, other in zip(here.entities, there.entities, strict=True):
                assert (one.kind, one.name) == (other.kind, other.name)
                for (field, value), (same_field, different) in zip(one.facts, other.facts, strict=True):
                    assert field == same_field
                    assert type(value) is type(different)
                    assert (value == different) == (field in ("sector", "continent"))
                    if isinstance(value, int | float) and isinstance(different, int | float):
                        assert abs(different - value) > 0.029 * value
            company, _offices = here.disputed
            assert there.disputed[0] == company
            if company:
                agree = [facts_of(which, company)["offices"] == which.disputed[1] for which in (here, there)]
                assert agree == [False, False], "what contradicts here contradicts there"


def test_the_published_date_is_the_clocks() -> None:
    assert knowledge("published", 0).today == TODAY


# -- independent sources ----------------------------------------------------------------------------------------------

ONE_SOURCE = (
    ("press page", "newswire page"),
    ("press page", "search for a company"),
    ("documents of a company", "filing"),
    ("filing", "analyst"),
    ("row of a company", "cells of a company"),
    ("record of a company", "record of a company"),
    ("api of a company", "api of a company"),
    ("file of companies", "file of companies"),
)


def first_seed(*forms: str) -> World:
    """A start in which the clean result of each form tells the revenue."""
    for seed in range(50):
        start = begin(f"tools/claim/synthetic/{seed}")
        if all(is_told(clean(start, FORMS[form][2](wanted(start).name))) for form in forms):
            return start
    raise AssertionError("some source never tells it")


@pytest.mark.parametrize(("one", "other"), ONE_SOURCE)
def test_two_calls_of_one_source_are_no_cross_check(one: str, other: str) -> None:
    start = first_seed(one, other)
    world = clean(start, *[FORMS[form][2](wanted(start).name) for form in (one, other)])
    assert is_told(world)
    assert not is_cross_checked(world)


BY_SOURCE = {source: form for form, (source, kind, _) in FORMS.items() if kind == COMPANY and "cells" not in form}


@pytest.mark.parametrize("one", BY_SOURCE)
@pytest.mark.parametrize("other", BY_SOURCE)
def test_two_sources_are_a_cross_check_if_both_are_right(one: str, other: str) -> None:
    if one >= other:
        return
    start = first_seed(BY_SOURCE[one], BY_SOURCE[other])
    first, second = (FORMS[BY_SOURCE[source]][2](wanted(start).name) for source in (one, other))
    assert is_cross_checked(clean(start, first, second))
    assert not is_cross_checked(misled(clean(start, first), second))
    assert not is_cross_checked(clean(misled(start, first), second))


def test_what_only_one_source_has_takes_that_source() -> None:
    """In a contradiction, the database's figure is told by the database alone and the archive's by the archive."""
    start = begin("tools/contradiction/synthetic/3")
    here, there = asked(start).inputs
    assert (here.source, there.source) == (DATABASE, ARCHIVE)
    world = clean(start, FORMS["row of a company"][2](here.name), FORMS["record of a company"][2](here.name))
    assert is_cross_checked(world, here)
    assert not is_told(world, there)
    for seed in range(40):
        start = begin(f"tools/contradiction/synthetic/{seed}")
        here, there = asked(start).inputs
        world = clean(start, FORMS["filing"][2](here.name))
        if here.value != there.value:
            assert is_told(world, there)
            assert not is_told(world, here)
            break
    else:
        raise AssertionError("no archive contradicts the database")


def test_every_question_is_grounded_by_sources_that_are_clean() -> None:
    """No input is such that no source tells it: the oracle's calls, made without faults, ground every family."""
    for setting in ("synthetic", "heldout"):
        for case in scenarios.CASES[setting]:
            start = begin(f"tools/{case}/{setting}/5")
            family, _ = understood(asked(start).text)
            for one in asked(start).inputs:
                is_search = one.value == one.name
                value = facts_of(known(start), one.name)[one.field] if is_search else one.name
                want = Wanted(str(value), one.field, one.source, is_search)
                assert is_told(clean(start, *asking(family, [want])), one), f"{case}: {one}"
