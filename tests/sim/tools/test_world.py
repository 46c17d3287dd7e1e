"""Episodes: what calls do, what they are worth, and how the baselines stand to each other."""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim import InputError, play, replay
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import physics
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.figures import figures
from chaosops_ray.sim.tools.model import MAX_SHOWN, SUBMIT, TASK_OF_TIER, TASKS, Call, World, admit, call, parse_rules
from chaosops_ray.sim.tools.rubric import Tally, tally, task_score
from tests.sim.tools.test_grading import SHOTGUN

ANSWER = {"reasoning": "because"}


def begin(identity: str = "tools/W01/published/1", rules: str = "strict") -> World:
    world: World = ENVIRONMENT.start(ENVIRONMENT.scenario(identity), rules)
    return world


def played(identity: str, rules: str, *calls: Any) -> tuple[World, list[dict[str, float]]]:
    episode = replay(ENVIRONMENT, ENVIRONMENT.scenario(identity), rules, calls)
    return episode.steps[-1].world, [dict(step.score.components) for step in episode.steps]


def clear(case: str, tools: list[str]) -> str:
    """A scenario of this case in which these tools meet no fault at these places."""
    for seed in range(10_000):
        scenario = ENVIRONMENT.scenario(f"tools/{case}/published/{seed}")
        if all(physics.faults.drawn(seed, k, tool, scenario.tier) is None for k, tool in enumerate(tools)):
            return scenario.identity
    raise AssertionError("the weather is never clear")


# -- steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "steps"), [("W01", 6), ("B01", 6), ("I01", 8), ("E01", 10)])
def test_an_episode_ends_with_its_answer_or_its_steps(case: str, steps: int) -> None:
    world, paid = played(f"tools/{case}/published/1", "strict", *[Unparsed("x")] * 20)
    assert (world.step, world.answer) == (steps, None)
    assert paid[-1] == {"answer.missing": -0.5}
    assert all(step == {} for step in paid[:-1])
    world, _ = played(f"tools/{case}/published/1", "strict", call(SUBMIT, answer="x", **ANSWER), Unparsed("x"))
    assert (world.step, world.answer) == (1, "x")


def test_a_malformed_call_gets_an_error_and_costs_a_step() -> None:
    for given_call in (
        Call("web_search", "{}"),
        Call("nothing", "{}"),
        call("web_search", query=1),
        Unparsed("x"),
        None,
    ):
        after = ENVIRONMENT.step(begin(), given_call)
        assert "error" in after.outcome
        assert after.world.step == 1
        assert json.loads(after.world.made[0].shown)["error"]


def test_an_empty_answer_is_an_error_and_no_end() -> None:
    after = ENVIRONMENT.step(begin(), call(SUBMIT, answer="  ", reasoning=""))
    assert after.outcome == {"error"}
    assert ENVIRONMENT.acting(after.world) == "agent"


def test_the_reward_of_a_right_answer_that_had_to_recover() -> None:
    bad = next(s for s in range(999) if physics.faults.drawn(s, 0, "web_search", "warmup") == "timeout")
    good = (call("web_search", query="Germany"), call(SUBMIT, answer="83200000", **ANSWER))
    _, paid = played(f"tools/W01/published/{bad}", "strict", *good)
    assert paid[-1] == {"answer.correct": 0.7, "answer.recovered": 0.2, "answer.efficiency": 0.1}
    _, paid = played(clear("W01", ["web_search"]), "strict", *good)
    assert paid[-1] == {"answer.correct": 0.7, "answer.efficiency": 0.1}


def test_repeated_calls_cost_up_to_four_times() -> None:
    _, paid = played("tools/E01/published/1", "strict", *[call("calculator", expression="1")] * 10)
    assert [step.get("discipline.repeat", 0.0) for step in paid] == [0.0, *[-0.05] * 4, *[0.0] * 5]


def test_slow_answers_lose_the_bonus_and_then_pay() -> None:
    fill = [call("calculator", expression=str(n)) for n in range(5)]
    answer = call(SUBMIT, answer="83200000", **ANSWER)
    bonus = [
        played("tools/W01/published/1", "strict", *fill[:n], answer)[1][-1].get("answer.efficiency") for n in range(6)
    ]
    assert bonus == [0.1, 0.1, 0.1, None, None, None]


