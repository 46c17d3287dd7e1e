"""Figures in words, and the table of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from chaosops_ray.plain_text import printable
from chaosops_ray.sim.contract import AnyEnvironment, Metric

_LONGEST_NAME = 60


def share(value: float | None) -> str:
    """A share as a person reads it; a dash where there is nothing to have a share of."""
    return "–" if value is None else f"{100 * value:.0f} %"


def headline(environment: AnyEnvironment, value: float) -> str:
    """A figure of the world's headline score."""
    return format(value, environment.headline_format).replace("-", "−")


def plain(text: str, longest: int = _LONGEST_NAME) -> str:
    """Text as terminals, plots and pages can show it: nothing that a terminal would obey, and not too much of it."""
    return printable(text, longest)


def metric_figure(metric: Metric, value: float | None) -> str:
    """A figure of one of the world's metrics; a dash where it is defined for no episode."""
    if metric.is_share:
        return share(value)
    return "–" if value is None else f"{value:.1f}"


def table(environment: AnyEnvironment, cells: list[dict[str, Any]], key: str) -> Table:
    """One row a cell, in the layout of the published table, with the interval of the mean beside it."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("policy")
    drawn.add_column(key)
    drawn.add_column("n", justify="right")
    shown = [metric for metric in environment.metrics if metric.in_tables]
    for metric in shown:
        drawn.add_column(metric.title, justify="right")
    drawn.add_column("mean", justify="right")
    drawn.add_column("95 % interval", justify="right")
    drawn.add_column("median", justify="right")
    before = None
    for cell in cells:
        if before not in (None, cell["policy"]):
            drawn.add_section()
        before = cell["policy"]
        low, high = cell["mean_ci"]
        drawn.add_row(
            cell["policy"],
            cell[key],
            str(cell["episodes"]),
            *[metric_figure(metric, cell[metric.name]) for metric in shown],
            headline(environment, cell["mean"]),
            f"{headline(environment, low)} … {headline(environment, high)}",
            headline(environment, cell["median"]),
        )
    return drawn


def set_named(evaluation: Mapping[str, Any]) -> str:
    """Which scenarios an evaluation was made on, in words."""
    seeds = f", seeds {evaluation['seeds']}" if evaluation["seeds"] else ""
    return f"{evaluation['set']} set{seeds}"
