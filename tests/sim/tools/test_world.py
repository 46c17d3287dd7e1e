"""Episodes: what calls do, what is said of them, snapshots, and scenarios."""

from __future__ import annotations

import json
import math
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim import InputError, play, replay
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import scenarios
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.figures import figures
from chaosops_ray.sim.tools.model import MAX_SHOWN, SUBMIT, TASKS, Call, World, admit, call
from chaosops_ray.sim.tools.policies import POLICIES
from tests.support.tools_calls import begin, clean

ANSWER = {"reasoning": "because"}


def played(identity: str, rules: str, *calls: Any) -> tuple[World, list[dict[str, float]]]:
    episode = replay(ENVIRONMENT, ENVIRONMENT.scenario(identity), rules, calls)
    return episode.end, [dict(step.score.components) for step in episode.steps]


# -- steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["strict", "published"])
@pytest.mark.parametrize(("case", "steps"), [("W01", 6), ("B01", 6), ("I01", 8), ("E01", 10)])
def test_an_episode_ends_with_its_answer_or_its_steps(case: str, steps: int, rules: str) -> None:
    world, paid = played(f"tools/{case}/published/1", rules, *[Unparsed("x")] * 20)
    assert (world.step, world.answer) == (steps, None)
    assert paid[-1] == ({} if rules == "strict" else {"answer.missing": -0.5})
    assert all(step == {} for step in paid[:-1])
    world, _ = played(f"tools/{case}/published/1", rules, call(SUBMIT, answer="x", **ANSWER), Unparsed("x"))
    assert (world.step, world.answer) == (1, "x")


@pytest.mark.parametrize("selection", ENVIRONMENT.selections)
def test_the_steps_of_a_question_are_those_of_its_tier(selection: str) -> None:
    for scenario in ENVIRONMENT.scenarios(selection):
        world, _ = played(scenario.identity, "strict", *[Unparsed("x")] * 12)
        assert world.step == {"warmup": 6, "beginner": 6, "intermediate": 8, "expert": 10}[scenario.tier]


def test_a_malformed_call_gets_an_error_and_costs_a_step() -> None:
    for given_call in (
        Call("web_search", "{}"),
        Call("nothing", "{}"),
        call("web_search", query=1),
        Unparsed("x"),
        None,
    ):
        after = ENVIRONMENT.step(begin("tools/W01/published/1"), given_call)
        assert "error" in after.outcome
        assert after.world.step == 1
        assert json.loads(after.world.made[0].shown)["error"]


def test_an_empty_answer_is_an_error_and_no_end() -> None:
    after = ENVIRONMENT.step(begin("tools/W01/published/1"), call(SUBMIT, answer="  ", reasoning=""))
    assert after.outcome == {"error"}
    assert ENVIRONMENT.acting(after.world) == "agent"


def test_a_step_that_was_made_before_is_marked_as_a_repeat() -> None:
    world = begin("tools/W01/published/1")
    outcomes = []
    for one in ("1", "2", "1", "1"):
        after = ENVIRONMENT.step(world, call("calculator", expression=one))
        world = after.world
        outcomes.append("repeated" in after.outcome)
    assert outcomes == [False, False, True, True]


@pytest.mark.parametrize("rules", ["strict", "published"])
def test_returns_and_scores_stay_within_their_bounds(rules: str) -> None:
    for scenario in ENVIRONMENT.scenarios("heldout"):
        for build in POLICIES.values():
            episode = play(ENVIRONMENT, scenario, rules, build(scenario, rules))
            assert (0.0 if rules == "strict" else -1.0) <= episode.total <= 1.0 + 1e-9
            assert 0.0 <= ENVIRONMENT.headline(episode) <= 1.0
            assert episode.saw("answered") == (episode.end.answer is not None)


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


ASKED = 'Write your call as one JSON object, for example {"tool": "calculator", "arguments": {"expression": "2 * 3"}}:'


def test_the_first_turn_asks_and_later_ones_tell_what_is_new() -> None:
    world = begin("tools/W01/published/1")
    first = ENVIRONMENT.view(world, "agent")
    assert "population of Germany" in ENVIRONMENT.render(first, None, "full")
    world = ENVIRONMENT.step(world, call("calculator", expression="2 + 3")).world
    told = ENVIRONMENT.render(ENVIRONMENT.view(world, "agent"), first, "full")
    assert told == 'calculator answered: {"value":5}\nSteps left: 5\n' + ASKED
    assert ENVIRONMENT.render(first, None, "compact") == "q population\nfirst never\nleft 6\n>"
    later = ENVIRONMENT.render(ENVIRONMENT.view(world, "agent"), first, "compact")
    assert later == "calculator ok\nfirst never\nleft 5\n>"