@pytest.mark.parametrize("rules", ["strict", "published"])
def test_rewards_stay_within_one(rules: str) -> None:
    for scenario in ENVIRONMENT.scenarios("synthetic", range(2)):
        for name in ENVIRONMENT.policies:
            episode = play(ENVIRONMENT, scenario, rules, ENVIRONMENT.policies[name](scenario, rules))
            assert -1.0 <= episode.total <= 1.0 + 1e-9
            assert 0.0 <= ENVIRONMENT.headline(episode) <= 1.0


# -- the task score -------------------------------------------------------------------------------------------------


def scored(tier: str, rules: str, monkeypatch: pytest.MonkeyPatch, **counts: Any) -> float:
    """The score of these counts, whatever calls would have led to them."""
    zero = Tally(0.0, True, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)  # noqa: FBT003
    monkeypatch.setattr("chaosops_ray.sim.tools.rubric.tally", lambda _world: zero._replace(**counts))
    case = {"warmup": "W01", "intermediate": "I01", "expert": "E01"}[tier]
    return task_score(begin(f"tools/{case}/published/1", rules))


def test_the_published_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, Any] = {
        "correct": 1.0,
        "steps": 5,
        "errors": 1,
        "recoveries": 1,
        "tools": 2,
        "retrievals": 1,
        "repeats": 1,
    }
    discipline = 1 - 1 / 4
    wanted = 0.55 + 0.20 * (0.7 + 0.3 * discipline) + 0.15 + 0.10 * (1 - 1 / 2)
    assert scored("warmup", "published", monkeypatch, **counts) == pytest.approx(wanted)
    counts |= {"errors": 0, "steps": 4, "repeats": 0}
    assert scored("warmup", "published", monkeypatch, **counts) == 0.99
    counts = {"correct": 0.5, "steps": 7, "sources": 1, "verifications": 1, "computations": 0, "tools": 3}
    wanted = 0.55 * 0.5 + 0.30 * (0.40 * 0.5 + 0.25 + 0.15) + 0.15 * 0.5
    assert scored("intermediate", "published", monkeypatch, **counts) == pytest.approx(wanted)
    counts = {
        "correct": 1.0,
        "steps": 8,
        "sources": 2,
        "verifications": 1,
        "computations": 1,
        "tools": 4,
        "artifacts": 1,
    }
    counts |= {"errors": 2, "recoveries": 1}
    resilience = 0.25 * (0.45 + 0.30 + 0.25) + 0.25 * 0.5 + 0.20 * 0.5 + 0.15 + 0.15
    wanted = 0.45 + 0.25 * resilience + 0.20 + 0.10 + 0.10 * (1 - 1 / 3)
    assert scored("expert", "published", monkeypatch, **counts) == pytest.approx(min(0.99, wanted))
    assert scored("expert", "strict", monkeypatch, **counts, retrievals=2) == pytest.approx(wanted / 1.1)
    half = counts | {"correct": 0.5, "retrievals": 2}
    resilience += 0.25 * 0.45 * (0.5 - 1.0)
    way = 0.25 * resilience + 0.20 + 0.10 + 0.10 * (1 - 1 / 3)
    assert scored("expert", "strict", monkeypatch, **half) == pytest.approx((0.45 * 0.5 + way * 0.5) / 1.1)
    assert scored("expert", "strict", monkeypatch, **counts) == 0.0, "without a source"


def test_an_unanswered_task_is_worth_a_third_of_its_virtues(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"answered": False, "steps": 5, "tools": 2, "retrievals": 1}
    for rules in ("strict", "published"):
        assert scored("warmup", rules, monkeypatch, **counts) == pytest.approx(0.35 * (0.20 + 0.15 + 0.10 * 0.5))


