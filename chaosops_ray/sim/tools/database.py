"""The SQL side of the workspace: two tables, read-only, metered by SQLite's own instruction counter."""

from __future__ import annotations

import atexit
import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.tools.knowledge import COMPANY, COUNTRY, Knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.sources import COLUMNS, FILLED, row
from chaosops_ray.sim.tools.sql import refuse_what_multiplies

MAX_SQL = 1_000
MAX_ROWS = 20
# The handler is asked after so many of SQLite's instructions, and may be asked so often.
INSTRUCTIONS_AT_ONCE = 1_000
MAX_ASKED = 10
# One instruction may go through a whole value, or compare all of it with all of a pattern, so both are short.
MAX_VALUE = 400
MAX_PATTERN = 20
MAX_VARIABLES = 9  # for the cells of the rows that are inserted
MAX_ROW_TEXT = 300  # bytes of all texts of a row, so that it is a value that fits
_NULL_SHARE = 0.07
MAX_KEPT = 32

_TABLE_OF = {COUNTRY: "countries", COMPANY: "financials"}
TABLES = {table: COLUMNS[kind] for kind, table in _TABLE_OF.items()}
# Everything that neither reads a clock, nor draws, nor leads out of the database.
FUNCTIONS = frozenset(
    [
        "abs",
        "avg",
        "coalesce",
        "count",
        "ifnull",
        "iif",
        "instr",
        "length",
        "like",
        "lower",
        "ltrim",
        "max",
        "min",
        "nullif",
        "replace",
        "round",
        "rtrim",
        "sign",
        "substr",
        "substring",
        "sum",
        "total",
        "trim",
        "typeof",
        "unicode",
        "upper",
    ]
)

Row = tuple[str, tuple[Any, ...]]


def query(known: Knowledge, inserted: tuple[Row, ...], sql: str) -> dict[str, Any]:
    """Return the rows of a SELECT, with what this episode has inserted among the rest."""
    if len(sql) > MAX_SQL:
        raise ToolError(f"SQL longer than {MAX_SQL} characters")
    if not sql.lstrip().lower().startswith(("select", "with")):
        raise ToolError("SQL error: only SELECT is allowed")
    refuse_what_multiplies(sql)
    connection = _database(known)
    if not inserted:  # as nearly always; a savepoint takes longer than most queries
        return _selected(connection, sql)
    connection.execute("SAVEPOINT episode")
    try:
        for statement, values in _insertions(inserted):
            connection.execute(statement, values)
        return _selected(connection, sql)
    finally:
        connection.execute("ROLLBACK TO episode")
        connection.execute("RELEASE episode")


def check_row(table: str, row: Any) -> tuple[str, ...]:
    """Return the columns that a row gives values for; ToolError where the table has no such row."""
    if table not in TABLES:
        raise ToolError(f"there is no table {table[:40]!r}; there are {', '.join(TABLES)}")
    if not isinstance(row, dict) or not row:
        raise ToolError("data must be a JSON object of column values")
    for column, value in row.items():
        if column not in TABLES[table]:
            raise ToolError(f"{table} has no column {column[:40]!r}; it has {', '.join(TABLES[table])}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, str) and not (is_number and abs(value) < 2**63):
            raise ToolError(f"the value of {column} is no text or number that a table takes")
        if isinstance(value, str) and not value.isprintable():
            raise ToolError(f"the value of {column} is no printable text")
    if sum([len(value.encode()) for value in row.values() if isinstance(value, str)]) > MAX_ROW_TEXT:
        raise ToolError(f"a row holds no more than {MAX_ROW_TEXT} bytes of text")
    return tuple(row)


def _insertions(inserted: tuple[Row, ...]) -> list[tuple[str, tuple[Any, ...]]]:
    statements = []
    for target, values in inserted:
        table, *columns = target.split(" ")
        places = ", ".join("?" * len(columns))
        # Both names were looked at by check_row when the row came in.
        statements.append((f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", values))  # noqa: S608
    return statements


def _selected(connection: sqlite3.Connection, sql: str) -> dict[str, Any]:
    asked = 0

    def too_long() -> int:
        nonlocal asked
        asked += 1
        return int(asked > MAX_ASKED)

    connection.set_authorizer(_authorize)
    connection.set_progress_handler(too_long, INSTRUCTIONS_AT_ONCE)
    try:
        cursor = connection.execute(sql)
        columns = [entry[0] for entry in cursor.description or ()]
        rows = cursor.fetchmany(MAX_ROWS)
    except sqlite3.OperationalError as error:
        reason = "work limit reached" if asked > MAX_ASKED else str(error)
        raise ToolError(f"SQL error: {reason[:200]}") from None
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        raise ToolError(f"SQL error: {str(error)[:200]}") from None
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)
    if not columns:
        raise ToolError("SQL error: only SELECT is allowed")
    return {"columns": columns, "rows": [[_plain(value) for value in row] for row in rows]}


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _authorize(action: int, first: str | None, second: str | None, *_rest: str | None) -> int:
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and first in TABLES:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


@lru_cache(maxsize=256)
def _empty(seed: int, kinds: tuple[str, ...]) -> list[list[bool]]:
    """Draw which cells of the entities' rows are empty; the same in every state of the sources."""
    draw = stream(seed, "database")
    return [[column not in FILLED and draw.uniform() < _NULL_SHARE for column in COLUMNS[kind]] for kind in kinds]


def _opened() -> sqlite3.Connection:
    # One process, one thread at a time: a shard plays its episodes one step after the other.
    # No statement is kept: each may have a megabyte, and they are seldom the same.
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None, cached_statements=0)
    connection.execute("PRAGMA temp_store = MEMORY")  # no file, however much is sorted
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 2 * MAX_SQL)
    connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 50)
    connection.setlimit(sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 10)
    connection.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, 50)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, MAX_VARIABLES)
    # SQLite's own compares each character of the text with each one listed.
    for name, strip in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
        connection.create_function(name, 2, _stripped(strip), deterministic=True)
    for table, columns in TABLES.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    return connection


def _fill(connection: sqlite3.Connection, known: Knowledge) -> None:
    kinds = tuple([entity.kind for entity in known.entities])
    rows: dict[str, list[list[Any]]] = {kind: [] for kind in COLUMNS}
    for entity, empty in zip(known.entities, _empty(known.seed, kinds), strict=True):
        rows[entity.kind].append(
            [None if is_empty else cell for cell, is_empty in zip(row(entity), empty, strict=True)]
        )
    connection.execute("BEGIN")
    for kind, table in _TABLE_OF.items():
        connection.execute(f"DELETE FROM {table}")  # noqa: S608
        places = ", ".join("?" * len(COLUMNS[kind]))
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows[kind])  # noqa: S608
    connection.execute("COMMIT")


def _stripped(strip: Callable[[str, str], str]) -> Callable[[Any, Any], str | None]:
    def run(text: Any, characters: Any) -> str | None:
        return None if text is None or characters is None else strip(_as_text(text), _as_text(characters))

    return run


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# The databases that were asked last, the latest at the end.
_kept: OrderedDict[Knowledge, sqlite3.Connection] = OrderedDict()


def _database(known: Knowledge) -> sqlite3.Connection:
    """Return the database of these facts; to fill the one that was longest unasked takes half of opening another."""
    connection = _kept.pop(known, None)
    if connection is None:
        connection = _kept.popitem(last=False)[1] if len(_kept) == MAX_KEPT else _opened()
        _fill(connection, known)
    _kept[known] = connection
    return connection


@atexit.register
def _close() -> None:
    while _kept:
        _kept.popitem()[1].close()
