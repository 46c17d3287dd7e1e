"""Every tool: a result, a malformed input, a limit."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from chaosops_ray.sim.tools import database
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import (
    ACTION,
    COMPUTATION,
    MAX_TEXT,
    RETRIEVAL,
    STORAGE,
    VALIDATION,
    Desk,
    checked,
)
from chaosops_ray.sim.tools.knowledge import facts_of, knowledge, names_of
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import Storage

KNOWN = knowledge("published", 0)
LONG = "x" * (MAX_TEXT + 1)
PEOPLE = '[{"name": "a", "n": 3}, {"name": "b", "n": 1}]'


def use(name: str, desk: Desk | None = None, /, **arguments: Any) -> Any:
    tool = TOOLS[name]
    result = tool.run(desk or Desk(KNOWN, Storage()), **checked(tool, arguments))
    json.dumps(result, allow_nan=False)
    return result


def equals(wanted: Any) -> Callable[[Any], bool]:
    return lambda result: bool(result == wanted)


# tool: (arguments that work, what the result must be), arguments it cannot read, (arguments beyond a limit, what it says)
CASES: dict[str, tuple[tuple[dict[str, Any], Callable[[Any], bool]], dict[str, Any], tuple[dict[str, Any], str]]] = {
    "web_search": (
        ({"query": "population of Germany"}, lambda r: "Germany" in r["results"][0]["snippet"]),
        {"query": 7},
        ({"query": LONG}, "longer than"),
    ),
    "fetch_url": (
        ({"url": "https://atlas.example/south-korea"}, lambda r: "South Korea" in r["text"]),
        {"url": "ftp://atlas.example/germany"},
        ({"url": LONG}, "longer than"),
    ),
    "knowledge_base_lookup": (
        ({"entity": "berlin"}, lambda r: r["entity"] == "Germany" and r["facts"]["population"] == 83_200_000),
        {"entity": "Atlantis"},
        ({"entity": LONG}, "longer than"),
    ),
    "database_query": (
        ({"sql": "SELECT count(*) AS n FROM countries"}, equals({"columns": ["n"], "rows": [[15]]})),
        {"sql": "SELEC"},
        ({"sql": "SELECT 1 " + "+ 1 " * 600}, "longer than"),
    ),
    "document_search": (
        ({"query": "NovaTech"}, lambda r: r["documents"][0]["id"] in ("filing-novatech", "analyst-novatech")),
        {},
        ({"query": LONG}, "longer than"),
    ),
    "get_current_datetime": (
        ({}, equals({"timezone": "UTC", "now": "2026-04-08T00:00:00+00:00"})),
        {"timezone": "Mars/Olympus"},
        ({"timezone": LONG}, "longer than"),
    ),
    "read_file": (
        ({"path": "companies.txt"}, lambda r: r["content"].startswith("company | headquarters | sector")),
        {"path": "../../etc/passwd"},
        ({"path": LONG}, "longer than"),
    ),
    "api_call": (
        ({"url": "internal://entity/NovaTech"}, lambda r: r["body"]["revenue_b"] == 1.87),
        {"url": "internal://entity/NovaTech", "method": "DELETE"},
        ({"url": "internal://entity/" + LONG}, "longer than"),
    ),
    "calculator": (
        ({"expression": "(83200000 / 357022) ** 0.5"}, lambda r: r["value"] == pytest.approx(15.2657, abs=1e-4)),
        {"expression": "2 +"},
        ({"expression": "9 ** 9 ** 9"}, "too large"),
    ),
    "python_execute": (
        ({"code": "x = [n * n for n in range(4)]\nprint(x)\nsum(x)"}, equals({"output": "[0, 1, 4, 9]\n", "value": 14})),
        {"code": "def"},
        ({"code": "while True: pass"}, "work limit"),
    ),
    "text_extract": (
        ({"text": "1,234 people and 7 cats", "pattern": r"([\d,]+) people"}, equals({"matches": ["1,234"]})),
        {"text": "x", "pattern": "("},
        ({"text": "a" * 40 + "b", "pattern": "(a+)+$"}, "work limit"),
    ),
    "data_transform": (
        ({"data": PEOPLE, "operation": "sort:n"}, lambda r: [item["name"] for item in r["items"]] == ["b", "a"]),
        {"data": PEOPLE, "operation": "median:n"},
        ({"data": json.dumps([{"n": 1}] * 300), "operation": "sum:n"}, "at most"),
    ),
    "compare_values": (
        ({"value1": "1,000", "value2": 1010, "tolerance": 0.01}, lambda r: r["equal"] is True),
        {"value1": [1], "value2": 1},
        ({"value1": 10**30, "value2": 1}, "must be scalar"),
    ),
    "json_query": (
        ({"data": '{"items": [{"name": "a"}]}', "query": "items[0].name"}, equals({"value": "a"})),
        {"data": "{", "query": "a"},
        ({"data": "[1]", "query": "[99999]"}, "path"),
    ),
    "translate": (
        ({"text": "population yes", "target_language": "de"}, equals({"text": "Bevölkerung ja"})),
        {"text": "yes", "target_language": "tlh"},
        ({"text": LONG, "target_language": "de"}, "longer than"),
    ),
    "scratchpad_write": (
        ({"key": "a", "value": "line\nline"}, equals({"key": "a", "saved": True})),
        {"key": "", "value": "x"},
        ({"key": "a", "value": "x" * 2000}, "no more than"),
    ),
    "scratchpad_read": (({"key": "seen"}, equals({"key": "seen", "value": "two\nlines"})), {"key": "unseen"}, ({"key": LONG}, "longer than")),
    "write_file": (
        ({"path": "notes/a.md", "content": "x"}, equals({"path": "notes/a.md", "saved": True})),
        {"path": "../a.md", "content": "x"},
        ({"path": "a.md", "content": "x" * 2000}, "no more than"),
    ),
    "database_insert": (
        ({"table": "countries", "data": '{"name": "Oz", "population": 1}'}, equals({"inserted": 1})),
        {"table": "countries", "data": '{"colour": "green"}'},
        ({"table": "countries", "data": '{"population": ' + "9" * 30 + "}"}, "no text or number"),
    ),
    "create_report": (({"content": "ok"}, equals({"id": "report-1", "saved": True})), {"content": " "}, ({"content": "x" * 2000}, "no more than")),
    "validate_url": (
        ({"url": "https://press.example/novatech"}, equals({"well_formed": True, "reachable": True})),
        {"url": None},
        ({"url": LONG}, "longer than"),
    ),
    "validate_data": (
        ({"data": '{"n": 1}', "schema": '{"n": "number", "s": "string"}'}, equals({"valid": False, "problems": ["s"]})),
        {"data": "{}", "schema": '{"n": "colour"}'},
        ({"data": "[" * 3000, "schema": "{}"}, "no JSON"),
    ),
    "check_consistency": (
        (
            {"source1": "83,200,000 people", "source2": "population 83200000"},
            equals({"consistent": True, "figures_compared": 1, "unmatched": []}),
        ),
        {"source1": "many", "source2": "few"},
        ({"source1": LONG, "source2": "1"}, "longer than"),
    ),
    "fact_check": (
        ({"claim": "NovaTech earned 1.87 billion"}, equals({"entity": "NovaTech", "supported": True})),
        {"claim": "NovaTech earned a lot"},
        ({"claim": LONG}, "longer than"),
    ),
    "hash_verify": (
        ({"data": "abc", "expected_hash": sha256(b"abc").hexdigest()}, equals({"match": True})),
        {"data": "abc", "expected_hash": "abc"},
        ({"data": LONG, "expected_hash": "0" * 64}, "longer than"),
    ),
    "send_notification": (({"message": "look"}, equals({"sent": True})), {"message": ""}, ({"message": "x" * 2000}, "no more than")),
    "schedule_task": (
        ({"task": "look again", "time": "2026-04-09T08:00Z"}, equals({"scheduled": True, "position": 1})),
        {"task": "look again", "time": "tomorrow"},
        ({"task": "x" * 2000, "time": "2026-04-09T08:00Z"}, "no more than"),
    ),
    "update_ticket": (
        ({"ticket_id": "OPS-12", "update": "done"}, equals({"ticket_id": "OPS-12", "updated": True})),
        {"ticket_id": "12", "update": "done"},
        ({"ticket_id": "OPS-12", "update": "x" * 2000}, "no more than"),
    ),
    "request_human_review": (({"reason": "odd"}, equals({"queued": True})), {"reason": 1}, ({"reason": "x" * 2000}, "no more than")),
    "submit_answer": (
        ({"answer": "42", "reasoning": "sum"}, equals({"received": True, "reasoning_characters": 3})),
        {"answer": " ", "reasoning": ""},
        ({"answer": LONG, "reasoning": ""}, "longer than"),
    ),
}  # fmt: skip


def test_there_are_thirty_tools_in_five_groups_and_each_has_its_cases() -> None:
    assert len(TOOLS) == 30
    assert set(CASES) == set(TOOLS)
    counts = [
        sum(tool.group == group for tool in TOOLS.values())
        for group in (RETRIEVAL, COMPUTATION, STORAGE, VALIDATION, ACTION)
    ]
    assert counts == [8, 7, 5, 5, 5]


@pytest.mark.parametrize("name", CASES)
def test_a_tool_gives_its_result(name: str) -> None:
    (arguments, check), _, _ = CASES[name]
    desk = Desk(KNOWN, Storage(notes=(("seen", '"two\\nlines"'),)))
    assert check(use(name, desk, **arguments))


@pytest.mark.parametrize("name", CASES)
def test_a_tool_refuses_what_it_cannot_read_with_a_reason(name: str) -> None:
    _, malformed, _ = CASES[name]
    for arguments in (malformed, {"no_such_argument": 1}):
        with pytest.raises(ToolError) as caught:
            use(name, **arguments)
        assert str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", CASES)
def test_a_tool_has_a_limit(name: str) -> None:
    _, _, (arguments, said) = CASES[name]
    with pytest.raises(ToolError, match=said):
        use(name, **arguments)


# -- what is written can be read, within the episode ----------------------------------------------------------------


def test_notes_files_and_rows_are_read_back() -> None:
    desk = Desk(KNOWN, Storage())
    use("scratchpad_write", desk, key="k", value="one")
    use("scratchpad_write", desk, key="k", value="two\n✓")
    assert use("scratchpad_read", desk, key="k")["value"] == "two\n✓"
    use("write_file", desk, path="a.txt", content="evidence")
    assert use("read_file", desk, path="a.txt")["own"] == "evidence"
    use("database_insert", desk, table="countries", data='{"name": "Oz", "population": 5, "capital": "Emerald"}')
    sql = "SELECT name, population, area_km2 FROM countries WHERE name = 'Oz'"
    assert use("database_query", desk, sql=sql)["rows"] == [["Oz", 5, None]]
    assert use("database_query", Desk(KNOWN, Storage()), sql=sql)["rows"] == [], "another episode never sees it"


def test_a_files_name_cannot_hide_the_figures() -> None:
    with pytest.raises(ToolError, match="files that are there"):
        use("write_file", Desk(KNOWN, Storage()), path="countries.txt", content="x")


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM countries",
        "UPDATE countries SET population = 1",
        "INSERT INTO countries (name) VALUES ('x')",
        "DROP TABLE countries",
        "CREATE TABLE x (y)",
        "ATTACH DATABASE '/tmp/x.db' AS x",
        "PRAGMA table_info(countries)",
        "VACUUM INTO '/tmp/x.db'",
        "SELECT * FROM sqlite_master",
        "SELECT load_extension('x')",
        "SELECT random()",
        "SELECT date('now')",
        "SELECT CURRENT_TIMESTAMP",
        "SELECT randomblob(10)",
        "SELECT 1; SELECT 2",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "SELECT count(*) FROM countries a, countries b, countries c, countries d, countries e, countries f, countries g",
        "SELECT replace(replace(replace(hex(zeroblob(9000)), '0', 'aaaa'), 'a', 'bbbb'), 'b', 'cccc')",
        "SELECT printf('%100000d', 1)",
        "COMMIT",
        "ROLLBACK",
        "RELEASE episode",
        "EXPLAIN SELECT 1",
        "",
        "\x00",
        "SELECT '\ud800'",
    ],
)
def test_sql_that_does_more_than_read_two_tables_is_refused(sql: str) -> None:
    with pytest.raises(ToolError):
        use("database_query", sql=sql)
    assert use("database_query", sql="SELECT count(*) FROM countries")["rows"] == [[15]]


def test_the_clock_is_part_of_the_world() -> None:
    assert use("get_current_datetime", timezone="Asia/Tokyo")["now"] == "2026-04-08T09:00:00+09:00"
    assert use("get_current_datetime", timezone="America/New_York")["now"] == "2026-04-07T20:00:00-04:00"


def test_the_tables_hold_the_figures_but_for_some_cells_that_are_empty() -> None:
    rows = use("database_query", sql="SELECT name, population FROM countries")["rows"]
    assert all(population in (None, facts_of(KNOWN, name)["population"]) for name, population in rows)
    assert [name for name, _ in rows] == names_of(KNOWN, "country")
    assert database.TABLES["financials"][0] == "company"


@pytest.mark.parametrize("operation", ["count", "sum:n", "avg:n", "min:n", "max:n", "filter:name=a"])
def test_data_is_transformed(operation: str) -> None:
    wanted = {
        "count": {"value": 2},
        "sum:n": {"value": 4},
        "avg:n": {"value": 2},
        "min:n": {"value": 1},
        "max:n": {"value": 3},
        "filter:name=a": {"items": [{"name": "a", "n": 3}]},
    }
    assert use("data_transform", data=PEOPLE, operation=operation) == wanted[operation]


# -- what SQL may not do ----------------------------------------------------------------------------------------------

COLUMN = "select {0} as x from ({1})"


def tables_in_tables(levels: int, width: int) -> str:
    tables = ["t0 as (select 1 as x)"]
    tables += [f"t{n} as (select a.x from {', '.join([f't{n - 1} a'] * width)})" for n in range(1, levels)]
    return f"with {', '.join(tables)} select x from t{levels - 1}"


def columns_in_columns(levels: int, width: int) -> str:
    text = "select area_km2 as x from countries"
    for _ in range(levels):
        text = COLUMN.format(" + ".join(["x"] * width), text)
    return text


def alias_in_columns(width: int) -> str:
    sums = " + ".join(["x"] * width)
    return f"select {sums} as y from ({columns_in_columns(1, width)}) where {' or '.join(['y'] * width)}"


@pytest.mark.parametrize(
    "sql",
    [
        tables_in_tables(20, 2),
        tables_in_tables(8, 5),
        columns_in_columns(10, 3),
        columns_in_columns(4, 20),
        columns_in_columns(3, 40),
        alias_in_columns(40),
        "select 1 from " + ", ".join(["(values (1), (2))"] * 30),
        "with " + ", ".join([f't{n} as (select 1 from "t{n - 1}", [t{n - 1}], `t{n - 1}`)' for n in range(1, 9)]) + " select 1 from t8",
    ],
)  # fmt: skip
def test_sql_whose_parts_multiply_is_refused_before_sqlite_sees_it(sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_database", lambda _known: pytest.fail("it is prepared"))
    assert len(sql) <= database.MAX_SQL
    with pytest.raises(ToolError, match="could multiply"):
        use("database_query", sql=sql)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("with d as (select name, population / area_km2 as density from countries) select d.name from d where d.density = (select max(density) from d)", [["South Korea"]]),
        ("with d as (select name n, population p from countries where name in ('India', 'Japan', 'Egypt')), e as (select d.n n, d.p p from d where d.p > 100) select count(e.n) from e", [[3]]),
        ("select (select population from countries where name = 'Japan') * 1.0 / (select area_km2 from countries where name = 'Japan') > (select 1)", [[1]]),
        ("select name from countries where name in (" + ", ".join(["'Kenya'"] * 60) + ")", [["Kenya"]]),
        ("select 'a' union all select 'b' union all select 'c' union all select 'd'", [["a"], ["b"], ["c"], ["d"]]),
        ("select trim(name, 'Ka'), ltrim('  a'), rtrim(1200, 0), trim(null, 'a'), trim(name) from countries where name = 'Kenya'", [["eny", "a", "12", None, "Kenya"]]),
        ("select name from countries where name like '%Korea'", [["South Korea"]]),
        ("select name as '(((' from countries where name = 'Kenya' -- )))", [["Kenya"]]),
    ],
)  # fmt: skip
def test_sql_of_a_usual_size_is_carried_out(sql: str, rows: list[Any]) -> None:
    assert use("database_query", sql=sql)["rows"] == rows


@pytest.mark.parametrize(
    "expression",
    [
        "random()", "randomblob(9)", "zeroblob(9)", "hex(1)", "printf('%9d', 1)", "format('%9d', 1)", "char(65)", "quote(1)",
        "group_concat(name)", "json('1')", "json_array(1)", "name ->> '$'", "date('now')", "time('now')", "datetime('now')",
        "julianday('now')", "strftime('%s', 'now')", "unixepoch()", "current_timestamp", "current_date", "current_time",
        "name glob 'K*'", "name regexp 'K'", "name match 'K'", "load_extension('x')", "sqlite_version()", "changes()",
        "last_insert_rowid()", "fts3_tokenizer('x')", "soundex('x')", "likelihood(1, 0.5)", "(select count(*) from pragma_database_list)",
        "(select sql from sqlite_master)", "(select value from json_each('[1]'))", "?1", ":x",
    ],
)  # fmt: skip
def test_sql_has_no_clock_no_chance_and_no_function_that_is_not_listed(expression: str) -> None:
    with pytest.raises(ToolError, match="SQL error"):
        use("database_query", sql=f"select {expression} from countries")


@pytest.mark.parametrize(
    "sql",
    [
        "select name from countries where name || 'aaaaaaaa' like '%" + "a" * 20 + "b'",
        "select replace(replace(replace('aaaaaaaaaa', 'a', 'aaaaaaaaaa'), 'a', 'aaaaaaaaaa'), 'a', 'b')",
        "select count(*) from " + ", ".join(["countries"] * 5),
        "select " + " union all select ".join(["1"] * 12),
        "select " + ", ".join(["*"] * 30) + " from countries",
        "with n(i) as (values (1) union all select i + 1 from n) select max(i) from n",
        "select '" + "a" * 500 + "'",
    ],
)
def test_sql_that_would_do_much_is_called_off(sql: str) -> None:
    with pytest.raises(ToolError, match="SQL error"):
        use("database_query", sql=sql)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": "x" * 301}, "300 bytes"),
        ({"name": "é" * 100, "capital": "é" * 100}, "300 bytes"),
        ({"population": 2**63}, "no text or number"),
        ({"population": -(2**63)}, "no text or number"),
        ({"gdp_per_capita": 1e300}, "no text or number"),
    ],
)
def test_a_row_that_no_query_could_hold_is_refused_when_it_comes_in(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolError, match=said):
        use("database_insert", table="countries", data=json.dumps(data))
    with pytest.raises(ToolError, match="no text or number"):
        use("database_insert", table="countries", data='{"population": 1e999}')


def test_any_row_that_comes_in_can_be_read() -> None:
    desk = Desk(KNOWN, Storage())
    for row in (
        {"name": "é" * 150},
        {"population": 2**63 - 1, "area_km2": -(2**63) + 1, "gdp_per_capita": 1e18, "name": "Oz"},
    ):
        use("database_insert", desk, table="countries", data=json.dumps(row))
    assert use("database_query", desk, sql="select count(*) from countries")["rows"] == [[17]]


# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("[" * 65 + "]" * 65, "data is no JSON: nested too deeply"),
        ("[" * 65 + "x", "data is no JSON: nested too deeply"),
        ("[" * 4000, "data is no JSON: nested too deeply"),
        ("[" * 64 + "x", "data is no JSON: Expecting value"),
        ("[" * 17 + "]" * 17, "nested deeper than 16"),
        ('["' + "[" * 100 + '", "\\"' + "[" * 100 + '"', "data is no JSON: Expecting ','"),
        ("9" * 601, "too many digits"),
        ("-" + "9" * 3999, "too many digits"),
        ("[NaN]", "NaN is no number"),
        ('{"a": 1, "a": 2}', "stands twice"),
    ],
)
def test_what_json_may_hold_is_decided_here(data: str, said: str) -> None:
    """And not by the depth of a caller's stack, or by how many digits a process is told to read."""
    with pytest.raises(ToolError, match=said):
        use("json_query", data=data, query="a")


def test_json_within_the_limits_is_read() -> None:
    assert use("json_query", data='{"a": ' + "9" * 600 + "}", query="a")["value"] == int("9" * 600)
    assert use("json_query", data="[" * 16 + "]" * 16, query="[0]")["value"] == json.loads("[" * 15 + "]" * 15)
    assert use("json_query", data='{"a": "' + "[" * 900 + '"}', query="a")["value"] == "[" * 900