def test_strict_a_check_counts_only_on_what_tools_have_said() -> None:
    identity = clear("I01", ["read_file", "check_consistency", "calculator", "scratchpad_write"])
    grounded = (
        call("read_file", path="countries.txt"),
        call("check_consistency", source1="1428627663", source2="1,428,627,663"),
        call("calculator", expression="1428627663 / 3287263"),
        call("scratchpad_write", key="a", value="India 1428627663"),
    )
    counted = tally(played(identity, "strict", *grounded)[0])
    assert (counted.verifications, counted.computations, counted.artifacts) == (1, 1, 1)
    for rules, number in (("strict", 0), ("published", 1)):
        counted = tally(played(identity, rules, Unparsed("x"), *grounded[1:])[0])
        assert (counted.verifications, counted.computations, counted.artifacts) == (number, number, number)


def test_strict_sources_count_when_they_speak_of_the_subject() -> None:
    identity = clear("W01", ["web_search", "knowledge_base_lookup"])
    calls = (call("web_search", query="Kenya"), call("knowledge_base_lookup", entity="Kenya"))
    assert tally(played(identity, "strict", *calls)[0]).sources == 0
    assert tally(played(identity, "published", *calls)[0]).sources == 2


def test_a_recovery_is_the_first_call_of_another_tool_after_an_error() -> None:
    bad, other = Call("web_search", "{}"), call("calculator", expression="1")
    counted = tally(played("tools/E01/published/1", "strict", bad, bad, other, other, bad, other)[0])
    assert (counted.errors, counted.recoveries) == (3, 2)


# -- the baselines --------------------------------------------------------------------------------------------------


def null(_view: Any) -> Any:
    return Unparsed("nothing to say")


def shotgun(_view: Any) -> Any:
    return call(SUBMIT, answer=SHOTGUN[:2000], reasoning="all I know")


def constant(answer: str) -> Callable[..., Any]:
    return lambda _scenario, _rules: lambda _view: call(SUBMIT, answer=answer, reasoning="a guess")


def ritual(answer: str) -> Callable[..., Any]:
    """Calls that look like work and ask for nothing, then a guess."""
    calls = [
        call("get_current_datetime"),
        call("calculator", expression="1 + 1"),
        call("validate_url", url="timezone"),
        call("translate", text="timezone", target_language="es"),
        call("scratchpad_write", key="a", value="timezone"),
    ]
    return lambda _scenario, _rules: (
        lambda view: [*calls, call(SUBMIT, answer=answer, reasoning="x")][len(view.results)]
    )


def from_the_question(_scenario: Any, _rules: str) -> Any:
    """The likeliest answer that the question itself gives away, and an echo of its names for a source."""

    def act(view: Any) -> Any:
        words = view.question.split("?")[0]
        if not view.results:
            return call("database_query", sql=f"SELECT '{words[:200]}' AS name")
        found = re.search(r"revenue of ([\d.]+)", view.question)
        guess = f"inaccurate, {float(found[1]) * 0.87:.2f}" if found else f"{words.split()[-1]}, 2.5"
        return call(SUBMIT, answer=guess, reasoning="x")

    return act


def mean_score(tier: str, build: Callable[..., Any]) -> float:
    """Over the published questions and as many synthetic ones, each with a seed, and so with weather, of its own."""
    chosen = [
        scenario
        for selection in ENVIRONMENT.selections
        for scenario in ENVIRONMENT.scenarios(selection)
        if scenario.tier == tier
    ]
    scores = [ENVIRONMENT.headline(play(ENVIRONMENT, s, "strict", build(s, "strict"))) for s in chosen]
    return sum(scores) / len(scores)


IDLERS: dict[str, Callable[..., Any]] = {
    "null": lambda *_: null,
    "shotgun": lambda *_: shotgun,
    "constant": constant("inaccurate"),
    "number": constant("Canada 53400"),
    "ritual": ritual("inaccurate"),
    "ritual answer": ritual("accurate, 2.5"),
    "question": from_the_question,
}


@pytest.mark.parametrize("tier", TASK_OF_TIER)
@pytest.mark.parametrize("idler", IDLERS)
def test_no_score_without_work(idler: str, tier: str) -> None:
    assert mean_score(tier, IDLERS[idler]) <= 0.10