def test_the_brief_gives_every_tools_schema_and_no_answer() -> None:
    brief = ENVIRONMENT.system_prompt("agent", "strict", "full")
    for tool in TOOLS.values():
        assert f"- {tool.name}(" in brief
    for role, style in (("ceo", "full"), ("agent", "ful")):
        with pytest.raises(InputError, match="valid"):
            ENVIRONMENT.system_prompt(role, "strict", style)  # type: ignore[arg-type]


def test_the_examples_of_a_prompt_are_calls_that_answer_no_question() -> None:
    ((asked, answered),) = ENVIRONMENT.opening("agent", "strict", "full")
    assert asked.splitlines()[-1] == ASKED
    brief = ENVIRONMENT.system_prompt("agent", "strict", "full")
    written = [ENVIRONMENT.dump_action(ENVIRONMENT.parse_action(text)) for text in (answered, ASKED, brief)]
    note, total, again = [json.loads(one) for one in written]
    assert note == {"tool": "scratchpad_write", "arguments": {"key": "note", "value": "hello"}}
    assert total == again == {"tool": "calculator", "arguments": {"expression": "2 * 3"}}
    for scenario in ENVIRONMENT.scenarios("synthetic", [0]):
        view = ENVIRONMENT.view(begin(scenario.identity), "agent")
        offered = [one for kind in ENVIRONMENT.permitted(view) or () for one in kind]
        assert not {ENVIRONMENT.format_action(one, "full") for one in offered} & set(written)
    assert ENVIRONMENT.opening("agent", "strict", "compact") == ()
    with pytest.raises(InputError, match="role"):
        ENVIRONMENT.opening("ceo", "strict", "full")


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
EXPERT = (
    "tools/claim/synthetic/{seed}",
    "tools/filed/synthetic/{seed}",
    "tools/trend/heldout/{seed}",
    "tools/E07/published/{seed}",
)
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


