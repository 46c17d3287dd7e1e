"""Answers under strict rules: what counts as right, and what an answer that says everything is worth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim.tools import scenarios
from chaosops_ray.sim.tools.grading import correctness, numbers
from chaosops_ray.sim.tools.knowledge import knowledge
from chaosops_ray.sim.tools.model import Fact, Question

KNOWN = knowledge("published", 0)


def graded(answer: str, case: str) -> float:
    return correctness(answer, scenarios.question(case, "published", 0), KNOWN)


def one(fact: Fact) -> Question:
    return Question("?", (fact,), 1, ())


@pytest.mark.parametrize(
    ("case", "answer", "score"),
    [
        ("W01", "83200000", 1.0),
        ("W01", "83,200,000", 1.0),
        ("W01", "83.2 million", 1.0),
        ("W01", "about 83.2m people", 1.0),
        ("W01", "0.0832 billion", 1.0),
        ("W01", "83,200 thousand", 1.0),
        ("W01", "84.8 million", 1.0),
        ("W01", "87 million", 0.5),
        ("W01", "90 million", 0.0),
        ("W01", "many", 0.0),
        ("B03", "Canada, 53400", 1.0),
        ("B03", "Canada", 0.5),
        ("B03", "53.4k", 0.5),
        ("I01", "India, factor 125.9", 1.0),
        ("I01", "india 120.0", 1.0),
        ("I01", "Australia, 125.9", 0.5),
        ("E01", "inaccurate, 1.87", 1.0),
        ("E01", "Actual revenue is 1.87. The claim is inaccurate.", 1.0),
        ("E01", "Inaccurate: $1.87 billion", 1.0),
        ("E01", "false, 1.87", 1.0),
        ("E01", "accurate, 2.3", 0.0),
        ("E02", "accurate, 0.94", 1.0),
        ("E02", "yes, 0.94 billion", 1.0),
    ],
)
def test_answers_are_read_as_people_write_them(case: str, answer: str, score: float) -> None:
    assert graded(answer, case) == pytest.approx(score)


@pytest.mark.parametrize(
    ("case", "answer", "score"),
    [
        ("E01", "not correct, 1.87", 1.0),
        ("E01", "That isn't accurate: it was 1.87.", 1.0),
        ("E01", "The claim does not match; 1.87", 1.0),
        ("E01", "The claim is accurate, 1.87", 0.5),
        ("E02", "The claim is accurate. It was 0.94.", 1.0),
        ("E02", "not true, 0.94", 0.5),
        ("E02", "never verified, 0.94", 0.5),
        ("E01", "inaccurate", 0.0),
        ("E01", "inaccurate, 2.3", 0.0),
        ("E02", "accurate, 5", 0.0),
        ("I01", "IndiaAustralia 125.9", 0.5),
        ("I01", "India. Australia. 125.9", 0.5),
        ("I01", "India_Australia 125.9", 0.5),
        ("I01", "India. 125.9.", 1.0),
    ],
)
def test_strict_reads_words_whole_and_verdicts_with_their_figures(case: str, answer: str, score: float) -> None:
    assert graded(answer, case) == pytest.approx(score)


def test_text_counts_half_from_half_of_its_words() -> None:
    fact = Fact("x", "text", "Northern Star Robotics Group", 0.0, 1.0)
    for answer, score in (("northern star robotics group", 1.0), ("Northern Robotics", 0.5), ("Star", 0.0)):
        assert correctness(answer, one(fact), KNOWN) == score


def test_dates_are_iso_or_long() -> None:
    fact = Fact("x", "date", "2026-04-08", 0.0, 1.0)
    for answer, score in (("on 2026-04-08", 1.0), ("April 8, 2026", 1.0), ("8/4/26", 0.0)):
        assert correctness(answer, one(fact), KNOWN) == score


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("W01", "83200000 or 90000000"),
        ("W01", "between 80 and 84 million"),
        ("E01", "accurate or inaccurate, 1 2 3"),
        ("I01", "3.2 or 125.9"),
    ],
)
def test_strict_an_answer_that_hedges_is_worth_nothing(case: str, answer: str) -> None:
    assert graded(answer, case) == 0.0


def test_strict_a_second_name_costs_the_name_and_nothing_else() -> None:
    assert graded("Germany or Canada, 53400", "B03") == 0.5


SHOTGUN = " ".join(
    [
        "true yes accurate false no inaccurate",
        *[f"{country.name} {country.population} {country.gdp_per_capita:g}" for country in KNOWN.countries],
        *[f"{company.actual}" for company in KNOWN.companies],
        *[
            f"{fact.value}"
            for case in scenarios.CASES
            if case[0] == "I"
            for fact in scenarios.question(case, "published", 0).facts
        ],
    ]
)


def test_every_known_fact_in_one_string_is_worth_nothing() -> None:
    assert all(graded(SHOTGUN, case) == 0.0 for case in scenarios.CASES)


@given(st.text(max_size=300))
def test_any_answer_is_graded(answer: str) -> None:
    for case in ("W01", "B03", "I01", "E01"):
        assert 0.0 <= graded(answer, case) <= 1.0


@pytest.mark.parametrize("unit", ["mıllion", "MİLLION", "bıllion", "thouſand", "\N{KELVIN SIGN}"])
def test_a_unit_is_spelt_in_ascii(unit: str) -> None:
    assert numbers(f"83.2 {unit}") == [[83.2]]
    assert graded(f"83.2 {unit}", "W01") == 0.0


def test_numbers_without_end_are_read_in_pieces_and_stay_finite() -> None:
    for hostile in ("9" * 2000, "1," * 800, "9" * 400 + " billion", "-" * 500 + "1", "1.0" * 500):
        assert all(math.isfinite(value) for readings in numbers(hostile) for value in readings)


def test_the_published_questions_are_those_of_the_figures() -> None:
    assert len(scenarios.CASES) == 55
    text = scenarios.question("I01", "published", 0)
    assert "India or Australia" in text.text
    assert text.facts[0].value == "India"
    truths = [scenarios.question(f"E{n:02d}", "published", 0).facts[0].value for n in range(1, 16)]
    assert truths.count(True) == 6
    assert scenarios.question("B15", "published", 0).facts[0].value == "Kenya"
    assert {scenarios.question(case, "strict", 4).text for case in scenarios.CASES}.isdisjoint(
        {scenarios.question(case, "published", 4).text for case in scenarios.CASES}
    )