@pytest.mark.parametrize("tier", TASK_OF_TIER)
def test_the_baselines_stand_in_their_order(tier: str) -> None:
    scores = {name: mean_score(tier, build) for name, build in ENVIRONMENT.policies.items()}
    nothing = max(mean_score(tier, build) for build in IDLERS.values())
    assert scores["oracle"] >= 0.95
    assert nothing <= 0.10
    assert nothing < scores["naive"] < scores["heuristic"]
    assert nothing < scores["retrier"] < scores["heuristic"]
    assert scores["heuristic"] <= scores["oracle"] + 1e-9
    if tier == "expert":
        assert scores["heuristic"] <= scores["oracle"] - 0.05


# -- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "action"),
    [
        ('{"tool": "calculator", "arguments": {"expression": "1"}}', call("calculator", expression="1")),
        (
            'I think.\n```json\n{"tool": "read_file", "arguments": {"path": "x"}, "reason": "y"}\n```',
            call("read_file", path="x"),
        ),
        ('{"tool": "get_current_datetime"}', call("get_current_datetime")),
        ('calculator {"expression": "1"}', call("calculator", expression="1")),
        ("get_current_datetime", call("get_current_datetime")),
    ],
)
def test_a_completion_spells_its_call(completion: str, action: Call) -> None:
    assert ENVIRONMENT.parse_action(completion) == action


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "hello",
        "calculator (1)",
        '{"tool": 3}',
        '{"tool": "x", "arguments": []}',
        '{"tool": "x", "args": {}}',
        "x" * 20_000,
        None,
    ],
)
def test_what_spells_no_call_is_a_typed_failure(completion: Any) -> None:
    assert isinstance(ENVIRONMENT.parse_action(completion), Unparsed)


def test_the_first_turn_asks_and_later_ones_tell_what_is_new() -> None:
    world = begin()
    first = ENVIRONMENT.view(world, "agent")
    assert "population of Germany" in ENVIRONMENT.render(first, None, "full")
    world = ENVIRONMENT.step(world, call("calculator", expression="2 + 3")).world
    told = ENVIRONMENT.render(ENVIRONMENT.view(world, "agent"), first, "full")
    assert told == 'calculator answered: {"value":5}\nSteps left: 5\nYour call:'
    assert ENVIRONMENT.render(ENVIRONMENT.view(world, "agent"), first, "compact") == 'calculator {"value":5}\nleft 5\n>'


def test_the_brief_gives_every_tools_schema_and_no_answer() -> None:
    brief = ENVIRONMENT.system_prompt("agent", "strict", "full")
    for tool in TOOLS.values():
        assert f"- {tool.name}(" in brief
    for role, style in (("ceo", "full"), ("agent", "ful")):
        with pytest.raises(InputError, match="valid"):
            ENVIRONMENT.system_prompt(role, "strict", style)  # type: ignore[arg-type]


def test_nothing_the_agent_sees_tells_of_silent_faults_or_the_answer_key() -> None:
    for scenario in ENVIRONMENT.scenarios("synthetic", range(2)):
        episode = play(ENVIRONMENT, scenario, "strict", ENVIRONMENT.policies["heuristic"](scenario, "strict"))
        world = episode.steps[-1].world
        hidden = world._replace(made=tuple(made._replace(fault="corruption", truth="null") for made in world.made))
        for style in ("full", "compact"):
            said = ENVIRONMENT.render(ENVIRONMENT.view(world, "agent"), None, style)
            assert said == ENVIRONMENT.render(ENVIRONMENT.view(hidden, "agent"), None, style)
        assert ENVIRONMENT.dump_view(ENVIRONMENT.view(world, "agent")) == ENVIRONMENT.dump_view(
            ENVIRONMENT.view(hidden, "agent")
        )


# -- hostile calls, a hundred thousand of them ----------------------------------------------------------------------

