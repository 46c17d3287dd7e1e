"""Answers under strict rules: what an answer states, and what an answer that says everything is worth."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim.tools import scenarios
from chaosops_ray.sim.tools.answers import correctness, numbers, stated
from chaosops_ray.sim.tools.data import COMPANIES, COUNTRIES
from chaosops_ray.sim.tools.model import Fact, Question
from chaosops_ray.sim.tools.solutions import BILLION


def graded(answer: str, case: str) -> float:
    """How much of an answer to a published question is right."""
    return correctness(answer, scenarios.question(case, "published", 0))


def asked(*facts: Fact, given: tuple[float, ...] = ()) -> Question:
    return Question("?", tuple([fact._replace(weight=1 / len(facts)) for fact in facts]), 1, given=given)


def values(text: str) -> list[float]:
    return [number.at(1) for number in numbers(text)]


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("83200000", [83.2e6]),
        ("83,200,000", [83.2e6]),
        ("83,200,000, by two sources", [83.2e6]),
        ("1,234.5", [1234.5]),
        ("Germany,51200", [51200]),
        ("1,2,3", [1, 2, 3]),
        ("12,13 and 14", [12, 13, 14]),
        ("83.2 million", [83.2e6]),
        ("83.2million", [83.2e6]),
        ("83.2 MiLLiOn", [83.2e6]),
        ("0.0832 bn", [83.2e6]),
        ("83,200 thousand", [83.2e6]),
        ("83,200k.", [83.2e6]),
        ("$1.87B", [1.87e9]),
        ("1.87e9", [1.87e9]),
        ("8.32E+7", [83.2e6]),
        ("1.87000000000000", [1.87]),
        ("1.87000000000000000000001", [1.87]),
        ("5.", [5]),
        ("125.9x", [125.9]),
        ("80-84 million", [80, 84e6]),
    ],
)
def test_a_number_is_read_as_people_write_it(text: str, found: list[float]) -> None:
    assert values(text) == pytest.approx(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-3.4", [-3.4]),
        ("-3.4 %", [-3.4]),
        ("\N{MINUS SIGN}3.4 percent", [-3.4]),
        ("+3.4%", [3.4]),
        ("(-12)", [-12]),
        ("Q3-4", [4]),
        ("-2 million", [-2e6]),
    ],
)
def test_a_sign_belongs_to_its_number(text: str, found: list[float]) -> None:
    assert values(text) == pytest.approx(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.87 billion in Q3", [1.87e9]),
        ("1.87 billion in Q3 2025", [1.87e9]),
        ("Q3-2025: 1.87 billion", [1.87e9]),
        ("1.87 billion (2025-Q3)", [1.87e9]),
        ("233.0 people per km2", [233]),
        ("233.0 people per km^2", [233]),
        ("233.0 people per km\N{SUPERSCRIPT TWO}", [233]),
        ("51.2 km", [51.2]),
        ("83.2 miles", [83.2]),
        ("83.2 m\N{SUPERSCRIPT TWO}", [83.2]),
        ("founded on 1971-03-02, 54 years ago", [54]),
        ("founded on March 2, 1971, 54 years ago", [54]),
        ("founded on the 2nd of March 1971, 54 years ago", [54]),
        ("https://press.example/bank-7/2 has 400", [400]),
    ],
)
def test_a_unit_a_quarter_a_date_or_an_address_is_no_number(text: str, found: list[float]) -> None:
    assert values(text) == pytest.approx(found)


@pytest.mark.parametrize(
    "unit",
    ["mıllion", "MİLLION", "bıllion", "thouſand", "\N{KELVIN SIGN}", "mé", "b\N{CYRILLIC SMALL LETTER EN}"],
)
def test_a_unit_is_spelt_in_ascii(unit: str) -> None:
    assert values(f"83.2 {unit}") == [83.2]
    assert graded(f"83.2 {unit}", "W01") == 0.0


POPULATION = Fact("population", "numeric", 83_187_345, 0.02, 1.0)
REVENUE = Fact("revenue_b", "numeric", 1.87, 0.05, 1.0, BILLION)
OFFICES = Fact("offices", "numeric", 246, 0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("83,187,345 (83.2 million)", POPULATION),
        ("83.2 million, to be exact 83187345", POPULATION),
        ("83,187,345 or 83,187 thousand or 83.2m or 0.0832 billion", POPULATION),
        ("1.87 billion in Q3, so 1.87", REVENUE),
        ("1,870,000,000 dollars, or 1.87 billion", REVENUE),
        ("1870000000", REVENUE),
        ("1.87e9", REVENUE),
        ("1,870 million", REVENUE),
        ("246 offices. I repeat: 246", OFFICES),
    ],
)
def test_two_spellings_state_one_figure(text: str, fact: Fact) -> None:
    assert stated(text, fact, [fact], ()) == 1.0


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("83.2 83.2k 83.2m 83.2b", POPULATION),
        ("83.2 million or 83.2 billion", POPULATION),
        ("83.2 million or 84 million", POPULATION),
        ("between 80 and 84 million", POPULATION),
        ("1.87 billion or 1.87 million", REVENUE),
        ("1.87 or 1.9", REVENUE),
        ("246 or 247", OFFICES),
        ("246 or 0.247k", OFFICES),
        ("245,246,247", OFFICES),
        ("246 and -246", OFFICES),
    ],
)
def test_two_figures_are_no_answer(text: str, fact: Fact) -> None:
    assert stated(text, fact, [fact], ()) == 0.0


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("83187345", 1.0),
        ("84.8 million", 1.0),
        ("81.6 million", 1.0),
        ("86 million", 0.5),
        ("80 million", 0.5),
        ("87 million", 0.0),
        ("-83187345", 0.0),
        ("many", 0.0),
        ("", 0.0),
    ],
)
def test_a_figure_counts_half_within_twice_its_tolerance(text: str, score: float) -> None:
    assert stated(text, POPULATION, [POPULATION], ()) == score


def test_a_tolerance_of_zero_is_exact() -> None:
    assert [stated(text, OFFICES, [OFFICES], ()) for text in ("246", "246.0", "246.5", "247")] == [1, 1, 0, 0]


def test_figures_of_the_questions_own_wording_are_no_candidates() -> None:
    growth = next(
        question
        for seed in range(20)
        for question in [scenarios.question("growth", "synthetic", seed)]
        if float(question.facts[0].value) < 0
    )
    change = float(growth.facts[0].value)
    assert "2020" in growth.text
    assert correctness(f"From 2020 to now it changed by {change} percent", growth) == 1.0
    assert correctness(f"It changed by \N{MINUS SIGN}{-change} percent since 2020", growth) == 1.0
    assert correctness(f"It changed by {-change} percent", growth) == 0.0
    assert correctness(f"From 2019 to now it changed by {change} percent", growth) == 0.0
    count = scenarios.question("count", "synthetic", 3)
    limit = f"{count.given[0]:,.0f}"
    assert limit in count.text
    number, total = (fact.value for fact in count.facts)
    assert correctness(f"{number} have more than {limit}; the three together have {total}", count) == 1.0
    assert correctness(f"{number} have more than 1,234; the three together have {total}", count) == 0.0


def test_a_claim_is_a_candidate_although_the_question_states_it() -> None:
    assert graded("inaccurate: 1.87 billion, not 2.3 billion", "E01") == 0.0
    assert graded("inaccurate: 1.87 billion", "E01") == 1.0


def test_the_hour_and_the_keys_of_a_task_are_no_candidates() -> None:
    for seed in range(30):
        question = scenarios.question("claim", "synthetic", seed)
        assert question.deed is not None
        verdict, actual = question.facts
        said = f"{'accurate' if verdict.value else 'inaccurate'}, {actual.value} billion, as {question.deed.key} says"
        assert correctness(said, question) == 1.0


@pytest.mark.parametrize(
    "hostile", ["9" * 2000, "1," * 800, "9" * 400 + " billion", "-" * 500 + "1", "1.0" * 500, "9e99 b"]
)
def test_numbers_without_end_are_read_in_pieces_and_stay_finite(hostile: str) -> None:
    assert all(math.isfinite(value) for value in values(hostile))


# -- verdicts, names, dates, addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "answer", "score"),
    [
        ("E01", "inaccurate, 1.87", 1.0),
        ("E01", "Actual revenue is 1.87. The claim is inaccurate.", 1.0),
        ("E01", "false, $1.87 billion", 1.0),
        ("E01", "not correct, 1.87", 1.0),
        ("E01", "That isn't accurate: it was 1.87.", 1.0),
        ("E01", "overstated: 1.87bn in Q3 2025", 1.0),
        ("E01", "The claim does not match; 1.87", 1.0),
        ("E02", "accurate, 0.94", 1.0),
        ("E02", "Yes: 0.94 billion, verified", 1.0),
        ("E01", "inaccurate, 2.0", 0.5),
        ("E02", "accurate, 1.0", 0.5),
        ("E01", "accurate, 1.87", 0.0),
        ("E01", "accurate, 2.3", 0.0),
        ("E01", "inaccurate, 2.3", 0.0),
        ("E01", "inaccurate, 2.1", 0.0),
        ("E01", "inaccurate", 0.0),
        ("E01", "1.87", 0.0),
        ("E02", "inaccurate, 0.94", 0.0),
        ("E02", "not true, 0.94", 0.0),
        ("E02", "never verified, 0.94", 0.0),
        ("E02", "accurate or inaccurate, 0.94", 0.0),
        ("E02", "accurate, 5", 0.0),
        ("E02", "İnaccurate, 0.94", 0.0),
    ],
)
def test_a_verdict_and_its_figure_stand_together(case: str, answer: str, score: float) -> None:
    assert graded(answer, case) == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("India, 127.8", 1.0),
        ("india 120.0 times", 1.0),
        ("India. 127.8.", 1.0),
        ("India,127.8", 1.0),
        ("Australia, 127.8", 0.5),
        ("India", 0.5),
        ("India. Australia. 127.8", 0.5),
        ("India_Australia 127.8", 0.5),
        ("IndiaAustralia 127.8", 0.5),
        ("Indiana, 127.8", 0.5),
        ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}ndia, 127.8", 0.5),
        ("Ind\N{LATIN SMALL LETTER DOTLESS I}a, 127.8", 0.5),
    ],
)
def test_a_name_stands_alone_among_its_rivals(answer: str, score: float) -> None:
    assert graded(answer, "I01") == score


def test_a_second_name_costs_the_name_and_nothing_else() -> None:
    assert graded("Germany or Canada, 53400", "B03") == 0.5
    assert graded("Canada, 53400", "B03") == 1.0
    assert graded("Canada (capital: Ottawa), 53400", "B03") == 1.0


def test_a_capital_has_capitals_for_rivals() -> None:
    question = scenarios.question("capital", "synthetic", 3)
    (fact,) = question.facts
    other = next(name for name in fact.rivals if name != fact.value)
    assert correctness(f"It is {fact.value}.", question) == 1.0
    assert correctness(f"It is {fact.value} or {other}.", question) == 0.0


def test_a_word_of_another_language_has_its_opposite_for_a_rival() -> None:
    question = scenarios.question("bilingual", "synthetic", 3)
    word, population = question.facts
    assert set(word.rivals) == {"non", "oui"}
    right, wrong = str(word.value), next(one for one in word.rivals if one != word.value)
    assert correctness(f"{right}, {population.value}", question) == 1.0
    assert correctness(f"{right} {wrong}, {population.value}", question) == 0.5


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("on 2026-04-08", 1.0),
        ("April 8, 2026", 1.0),
        ("April 8 2026", 1.0),
        ("april 8th, 2026", 1.0),
        ("8 April 2026", 1.0),
        ("the 8th of April, 2026", 1.0),
        ("2026-04-08, that is April 8, 2026", 1.0),
        ("2026-04-08 or 2026-04-09", 0.0),
        ("8 April 2026 or 9 April 2026", 0.0),
        ("8/4/26", 0.0),
        ("2026-04-080", 0.0),
        ("12026-04-08", 0.0),
        ("8 April 20260", 0.0),
        ("18 April 2026", 0.0),
        ("8 Aprıl 2026", 0.0),
    ],
)
def test_a_date_is_iso_or_long_in_both_orders(answer: str, score: float) -> None:
    assert correctness(answer, asked(Fact("x", "date", "2026-04-08", 0.0, 1.0))) == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("https://press.example/vela-foods", 1.0),
        ("See https://press.example/vela-foods.", 1.0),
        ("The page (https://press.example/vela-foods)", 1.0),
        ("https://press.example/vela", 0.0),
        ("https://press.example/vela-foods/2", 0.0),
        ("https://press.example/vela-foods or https://newswire.example/vela-foods", 0.0),
        ("press.example/vela-foods", 0.0),
    ],
)
def test_an_address_is_whole_and_alone(answer: str, score: float) -> None:
    assert correctness(answer, asked(Fact("page", "text", "https://press.example/vela-foods", 0.0, 1.0))) == score


# -- answers that say everything, and any text at all -----------------------------------------------------------------

SHOTGUN = " ".join(
    [
        "true yes accurate false no inaccurate",
        *[f"{country.name} {country.population} {country.gdp_per_capita:g}" for country in COUNTRIES],
        *[f"{company.actual}" for company in COMPANIES],
        *[
            f"{fact.value}"
            for case in scenarios.PUBLISHED_CASES
            if case[0] == "I"
            for fact in scenarios.question(case, "published", 0).facts
        ],
    ]
)


def test_every_known_fact_in_one_string_is_worth_nothing() -> None:
    assert all(graded(SHOTGUN, case) == 0.0 for case in scenarios.PUBLISHED_CASES)


ALL = [scenarios.question(case, "heldout", 3) for case in scenarios.CASES["heldout"]]
ODD = (
    "8",
    "83.2 ",
    "1,",
    ".5",
    "-",
    " ",
    "mıllion",
    "İ",
    "thouſand",
    "٣",
    "9" * 400,
    "April ",
    "://",
    "²",
    "e9",
    "\ud800",
)


@given(st.text(max_size=300) | st.lists(st.sampled_from(ODD), max_size=10).map("".join))
def test_any_answer_to_any_question_is_graded(answer: str) -> None:
    for question in ALL:
        assert 0.0 <= correctness(answer, question) <= 1.0


@pytest.mark.slow
def test_no_character_of_unicode_raises_or_is_another_letter() -> None:
    for letter in filter(str.isalnum, map(chr, range(128, sys.maxunicode + 1))):
        assert [number.unit for number in numbers(f"8 m{letter}llion 8 thou{letter}and 8 {letter}")[:3]] == [0, 0, 0]
    everything = "".join([f"1{chr(code)}" for code in range(sys.maxunicode + 1)])
    assert graded(everything, "E01") == correctness(everything, asked(Fact("x", "date", "2026-04-08", 0.0, 1.0))) == 0.0


def test_the_published_questions_are_those_of_the_figures() -> None:
    assert len(scenarios.PUBLISHED_CASES) == 55
    text = scenarios.question("I01", "published", 0)
    assert "India or Australia" in text.text
    assert text.facts[0].value == "India"
    truths = [scenarios.question(f"E{n:02d}", "published", 0).facts[0].value for n in range(1, 16)]
    assert truths.count(True) == 6
    assert scenarios.question("B15", "published", 0).facts[0].value == "Kenya"
    assert all(
        scenarios.question(case, "published", 4) == scenarios.question(case, "published", 9)
        for case in scenarios.PUBLISHED_CASES
    )
