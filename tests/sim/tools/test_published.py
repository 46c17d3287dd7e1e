"""The published rules: what is counted, how answers and numbers are read, what an episode is worth, to the digit."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim import replay
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import published, scenarios
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.model import (
    MAX_ANSWER,
    MAX_ARGUMENTS,
    SUBMIT,
    TASKS,
    Call,
    Fact,
    Made,
    Question,
    World,
    call,
    canonical,
    parse_rules,
)
from chaosops_ray.sim.tools.rubric import correct_share, counts_of, score, task_score
from tests.sim.tools.test_answers import SHOTGUN

# An episode in short: a letter is a tool, a digit behind it tells arguments apart, ! is an error, ^ a timeout,
# ~ a silent fault. ? is a tool that does not exist, - is a step without a call, = is an answer that is refused.
TOOL_OF = {
    "w": "web_search",
    "f": "fetch_url",
    "k": "knowledge_base_lookup",
    "d": "database_query",
    "s": "document_search",
    "a": "api_call",
    "t": "get_current_datetime",
    "c": "calculator",
    "v": "check_consistency",
    "h": "fact_check",
    "n": "scratchpad_write",
    "?": "crystal_ball",
    "=": SUBMIT,
}


def made(token: str) -> Made:
    tool = TOOL_OF.get(token[0], "")
    arguments = canonical({"is": "".join(filter(str.isdigit, token))}) if tool else ""
    ok = tool in TOOLS and tool != SUBMIT and not set(token) & set("!^")
    fault = "timeout" if "^" in token else "stale" if "~" in token else ""
    return Made(tool, arguments, ok=ok, shown="{}", truth="{}", fault=fault)


def world(case: str, calls: Sequence[Made], answer: str | None = None, rules: str = "published") -> World:
    """The world after these calls and, where there is one, the answer."""
    end = () if answer is None else (Made(SUBMIT, "{}", ok=True, shown="{}", truth="{}", fault=""),)
    scenario = scenarios.parse(f"tools/{case}/published/1")
    return World(scenario, parse_rules(rules), len(calls) + len(end), (*calls, *end), answer=answer)


def after(case: str, script: str, answer: str | None = None) -> World:
    return world(case, [made(token) for token in script.split()], answer)


def counted(script: str, case: str = "E01", answer: str | None = None) -> Any:
    return counts_of(after(case, script, answer))


# -- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "tools"),
    [
        ("w", 1),
        ("w w2 w3", 1),
        ("w k c", 3),
        ("w! k^ c!", 3),
        ("? ? w", 1),
        ("- t n", 2),
        ("= w", 1),
    ],
)
def test_tools_called_are_known_ones_whether_they_failed_or_not(script: str, tools: int) -> None:
    assert counted(script, answer="x").tools == counted(script).tools == tools


@pytest.mark.parametrize(
    ("script", "repeats"),
    [
        ("w w", 1),
        ("w w1", 0),
        ("w k", 0),
        ("w w w w", 3),
        ("w! w!", 1),
        ("w^ w", 1),
        ("w k w k", 2),
        ("? ? ?", 0),
        ("- - -", 0),
        ("= =", 0),
    ],
)
def test_repeats_are_the_identical_calls_from_the_second_on(script: str, repeats: int) -> None:
    assert counted(script).repeats == repeats


def test_the_order_of_arguments_tells_no_calls_apart() -> None:
    calls = [Call("compare_values", f"{{{text}}}") for text in ('"value1": 1, "value2": 2', '"value2": 2, "value1": 1')]
    episode = replay(ENVIRONMENT, ENVIRONMENT.scenario("tools/E01/published/1"), "published", calls)
    assert counts_of(episode.end).repeats == 1


EARNS = {
    "retrievals": {
        "web_search",
        "fetch_url",
        "knowledge_base_lookup",
        "database_query",
        "document_search",
        "api_call",
        "read_file",
    },
    "verifications": {
        "fact_check",
        "check_consistency",
        "compare_values",
        "validate_data",
        "validate_url",
        "hash_verify",
        "json_query",
        "text_extract",
    },
    "computations": {"calculator", "python_execute", "data_transform"},
    "artifacts": {
        "scratchpad_write",
        "write_file",
        "database_insert",
        "create_report",
        "send_notification",
        "schedule_task",
        "update_ticket",
        "request_human_review",
    },
}
ALSO_FAILED = {"verifications", "computations"}


@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_counts_as_what_the_published_lists_say(tool: str, ok: bool) -> None:
    found = counts_of(world("E01", [Made(tool, "{}", ok=ok, shown="{}", truth="{}", fault="")]))._asdict()
    wanted = {kind: int(tool in names and (ok or kind in ALSO_FAILED)) for kind, names in EARNS.items()}
    assert {kind: found[kind] for kind in EARNS} == wanted
    assert found["tools"] == (tool != SUBMIT)


@pytest.mark.parametrize(
    ("script", "recoveries"),
    [
        ("w! k", 1),
        ("w^ k", 1),
        ("w! k!", 1),
        ("w! w2", 0),
        ("w! w k", 0),
        ("w! w! k", 1),
        ("w! k! w", 2),
        ("w! k w", 1),
        ("w! k k w", 1),
        ("w k! w", 1),
        ("w~ k", 0),
        ("w! ? k", 1),
        ("w! - k", 1),
        ("w! ? w", 0),
        ("? k", 0),
        ("- k", 0),
        ("k w!", 0),
    ],
)
def test_a_recovery_switch_is_a_call_of_another_tool_right_after_a_failed_one(script: str, recoveries: int) -> None:
    assert counted(script).recoveries == recoveries


def test_the_answer_is_no_switch_to_another_tool() -> None:
    assert counted("k w!", answer="x").recoveries == 0
    assert counted("w! = k").recoveries == 1


@pytest.mark.parametrize(
    ("script", "failures", "warnings", "faults"),
    [
        ("w k", 0, 0, 0),
        ("w! k!", 2, 0, 0),
        ("w^ k", 1, 1, 1),
        ("w~ k", 0, 1, 1),
        ("w w", 0, 0, 0),
        ("w w w", 0, 1, 0),
        ("w w w w", 0, 2, 0),
        ("w w w~ w", 0, 2, 1),
        ("w! w! w!", 3, 1, 0),
        ("? ? ? ?", 0, 0, 0),
        ("- - - =", 0, 0, 0),
    ],
)
def test_failures_are_errors_and_warnings_are_faults_and_third_repeats(
    script: str, failures: int, warnings: int, faults: int
) -> None:
    found = counted(script)
    assert (found.failures, found.warnings, found.faults) == (failures, warnings, faults)


@pytest.mark.parametrize(
    ("case", "script", "sources"),
    [
        ("W01", "k w d", 3),
        ("W01", "s f a", 0),
        ("B01", "k d w s", 2),
        ("B01", "w s f a", 0),
        ("I01", "k d w", 2),
        ("I01", "k k2 k3", 1),
        ("I01", "k! d^", 2),
        ("I01", "w s a", 0),
        ("E01", "w d s f", 4),
        ("E01", "k a", 0),
        ("E01", "w! w2", 1),
    ],
)
def test_cross_validation_is_by_tools_called_out_of_the_questions_own_group(
    case: str, script: str, sources: int
) -> None:
    assert counted(script, case).sources == sources


# -- how an answer is read --------------------------------------------------------------------------------------------

HUGE = "9" * 400


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("83200000", [83_200_000]),
        ("83,200,000", [83_200_000]),
        ("-3 and +4", [-3, 4]),
        ("1,234.5", [1234.5]),
        ("1,2,3", [1, 2, 3]),
        ("1.87000000000000000000001", [1.87]),
        ("5.", [5]),
        ("83.2 billion", [83.2, 83.2e9]),
        ("83.2 million", [83.2, 83.2e6]),
        ("83.2 thousand", [83.2, 83.2e3]),
        ("83.2 bn", [83.2, 83.2e9]),
        ("83.2 b", [83.2, 83.2e9]),
        ("83.2 m", [83.2, 83.2e6]),
        ("83.2 k", [83.2, 83.2e3]),
        ("83.2MiLLiOn", [83.2, 83.2e6]),
        ("83.2   BN", [83.2, 83.2e9]),
        ("51.2 km", [51.2, 51_200]),
        ("83.2 miles", [83.2, 83.2e6]),
        ("3 bananas", [3, 3e9]),
        ("2 thousands", [2, 2000]),
        ("83.2 people", [83.2]),
        ("83.2 mıllion", [83.2]),
        ("83.2 MİLLION", [83.2]),
        ("83.2 bıllion", [83.2]),
        ("83.2 thouſand", [83.2]),
        ("83.2 \N{KELVIN SIGN}", [83.2]),
        ("İ ſ ı", []),
        (HUGE, [math.inf]),
        (f"-{HUGE} k", [-math.inf, -math.inf]),
        ("9" * 5000, [math.inf]),
        ("0." + "0" * 5000 + "1", [0.0]),
        ("9" * 308 + " bn", [1e308, math.inf]),
        ("", []),
    ],
)
def test_numbers_are_read_as_written_and_with_their_unit(text: str, wanted: list[float]) -> None:
    assert published.readings(text) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "text", ["1," * 3000, "11,1," * 1200, "-" * 6000, "1" + " " * 6000, "1.1." * 1500, "1 m" * 2000]
)
def test_long_answers_are_read_in_a_time_that_grows_with_them_alone(text: str) -> None:
    """Each takes milliseconds; a pattern that tries every way to split it would not come back."""
    assert all(math.isfinite(reading) for reading in published.readings(text))


def graded(answer: str, case: str) -> float:
    return correct_share(world(case, (), answer))


@pytest.mark.parametrize(
    ("case", "answer", "correct"),
    [
        ("W01", "83200000", 1.0),
        ("W01", "0.0832 billion or so", 1.0),
        ("W01", "83.2 miles", 1.0),
        ("W01", "83.2 mıllion", 0.0),
        ("W01", "84.8 million", 1.0),
        ("W01", "87 million", 0.5),
        ("W01", "90 million", 0.0),
        ("W01", "-83200000", 0.0),
        ("W01", "5 or 83,200,000 or 7", 1.0),
        ("W01", HUGE, 0.0),
        ("W01", f"{HUGE} 83200000", 1.0),
        ("B01", "Germany: 51.2 km", 1.0),
        ("B03", "Canada, 53400", 1.0),
        ("B03", "CANADA", 0.5),
        ("B03", "Canadian", 0.0),
        ("B03", "uncanada53400", 1.0),
        ("B03", "canada, 60000", 0.75),
        ("B10", "South-Korea 33070", 1.0),
        ("B10", "Korea. 33070", 0.75),
        ("B10", "South. Korea. 33070", 0.75),
        ("B15", "\N{KELVIN SIGN}enya 2050", 0.5),
        ("B10", "southkorea 33070", 0.5),
        ("B06", "İndia", 0.0),
        ("I01", "India, 125.9", 1.0),
        ("I01", "IndiaAustralia 125.9", 1.0),
        ("I01", "Indıa, 125.9", 0.5),
        ("E01", "Inaccurate: 1.87", 1.0),
        ("E01", "INACCURATE 1.87000000000000001", 1.0),
        ("E01", "accurate, 1.87", 0.5),
        ("E01", "It does\nnot match. 1.87", 1.0),
        ("E01", "not_accurate 1.87", 1.0),
        ("E02", "accurate 0.94", 1.0),
        ("E02", "yes: not false, 0.94", 0.5),
        ("E02", "HelioWorks is correct; nothing else. 0.94", 0.5),
        ("E02", "TRUE and verıfied", 0.5),
        ("E02", "verıfied, 0.94", 0.5),
        ("E02", "\N{KELVIN SIGN}", 0.0),
    ],
)
def test_answers_are_graded_by_containment_alone(case: str, answer: str, correct: float) -> None:
    assert graded(answer, case) == pytest.approx(correct)


def test_text_counts_half_from_half_of_its_words() -> None:
    asked = Question("?", (Fact("x", "text", "Northern Star Robotics Group", 0.0, 1.0),), 1, ())
    for answer, correct in (("northern STAR, robotics group", 1.0), ("Northern. Robotics.", 0.5), ("Star", 0.0)):
        assert published.correctness(answer, asked) == correct


def test_dates_are_iso_or_long() -> None:
    asked = Question("?", (Fact("x", "date", "2026-04-08", 0.0, 1.0),), 1, ())
    for answer, correct in (("on 2026-04-08", 1.0), ("April 8, 2026", 1.0), ("8/4/26", 0.0)):
        assert published.correctness(answer, asked) == correct


def test_every_known_fact_in_one_string_is_945_correct() -> None:
    shares = [graded(SHOTGUN, case) for case in scenarios.PUBLISHED_CASES]
    assert sum(shares) / len(shares) == pytest.approx(0.945, abs=0.001)


CASES = ("W01", "B10", "I01", "E01", "E02")


ODD = ("8", "83.2 ", "1,", ".5", "-", " ", "mıllion", "MİLLION", "bıllion", "thouſand", "\N{KELVIN SIGN}", "٣", HUGE)


@given(st.text(max_size=300) | st.lists(st.sampled_from(ODD), max_size=8).map("".join))
def test_no_answer_raises(answer: str) -> None:
    for case in CASES:
        assert 0.0 <= graded(answer, case) <= 1.0


@pytest.mark.slow
def test_no_character_of_unicode_raises_or_is_another_letter() -> None:
    for code in range(128, sys.maxunicode + 1):
        letter = chr(code)
        assert published.readings(f"8 m{letter}llion 8 thou{letter}and 8 {letter}")[:1] == [8]
        assert "k" not in published.normalised(letter)
        assert 8e3 not in published.readings(f"8 {letter}")
    everything = "".join([f"1{chr(code)}" for code in range(sys.maxunicode + 1)])
    for case in CASES:
        graded(everything, case)


@pytest.mark.parametrize("length", [MAX_ANSWER + 1, 4_001, MAX_ARGUMENTS - 100])
def test_an_answer_is_not_cut_before_it_is_graded(length: int) -> None:
    answer = "x" * (length - 9) + " 83200000"
    scenario = ENVIRONMENT.scenario("tools/W01/published/1")
    end = replay(ENVIRONMENT, scenario, "published", [call(SUBMIT, answer=answer, reasoning="")]).end
    assert (end.answer, correct_share(end)) == (answer, 1.0)
    assert ENVIRONMENT.load(ENVIRONMENT.dump(end)) == end


def test_arguments_that_are_too_long_for_a_call_bound_the_answer() -> None:
    scenario = ENVIRONMENT.scenario("tools/W01/published/1")
    long = call(SUBMIT, answer="x" * MAX_ARGUMENTS, reasoning="")
    assert replay(ENVIRONMENT, scenario, "published", [long]).end.answer is None
    note = call("scratchpad_write", key="a", value="x" * 4_001)
    assert not replay(ENVIRONMENT, scenario, "published", [note]).end.made[0].ok


HIDDEN = "\n \t\x1c\x85\xa0\u200b\u2028\x00\x1b\xad\ud800\ue000"


@given(st.text(HIDDEN + "08.-,mkb", max_size=30))
def test_an_answer_is_kept_as_one_printable_line_that_reads_the_same(answer: str) -> None:
    answer = f"8{answer}"
    scenario = ENVIRONMENT.scenario("tools/E01/published/1")
    end = replay(ENVIRONMENT, scenario, "published", [call(SUBMIT, answer=answer, reasoning="")]).end
    assert end.answer.isprintable()
    assert len(end.answer) == len(answer)
    assert published.readings(end.answer) == published.readings(answer)
    assert published.normalised(end.answer) == published.normalised(answer)
    assert ENVIRONMENT.load(ENVIRONMENT.dump(end)) == end


# -- what an episode is worth -----------------------------------------------------------------------------------------

RIGHT = {"W01": "83.2 million", "I01": "India, 125.9", "E01": "inaccurate, 1.87", "E02": "accurate, 0.94"}

# Case, calls, answer, task score, return; each worked out on paper.
EPISODES = [
    ("W01", "", RIGHT, 0.73, 0.8),
    ("W01", "=", RIGHT, 0.73, 0.8),
    ("W01", "w k", RIGHT, 0.99, 0.8),
    ("W01", "w! k", RIGHT, 0.99, 0.8),
    ("W01", "w^ k", RIGHT, 0.99, 1.0),
    ("W01", "k w!", RIGHT, 0.86, 0.8),
    ("W01", "w! w k", RIGHT, 0.84, 0.65),
    ("W01", "w~", RIGHT, 0.86, 1.0),
    ("W01", "w w w", RIGHT, 0.82, 0.6),
    ("W01", "k^ k k", RIGHT, 0.82, 0.8),
    ("W01", "? ? k", RIGHT, 0.94, 0.7),
    ("W01", "- - - - -", RIGHT, 0.63, 0.7),
    ("W01", "w w w w w w", None, 0.0525, -0.5),
    ("W01", "c c c c c c", None, 0.001, -0.5),
    ("B03", "k d", "Canada", 0.725, 0.45),
    ("B03", "c t", "Canada, 53400", 0.85, 0.8),
    ("B03", "w~", "Canada", 0.585, 0.45),
    ("B03", "w~", "Canada, 60000", 0.7225, 0.825),
    ("I01", "k d v c", RIGHT, 0.99, 0.8),
    ("I01", "k! v! c!", RIGHT, 0.94, 0.8),
    ("I01", "w s", "Australia", 0.18, 0.1),
    ("I01", "k d v c k d v c", None, 0.105, -0.5),
    ("E01", "w d h v c n", RIGHT, 0.99, 0.8),
    ("E01", "w! d s! f", RIGHT, 0.9125, 0.8),
    ("E01", "w! w d", "1.87", 0.5839, 0.4),
    ("E02", "w", RIGHT, 0.7242, 0.8),
    ("E01", "w k d s f c v n t a", None, 0.14, -0.5),
    ("E01", "c c c c c c", "accurate, 2.3", 0.2195, -0.1),
    ("E01", "- - - - - - - - -", "x", 0.0656, 0.0),
    ("E01", "- - - - - - - - - -", None, 0.0131, -0.5),
]


@pytest.mark.parametrize(("case", "script", "answer", "task", "total"), EPISODES)
def test_episodes_worked_out_by_hand(
    case: str, script: str, answer: str | dict[str, str] | None, task: float, total: float
) -> None:
    end = after(case, script, answer[case] if isinstance(answer, dict) else answer)
    assert end.done
    assert task_score(end) == pytest.approx(task, abs=1e-12)
    assert score(end).total == pytest.approx(total, abs=1e-12)


def test_the_last_step_pays_all_of_the_return() -> None:
    scenario = ENVIRONMENT.scenario("tools/W01/published/1")
    calls = [call("calculator", expression="1")] * 3
    paid = [step.score.components for step in replay(ENVIRONMENT, scenario, "published", [*calls, *calls]).steps]
    assert paid == [(), (), (), (), (), (("answer.missing", -0.5),)]
    answer = call(SUBMIT, answer="83200000", reasoning="")
    paid = [step.score.components for step in replay(ENVIRONMENT, scenario, "published", [*calls, answer]).steps]
    assert paid == [(), (), (), (("answer.correct", 0.7), ("discipline.repeat", -0.1))]


def test_an_answer_after_too_many_steps_loses_a_tenth() -> None:
    end = after("W01", "- " * 6, RIGHT["W01"])
    assert dict(score(end).components) == {"answer.correct": 0.7, "answer.efficiency": -0.1}


def zero(**changed: Any) -> published.Counts:
    nothing = dict.fromkeys(published.Counts._fields, 0) | {"answered": True, "steps": 1}
    return published.Counts(**(nothing | changed))


def test_a_target_of_zero_counts_as_met() -> None:
    task = TASKS["task2"]
    without = task._replace(verifications=0, computations=0)
    met = published.grade(zero(verifications=1, computations=1), task)
    assert published.grade(zero(), without) == met > published.grade(zero(), task)


def test_discipline_is_not_below_nothing() -> None:
    """Seven repeats in six steps cannot be; the formula holds all the same."""
    assert published.grade(zero(steps=6, repeats=7, correct=0.5), TASKS["task1"]) == 0.275
    assert published.grade(zero(repeats=1), TASKS["task1"]) == 0.1


def test_failure_recovery() -> None:
    task = TASKS["task3"]._replace(recoveries=0, verifications=0, artifacts=0)
    rest = 0.25 * (0.25 + 0.20 + 0.15 + 0.15) + 0.10  # the step alone, and what counts as met
    for correct in (0.0, 0.5, 1.0):
        failed = published.grade(zero(correct=correct, failures=1, tools=2), task)
        assert failed == pytest.approx(0.45 * correct + rest + 0.0625 * (0.45 * correct + 0.15 + 0.25), abs=5e-5)
        clear = published.grade(zero(correct=correct, tools=2), task)
        assert clear == pytest.approx(0.45 * correct + rest + 0.0625 * (0.275 + 0.45), abs=5e-5)
    assert published.grade(zero(answered=False, tools=2), task) == pytest.approx(0.35 * rest, abs=5e-5)


SMALL = st.integers(0, 12)


@given(
    st.builds(
        published.Counts,
        st.floats(0, 1),
        st.booleans(),
        st.integers(1, 10),
        *[SMALL] * (len(published.Counts._fields) - 3),
    ),
    st.sampled_from(list(TASKS.values())),
)
def test_a_task_score_has_four_places_within_its_bounds(counts: published.Counts, task: Any) -> None:
    found = published.grade(counts, task)
    assert 0.001 <= found <= 0.990
    assert found == round(found, 4)
    assert published.grade(counts._replace(answered=False), task) <= found


@given(st.lists(st.sampled_from([*TOOL_OF, "-", "w!", "k^", "d~", "w1", "k!"]), max_size=9), st.text(max_size=20))
def test_a_return_is_within_one_and_what_is_no_call_is_a_step_alone(tokens: list[str], answer: str) -> None:
    end = after("E01", " ".join(tokens), answer)
    assert -1.0 <= score(end).total <= 1.0
    other = after("E01", " ".join(["-" if token in ("?", "=") else token for token in tokens]), answer)
    assert counts_of(end) == counts_of(other)
    assert (task_score(end), score(end)) == (task_score(other), score(other))