HOSTILE = {
    "sql": (
        "DROP TABLE countries", "ATTACH '/tmp/x' AS y", "SELECT * FROM countries a, countries b, countries c, countries d",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT * FROM n", "PRAGMA writable_schema=1",
        "SELECT group_concat(name) FROM countries, financials", "SELECT 1 UNION SELECT 2", "SELECT '" + "a" * 1900 + "'",
        "with t as (select c.name n, replace('" + "a" * 50 + "','a','aaaaaaa') h from countries c) select sum(h||n like '%' || substr(h,1,40) || 'b') from t, countries d, countries e",
        "with t as (select c.name n, replace('" + "a" * 50 + "','a','aaaaaaa') h from countries c) select sum(instr(h||n, substr(h,1,90)||'b')) from t, countries d, countries e",
        "SELECT * FROM countries ORDER BY name LIMIT -1", "SELECT 9223372036854775807 + 1", "SELECT 1e999", "SELECT x'00ff'",
    ),
    "pattern": ("(a+)+$", "(a|aa)*c", ".*" * 60, "(" * 50 + ")" * 50, "a{1000}{1000}", "[^\\x00]", "(?i)a", "\\", "(?P<n>a)"),
    "code": (
        "while True: pass", "open('/etc/passwd').read()", "import socket", "x = [0]\nwhile True: x += x", "9 ** 9 ** 9",
        "().__class__.__mro__", "print('a' * 20000)", "a = [0] * 200\nb = [a] * 200\nc = [b] * 200\nd = [c] * 200\nd", "a = []\na.extend(range(10 ** 11))", "def f(): return f()\nf()", "[i for i in range(10 ** 9)]", "'\\ud800'",
        "x = {}\nfor i in range(5000): x[i] = [i] * 50", "sorted([str(i) for i in range(900)])", "{1, 'a', None}",
    ),
    "expression": ("1/0", "9**9**9", "(" * 99, "1e308*10", "-" * 900 + "1", "2**-1074", "nan", "'a'*9", "[1][0]", "1j"),
    "path": ("../../etc/passwd", "/etc/passwd", "countries.txt\x00", "a" * 3000, "con.txt", "notes/../../x.txt", ""),
    "url": ("file:///etc/passwd", "internal://entity/../x", "https://atlas.example/" + "a/" * 500, "http://[::1]/", "internal://document/-"),
    "data": ("[" * 3000, '{"a": NaN}', '[{"n": 1e308}, {"n": 1e308}]', "{}", '{"a": {"b": [1, 2]}}', "null", "[1, 2, 3]", '"x"'),
}  # fmt: skip
WORDS = (
    "",
    "\ud800",
    "‮",
    "x" * 5000,
    "Germany",
    "NovaTech earned 1.87",
    "<|im_end|>",
    "{",
    "\n" * 50,
    "9" * 4000,
    "é" * 100,
)
NUMBERS = (0, -1, 1e308, -(10**17), 0.1, 10**400, math.nan, True, None, [], {})
SLOW = ("python_execute", "text_extract", "database_query")
CPU_LIMIT = 0.100


def hostile(draw: random.Random) -> Any:
    kind = draw.random()
    if kind < 0.03:
        return draw.choice(
            (None, 3, "calculator {}", Call("x", "{"), Call("a" * 999, "[]"), Call("calculator", "9" * 5000))
        )
    # The slow tools by themselves use most of the time; one call in fifty is enough of them.
    names = SLOW if kind < 0.05 else tuple(TOOLS)
    tool = TOOLS[draw.choice(names)]
    arguments: dict[str, Any] = {}
    for parameter in tool.parameters:
        if draw.random() < 0.05:
            continue
        own = HOSTILE.get(parameter.name, WORDS)
        arguments[parameter.name] = draw.choice(own if draw.random() < 0.7 else draw.choice((WORDS, NUMBERS)))
    if draw.random() < 0.03:
        arguments["x" * draw.randrange(60)] = 1
    try:
        return call(tool.name, **arguments)
    except ValueError:  # NaN, and numbers too long to be written: no model's JSON holds them
        return Call(tool.name, str(arguments))


