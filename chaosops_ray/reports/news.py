"""Cells of panels that are not as they were when their seat looked last: pages mark them. film.js has the same rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from chaosops_ray.sim.board import Cell, Panel, Row

_BARS = re.compile(r"[\u2581-\u2588]+")
Marks = tuple[tuple[bool, ...], ...]


def news(panels: Sequence[Panel], before: Sequence[Panel] | None) -> list[Marks]:
    """Tell for each cell of each panel if it is new; without panels from before, nothing is."""
    earlier = {} if before is None else {panel.title: panel.rows for panel in before}
    return [
        tuple([(False,) * len(row) for row in panel.rows])
        if before is None
        else _of_panel(panel.rows, earlier.get(panel.title, ()))
        for panel in panels
    ]


def _of_panel(rows: Sequence[Row], before: Sequence[Row]) -> Marks:
    """Compare rows by their first cell where it names one row; a row that has no match is new as a whole."""
    # A panel of one row counts the turns; that is nothing new.
    if len(rows) == len(before) == 1:
        return ((False,) * len(rows[0]),)
    left = Counter([_spelt(row) for row in before])
    now, then = _by_name(rows), _by_name(before)
    found = []
    for row in rows:
        if left[_spelt(row)] > 0:
            left[_spelt(row)] -= 1
            found.append((False,) * len(row))
            continue
        name = row[0].text if row else ""
        old = then.get(name) if len(row) > 1 and now.get(name) else None
        found.append(tuple([_is_new(cell, old, column) for column, cell in enumerate(row)]))
    return tuple(found)


def _is_new(cell: Cell, old: Row | None, column: int) -> bool:
    # Bars that draw the past become longer with each turn, and say nothing new.
    if not cell.text or _BARS.fullmatch(cell.text):
        return False
    return old is None or column >= len(old) or old[column] != cell


def _spelt(row: Row) -> Row:
    return tuple([cell for cell in row if not _BARS.fullmatch(cell.text)])


def _by_name(rows: Sequence[Row]) -> dict[str, Row | None]:
    found: dict[str, Row | None] = {}
    for row in rows:
        if row:
            found[row[0].text] = None if row[0].text in found else row
    return found
