"""Which cells of a panel are new since a seat looked last."""

from __future__ import annotations

from chaosops_ray.reports.news import news
from chaosops_ray.sim.board import Cell, Panel


def panel(*rows: str, title: str = "panel") -> Panel:
    """A panel whose cells are the words of each row."""
    return Panel(title, (), tuple([tuple([Cell(word) for word in row.split()]) for row in rows]))


def new(now: Panel, *before: Panel) -> list[str]:
    """The texts of the new cells."""
    (marks,) = news([now], before)
    return [
        cell.text
        for row, marked in zip(now.rows, marks, strict=True)
        for cell, is_new in zip(row, marked, strict=True)
        if is_new
    ]


def test_at_the_first_turn_nothing_is_new() -> None:
    assert news([panel("auth ok", "db down")], None) == [((False, False), (False, False))]


def test_a_row_of_the_same_name_has_new_cells_where_it_differs() -> None:
    assert new(panel("auth ok 3", "db down 1"), panel("auth ok 3", "db ok 1")) == ["down"]


def test_a_row_that_was_not_there_is_new_as_a_whole() -> None:
    assert new(panel("1 sre hello", "2 dev hi"), panel("1 sre hello")) == ["2", "dev", "hi"]
    assert new(panel("same", "same"), panel("same", "other")) == ["same"]


def test_names_that_stand_twice_name_no_row() -> None:
    assert new(panel("INFO a", "INFO b"), panel("INFO a", "INFO c")) == ["INFO", "b"]


def test_a_tone_that_changed_is_new() -> None:
    toned = Panel("panel", (), ((Cell("db"), Cell("down", "bad")), (Cell("x"),)))
    assert new(toned, panel("db down", "x")) == ["down"]


def test_panels_that_count_turns_and_bars_that_grow_say_nothing_new() -> None:
    assert new(panel("3 left"), panel("4 left")) == []
    assert new(panel("cpu 1 ▁▂", "x"), panel("cpu 1 ▁", "x")) == []
    assert new(panel("cpu 2 ▁▂", "x"), panel("cpu 1 ▁", "x")) == ["2"]


def test_a_panel_that_was_not_there_is_new() -> None:
    assert new(panel("a b", title="other"), panel("a b")) == ["a", "b"]
