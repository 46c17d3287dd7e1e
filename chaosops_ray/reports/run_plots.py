"""The curves of a run, drawn from its metrics rows: rolling means over the faint points of single updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from chaosops_ray.reports.drawing import (
    PALETTE,
    WINDOW,
    Label,
    Of,
    Plot,
    Titled,
    Values,
    canvas,
    draw_course,
    label_ends,
    percent_axis,
    save,
    series,
    smoothed,
    update_axis,
    zero_line,
)
from chaosops_ray.reports.metrics_rows import LAPS, Row, held_out
from chaosops_ray.reports.tables import headline, plain, share
from chaosops_ray.sim.contract import AnyEnvironment, Metric
from chaosops_ray.sim.errors import InputError

_HALO = [withStroke(linewidth=3, foreground="white")]
_GREY = "#555555"


class Line(NamedTuple):
    """One figure over the run: the updates at which it is defined, its values, its colour and its format."""

    name: str
    colour: str
    at: Values
    values: Values
    format: Callable[[float], str]


class Lines(NamedTuple):
    """One figure by tier: as the training batches gave it, and as the held-out set gave it."""

    training: list[Line]
    held_out: list[Line]


def draw(environment: AnyEnvironment, rows: Sequence[Row], run: str, alarm: float, folder: Path) -> list[Plot]:
    """Draw the curves of a run as PNG files in the folder; `alarm` is the run's threshold for KL."""
    return save(curves(environment, rows, run, alarm), folder)


def curves(environment: AnyEnvironment, rows: Sequence[Row], run: str, alarm: float) -> dict[str, Titled]:
    """Return title and figure of each plot by file name; leave out a plot for which no update has a figure."""
    if not rows:
        raise InputError("no update has been made yet; there are no curves to draw")
    subtitle = f"{plain(run)} · {environment.title} · rolling mean of {WINDOW} updates"
    drawn = {
        "training_mean.png": _mean(environment, rows, subtitle),
        "training_solved.png": _solved(environment, rows, subtitle),
        "training_detection.png": _detection(environment, rows, subtitle),
        "training_policy.png": _policy(rows, subtitle, alarm),
        "training_time.png": _time(rows, subtitle),
    }
    return {name: found for name, found in drawn.items() if found is not None}


# -- the plots --------------------------------------------------------------------------------------------------------


def _mean(environment: AnyEnvironment, rows: Sequence[Row], subtitle: str) -> Titled | None:
    title = f"Mean {environment.headline_name} in training, by tier"
    lines = _by_tier(environment, rows, "mean", lambda value: headline(environment, value))
    if lines is None:
        return None
    figure, (axes,) = canvas(title, subtitle)
    # Before the labels: the line may change the heights at which they touch.
    if min([line.values.min() for line in (*lines.training, *lines.held_out)]) < 0:
        zero_line(axes)
    _draw_by_tier(axes, lines)
    axes.set_ylabel(f"mean {environment.headline_name}")
    _finish(axes, rows)
    return title, figure


def _solved(environment: AnyEnvironment, rows: Sequence[Row], subtitle: str) -> Titled | None:
    solved = next(metric for metric in environment.metrics if metric.is_share)
    return _shares(environment, rows, subtitle, f"{solved.title.capitalize()} in training, by tier", [solved])


def _detection(environment: AnyEnvironment, rows: Sequence[Row], subtitle: str) -> Titled | None:
    metrics = [metric for metric in environment.metrics if metric.name in (environment.detection or ())]
    names = [metric.name.replace("_", " ") for metric in metrics]
    return _shares(environment, rows, subtitle, f"{' and '.join(names).capitalize()} in training, by tier", metrics)


def _shares(
    environment: AnyEnvironment, rows: Sequence[Row], subtitle: str, title: str, metrics: Sequence[Metric]
) -> Titled | None:
    found = [(metric, lines) for metric in metrics if (lines := _by_tier(environment, rows, metric.name, share))]
    if not found:
        return None
    figure, panels = canvas(title, subtitle, len(found))
    for axes, (metric, lines) in zip(panels, found, strict=True):
        percent_axis(axes)
        axes.set_ylabel(f"{metric.name.replace('_', ' ') if len(metrics) > 1 else metric.title}, %")
        _draw_by_tier(axes, lines)
    _finish(panels[-1], rows)
    return title, figure


