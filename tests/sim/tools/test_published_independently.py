"""The published grading agrees with a second, plain computation of it, over episodes of every kind."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.contract import AnyEpisode, Policy, Scenario
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools import rubric
from chaosops_ray.sim.tools.model import SUBMIT, Call, Event, Question, call
from chaosops_ray.sim.tools.policies import POLICIES
from chaosops_ray.sim.tools.scenarios import question
from tests.sim.tools import plain_published as plain

RULES = "published"
ENVIRONMENT = ENVIRONMENTS["tools"]
SCENARIOS = ENVIRONMENT.scenarios("published", range(2))
FAMILY = {"warmup": "W", "beginner": "B", "intermediate": "I", "expert": "E"}
RANDOM_EPISODES = 14  # of each scenario, beside one by each baseline: 2,090 in all


# -- from a record to the plain computation -------------------------------------------------------------------------


def facts_of(asked: Question) -> tuple[plain.Fact, ...]:
    return tuple([plain.Fact(*fact[: len(plain.Fact._fields)]) for fact in asked.facts])


def question_of(scenario: Scenario) -> Question:
    return question(scenario.case, scenario.setting, scenario.seed)


def steps_of(episode: AnyEpisode) -> list[plain.Step]:
    steps = []
    for step, made in zip(episode.steps, episode.end.made, strict=True):
        if isinstance(step.action, Unparsed):
            steps.append(plain.Step("", {}, ok=False, fault="", is_known=False, is_call=False))
        else:
            name, arguments = step.action.tool, json.loads(step.action.arguments)
            steps.append(plain.Step(name, arguments, made.ok, made.fault, name in plain.TOOLS, is_call=True))
    return steps


def answer_of(episode: AnyEpisode) -> str | None:
    """The answer as the agent wrote it."""
    if not episode.saw(Event.ANSWERED):
        return None
    return str(json.loads(episode.steps[-1].action.arguments)["answer"])


def plain_grade(episode: AnyEpisode) -> plain.Grade:
    asked = question_of(episode.scenario)
    return plain.grade(
        episode.end.task.name,
        FAMILY[episode.scenario.tier],
        facts_of(asked),
        asked.tools_needed,
        steps_of(episode),
        answer_of(episode),
    )


def is_tie(score: Fraction) -> bool:
    """Tell if the score lies exactly between two of 4 places, where the last bit of a float decides."""
    return score * 10**4 % 1 == Fraction(1, 2)


def differences(episode: AnyEpisode) -> dict[str, tuple[float, float]]:
    """The figures that disagree: the world's, and the plain one."""
    want = plain_grade(episode)
    if not is_decided(episode):
        return different(counters_of(episode, want.counters), {})
    found = {
        "correctness": (rubric.correct_share(episode.end), float(want.correctness)),
        "return": (episode.total, float(want.total)),
        "score": (round(ENVIRONMENT.headline(episode), 4), want.score),
    }
    bound = {"correctness": 1e-9, "return": 1e-9, "score": 1.5e-4 if is_tie(want.exact_score) else 0.0}
    return different(found | counters_of(episode, want.counters), bound)


