"""Figures as text, and the table of an evaluation: one description, which every rendering uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from chaosops_ray.evaluate import TRAINED
from chaosops_ray.plain_text import printable
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import AnyEnvironment, Metric

_LONGEST_NAME = 60
DIGEST_SHOWN = 12  # digits of a digest, enough to tell two apart
DASH = "–"  # stands where a figure is not defined


def share(value: float | None) -> str:
    """Format a share."""
    return DASH if value is None else f"{100 * value:.0f} %"


def headline(environment: AnyEnvironment, value: float) -> str:
    """Format a value of the world's headline score."""
    return format(value, environment.headline_format).replace("-", "−")


def signed(environment: AnyEnvironment, value: float) -> str:
    """Format a difference of headline scores."""
    form = environment.headline_format
    return format(value, form if form.startswith("+") else f"+{form}").replace("-", "−")


def metric_figure(metric: Metric, value: float | None) -> str:
    """Format a value of one of the world's metrics."""
    if metric.is_share:
        return share(value)
    return DASH if value is None else f"{value:.1f}"


def mark(ci: Sequence[float]) -> str:
    """Return "good" or "bad" for a difference whose interval lies above or below zero, else nothing."""
    low, high = ci
    return "good" if low > 0 else "bad" if high < 0 else ""


def plain(text: str, longest: int = _LONGEST_NAME) -> str:
    """Make text fit for terminals, plots and pages: printable, and cut to a length."""
    return printable(text, longest)


def set_named(evaluation: Mapping[str, Any]) -> str:
    """Name the scenarios of an evaluation."""
    seeds = f", seeds {evaluation['seeds']}" if evaluation["seeds"] else ""
    return f"{evaluation['set']} set{seeds}"


def seats_lines(environment: AnyEnvironment, colleagues: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Say who plays which seat, in a line for all policies that have the same colleagues; none without colleagues."""
    alike: dict[str, tuple[Mapping[str, str], list[str]]] = {}
    for policy, those in colleagues.items():
        if those:
            alike.setdefault(seats.in_words(environment, those, ""), (those, []))[1].append(plain(policy))
    return [seats.in_words(environment, those, ", ".join(names)) for those, names in alike.values()]


def models_lines(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say in a line for each policy that is a model which one it is; none for a baseline."""
    return [f"{plain(policy)}: {model_in_words(model)}" for policy, model in models.items() if model]


def model_in_words(model: Mapping[str, Any]) -> str:
    """Name a model: run, version and digest of a trained one; of another what is known."""
    if "served" in model:
        return f"the served model {model['served']}"
    if "algorithm" in model:
        return (
            f"run {model['run']}, {model['algorithm']} after {model['steps']} steps ({model['digest'][:DIGEST_SHOWN]})"
        )
    base = f"{model['model']} ({model['base'][:DIGEST_SHOWN]})"
    if "run" not in model:
        return f"the base model {base}"
    after = f"version {model['version']} of {model['updates']}"
    return f"run {model['run']}, {after} ({model['digest'][:DIGEST_SHOWN]}), on {base}"


class Figure(NamedTuple):
    """A formatted value with the bounds of its interval; bounds are empty where there is no interval."""

    text: str
    low: str = ""
    high: str = ""


class PolicyRow(NamedTuple):
    """The figures of one policy in one group of scenarios."""

    policy: str
    group: str
    episodes: str
    mean: Figure
    median: str
    metrics: Sequence[Figure]
    is_trained: bool
    is_never_solved: bool


class EvaluationTable(NamedTuple):
    """The table of an evaluation: by policy and group of scenarios; `key` names the grouping."""

    key: str
    headline_name: str
    metrics: Sequence[Metric]
    rows: Sequence[PolicyRow]

    def by_group(self) -> dict[str, list[PolicyRow]]:
        """Return the rows of each group, for tables in which policies stand one below the other."""
        groups = dict.fromkeys([row.group for row in self.rows])
        return {group: [row for row in self.rows if row.group == group] for group in groups}

    def never_solved(self) -> list[str]:
        """Return the groups in which the trained policy solved no scenario."""
        return [row.group for row in self.rows if row.is_trained and row.is_never_solved]


def evaluation_table(environment: AnyEnvironment, cells: Sequence[Mapping[str, Any]], key: str) -> EvaluationTable:
    """Describe the table of an evaluation's cells, which are grouped by `key`."""
    shown = [metric for metric in environment.metrics if metric.in_tables]
    solved = next(metric for metric in environment.metrics if metric.is_share)
    rows = [
        PolicyRow(
            cell["policy"],
            cell[key],
            str(cell["episodes"]),
            interval_figure(environment, cell["mean"], cell["mean_ci"]),
            headline(environment, cell["median"]),
            [_figure(metric, cell) for metric in shown],
            is_trained=cell["policy"] == TRAINED,
            is_never_solved=cell[solved.name] == 0,
        )
        for cell in cells
    ]
    return EvaluationTable(key, environment.headline_name, shown, rows)


def interval_figure(environment: AnyEnvironment, value: float, ci: Sequence[float]) -> Figure:
    """Format a value of the headline score with its interval."""
    return Figure(*[headline(environment, one) for one in (value, *ci)])


def _figure(metric: Metric, cell: Mapping[str, Any]) -> Figure:
    bounds = [metric_figure(metric, bound).removesuffix(" %") for bound in cell[f"{metric.name}_ci"] or ()]
    return Figure(metric_figure(metric, cell[metric.name]), *bounds)


def table(environment: AnyEnvironment, cells: Sequence[Mapping[str, Any]], key: str) -> Table:
    """Render the table of an evaluation for a terminal, in the layout of the published table."""
    found = evaluation_table(environment, cells, key)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("policy")
    drawn.add_column(key)
    for title in ("n", *[metric.title for metric in found.metrics], "mean", "95 % interval", "median"):
        drawn.add_column(title, justify="right")
    for before, row in zip((None, *found.rows), found.rows, strict=False):
        if before is not None and before.policy != row.policy:
            drawn.add_section()
        figures = [figure.text for figure in (*row.metrics, row.mean)]
        interval = f"{row.mean.low} … {row.mean.high}"
        drawn.add_row(row.policy, row.group, row.episodes, *figures, interval, row.median)
    return drawn
