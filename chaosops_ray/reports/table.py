"""A table as pages and Markdown show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """A table: the first columns hold words, the others figures; one column of a page is coloured by marks."""

    heading: Sequence[str]
    words: int
    rows: Sequence[Sequence[str]]
    coloured: int = -1
    marks: Sequence[str] = ()

    def classes(self, row: int, column: int) -> str:
        """Return the classes of a cell on a page."""
        kind = "n" if column >= self.words else ""
        return f"{kind} {self.marks[row] if self.marks and column == self.coloured else ''}".strip()
