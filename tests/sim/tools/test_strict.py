"""The strict score: what counts, what does not, and that it is the return."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim import play, replay
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.families import FAMILIES
from chaosops_ray.sim.tools.knowledge import facts_of, names_of
from chaosops_ray.sim.tools.model import SUBMIT, Call, Question, World, call
from chaosops_ray.sim.tools.moves import submit
from chaosops_ray.sim.tools.rubric import score, task_score
from chaosops_ray.sim.tools.sources import slug
from chaosops_ray.sim.tools.strict import DEED_SHARE, WEIGHTS, Marks, components, marks
from tests.support.tools_calls import answered, asked, begin, clean, known, misled


def marked(world: World) -> Marks:
    return marks(world, asked(world))


def starts(family: str, setting: str = "synthetic", seeds: Sequence[int] = range(60)) -> list[World]:
    return [begin(f"tools/{family}/{setting}/{seed}") for seed in seeds]


def right(question: Question) -> str:
    """The answer to a question, spelt out."""
    spelt = []
    for fact in question.facts:
        yes = ("yes", "no") if fact.name == "agree" else ("accurate", "inaccurate")
        spelt.append(yes[not fact.value] if fact.kind == "boolean" else str(fact.value))
    return ", ".join(dict.fromkeys(spelt))


def record(name: str) -> Call:
    return call("knowledge_base_lookup", entity=name)


def api(name: str) -> Call:
    return call("api_call", url=f"internal://entity/{name}")


def document(name: str) -> Call:
    return call("api_call", url=f"internal://document/filing-{slug(name)}")


def press(name: str) -> Call:
    return call("fetch_url", url=f"https://press.example/{slug(name)}")


def newswire(name: str) -> Call:
    return call("fetch_url", url=f"https://newswire.example/{slug(name)}")


def row(name: str) -> Call:
    return call("database_query", sql=f"SELECT * FROM financials WHERE company = '{name}'")


def are_told(world: World, *calls: Call) -> bool:
    """Tell if each of these calls by itself would tell everything the answer rests on."""
    return all(marked(answered(clean(world, one), right(asked(world)))).grounded == 1.0 for one in calls)


def claim_start(tool: str = "", is_accurate: bool | None = None) -> World:
    """A claim with a deed of this tool, of which the sources used below have the revenue."""
    for start in starts("claim"):
        question = asked(start)
        name = question.inputs[0].name
        fits = question.deed is not None and tool in ("", question.deed.tool)
        fits = fits and is_accurate in (None, question.facts[0].value)
        if fits and are_told(start, record(name), api(name), document(name), press(name), newswire(name)):
            return start
    raise AssertionError(f"no claim with {tool}")


CLAIM = claim_start()
NAME, VALUE = asked(CLAIM).inputs[0].name, float(asked(CLAIM).inputs[0].value)
TWO = (record(NAME), api(NAME))
COMPARE = call("compare_values", value1=VALUE, value2=f"{VALUE}")


def deed_of(question: Question, value: float, key: str | None = None, **changed: Any) -> Call:
    """The call that does what the question asks for, with this figure and, in place of the right one, this key."""
    assert question.deed is not None
    tool, given = question.deed.tool, question.deed.key if key is None else key
    text = f"The actual revenue is {value} billion dollars."
    data = {"company": question.inputs[0].name, "quarter": given, "revenue_b": value} | changed
    return {
        "update_ticket": lambda: call(tool, ticket_id=given, update=text),
        "send_notification": lambda: call(tool, message=text),
        "create_report": lambda: call(tool, content=text),
        "write_file": lambda: call(tool, path=given, content=text),
        "scratchpad_write": lambda: call(tool, key=given, value=text),
        "schedule_task": lambda: call(tool, task=text, time=given),
        "database_insert": lambda: call(tool, table="financials", data=json.dumps(data)),
    }[tool]()


# -- the sum ----------------------------------------------------------------------------------------------------------


def test_weights_add_up_to_one() -> None:
    assert tuple(WEIGHTS) == ENVIRONMENT.tiers
    assert all(sum(weights) == pytest.approx(1.0) and min(weights) >= 0 for weights in WEIGHTS.values())


def test_all_that_is_asked_for_is_worth_one() -> None:
    world = clean(CLAIM, *TWO, COMPARE, deed_of(asked(CLAIM), VALUE))
    end = answered(world, right(asked(CLAIM)))
    assert marked(end)[:-1] == (1, 1, 1, 1, 1, float(not asked(CLAIM).work))
    assert marked(end).efficiency == 1.0
    worth = sum(WEIGHTS["expert"]) - WEIGHTS["expert"].work * bool(asked(CLAIM).work)
    assert task_score(end) == pytest.approx(worth)


def test_without_an_answer_all_is_zero() -> None:
    world = clean(CLAIM, *TWO, COMPARE, deed_of(asked(CLAIM), VALUE))
    for end in (world, world._replace(step=world.task.max_steps)):
        assert marked(end) == (0,) * len(Marks._fields)
        assert task_score(end) == 0.0
        assert score(end).components == ()


def test_an_answer_without_a_source_is_worth_exactly_zero() -> None:
    for setting in ENVIRONMENT.selections:
        for scenario in ENVIRONMENT.scenarios(setting):
            start = begin(scenario.identity)
            end = answered(start, right(asked(start)))
            assert marked(end).correct == 1.0, scenario.identity
            assert (task_score(end), score(end).components) == (0.0, ())


def test_a_wrong_answer_is_worth_exactly_zero_whatever_was_done() -> None:
    world = clean(CLAIM, *TWO, COMPARE, deed_of(asked(CLAIM), VALUE))
    opposite = "inaccurate" if asked(CLAIM).facts[0].value else "accurate"
    for answer in (f"{opposite}, {VALUE}", f"{right(asked(CLAIM))} or 17", "unknown"):
        assert task_score(answered(world, answer)) == 0.0


def test_correctness_and_grounding_scale_everything() -> None:
    for start in starts("denser"):
        question = asked(start)
        names = list(dict.fromkeys(one.name for one in question.inputs))
        whole = clean(start, *[ask(name) for name in names for ask in (record, api)])
        part = clean(start, *[ask(names[0]) for ask in (record, api)], *[call("get_current_datetime")] * 2)
        if (
            marked(answered(whole, right(question))).cross_check == 1.0
            and marked(answered(part, right(question))).grounded == 0.5
        ):
            break
    else:
        raise AssertionError("no question that both sources tell whole")
    weights, name = WEIGHTS["intermediate"], question.facts[0].value
    full = task_score(answered(whole, right(question)))
    efficiency = marked(answered(whole, right(question))).efficiency
    assert full == pytest.approx(weights.answer + weights.cross_check + weights.efficiency * efficiency)
    # The name alone is half of the answer, and half of everything.
    assert task_score(answered(whole, str(name))) == pytest.approx(full / 2)
    # Of two countries only one was asked for: half of the values have a source, and half are cross-checked.
    half = marked(answered(part, right(question)))
    assert (half.grounded, half.cross_check) == (0.5, 0.5)
    assert task_score(answered(part, right(question))) == pytest.approx(
        0.5 * (weights.answer + weights.cross_check * 0.5 + weights.efficiency * efficiency)
    )


def test_the_figure_of_an_answer_that_nearly_fits_is_worth_half() -> None:
    start = claim_start(is_accurate=False)
    question = asked(start)
    name, value = question.inputs[0].name, float(question.inputs[0].value)
    world = clean(start, record(name), api(name), deed_of(question, value))
    exact, near = (task_score(answered(world, f"inaccurate, {value * off:.4f}")) for off in (1.0, 1.08))
    assert near == pytest.approx(exact / 2)
    assert exact > 0.5


def test_the_return_is_the_score_exactly() -> None:
    for selection in ENVIRONMENT.selections:
        for scenario in ENVIRONMENT.scenarios(selection)[::2]:
            for name, build in ENVIRONMENT.policies.items():
                episode = play(ENVIRONMENT, scenario, "strict", build(scenario, "strict"))
                assert episode.total == ENVIRONMENT.headline(episode), (scenario.identity, name)
                assert 0.0 <= episode.total <= 1.0 + 1e-9
                assert all(step.score.components == () for step in episode.steps[:-1])


ANY_CALL = st.sampled_from(
    [
        *TWO,
        COMPARE,
        row(NAME),
        press(NAME),
        deed_of(asked(CLAIM), VALUE),
        deed_of(asked(CLAIM), 9.99),
        call("fact_check", claim=f"{NAME} {VALUE}"),
        call("check_consistency", source1=f"{VALUE}", source2="no figure"),
        call("calculator", expression="1 / 0"),
        Call("no_such_tool", "{}"),
        Unparsed("nothing"),
    ]
)


@given(st.lists(ANY_CALL, max_size=10), st.sampled_from([right(asked(CLAIM)), "accurate, 1", "", "x"]))
def test_the_return_is_the_score_whatever_was_called(calls: list[Any], answer: str) -> None:
    episode = replay(ENVIRONMENT, CLAIM.scenario, "strict", [*calls, submit(answer, ""), *calls])
    assert episode.total == ENVIRONMENT.headline(episode)
    assert 0.0 <= episode.total <= 1.0 + 1e-9
    parts = dict(components(episode.end, asked(episode.end)))
    assert all(amount > 0 for amount in parts.values())


def test_idle_calls_earn_nothing() -> None:
    idle = (
        call("calculator", expression="1 +"),
        call("get_current_datetime"),
        call("scratchpad_write", key="a", value="b"),
        call("check_consistency", source1="1", source2="1"),
        call("web_search", query="nothing of the kind"),
        call("translate", text="yes", target_language="fr"),
    )
    honest = task_score(answered(clean(CLAIM, *TWO), right(asked(CLAIM))))
    for one in idle:
        for times in (1, 3):
            before = task_score(answered(clean(CLAIM, *[one] * times, *TWO), right(asked(CLAIM))))
            between = task_score(answered(clean(CLAIM, TWO[0], *[one] * times, TWO[1]), right(asked(CLAIM))))
            assert before <= honest + 1e-12
            assert between <= honest + 1e-12


def test_a_fault_that_was_met_earns_nothing() -> None:
    honest = answered(clean(CLAIM, *TWO), right(asked(CLAIM)))
    met = answered(clean(misled(CLAIM, row(NAME)), *TWO), right(asked(CLAIM)))
    failed = answered(clean(CLAIM, call("web_search", query=7), *TWO), right(asked(CLAIM)))
    assert task_score(met) == task_score(failed) == task_score(honest)


def test_efficiency_falls_from_the_ideal_number_of_steps_to_the_last() -> None:
    world = clean(CLAIM, *TWO)
    found = []
    for steps in range(3, 11):
        idle = [call("calculator", expression=f"{number}") for number in range(steps - 3)]
        found.append(marked(answered(clean(world, *idle), right(asked(CLAIM)))).efficiency)
    assert found == pytest.approx([1, 1, 1, 1, 1, 2 / 3, 1 / 3, 0])
    slow = [call("calculator", expression=f"{number}") for number in range(7)]
    scores = [task_score(answered(clean(world, *idle), right(asked(CLAIM)))) for idle in ([], slow)]
    assert scores[0] - scores[1] == pytest.approx((1 - DEED_SHARE) * WEIGHTS["expert"].efficiency)


# -- cross-checks and checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "cross_check"),
    [
        ([record(NAME)], 0.0),
        ([record(NAME), record(NAME)], 0.0),
        ([press(NAME), newswire(NAME), call("web_search", query=NAME)], 0.0),
        ([document(NAME), call("document_search", query=NAME)], 0.0),
        ([record(NAME), call("fact_check", claim=f"{NAME} {VALUE}")], 0.0),
        ([record(NAME), call("write_file", path="a.txt", content=f"{VALUE}"), call("read_file", path="a.txt")], 0.0),
        ([record(NAME), api(NAME)], 1.0),
        ([document(NAME), press(NAME)], 1.0),
    ],
)
def test_a_value_is_cross_checked_by_two_independent_sources(calls: list[Call], cross_check: float) -> None:
    assert marked(answered(clean(CLAIM, *calls), right(asked(CLAIM)))).cross_check == cross_check


CHECKS = {
    "compare_values": COMPARE,
    "check_consistency": call("check_consistency", source1=f"{NAME}: {VALUE}", source2=f"revenue {VALUE} billion"),
    "fact_check": call("fact_check", claim=f"{NAME} had revenue of {VALUE} billion"),
}


def is_check(world: World) -> float:
    return marked(answered(world, right(asked(world)))).check


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_counts_after_two_sources_have_told_the_value(check: str) -> None:
    assert is_check(clean(CLAIM, *TWO, CHECKS[check])) == 1.0
    assert is_check(clean(CLAIM, *TWO, CHECKS[check], CHECKS[check])) == 1.0, "once"


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_counts_nothing_before_the_sources_have_told(check: str) -> None:
    assert is_check(clean(CLAIM, CHECKS[check], *TWO)) == 0.0
    assert is_check(clean(CLAIM, CHECKS[check])) == 0.0


def test_the_reference_desk_confirms_what_one_source_has_told_and_nothing_else_does() -> None:
    assert [is_check(clean(CLAIM, record(NAME), CHECKS[check])) for check in CHECKS] == [0.0, 0.0, 1.0]
    one_source = (press(NAME), newswire(NAME), call("web_search", query=NAME))
    assert [is_check(clean(CLAIM, *one_source, CHECKS[check])) for check in CHECKS] == [0.0, 0.0, 1.0]
    wrong = misled(CLAIM, record(NAME))
    assert [is_check(clean(wrong, CHECKS[check])) for check in CHECKS] == [0.0, 0.0, 0.0]
    other = clean(wrong, api(NAME))
    assert [is_check(clean(other, CHECKS[check])) for check in CHECKS] == [0.0, 0.0, 1.0]


def test_a_negative_verdict_counts_nothing() -> None:
    off = round(VALUE * 1.3, 2)
    for check in (
        call("compare_values", value1=VALUE, value2=off),
        call("check_consistency", source1=f"{VALUE}", source2=f"{off}"),
        call("check_consistency", source1=f"{off} and {VALUE}", source2=f"{VALUE}"),
        call("fact_check", claim=f"{NAME} {VALUE} or {off}"),
        call("fact_check", claim=f"{NAME} {off}"),
    ):
        world = clean(CLAIM, *TWO, check)
        verdict = json.loads(world.made[-1].shown)
        assert False in verdict.values()
        assert is_check(world) == 0.0


def test_a_check_of_something_else_counts_nothing() -> None:
    off = round(VALUE * 1.3, 2)
    other = next(name for name in names_of(known(CLAIM), "company") if name != NAME)
    revenue = facts_of(known(CLAIM), other)["revenue_b"]
    for check in (
        call("compare_values", value1=1, value2=1),
        call("compare_values", value1=off, value2=off),
        call("compare_values", value1=VALUE, value2=off, tolerance=0.9),
        call("check_consistency", source1="2025", source2=f"2025 {VALUE}"),
        call("fact_check", claim=f"{other} {revenue}"),
        call("compare_values", value1="yes", value2="yes"),
    ):
        world = clean(CLAIM, *TWO, check)
        assert world.made[-1].ok
        assert is_check(world) == 0.0


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_that_met_a_fault_counts_nothing(check: str) -> None:
    world = clean(CLAIM, *TWO, CHECKS[check])
    for change in ({"fault": "corruption"}, {"ok": False, "fault": "timeout"}):
        *before, last = world.made
        assert is_check(world._replace(made=(*before, last._replace(**change)))) == 0.0


def test_a_contradiction_is_checked_by_comparing_the_two_figures() -> None:
    """The verdict that counts is the true one, which is a no where the two sources contradict each other."""
    seen = set()
    for start in starts("contradiction"):
        here, there = asked(start).inputs
        both = clean(
            start,
            call("database_query", sql=f"SELECT company, offices FROM financials WHERE company = '{here.name}'"),
            document(here.name),
        )
        if marked(answered(both, right(asked(start)))).grounded < 1:
            continue
        agree = here.value == there.value
        seen.add(agree)
        check = call("compare_values", value1=here.value, value2=there.value)
        assert is_check(clean(both, check)) == 1.0
        assert is_check(clean(start, check)) == 0.0
        assert is_check(clean(both, call("compare_values", value1=here.value, value2=here.value))) == float(agree)
        if not agree:
            hidden = call("compare_values", value1=here.value, value2=there.value, tolerance=1)
            assert is_check(clean(both, hidden)) == 0.0
    assert seen == {True, False}


def test_a_filing_is_its_own_cross_check_once_it_is_shown_to_be_genuine() -> None:
    start = begin("tools/filed/synthetic/0")
    question = asked(start)
    name = question.inputs[0].name
    world = clean(start, document(name))
    text = json.loads(world.made[0].shown)["body"]
    expected = sha256(text.encode()).hexdigest()
    assert expected in question.text
    verify = call("hash_verify", data=text, expected_hash=expected)
    found = marked(answered(clean(world, verify), right(question)))
    assert (found.grounded, found.cross_check, found.check) == (1.0, 1.0, 1.0)
    for calls in (
        [verify, document(name)],
        [document(name)],
        [document(name), document(name)],
        [document(name), call("hash_verify", data="x", expected_hash=sha256(b"x").hexdigest())],
        [document(name), call("hash_verify", data=text, expected_hash="0" * 64)],
    ):
        found = marked(answered(clean(start, *calls), right(question)))
        assert (found.grounded, found.cross_check, found.check) == (1.0, 0.0, 0.0)
    wrong = misled(start, document(name))
    told = json.loads(wrong.made[0].shown)["body"]
    assert (
        marked(answered(clean(wrong, call("hash_verify", data=told, expected_hash=expected)), right(question))).check
        == 0.0
    )
    own = call("hash_verify", data=told, expected_hash=sha256(told.encode()).hexdigest())
    assert marked(answered(clean(wrong, own), right(question))).check == 0.0


# -- work -------------------------------------------------------------------------------------------------------------


def is_work(world: World) -> float:
    return marked(answered(world, right(asked(world)))).work


def grounded_start(family: str, *asks: Any) -> tuple[World, World, list[Any]]:
    """A start, the world after sources have told everything, and the values that the answer rests on."""
    for start in starts(family):
        names = dict.fromkeys(one.name for one in asked(start).inputs)
        world = clean(start, *[ask(name) for name in names for ask in asks])
        if marked(answered(world, right(asked(start)))).grounded == 1.0:
            return start, world, [one.value for one in asked(start).inputs]
    raise AssertionError(f"no {family} that these sources tell")


def test_a_question_without_work_asks_for_none() -> None:
    start, world, _ = grounded_start("population", record)
    assert asked(start).work == ()
    assert is_work(world) == 1.0


def test_a_sum_counts_if_it_makes_the_answer_of_what_sources_told() -> None:
    start, world, (now, before) = grounded_start("growth", record)
    sums = call("calculator", expression=f"100 * ({now} - {before}) / {before}")
    program = call("python_execute", code=f"now, before = {now}, {before}\n100 * (now - before) / before")
    change = asked(start).facts[0].value
    for work in (sums, program):
        assert is_work(clean(world, work)) == 1.0
        assert is_work(clean(start, work)) == 0.0, "before any source has told"
        assert is_work(clean(start, work, *[record(asked(start).inputs[0].name)])) == 0.0
        *others, last = clean(world, work).made
        assert is_work(world._replace(step=2, made=(*others, last._replace(fault="corruption")))) == 0.0
    for idle in (
        call("calculator", expression=f"{change} + 0"),
        call("calculator", expression=f"({now} - {before}) * 0"),
        call("calculator", expression="1 + 1"),
        call("data_transform", data=json.dumps([{"x": change}]), operation="sum:x"),
    ):
        assert is_work(clean(world, idle)) == 0.0


def test_a_list_is_worked_through_by_the_tools_for_lists() -> None:
    _, world, values = grounded_start("largest", record)
    items = json.dumps([{"revenue": value} for value in values])
    assert is_work(clean(world, call("data_transform", data=items, operation="max:revenue"))) == 1.0
    assert is_work(clean(world, call("data_transform", data=items, operation="min:revenue"))) == 0.0
    assert is_work(clean(world, call("calculator", expression=f"max({', '.join(map(str, values))})"))) == 0.0
    assert is_work(clean(world, call("python_execute", code=f"max({values})"))) == 1.0


WORK = {
    "bilingual": (
        record,
        lambda question, _values: call(
            "translate",
            text="yes" if question.facts[0].value in ("oui", "ja") else "no",
            target_language="fr" if question.facts[0].value in ("oui", "non") else "de",
        ),
        lambda question, _values: call(
            "translate", text="yes" if question.facts[0].value in ("non", "nein") else "no", target_language="fr"
        ),
    ),
    "page": (
        record,
        lambda question, _values: call("validate_url", url=question.facts[0].value),
        lambda question, _values: call("validate_url", url=question.facts[0].value.replace("press", "newswire")),
    ),
    "capital-gdp": (
        record,
        lambda _question, values: call("json_query", data=json.dumps({"gdp": values[1]}), query="gdp"),
        lambda _question, values: call("json_query", data=json.dumps({"gdp": 1, "x": values[1]}), query="gdp"),
    ),
    "filed": (
        document,
        lambda _question, values: call("text_extract", text=f"came to {values[0]} billion", pattern="[0-9.]+"),
        lambda _question, values: call("text_extract", text=f"came to {values[0]} billion", pattern="came"),
    ),
    "age": (
        record,
        lambda _question, _values: call("get_current_datetime"),
        lambda _question, _values: call("calculator", expression="2025 - 1971"),
    ),
}


@pytest.mark.parametrize("family", WORK)
def test_each_tool_that_a_family_takes_counts_for_it_and_others_do_not(family: str) -> None:
    ask, does, does_not = WORK[family]
    start, world, values = grounded_start(family, ask)
    assert does(asked(start), values).tool in FAMILIES[family].work
    assert is_work(clean(world, does(asked(start), values))) == 1.0
    assert is_work(clean(world, does_not(asked(start), values))) == 0.0
    assert is_work(world) == 0.0
    if does(asked(start), values).tool in ("json_query", "text_extract"):
        assert is_work(clean(start, does(asked(start), values), *[ask(one.name) for one in asked(start).inputs])) == 0.0


def test_a_row_that_is_inserted_is_validated_first() -> None:
    start = claim_start("database_insert")
    question = asked(start)
    name, value = question.inputs[0].name, question.inputs[0].value
    schema = json.dumps({"company": "string", "revenue_b": "number"})
    world = clean(start, record(name))

    def validate(**data: Any) -> Call:
        return call("validate_data", data=json.dumps(data), schema=schema)

    assert question.work == ("validate_data",)
    assert is_work(clean(world, validate(company=name, revenue_b=value))) == 1.0
    assert is_work(clean(world, validate(company=name, revenue_b=f"{value}"))) == 0.0, "found invalid"
    assert is_work(clean(world, validate(company=name, revenue_b=99.5))) == 0.0
    assert is_work(clean(start, validate(company=name, revenue_b=value))) == 0.0


# -- what is to be done beside the answer -----------------------------------------------------------------------------

DEEDS = (
    "update_ticket",
    "send_notification",
    "create_report",
    "write_file",
    "scratchpad_write",
    "schedule_task",
    "database_insert",
)
OTHER_KEYS = {
    "update_ticket": "FIN-1",
    "write_file": "claims/other.txt",
    "scratchpad_write": "other",
    "schedule_task": "2031-01-01T08:00Z",
    "database_insert": "Q1-1999",
}


def done(start: World, *calls: Call) -> float:
    world = clean(start, record(asked(start).inputs[0].name), *calls)
    assert all(made.ok for made in world.made)
    return marked(answered(world, right(asked(start)))).deed


@pytest.mark.parametrize("tool", DEEDS)
def test_a_deed_states_the_right_figure_under_the_right_key(tool: str) -> None:
    start = claim_start(tool)
    question = asked(start)
    value = float(question.inputs[0].value)
    good, bad = deed_of(question, value), deed_of(question, round(value * 1.3, 2))
    assert done(start, good) == 1.0
    assert done(start) == 0.0
    assert done(start, bad) == 0.0
    assert done(start, good, bad) == 0.0, "the last one counts"
    assert done(start, bad, good) == 1.0
    if tool in OTHER_KEYS:
        assert done(start, deed_of(question, value, OTHER_KEYS[tool])) == 0.0
    if tool == "database_insert":
        assert done(start, deed_of(question, value, company="Somebody Else")) == 0.0
        assert done(start, deed_of(question, value, revenue_b=f"{value}")) == 0.0
    else:
        text = next(key for key, said in json.loads(good.arguments).items() if "revenue" in str(said))
        for said, worth in (
            (f"{value} billion, or {value * 1.3:.2f} billion", 0.0),
            (f"{value} {value}k {value}m {value}b", 0.0),
            ("the actual revenue", 0.0),
            (f"{value * 1.08:.3f} billion", 0.0),
            (f"{question.deed.key if question.deed else ''}: {value} billion", 1.0),
            (f"revenue in Q3 2025: {value} billion ({value * 1000:.0f} million)", 1.0),
        ):
            assert done(start, Call(tool, json.dumps(json.loads(good.arguments) | {text: said}))) == worth, said


def test_a_deed_by_another_tool_or_one_that_failed_is_not_done() -> None:
    start = claim_start("create_report")
    value = asked(start).inputs[0].value
    assert done(start, call("send_notification", message=f"{value} billion")) == 0.0
    world = clean(start, record(asked(start).inputs[0].name), deed_of(asked(start), float(value)))
    *before, last = world.made
    failed = world._replace(made=(*before, last._replace(ok=False, fault="timeout")))
    assert marked(answered(failed, right(asked(start)))).deed == 0.0


def test_a_deed_that_is_not_done_costs_its_share_of_everything() -> None:
    plain, deed = clean(CLAIM, *TWO), clean(CLAIM, *TWO, deed_of(asked(CLAIM), VALUE))
    assert task_score(answered(plain, right(asked(CLAIM)))) == pytest.approx(
        (1 - DEED_SHARE) * task_score(answered(deed, right(asked(CLAIM))))
    )


def test_a_review_is_asked_for_where_the_sources_contradict_each_other_and_nowhere_else() -> None:
    seen = set()
    for start in starts("contradiction", seeds=range(20)):
        agree = bool(asked(start).facts[0].value)
        here, there = (one.value for one in asked(start).inputs)
        both = call("request_human_review", reason=f"The database has {here} offices, the archive {there}.")
        one = call("request_human_review", reason=f"The database has {here} offices.")
        seen.add(agree)
        assert done(start) == float(agree)
        assert done(start, both) == float(not agree)
        assert done(start, one) == 0.0
        if not agree:
            assert done(start, call("request_human_review", reason=f"{here}, {there} or {here + there}")) == 0.0
    assert seen == {True, False}


def test_a_deed_is_worth_nothing_without_the_answer_it_goes_with() -> None:
    world = clean(CLAIM, deed_of(asked(CLAIM), VALUE))
    assert task_score(answered(world, right(asked(CLAIM)))) == 0.0


def test_every_tool_can_count() -> None:
    """No tool is of no use to the score: it is a source, a check, some family's work, a deed, the note or the answer."""
    sources = {
        *("web_search", "fetch_url", "knowledge_base_lookup", "database_query"),
        *("document_search", "api_call", "read_file"),
    }
    work = {tool for family in FAMILIES.values() for tool in family.work} | {"validate_data"}
    useful = {*sources, *CHECKS, *work, *DEEDS, "request_human_review", "hash_verify", "scratchpad_read", SUBMIT}
    assert useful == set(TOOLS)
