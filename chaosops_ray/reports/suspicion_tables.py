"""The tables of suspicion: how well policies tell the guilty from the innocent, in worlds that ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from rich import box
from rich.table import Table as Drawn

from chaosops_ray.reports.table import Table
from chaosops_ray.reports.tables import DASH, plain, share
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.twins import BY_SETTING, FIGURES, OVERALL, TOLD_APART, Figure

Cells: TypeAlias = Sequence[Mapping[str, Any]]

HELP = (
    "The suspicion of an episode is how likely its policy held it at the end that there is a culprit. Brier and "
    "calibration error weigh the guilty and the innocent by the prior of the rules; AUROC and TPR do not depend on it."
)
# The others are in the JSON file.
SHOWN = tuple([figure for figure in FIGURES if figure != TOLD_APART])
_ALL = "all"


def suspicion_tables(environment: AnyEnvironment, evaluation: Mapping[str, Any]) -> list[Table]:
    """Return tables by tier, by group, and by setting where a set has several; none where a world asks for none."""
    if environment.suspicion is None:
        return []
    grouping = environment.grouping
    found = [
        _table("tier", _with_all(evaluation["cells"], evaluation[OVERALL])),
        _table(grouping, evaluation[f"by_{grouping}"]),
    ]
    return [*found, _table("setting", evaluation[BY_SETTING])] if BY_SETTING in evaluation else found


def drawn(table: Table) -> Drawn:
    """Render such a table for a terminal."""
    found = Drawn(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, title in enumerate(table.heading):
        found.add_column(title, justify="left" if place < table.words else "right")
    for _, rows in groupby(table.rows, lambda row: row[0]):
        for row in rows:
            found.add_row(*row)
        found.add_section()
    return found


def figure_text(figure: Figure, value: float | None) -> str:
    """Format a value of a figure."""
    if figure.is_share or value is None:
        return share(value)
    return f"{value:.2f}"


def _with_all(cells: Cells, overall: Cells) -> Cells:
    """Return the cells of each policy with those over all its tiers after them."""
    return [
        cell
        for one in overall
        for cell in (*[cell for cell in cells if cell["policy"] == one["policy"]], {**one, "tier": _ALL})
    ]


def _table(key: str, cells: Cells) -> Table:
    rows = [
        [plain(cell["policy"]), cell[key], str(cell["episodes"]), *[_with_interval(figure, cell) for figure in SHOWN]]
        for cell in cells
    ]
    return Table(("policy", key, "n", *[figure.title for figure in SHOWN]), 2, rows)


def _with_interval(figure: Figure, cell: Mapping[str, Any]) -> str:
    value, interval = cell[figure.name], cell[f"{figure.name}_ci"]
    if value is None or interval is None:
        return DASH
    low, high = [figure_text(figure, bound).removesuffix(" %") for bound in interval]
    return f"{figure_text(figure, value)} [{low}–{high}]"
