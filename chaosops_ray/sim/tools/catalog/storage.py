"""Tools that keep things."""

from __future__ import annotations

import json
import re
from typing import Any

from chaosops_ray.sim.tools import database
from chaosops_ray.sim.tools.catalog.computation import parsed
from chaosops_ray.sim.tools.catalog.tool import STORAGE, Desk, Tool, text
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.sources import TABLES

MAX_KEPT = 1_000
_PATH = re.compile(r"[A-Za-z0-9_-]{1,40}(/[A-Za-z0-9_-]{1,40}){0,3}\.(txt|md|json|csv)")


def kept(content: str) -> str:
    """Return content as it is kept, cut to the longest that may be."""
    if len(content) > MAX_KEPT:
        raise ToolError(f"no more than {MAX_KEPT} characters are kept")
    # Kept as JSON text: one printable line, whatever is in it.
    return json.dumps(content)


def scratchpad_write(desk: Desk, key: str, value: str) -> Any:
    """Keep a note."""
    if not key or len(key) > 40 or not key.isprintable():
        raise ToolError("a key is 1 to 40 printable characters")
    desk.storage = desk.storage._replace(notes=(*desk.storage.notes, (key, kept(value))))
    return {"key": key, "saved": True}


def scratchpad_read(desk: Desk, key: str) -> Any:
    """Read a note."""
    notes = {entry[0]: entry[1] for entry in desk.storage.notes}
    if key not in notes:
        raise ToolError(f"no note {key[:40]!r}; there are {', '.join(notes)[:200] or 'none'}")
    return {"key": key, "value": json.loads(notes[key])}


def write_file(desk: Desk, path: str, content: str) -> Any:
    """Write a file of the episode's own."""
    if not _PATH.fullmatch(path) or path in TABLES:
        raise ToolError("a path is like notes/evidence.md, of plain names, and none of the files that are there")
    desk.storage = desk.storage._replace(files=(*desk.storage.files, (path, kept(content))))
    return {"path": path, "saved": True}


def database_insert(desk: Desk, table: str, data: str) -> Any:
    """Add a row to a table, for this episode."""
    row = parsed(data)
    columns = database.check_row(table, row)
    target = " ".join([table, *columns])
    desk.storage = desk.storage._replace(rows=(*desk.storage.rows, (target, json.dumps([row[c] for c in columns]))))
    return {"inserted": 1}


def create_report(desk: Desk, content: str) -> Any:
    """File a report."""
    if not content.strip():
        raise ToolError("an empty report is none")
    desk.storage = desk.storage._replace(reports=(*desk.storage.reports, kept(content)))
    return {"id": f"report-{len(desk.storage.reports)}", "saved": True}


TOOLS = (
    Tool("scratchpad_write", STORAGE, "keep a note", (text("key"), text("value")), scratchpad_write),
    Tool("scratchpad_read", STORAGE, "read a note", (text("key"),), scratchpad_read),
    Tool("write_file", STORAGE, "write a file", (text("path"), text("content")), write_file),
    Tool(
        "database_insert",
        STORAGE,
        "add a row, as a JSON object, to a table",
        (text("table"), text("data")),
        database_insert,
    ),
    Tool("create_report", STORAGE, "file a report", (text("content"),), create_report),
)