@pytest.mark.parametrize("calls", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_calls_do_no_harm(calls: int) -> None:
    """None raises, none takes a tenth of a second of this process's time, and what is kept of them stays small."""
    draw = random.Random(8)
    world = begin("tools/E01/strict/0")
    errors = 0
    for number in range(calls):
        if ENVIRONMENT.acting(world) is None:
            if number % 7 == 0:
                data = ENVIRONMENT.dump(world)
                assert len(data) < 200_000
                assert ENVIRONMENT.load(data) == world
            world = begin(f"tools/E{draw.randrange(1, 16):02d}/{draw.choice(('strict', 'published'))}/{number % 50}")
        action = hostile(draw)
        began = time.process_time()
        after = ENVIRONMENT.step(world, action)
        spent = time.process_time() - began
        for _ in range(3):
            # Another process's noise, or a collection of garbage that fell on this call, does not repeat itself.
            if spent < CPU_LIMIT:
                break
            began = time.process_time()
            ENVIRONMENT.step(world, action)
            spent = time.process_time() - began
        assert spent < CPU_LIMIT, action
        made = after.world.made[-1]
        errors += not made.ok
        assert len(made.shown) <= MAX_SHOWN
        json.loads(made.shown)
        world = after.world
    assert 0.3 * calls < errors < 0.99 * calls


@given(st.text(max_size=200), st.text(max_size=60))
def test_no_call_raises(arguments: str, tool: str) -> None:
    for action in (Call(tool, arguments), Call("calculator", arguments), arguments):
        after = ENVIRONMENT.step(begin(), action)
        assert after.world.step == 1
        assert ENVIRONMENT.load(ENVIRONMENT.dump(after.world)) == after.world
        assert admit(after.action) == after.action


FAILS_IF_CHANGED = (
    "select case when actual_revenue_b = {} then 1 else abs(-9223372036854775807 - 1) end from financials "
    "where company = 'NovaTech' and actual_revenue_b is not null"
)


def test_a_call_that_fails_only_with_a_fault_s_figures_fails_by_that_fault() -> None:
    """The true figures give a result; those of a stale source give an overflow."""
    met = set()
    for seed in range(200):
        world = begin(f"tools/E01/published/{seed}")
        fault = physics.faults.drawn(seed, 0, "database_query", "expert")
        after = ENVIRONMENT.step(world, call("database_query", sql=FAILS_IF_CHANGED.format(1.87)))
        made = after.world.made[0]
        if fault in ("stale", "corruption"):
            met.add(fault)
            assert (made.ok, made.fault) == (False, fault)
            assert "integer overflow" in made.shown
            assert after.outcome == {"error", f"fault_{fault}"}
            assert ENVIRONMENT.load(ENVIRONMENT.dump(after.world)) == after.world
        elif fault is None:
            assert made.ok
    assert met == {"stale", "corruption"}


def test_a_row_too_long_for_the_tables_breaks_no_later_query() -> None:
    for seed in range(20):
        world = begin(f"tools/E01/strict/{seed}")
        for made in (
            call("database_insert", table="countries", data=json.dumps({"name": "x" * 1000})),
            *[call("database_query", sql=f"select {n}") for n in range(3)],
        ):
            world = ENVIRONMENT.step(world, made).world


def test_the_work_of_reading_figures_goes_with_the_length_of_the_text() -> None:
    """Twice in a check, and for every call when an episode is scored."""

    def spent(groups: int) -> float:
        text = "1" + ",111" * groups + "1"
        best = 1.0
        for _ in range(5):
            began = time.process_time()
            figures(text)
            best = min(best, time.process_time() - began)
        return best

    assert spent(1600) < 8 * spent(400)  # four times, and not sixteen
    assert figures("12,345 and 1,234,567.5 and 12,34 and km2 7") == [12345.0, 1234567.5, 12.0, 34.0, 7.0]


WRITERS = {
    "database_insert": {"table": "countries", "data": '{"name": "Q", "population": 5}'},
    "scratchpad_write": {"key": "k", "value": "v\n"},
    "write_file": {"path": "a.txt", "content": "x"},
    "create_report": {"content": "x"},
    "update_ticket": {"ticket_id": "OPS-1", "update": "x"},
    "schedule_task": {"task": "x", "time": "2026-04-09T08:00Z"},
    "send_notification": {"message": "x"},
    "request_human_review": {"reason": "x"},
}


@pytest.mark.parametrize("tool", WRITERS)
def test_what_was_written_survives_a_snapshot(tool: str) -> None:
    world = begin(clear("E01", [tool]))
    world = ENVIRONMENT.step(world, call(tool, **WRITERS[tool])).world
    assert world.made[0].ok
    assert ENVIRONMENT.load(ENVIRONMENT.dump(world)) == world


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'[["k",', b'[[], ["k",'),
        (b'[["k",', b'[["k"], ["k",'),
        (b"scratchpad_write", b"scratchpad_bogus"),
        (b"[],[],[],[],[],[]]", b'[],[["countries; DROP","[1]"]],[],[],[],[]]'),
        (b"[],[],[],[],[],[]]", b'[],[["countries name","{}"]],[],[],[],[]]'),
    ],
)
def test_a_snapshot_of_what_no_tool_writes_is_an_input_error(before: bytes, after: bytes) -> None:
    world = ENVIRONMENT.step(begin("tools/E01/strict/3"), call("scratchpad_write", key="k", value="v")).world
    data = ENVIRONMENT.dump(world)
    assert before in data
    with pytest.raises(InputError):
        ENVIRONMENT.load(data.replace(before, after, 1))


