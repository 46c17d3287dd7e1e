"""Sparklines."""

from chaosops_ray.sim.board import sparkline


def test_a_sparkline_rises_with_its_values_and_keeps_within_its_range() -> None:
    assert sparkline([0, 4, 8], 0, 8) == "▁▅█"
    assert sparkline([-5, 99], 0, 8) == "▁█"


def test_a_sparkline_shows_the_last_values() -> None:
    assert sparkline([8, 8, 0, 0], 0, 8, width=2) == "▁▁"
    assert sparkline([], 0, 8) == ""