def _policy(rows: Sequence[Row], subtitle: str, alarm: float) -> Titled | None:
    divergence = _line(rows, "", PALETTE[0], lambda row: row["learner"].get("kl"), lambda value: f"{value:.3f}")
    entropy = _line(rows, "", PALETTE[5], lambda row: row["learner"].get("entropy"), lambda value: f"{value:.2f}")
    if not len(divergence.at):
        return None
    title = "KL to the base, and entropy"
    figure, (above, below) = canvas(title, subtitle, 2)
    _draw_lines(above, [divergence])
    # A threshold far above the curve would press it flat.
    if divergence.values.max() > alarm / 2:
        above.set_ylim(top=max(1.15 * alarm, above.get_ylim()[1]))
        above.axhline(alarm, color="#cc3311", linewidth=1, linestyle="--")
        above.annotate(
            f"alarm at {alarm:g}",
            (0, alarm),
            (5, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=9,
            color="#cc3311",
        )
    above.set_ylim(bottom=0)
    above.set_ylabel("KL, nats a token")
    _draw_lines(below, [entropy])
    below.set_ylim(bottom=0)
    below.set_ylabel("entropy, nats a token")
    _finish(below, rows)
    return title, figure


def _time(rows: Sequence[Row], subtitle: str) -> Titled | None:
    title = "Time of an update"
    at = np.array([row["update"] for row in rows], dtype=float)
    laps = [smoothed(at, np.array([row["time"][lap] for row in rows])) for lap in LAPS]
    figure, (axes,) = canvas(title, subtitle)
    if len(at) == 1:  # an area needs two ends
        at, laps = np.array([at[0] - 0.5, at[0] + 0.5]), [np.repeat(lap, 2) for lap in laps]
    axes.stackplot(at, laps, colors=PALETTE[: len(LAPS)], alpha=0.85, linewidth=0)
    tops = np.cumsum([lap[-1] for lap in laps])
    axes.set_ylim(0, 1.08 * float(np.sum(laps, axis=0).max()))
    labels = [
        Label(f"{name} {lap[-1]:.2g} s", colour, float(top - lap[-1] / 2))
        for name, colour, lap, top in zip(LAPS, PALETTE, laps, tops, strict=False)
    ]
    label_ends(axes, float(at[-1]), labels)
    axes.set_ylabel("seconds")
    _finish(axes, rows)
    return title, figure


def _finish(axes: Axes, rows: Sequence[Row]) -> None:
    update_axis(axes, rows[0]["update"], rows[-1]["update"])


# -- lines ------------------------------------------------------------------------------------------------------------


def _by_tier(
    environment: AnyEnvironment, rows: Sequence[Row], figure: str, form: Callable[[float], str]
) -> Lines | None:
    """Return a line for each tier in which the figure is defined at any update; None if there is no such tier."""

    def lines(rows: Sequence[Row]) -> list[Line]:
        def of_tier(tier: str, colour: str) -> Line:
            return _line(rows, tier, colour, lambda row: row["tiers"].get(tier, {}).get(figure), form)

        found = [of_tier(tier, colour) for tier, colour in zip(environment.tiers, PALETTE, strict=False)]
        return [line for line in found if len(line.at)]

    both = Lines(lines(rows), lines([found._asdict() for found in held_out(rows)]))
    return both if any(both) else None


def _line(rows: Sequence[Row], name: str, colour: str, of: Of, form: Callable[[float], str]) -> Line:
    return Line(name, colour, *series(rows, of), form)


def _draw_by_tier(axes: Axes, lines: Lines) -> None:
    for line in lines.held_out:
        axes.plot(
            line.at,
            line.values,
            color=line.colour,
            linewidth=1,
            linestyle=":",
            marker="D",
            markersize=6,
            markeredgecolor="white",
            zorder=3,
        )
    _draw_lines(axes, lines.training)
    trained = {line.name for line in lines.training}
    for line in lines.held_out:
        if line.name not in trained:
            value = float(line.values[-1])
            _label_above(axes, line.at[-1], Label(f"{line.name} {line.format(value)}", line.colour, value))
    if lines.held_out:
        # Proxies for the legend: the lines themselves have the colour of their tier.
        axes.plot([], [], color=_GREY, linewidth=2, label="training")
        axes.plot([], [], color=_GREY, linewidth=1, linestyle=":", marker="D", label="held out")
        axes.legend(frameon=False, loc="best", fontsize=9)


def _draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    at_the_end: list[Label] = []
    last = max([line.at[-1] for line in lines], default=0.0)
    for line in lines:
        means = smoothed(line.at, line.values)
        axes.scatter(line.at, line.values, s=9, color=line.colour, alpha=0.25, linewidths=0)
        # Where a tier was not played for longer than the window, nothing is known and nothing is drawn.
        gaps = np.flatnonzero(np.diff(line.at) > WINDOW) + 1
        draw_course(axes, np.insert(line.at, gaps, np.nan), np.insert(means, gaps, np.nan), line.colour)
        label = Label(f"{line.name} {line.format(means[-1])}".strip(), line.colour, float(means[-1]))
        if last - line.at[-1] < WINDOW:
            at_the_end.append(label)
        else:
            _label_above(axes, line.at[-1], label)
    label_ends(axes, last, at_the_end)


def _label_above(axes: Axes, x: float, label: Label) -> None:
    """Write the label of a line that ends before others do."""
    axes.annotate(
        label.text,
        (x, label.place),
        (0, 10),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=label.colour,
        path_effects=_HALO,
    )
