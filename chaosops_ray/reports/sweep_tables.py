"""The tables of a sweep's report, from its comparison; without plots, so that served pages make them as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from chaosops_ray.reports import tables
from chaosops_ray.reports.table import Table
from chaosops_ray.reports.tables import DASH
from chaosops_ray.sim.contract import AnyEnvironment

Values: TypeAlias = Mapping[str, Any]
# By arm, tier and figure.
Published: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]

_LONGEST_REASON = 200
_MEAN = "mean"  # the headline's name in a comparison; every other figure is one of the world's metrics
_VERDICT_MARKS = {"supported": "good", "falsified": "bad", "undecided": ""}


def evaluation(environment: AnyEnvironment, cells: Sequence[Values], published: Published) -> Table:
    """Make the table of the evaluation, with the means of single training seeds and with published figures."""
    found = tables.evaluation_table(environment, cells, "tier")
    titles = {_MEAN: _MEAN, **{metric.name: metric.title for metric in found.metrics if metric.is_share}}
    rows_published = [row for tiers in published.values() for row in tiers.values()]
    quoted = [name for name in titles if any(name in row for row in rows_published)]
    heading = ["policy", "tier", "n", *[metric.title for metric in found.metrics], "mean", "seeds from–to", "median"]
    if quoted:
        heading.append(f"published {' / '.join([titles[name] for name in quoted])}")
    rows = []
    for row, cell in zip(found.rows, cells, strict=True):
        seeds = [tables.headline(environment, bound(cell["seed_means"])) for bound in (min, max) if cell["seed_means"]]
        figures = [figure.text for figure in (*row.metrics, row.mean)]
        shown = [row.policy, row.group, row.episodes, *figures, " … ".join(seeds) or DASH, row.median]
        if quoted:
            said = published.get(row.policy, {}).get(row.group, {})
            amounts = [_amount(environment, name, said[name]) if name in said else DASH for name in quoted]
            shown.append(" / ".join(amounts) if said else DASH)
        rows.append(shown)
    return Table(heading, 2, rows)


def differences(environment: AnyEnvironment, those: Sequence[Values]) -> Table:
    """Make a table with a row for each arm and tier, and a column for each figure."""
    titles = _titles(environment)
    by_row: dict[tuple[str, str], dict[str, Values]] = {}
    for found in those:
        by_row.setdefault((found["arm"], found["tier"]), {})[found["of"]] = found
    figures = [name for name in titles if any(name in row for row in by_row.values())]
    rows = []
    for (arm, tier), row in by_row.items():
        shown = [_difference(environment, row[name]) if name in row else DASH for name in figures]
        rows.append([f"{arm} − {row[_MEAN]['against']}", tier, *shown, str(row[_MEAN]["seeds"])])
    marks = [tables.mark(row[_MEAN]["ci"]) for row in by_row.values()]
    return Table(("arms", "tier", *[titles[name] for name in figures], "seeds"), 2, rows, 2, marks)


def _difference(environment: AnyEnvironment, found: Values) -> str:
    of = found["of"]
    value = _signed(environment, of, found["mean"]).removesuffix(" points")
    return f"{value} [{_interval(environment, of, found['ci'])}]"


def verdicts(environment: AnyEnvironment, decided: Sequence[Values]) -> Table:
    """Make a table with a row for each claim."""
    titles = _titles(environment)
    rows = [
        (
            found["claim"],
            f"{titles[found['of']]} on {found['on']}: {found['more']} − {found['than']}",
            found["verdict"],
            DASH if found["ci"] is None else _signed(environment, found["of"], found["mean"]),
            DASH if found["ci"] is None else _interval(environment, found["of"], found["ci"]),
            _signed(environment, found["of"], found["by"]),
            str(found["seeds"]),
        )
        for found in decided
    ]
    heading = ("claim", "measured", "verdict", "difference", "95 % interval", "margin", "seeds")
    return Table(heading, 3, rows, 2, [_VERDICT_MARKS[found["verdict"]] for found in decided])


def trials(those: Sequence[Values]) -> Table:
    """Make a table with a row for each trial."""
    rows = [
        (
            found["trial"],
            found["state"] + (f": {tables.plain(found['why'], _LONGEST_REASON)}" if found["why"] else ""),
            f"{found['updates']} of {found['of']}",
            f"{found['episodes']:,}",
            DASH if found["kl"] is None else f"{found['kl']:.2f}",
            (found["digest"] or DASH)[:12],
        )
        for found in those
    ]
    heading = ("trial", "state", "updates", "episodes", "last KL", "adapter")
    return Table(heading, 2, rows, 1, ["bad" if found["state"] == "failed" else "" for found in those])


def _titles(environment: AnyEnvironment) -> dict[str, str]:
    return {_MEAN: f"mean {environment.headline_name}", **{metric.name: metric.title for metric in environment.metrics}}


def _amount(environment: AnyEnvironment, of: str, value: float) -> str:
    if of == _MEAN:
        return tables.headline(environment, value)
    metric = next(metric for metric in environment.metrics if metric.name == of)
    return tables.metric_figure(metric, value)


def _signed(environment: AnyEnvironment, of: str, value: float) -> str:
    if of == _MEAN:
        return tables.signed(environment, value)
    return f"{100 * value:+.0f} points".replace("-", "−")


def _interval(environment: AnyEnvironment, of: str, ci: Sequence[float]) -> str:
    return " … ".join([_signed(environment, of, bound).removesuffix(" points") for bound in ci])
