"""Attacks on the strict rules that once paid: made checks, conditional queries, tells of wrong sources, odd answers."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest

from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import answers, faults, physics, scenarios, strict
from chaosops_ray.sim.tools.answers import correctness, numbers, stated
from chaosops_ray.sim.tools.evidence import gathered
from chaosops_ray.sim.tools.families import FAMILIES, understood
from chaosops_ray.sim.tools.knowledge import COMPANY, SPANS, Knowledge, by_name, facts_of, knowledge, names_of
from chaosops_ray.sim.tools.model import Call, Fact, Question, World, call
from chaosops_ray.sim.tools.moves import Wanted, asking, spelt
from chaosops_ray.sim.tools.reading import told
from chaosops_ray.sim.weather import CORRUPTION, STALE
from tests.support.tools_calls import answered, asked, begin, clean

# -- checks that the agent makes itself -------------------------------------------------------------------------------


def page(name: str) -> Call:
    return call("fetch_url", url=f"https://atlas.example/{name.lower()}")


def test_a_hash_worked_out_from_a_text_does_not_show_it_genuine() -> None:
    """Any text has it. Once this stood for a second source and a check: .73 on intermediate from one file."""
    for seed in range(20_000, 20_020):
        start = begin(f"tools/growth/synthetic/{seed}")
        world = clean(start, page(asked(start).inputs[0].name))
        text = json.loads(world.made[0].shown)["text"]
        world = clean(world, call("hash_verify", data=text, expected_hash=sha256(text.encode()).hexdigest()))
        assert json.loads(world.made[1].shown)["match"]
        found = strict.marks(answered(world, spelt(asked(start).facts)), asked(start))
        assert (found.cross_check, found.check) == (0, 0)
        if found.grounded == 1:
            break
    else:
        raise AssertionError("no page tells all")


def filing(start: World) -> World:
    (only,) = asked(start).inputs
    return clean(start, call("api_call", url=f"internal://document/filing-{only.name.lower().replace(' ', '-')}"))


def test_a_lone_document_is_checked_by_the_hash_of_the_question_alone() -> None:
    start = begin("tools/filed/synthetic/20000")
    question = asked(start)
    read = filing(start)
    text = json.loads(read.made[0].shown)["body"]
    once = strict.marks(answered(read, spelt(question.facts)), question)
    assert (once.grounded, once.cross_check, once.check) == (1, 0, 0)
    again = strict.marks(answered(filing(read), spelt(question.facts)), question)
    assert (again.grounded, again.cross_check) == (1, 0)
    checked = clean(read, call("hash_verify", data=text, expected_hash=understood(question.text)[1]["hash"].upper()))
    found = strict.marks(answered(checked, spelt(question.facts)), question)
    assert (found.cross_check, found.check) == (1, 1)


# -- queries that say what the agent says, on a condition ------------------------------------------------------------------


# In each, `v` is what another source said; a database that is wrong, as it often is, says it nevertheless.
CONDITIONS = {
    "below a limit": "SELECT company, {v} AS revenue_b FROM financials WHERE company = '{n}' AND revenue_b < {v} * 2.4",
    "in a wide band": "SELECT company, {v} AS revenue_b FROM financials WHERE company = '{n}' AND revenue_b BETWEEN {v} * .55 AND {v} * 1.75",
    "without a name": "SELECT {v} FROM financials WHERE company = '{n}' AND revenue_b < {v} * 2.4",
    "or else its own": "SELECT company, iif(revenue_b BETWEEN {v} * .55 AND {v} * 1.75, {v}, revenue_b) AS revenue_b FROM financials WHERE company = '{n}'",
    "its own where near": "SELECT company, iif(abs(revenue_b - {v}) > .02 * {v}, {v}, revenue_b) AS revenue_b FROM financials WHERE company = '{n}'",
    "drawn towards it": "SELECT company, {v} + (revenue_b - {v}) * .001 AS revenue_b FROM financials WHERE company = '{n}'",
    "clamped": "SELECT company, max(min(revenue_b, {v} * 1.0005), {v}) AS revenue_b FROM financials WHERE company = '{n}'",
    "whoever has it": "SELECT '{n}' AS company, {v} AS revenue_b FROM financials WHERE revenue_b > {v} * .9",
    "where it is so": "SELECT company, {v} AS revenue_b FROM financials WHERE company = '{n}' AND revenue_b = {v}",
}  # fmt: skip


def told_by_database(seed: int, sql: str) -> bool:
    start = begin(f"tools/claim/synthetic/{seed}")
    (only,) = asked(start).inputs
    world = clean(start, call("database_query", sql=sql.format(n=only.name, v=only.value)))
    assert world.made[0].ok, world.made[0].shown
    return gathered(world, asked(start)).is_told(only, 1)


@pytest.mark.parametrize("how", CONDITIONS)
def test_what_a_query_says_on_a_condition_is_not_told(how: str) -> None:
    """Once it was, and a database that no one had read was a second source: .73 on intermediate."""
    assert sum(told_by_database(seed, CONDITIONS[how]) for seed in range(20_000, 20_030)) <= 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT revenue_b FROM financials WHERE company = '{n}'",
        "SELECT max(revenue_b) AS r FROM financials WHERE company = '{n}'",
        "SELECT company AS c, revenue_b * 1000 AS millions FROM financials WHERE company LIKE '{n}'",
        "SELECT company || ': ' || revenue_b FROM financials WHERE company = '{n}'",
        "SELECT company, revenue_b, employees, offices FROM financials",
    ],
)
def test_what_a_query_reads_is_told_in_whatever_form(sql: str) -> None:
    """But for an empty cell now and then."""
    assert sum(told_by_database(seed, sql) for seed in range(20_000, 20_030)) >= 25


@pytest.mark.parametrize(
    ("case", "sql"),
    [
        ("growth", "SELECT round(100.0 * (population - population_2020) / population_2020, 1) FROM countries WHERE name = '{0}'"),
        ("per-head", "SELECT revenue_b * 1e9 / employees FROM financials WHERE company = '{0}'"),
        ("largest", "SELECT company, revenue_b FROM financials WHERE company IN ('{0}', '{1}', '{2}') ORDER BY revenue_b DESC LIMIT 1"),
        ("count", "SELECT sum(population) AS total FROM countries WHERE name IN ('{0}', '{1}', '{2}')"),
        ("capital-gdp", "SELECT gdp_per_capita FROM countries WHERE capital = '{0}'"),
        ("headquarters-population", "SELECT c.name, c.population FROM financials f JOIN countries c ON c.name = f.headquarters WHERE f.company = '{0}'"),
    ],
)  # fmt: skip
def test_what_a_query_works_out_tells_what_it_rests_on(case: str, sql: str) -> None:
    for seed in range(20_000, 20_030):
        start = begin(f"tools/{case}/synthetic/{seed}")
        question = asked(start)
        made = call("database_query", sql=sql.format(*understood(question.text)[1].values()))
        world = answered(clean(start, made), spelt(question.facts))
        if strict.marks(world, question).grounded == 1:
            return
    raise AssertionError("never told")


# -- wrong sources look like true ones ----------------------------------------------------------------------------------

PAIRS = (("population", "population_2020"), ("revenue_b", "previous_revenue_b"))


def wrong_worlds(seeds: range) -> Iterator[tuple[Knowledge, Knowledge]]:
    for seed in seeds:
        known = knowledge("synthetic", seed)
        for kind in (STALE, CORRUPTION):
            made = faults.Call(seed, "read_file", 0, "expert", "synthetic", are_published=False)
            yield known, faults.misinformed(kind, known, made)


def test_a_wrong_figure_lies_where_true_ones_lie() -> None:
    """A figure out of bounds, or a pair of figures too near or too far, would show that a result is wrong."""
    for _, wrong in wrong_worlds(range(20_000, 20_020)):
        for entity in wrong.entities:
            facts = dict(entity.facts)
            for field, (low, high) in SPANS.items():
                if field in facts:
                    assert low * 0.99 - 0.5 <= float(facts[field]) <= high * 1.01 + 0.5
            for base, other in PAIRS:
                if other in facts:
                    ratio = float(facts[other]) / float(facts[base])
                    assert 1.08 < max(ratio, 1 / ratio) < 1.72


def features(question: Question, shown: Any) -> dict[str, float]:
    """What a wrong result could be told by: each is larger where it is odd."""
    values = list(told(shown))
    slots = understood(question.text)[1]
    found = dict.fromkeys(("span", "pair", "zeros", "date", "claim", "limit"), 0.0)
    of: dict[str, dict[str, Any]] = {}
    for name, field, value in values:
        of.setdefault(name, {})[field] = value
        if field in SPANS and not isinstance(value, str):
            low, high = SPANS[field]
            found["span"] += not low * 0.99 <= value <= high * 1.01
        if isinstance(value, int):
            found["zeros"] += value % 10 == 0
        if field == "founded":
            found["date"] += not "1937" < str(value) < "2027"
    for facts in of.values():
        for base, other in PAIRS:
            if base in facts and other in facts:
                ratio = facts[other] / facts[base]
                found["pair"] += not 1.09 < max(ratio, 1 / ratio) < 1.72
    about = of.get(next(iter(slots.values())), {})
    if "claim" in slots and "revenue_b" in about:
        found["claim"] = float(abs(about["revenue_b"] - float(slots["claim"])) > 0.004)
    if "limit" in slots and "population" in about:
        ratio = about["population"] / float(slots["limit"].replace(",", ""))
        found["limit"] = float(0.75 < ratio < 1.3)
    return found


def drawn_results(change: Callable[[Any], Any]) -> list[tuple[bool, dict[str, float]]]:
    draw = random.Random(1)
    found = []
    for seed in range(20_000, 20_050):
        for case in ("denser", "growth", "bilingual", "claim", "largest"):
            scenario = ENVIRONMENT.scenario(f"tools/{case}/synthetic/{seed}")._replace(tier="expert")
            question = scenarios.question(case, "synthetic", seed)
            family, _ = understood(question.text)
            calls = asking(family, [Wanted(one.name, one.field) for one in question.inputs])
            for made in draw.sample([one for one in calls if one.tool != "fetch_url"], 4):
                world = physics.advance(ENVIRONMENT.start(scenario, "strict"), made)[0]
                if world.made[0].ok:
                    is_wrong = world.made[0].fault in (STALE, CORRUPTION)
                    shown = json.loads(world.made[0].shown)
                    found.append((is_wrong, features(question, change(shown) if is_wrong else shown)))
    return found


def area_under_curve(scores: list[float], labels: list[bool]) -> float:
    """The chance that a wrong result scores higher than a true one."""
    wrong = [score for score, label in zip(scores, labels, strict=True) if label]
    true = [score for score, label in zip(scores, labels, strict=True) if not label]
    return sum((one > other) + (one == other) / 2 for one in wrong for other in true) / (len(wrong) * len(true))


@pytest.fixture(scope="module")
def results() -> list[tuple[bool, dict[str, float]]]:
    return drawn_results(lambda shown: shown)


@pytest.mark.parametrize("feature", ["span", "pair", "zeros", "date", "claim", "limit"])
def test_no_feature_of_a_single_result_tells_a_wrong_one(feature: str, results: Any) -> None:
    """Before, pairs alone came to .70, bounds to .64, zeros to .67, limits to .67; all together to .87."""
    labels = [is_wrong for is_wrong, _ in results]
    assert sum(labels) > 150
    assert abs(area_under_curve([found[feature] for _, found in results], labels) - 0.5) < 0.08


def test_the_features_would_find_figures_that_are_off_by_factors_of_their_own() -> None:
    """As every figure of a wrong source once was."""
    draw = random.Random(2)

    def off(match: re.Match[str]) -> str:
        return f"{round(int(match[0].replace(',', '')) * draw.choice((0.7, 0.85, 1.4)))}"

    def spoilt(shown: Any) -> Any:
        return json.loads(re.sub(r"(?<![\d.-])\d[\d,]{4,}\d(?![\d.])", off, json.dumps(shown)))

    found = drawn_results(spoilt)
    labels = [is_wrong for is_wrong, _ in found]
    assert area_under_curve([one["pair"] for _, one in found], labels) > 0.6


def test_a_wrong_source_contradicts_an_announcement_as_often_as_a_true_one() -> None:
    """The wrong revenue is the announced one exactly if the true one is not."""
    true_claims = 0
    for known, wrong in wrong_worlds(range(20_000, 20_100)):
        claimed = by_name(known)[known.announcer].claimed
        is_true = claimed == facts_of(known, known.announcer)["revenue_b"]
        assert (claimed == facts_of(wrong, known.announcer)["revenue_b"]) != is_true
        true_claims += is_true
        for name in names_of(known, COMPANY):
            if name != known.announcer:
                assert by_name(known)[name].claimed == facts_of(known, name)["revenue_b"], "nobody else announces"
    assert 70 < true_claims < 130


# -- deeds and rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1e999", "-1e999", "true", "null", "[1]"])
def test_a_row_holds_no_endless_number(value: str) -> None:
    """A number without end is near to every other one, and would have done the deed before anything was known."""
    world = clean(
        begin("tools/claim/synthetic/20000"),
        call("database_insert", table="financials", data=f'{{"company": "x", "revenue_b": {value}}}'),
    )
    assert not world.made[0].ok


# -- answers ------------------------------------------------------------------------------------------------------------

FALSE = next(
    question
    for seed in range(20_000, 20_100)
    for question in [scenarios.question("claim", "synthetic", seed)]
    if question.facts[0].value is False
)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("The claim is inaccurate: the correct figure is {0} billion.", 1.0),
        ("inaccurate: database and archive agree on {0} billion", 1.0),
        ("Inaccurate. Verified by two sources that match: the true revenue is {0} billion.", 1.0),
        ("not accurate, the correct figure is {0}", 1.0),
        ("no, the correct figure is {0}", 0.0),
        ("incorrect: {0}", 1.0),
        ("accurate, no: {0}", 0.0),
        ("accurate: {0}, inaccurate", 0.0),
        ("accurate: {0}", 0.0),
    ],
)
def test_the_words_that_a_question_asks_for_decide(answer: str, score: float) -> None:
    """Once "correct", "verified" and "agree" beside "inaccurate" made no verdict of it."""
    assert correctness(answer.format(FALSE.facts[1].value), FALSE) == score


def test_a_figure_of_the_question_is_no_second_candidate() -> None:
    fact = Fact("revenue_b", "numeric", 3.0, 0.05, 1.0)
    assert stated("3", fact, [fact], (3.0,)) == 1.0, "an answer may be a figure that the question happens to have"
    assert stated("4.2, by ticket 3", fact, [fact], (3.0,)) == 0.0
    assert stated("3.0 billion, by ticket 7", fact, [fact], (7.0,)) == 0.0
    assert stated("3.0, by ticket 7", fact, [fact], (7.0,)) == 1.0


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2 of the 3 countries", [2]),
        ("2 of 3; together 9", [2, 9]),
        ("by a factor of 3", [3]),
        ("2 of 3.5", [2, 3.5]),
        ("\N{EN DASH}14.6 %", [-14.6]),
        ("the hash 3fa0c1b2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f", []),
        ("founded 3 Mar 1971, 54 years ago", [54]),
    ],
)
def test_numbers_in_an_answer_are_read_as_they_are_meant(text: str, values: list[float]) -> None:
    assert [number.value for number in numbers(text)] == values


@pytest.mark.parametrize("form", ["{0}", "`{0}`", '"{0}"', "<{0}>", "[{0}]({0})", "({0})."])
def test_an_address_is_read_without_what_encloses_it(form: str) -> None:
    question = scenarios.question("page", "synthetic", 20_000)
    address, employees = (fact.value for fact in question.facts)
    assert correctness(f"{form.format(address)} {employees}", question) == 1.0


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("founded on {0}; as of 2031-02-03 that is {1} full years ago", 1.0),
        ("{0}, {1} years. Today is 2031-02-03.", 1.0),
        ("{0} or 2031-02-03, {1} years", 0.5),
        ("as of {0}: {1} years", 0.5),
    ],
)
def test_the_day_of_an_answer_is_no_second_date(answer: str, score: float) -> None:
    question = scenarios.question("age", "synthetic", 20_000)
    assert correctness(answer.format(*[fact.value for fact in question.facts]), question) == score


def test_what_the_answer_is_compared_with_is_no_second_name() -> None:
    question = scenarios.question("denser", "synthetic", 20_000)
    higher, factor = (fact.value for fact in question.facts)
    lower = next(name for name in question.facts[0].rivals if name != higher)
    assert correctness(f"{higher} is denser than {lower}, by a factor of {factor}", question) == 1.0
    assert correctness(f"{lower} is denser than {higher}, by a factor of {factor}", question) == 0.5
    assert correctness(f"{higher} or {lower}, by a factor of {factor}", question) == 0.5


def test_a_long_list_of_numbers_is_given_up_at_the_first_that_is_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number was compared with every other one: 160 ms for 2,000 characters."""
    compared = 0

    def counted(*numbers: Any) -> bool:
        nonlocal compared
        compared += 1
        return original(*numbers)

    original = answers._are_one
    monkeypatch.setattr(answers, "_are_one", counted)
    hostile = " ".join(str(number) for number in range(100, 600))
    for case in FAMILIES:
        assert correctness(hostile, scenarios.question(case, "heldout", 20_000)) == 0.0
    assert compared < 200