def different(pairs: dict[str, tuple[float, float]], bound: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return the pairs that lie further apart than their bound."""
    return {name: pair for name, pair in pairs.items() if abs(pair[0] - pair[1]) > bound.get(name, 0.0)}


def is_decided(episode: AnyEpisode) -> bool:
    """Tell if the rules say what the answer is worth: they do not where a verdict is wanted and none is given plainly."""
    given = answer_of(episode)
    wants_verdict = any(fact.kind == "boolean" for fact in question_of(episode.scenario).facts)
    return given is None or not wants_verdict or plain.boolean(given) is not None


def counters_of(episode: AnyEpisode, want: plain.Counters) -> dict[str, tuple[float, float]]:
    """Each counter of the world beside the plain one."""
    counted = rubric.counts_of(episode.end)
    return {
        "steps": (counted.steps, want.steps),
        "tools": (counted.tools, len(want.tools_called)),
        "repeats": (counted.repeats, want.repeats),
        "retrievals": (counted.retrievals, want.retrievals),
        "verifications": (counted.verifications, want.verifications),
        "computations": (counted.computations, want.computations),
        "artifacts": (counted.artifacts, want.artifacts),
        "recoveries": (counted.recoveries, want.recoveries),
        "failures": (counted.failures, want.failures),
        "warnings": (counted.warnings, want.warnings),
        "faults": (counted.faults, want.faults_met),
        "sources": (counted.sources, want.sources_crossed),
    }


# -- answers --------------------------------------------------------------------------------------------------------

FORMS = (
    "bare",
    "commas",
    "long",
    "k",
    "thousand",
    "m",
    "million",
    "b",
    "bn",
    "billion",
    "km",
    "miles",
    "own unit",
    "false case",
)


def amount(draw: random.Random, value: float) -> str:
    """Write a number in one of the forms that the rules read, or in one that only looks like it."""
    form = draw.choice(FORMS)
    gap = " " * draw.choice((0, 1, 1, 3))
    mark = draw.choice(("", "", "$", "~", "+", "about "))
    for unit, factor in (
        ("k", 1e3),
        ("thousand", 1e3),
        ("m", 1e6),
        ("million", 1e6),
        ("b", 1e9),
        ("bn", 1e9),
        ("billion", 1e9),
    ):
        if form == unit:
            word = draw.choice((unit, unit.upper(), unit.capitalize()))
            return f"{mark}{value / factor:.{draw.choice((6, 9, 14))}f}{gap}{word}"
    if form == "km":
        return f"{mark}{value / 1e3:.6f} {draw.choice(('km', 'kg', 'KM', 'kilo'))}"
    if form == "miles":
        return f"{mark}{value / 1e6:.9f} {draw.choice(('miles', 'Mexican pesos', 'MB', 'metres'))}"
    if form == "false case":
        word, factor = draw.choice((("mıllion", 1e6), ("bİllion", 1e9), ("thouſand", 1e3), ("\N{KELVIN SIGN}", 1e3)))
        return f"{mark}{value / factor:.9f}{gap}{word}"
    if form == "own unit":
        return f"{mark}{value:.4f}{gap}{draw.choice(('billion', 'B', 'bn', 'million', 'k', 'km', 'mb'))}"
    if form == "commas":
        return f"{mark}{value:,.2f}"
    return f"{mark}{value:.{14 if form == 'long' else 4}f}"


def stated(draw: random.Random, fact: plain.Fact, others: list[str]) -> str:
    """State a fact, rightly, nearly or wrongly; a number is never as near to a limit as a float's last bit."""
    if fact.kind == "numeric":
        off = draw.choice((0.0, 0.0, 0.8, -0.9, 1.3, 2.6, -2.7, 3.5, -8.0)) * fact.tolerance
        written = amount(draw, float(fact.value) * (1 + off))
        return f"-{written}" if draw.random() < 0.04 and written[0].isdigit() else written
    if fact.kind == "boolean":
        says = bool(fact.value) if draw.random() < 0.7 else not fact.value
        yes = ("accurate", "True", "yes", "CORRECT", "the claim is accurate.")
        no = ("inaccurate", "False", "no", "incorrect", "the claim is not accurate.")
        return draw.choice(yes if says else no)
    name = str(fact.value)
    roll = draw.random()
    if roll < 0.55:
        return draw.choice(
            (name, name.upper(), name.lower(), name.swapcase(), f"({name})", f"not {name}", f"the {name}ns")
        )
    if roll < 0.75:
        return draw.choice(others)
    if roll < 0.85:
        return draw.choice((f"North {name.split()[-1]}", name.split()[0], name[:-1], name.replace(" ", "  ")))
    # Cyrillic letters that look the same.
    return name.translate(str.maketrans("aeo", "аео"))


def answer(draw: random.Random, asked: Question, others: list[str]) -> str:
    """Write an answer around the truth."""
    parts = [stated(draw, fact, others) for fact in facts_of(asked) if draw.random() < 0.93]
    if draw.random() < 0.3:
        draw.shuffle(parts)
    noise = ("in 2025", "as of 2026-04-08", "8 April 2026", "by 2 sources", "0.1", "é ß ǅ", "1e3", "77", "")
    for _ in range(draw.choice((0, 0, 1, 3))):
        parts.insert(draw.randrange(len(parts) + 1), draw.choice(noise))
    text = draw.choice((", ", "; ", " and ", " | ", "\n", ": ")).join(parts)
    if draw.random() < 0.05:
        text = "I looked at it for long. " * draw.choice((10, 90, 140)) + text
    return text


# -- actions --------------------------------------------------------------------------------------------------------


def arguments_of(draw: random.Random, tool: str, names: list[str]) -> dict[str, Any]:
    """Draw arguments with which the tool may work, or may fail."""
    name = draw.choice(names)
    slug = name.lower().replace(" ", "-")
    url = draw.choice((f"internal://entity/{slug}", f"internal://document/{slug}-filing", "https://nowhere.example/x"))
    rows = '[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]'
    options: dict[str, list[dict[str, Any]]] = {
        "web_search": [{"query": name}, {"query": f"population of {name}"}],
        "fetch_url": [{"url": url}],
        "knowledge_base_lookup": [{"entity": name}, {"entity": "Atlantis"}],
        "database_query": [
            {"sql": "SELECT name, population FROM countries ORDER BY name LIMIT 5"},
            {"sql": "SELECT * FROM financials LIMIT 2"},
            {"sql": "SELEKT 1"},
        ],
        "document_search": [{"query": name}],
        "get_current_datetime": [{}, {"timezone": "UTC"}],
        "read_file": [{"path": "countries.txt"}, {"path": "missing.txt"}],
        "api_call": [{"url": url}, {"url": url, "method": "GET"}],
        "calculator": [{"expression": "83.2 / 2"}, {"expression": "1 / 0"}],
        "python_execute": [{"code": "print(1 + 1)"}, {"code": "1 +"}],
        "text_extract": [{"text": "a 12 b", "pattern": "[0-9]+"}, {"text": "a", "pattern": "("}],
        "data_transform": [{"data": rows, "operation": "sum:a"}, {"data": "?", "operation": "count"}],
        "compare_values": [{"value1": 1, "value2": 1.5}, {"value1": 1, "value2": 2, "tolerance": 0.5}],
        "json_query": [{"data": rows, "query": "[0].a"}, {"data": "{", "query": "a"}],
        "translate": [{"text": "hello", "target_language": "French"}],
        "scratchpad_write": [{"key": "k", "value": name}],
        "scratchpad_read": [{"key": "k"}, {"key": "none"}],
        "write_file": [{"path": "a.txt", "content": name}],
        "database_insert": [
            {"table": "countries", "data": '{"name": "X"}'},
            {"table": "no table", "data": "{}"},
        ],
        "create_report": [{"content": name}],
        "validate_url": [{"url": url}],
        "validate_data": [{"data": rows, "schema": '{"a": "number"}'}],
        "check_consistency": [{"source1": f"{name} 5", "source2": f"{name} 6"}],
        "fact_check": [{"claim": f"{name} has a population of 5"}],
        "hash_verify": [{"data": "a", "expected_hash": "b"}],
        "send_notification": [{"message": name}],
        "schedule_task": [{"task": name, "time": "2026-04-09T00:00Z"}],
        "update_ticket": [{"ticket_id": "T-1", "update": name}],
        "request_human_review": [{"reason": name}],
    }
    return draw.choice(options[tool])


NOT_A_TOOL = ("google", "Web_Search", "submit", "calculator2", "wébsearch")
NOT_A_CALL: tuple[object, ...] = (
    Unparsed("no JSON"),
    None,
    7,
    "web_search",
    Call("web_search", "[1]"),
    Call(SUBMIT, "{"),
)
OFTEN = (
    "knowledge_base_lookup",
    "web_search",
    "database_query",
    "document_search",
    "fetch_url",
    "fact_check",
    "calculator",
    "scratchpad_write",
    "compare_values",
)


def anything(scenario: Scenario, number: int) -> Policy:
    """Build a policy that does whatever can be done, and answers early, late or never."""
    draw = random.Random(f"{scenario.identity} {number}")
    asked = question_of(scenario)
    subjects = [wanted.name for wanted in asked.inputs]
    names = [*subjects, *subjects, "Germany", "NovaTech"]
    last = draw.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12))
    variety = draw.choice((0.2, 0.6, 0.9))
    repeating = draw.choice((0.05, 0.2, 0.6))
    made: list[Call] = []
    step = 0

    def act(_view: Any, /) -> object:
        nonlocal step
        step += 1
        roll = draw.random()
        if step >= last:
            return call(SUBMIT, answer=answer(draw, asked, ["Germany", "Kenya", *subjects]), reasoning="because")
        if roll < repeating and made:
            # The same arguments, written in another order.
            before = draw.choice(made)
            again = dict(reversed(list(json.loads(before.arguments).items())))
            return Call(before.tool, json.dumps(again, indent=1))
        if roll > 0.95:
            return draw.choice(NOT_A_CALL)
        if roll > 0.90:
            made.append(call(draw.choice(NOT_A_TOOL), query=draw.choice(names)))
            return made[-1]
        if roll > 0.86:
            made.append(call(draw.choice(plain.TOOLS), wrong="argument"))
            return made[-1]
        if roll > 0.84:
            made.append(call(SUBMIT, answer="without a reason"))
            return made[-1]
        tool = draw.choice(plain.TOOLS[:-1]) if draw.random() < variety else draw.choice(OFTEN)
        made.append(call(tool, **arguments_of(draw, tool, names)))
        return made[-1]

    return act