@pytest.mark.parametrize("calls", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_calls_do_no_harm(calls: int) -> None:
    """None raises, none takes a tenth of a second of this process's time, and what is kept of them stays small."""
    draw = random.Random(8)
    world = begin("tools/claim/synthetic/0")
    errors = 0
    for number in range(calls):
        if ENVIRONMENT.acting(world) is None:
            if number % 7 == 0:
                data = ENVIRONMENT.dump(world)
                assert len(data) < 200_000
                assert ENVIRONMENT.load(data) == world
            world = begin(draw.choice(EXPERT).format(seed=number % 50))
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
        after = ENVIRONMENT.step(begin("tools/W01/published/1"), action)
        assert after.world.step == 1
        assert ENVIRONMENT.load(ENVIRONMENT.dump(after.world)) == after.world
        assert admit(after.action) == after.action


def test_a_row_too_long_for_the_tables_breaks_no_later_query() -> None:
    for seed in range(20):
        world = begin(f"tools/claim/synthetic/{seed}")
        for made in (
            call("database_insert", table="countries", data=json.dumps({"name": "x" * 1000})),
            *[call("database_query", sql=f"select {n}") for n in range(3)],
        ):
            world = ENVIRONMENT.step(world, made).world


def test_figures_may_have_commas_between_thousands() -> None:
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
    world = clean(begin("tools/E01/published/1"), call(tool, **WRITERS[tool]))
    assert world.made[0].ok
    assert ENVIRONMENT.load(ENVIRONMENT.dump(world)) == world


@pytest.mark.parametrize("identity", ["tools/note/synthetic/3", "tools/note/heldout/3"])
def test_a_note_that_is_there_at_the_start_survives_a_snapshot(identity: str) -> None:
    start = begin(identity)
    assert start.storage.notes
    assert ENVIRONMENT.load(ENVIRONMENT.dump(start)) == start
    ((key, text),) = start.storage.notes
    (made,) = clean(start, call("scratchpad_read", key=key)).made
    assert json.loads(made.shown)["value"] == json.loads(text)
    written = clean(start, call("scratchpad_write", key=key, value="another"))
    assert ENVIRONMENT.load(ENVIRONMENT.dump(written)) == written
    assert len(written.storage.notes) == 2


def test_snapshots_of_every_family_and_setting_are_read_back_in_mid_episode() -> None:
    for selection in ENVIRONMENT.selections:
        for scenario in ENVIRONMENT.scenarios(selection)[::3]:
            episode = play(ENVIRONMENT, scenario, "strict", POLICIES["heuristic"](scenario, "strict"))
            for world in (episode.start, *[step.world for step in episode.steps]):
                loaded = ENVIRONMENT.load(ENVIRONMENT.dump(world))
                assert loaded == world
                assert ENVIRONMENT.view(loaded, "agent") == ENVIRONMENT.view(world, "agent")


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
    world = ENVIRONMENT.step(begin("tools/claim/synthetic/3"), call("scratchpad_write", key="k", value="v")).world
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
        world = begin(f"tools/claim/synthetic/{seed}")
        for _ in range(3):
            world = ENVIRONMENT.step(world, ENVIRONMENT.parse_action(completion)).world
        world = ENVIRONMENT.step(world, call("database_query", sql="SELECT count(*) FROM countries")).world
        assert ENVIRONMENT.load(ENVIRONMENT.dump(world)) == world


def test_a_snapshot_that_was_meddled_with_is_an_input_error() -> None:
    world = ENVIRONMENT.step(begin("tools/claim/synthetic/3"), call("scratchpad_write", key="k", value="v")).world
    data = ENVIRONMENT.dump(world)
    for before, after in (
        (b"strict", b"loose"),
        (b"claim", b"clams"),
        (b"synthetic", b"published"),
        (b"synthetic", b"strict"),
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
        (
            "tools/X01/published/1",
            "unknown case 'X01'; valid in the setting published: W01-W10, B01-B15, I01-I15, E01-E15",
        ),
        ("tools/W11/published/1", "valid in the setting published: W01-W10"),
        ("tools/claim/published/1", "unknown case 'claim'; valid in the setting published: W01-W10"),
        ("tools/W01/synthetic/1", "unknown case 'W01'; valid in the setting synthetic: population, capital"),
        ("tools/trend/synthetic/1", "unknown case 'trend'; valid in the setting synthetic: population, capital"),
        ("tools/E07/heldout/1", "unknown case 'E07'; valid in the setting heldout: population, capital"),
        ("tools/claim/strict/1", "unknown setting 'strict'; valid: published, synthetic, heldout"),
        ("tools/claim/synthetic/01", "seed '01'"),
        ("tools/claim/synthetic/-1", "seed '-1'"),
        ("tools/claim/synthetic", "write tools/CASE/SETTING/SEED, for example tools/claim/synthetic/3"),
        ("tools/claim/synthetic/1/2", "write tools/CASE/SETTING/SEED"),
        ("tools//synthetic/1", "unknown case ''"),
    ],
)
def test_bad_ids_name_what_would_have_been_valid(identity: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        ENVIRONMENT.scenario(identity)


def test_an_id_is_read_back_in_every_setting() -> None:
    for selection in ENVIRONMENT.selections:
        for scenario in ENVIRONMENT.scenarios(selection, (0, 7)):
            assert ENVIRONMENT.scenario(scenario.identity) == scenario
            assert scenario.setting == selection
    assert ENVIRONMENT.scenario("tools/E07/published/3").group == "E"
    assert ENVIRONMENT.scenario("tools/claim/synthetic/3").group == "claim"


def test_the_sets_and_their_tiers() -> None:
    published = ENVIRONMENT.scenarios("published")
    assert [sum(s.tier == tier for s in published) for tier in ENVIRONMENT.tiers] == [10, 15, 15, 15]
    assert len({s.seed for s in published}) == 55, "each has weather of its own"
    synthetic = ENVIRONMENT.scenarios("synthetic")
    assert len({s.seed for s in synthetic}) == len(synthetic)
    assert len(ENVIRONMENT.scenarios("synthetic", range(2))) == 2 * len(scenarios.CASES["synthetic"])
    assert len(ENVIRONMENT.scenarios("heldout", range(2))) == 2 * len(scenarios.CASES["heldout"])
    with pytest.raises(InputError, match="unknown evaluation set 'cross'; valid: synthetic, published, heldout"):
        ENVIRONMENT.scenarios("cross")
    with pytest.raises(InputError, match="strict/2, published"):
        ENVIRONMENT.rules("loose")


def test_the_metrics_count_what_happened() -> None:
    calls = [call("calculator", expression="1")] * 3 + [Unparsed("x"), call(SUBMIT, answer="83200000", **ANSWER)]
    episode = replay(ENVIRONMENT, ENVIRONMENT.scenario("tools/W01/published/1"), "strict", calls)
    found = {metric.name: metric.of(episode) for metric in ENVIRONMENT.metrics}
    assert (found["success"], found["correctness"], found["answered"], found["steps"]) == (1.0, 1.0, 1.0, 5.0)
    assert (found["repeats"], found["unparsed"], found["faults"]) == (2.0, 1.0, 0.0)
    assert ENVIRONMENT.headline(episode) == 0.0, "right, and without a source"


def test_tasks_ask_for_what_the_table_says() -> None:
    assert [tuple(task)[2:9] for task in TASKS.values()] == [
        (6, 4, 2, 1, 0, 0, 0),
        (8, 6, 3, 1, 1, 1, 0),
        (10, 7, 4, 2, 2, 1, 1),
    ]