@pytest.mark.parametrize(
    "completion",
    [
        '{"tool": "calculator", "arguments": {"expression": 1e999}}',
        '{"tool": "calculator", "arguments": {"expression": ' + "[" * 900 + "]" * 900 + "}}",
        '{"tool": "json_query", "arguments": {"data": "' + "[0," * 600 + "1" + "]" * 600 + '", "query": "[1]"}}',
        '{"tool": "json_query", "arguments": {"data": "{\\"a\\": {\\"rows\\": 5}}", "query": "a"}}',
        '{"tool": "database_insert", "arguments": {"table": "countries", "data": "{\\"name\\": \\"\\\\ud800\\"}"}}',
    ],
)
def test_completions_that_once_broke_a_step_do_not(completion: str) -> None:
    for seed in range(40):
        world = begin(f"tools/E01/strict/{seed}")
        for _ in range(3):
            world = ENVIRONMENT.step(world, ENVIRONMENT.parse_action(completion)).world
        world = ENVIRONMENT.step(world, call("database_query", sql="SELECT count(*) FROM countries")).world
        assert ENVIRONMENT.load(ENVIRONMENT.dump(world)) == world


def test_a_snapshot_that_was_meddled_with_is_an_input_error() -> None:
    world = ENVIRONMENT.step(begin("tools/E01/strict/3"), call("scratchpad_write", key="k", value="v")).world
    data = ENVIRONMENT.dump(world)
    for before, after in (
        (b"strict", b"loose"),
        (b"E01", b"E99"),
        (b",1,[[", b",2,[["),
        (b",1,[[", b",-1,[["),
        (b"true", b"1"),
        (b"scratchpad_write", b"\\ud800"),
        (b'""]', b'"weird"]'),
        (b"]", b"]]"),
    ):
        assert before in data, before
        with pytest.raises(InputError):
            ENVIRONMENT.load(data.replace(before, after, 1))


# -- scenarios ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "named"),
    [
        ("tools/X01/strict/1", "valid: W01-W10, B01-B15, I01-I15, E01-E15"),
        ("tools/W11/strict/1", "valid: W01-W10"),
        ("tools/W01/loose/1", "valid: published, strict"),
        ("tools/W01/strict/01", "seed '01'"),
        ("tools/W01/strict", "tools/CASE/SETTING/SEED"),
    ],
)
def test_bad_ids_name_what_would_have_been_valid(identity: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        ENVIRONMENT.scenario(identity)


def test_the_sets_and_their_tiers() -> None:
    published = ENVIRONMENT.scenarios("published")
    assert [sum(s.tier == tier for s in published) for tier in ENVIRONMENT.tiers] == [10, 15, 15, 15]
    assert len({s.seed for s in published}) == 55, "each has weather of its own"
    assert {s.setting for s in ENVIRONMENT.scenarios("synthetic", range(2))} == {"strict"}
    assert len(ENVIRONMENT.scenarios("synthetic", range(2))) == 110
    with pytest.raises(InputError, match="published, synthetic"):
        ENVIRONMENT.scenarios("cross")
    with pytest.raises(InputError, match="strict, published"):
        ENVIRONMENT.rules("loose")


def test_tasks_ask_for_what_the_table_says() -> None:
    assert [tuple(task)[2:9] for task in TASKS.values()] == [
        (6, 4, 2, 1, 0, 0, 0),
        (8, 6, 3, 1, 1, 1, 0),
        (10, 7, 4, 2, 2, 1, 1),
    ]
    assert parse_rules("strict").virtue_is_earned