def episodes() -> Iterator[tuple[str, AnyEpisode]]:
    """Play every scenario by every baseline, and many times at random."""
    for scenario in SCENARIOS:
        for name, factory in POLICIES.items():
            yield name, play(ENVIRONMENT, scenario, RULES, factory(scenario, RULES))
        for number in range(RANDOM_EPISODES):
            yield f"anything {number}", play(ENVIRONMENT, scenario, RULES, anything(scenario, number))


# -- tests ----------------------------------------------------------------------------------------------------------


def test_every_episode_is_graded_the_same() -> None:
    """Correctness, task score and return of 2,090 episodes."""
    played = undecided = 0
    disagreements: dict[str, list[str]] = {}
    for name, episode in episodes():
        played += 1
        undecided += not is_decided(episode)
        for figure, (theirs, ours) in differences(episode).items():
            line = f"{episode.scenario.identity} by {name}: {theirs} instead of {ours}"
            disagreements.setdefault(figure, []).append(line)
    assert played == len(SCENARIOS) * (len(POLICIES) + RANDOM_EPISODES) > 2000
    assert undecided < played / 25
    summary = {figure: (len(lines), lines[:3]) for figure, lines in disagreements.items()}
    assert not summary, json.dumps(summary, indent=1)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("51.2 km", {"51.2", "51200"}),
        ("83.2 miles", {"83.2", "83200000"}),
        ("83.2 mıllion", {"83.2"}),
        ("83.2 MILLION", {"83.2", "83200000"}),
        ("51.2 \N{KELVIN SIGN}", {"51.2"}),
        ("1,234.5", {"1234.5"}),
        ("1234.5", {"1234.5"}),
        ("-1,234,567", {"-1234567"}),
        ("1.87000000000001", {"1.87000000000001"}),
        ("4k, 4 thousand", {"4", "4000"}),
        ("4m or 4   million", {"4", "4000000"}),
        ("4b or 4bn or 4 billion", {"4", "4000000000"}),
    ],
)
def test_the_plain_computation_reads_numbers_as_the_rules_say(text: str, numbers: set[str]) -> None:
    """The examples of the rules, and each multiplier."""
    assert set(plain.numbers(text)) == {Fraction(number) for number in numbers}


@pytest.mark.parametrize(
    ("case", "text", "share"),
    [
        ("B01", "Germany 51.2 km", 1.0),
        ("B01", "Germany 51.2 \N{KELVIN SIGN}", 0.5),
        ("E01", "inaccurate, 1.87 km", 1.0),
        ("E01", "inaccurate, 1.87 billion", 1.0),
        ("E01", "inaccurate, 1.87000000000001", 1.0),
        ("W01", "83.2 miles", 1.0),
        ("W01", "83.2 MILLION", 1.0),
        ("W01", "83.2 mıllion", 0.0),
        ("W01", "83,200,000.0", 1.0),
        ("W01", "x" * 3000 + " 83200000", 1.0),
        ("W01", "9" * 5000 + " billion", 0.0),
        ("W01", "", 0.0),
    ],
)
def test_both_grade_the_examples_as_the_rules_say(case: str, text: str, share: float) -> None:
    """Numbers as the rules read them, in answers to questions whose right answer they are or are not."""
    scenario = ENVIRONMENT.scenario(f"tools/{case}/published/0")
    assert float(plain.correct_share(facts_of(question_of(scenario)), text)) == share
    assert rubric.correct_share(ENVIRONMENT.start(scenario, RULES)._replace(answer=text)) == share
