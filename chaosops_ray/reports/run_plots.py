"""The curves of a run, drawn from its metrics rows: rolling means over the faint points of single updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from chaosops_ray.reports import drawing
from chaosops_ray.reports.drawing import GREY, PALETTE, WINDOW, Label, Plot, Values, canvas, series, smoothed
from chaosops_ray.reports.metrics_rows import LAPS, Row, held_out, of_learner, of_tier
from chaosops_ray.reports.tables import DIGEST_SHOWN, headline, plain, share
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError

_ALARM = "#cc3311"
_HALO = [withStroke(linewidth=3, foreground="white")]
_MEAN = "mean"


class Line(NamedTuple):
    """One figure over the run: the updates at which it is defined, its values, its colour and its format."""

    name: str
    colour: str
    at: Values
    values: Values
    format: Callable[[float], str]


def draw(environment: AnyEnvironment, rows: Sequence[Row], run: str, alarm: float, folder: Path) -> list[Plot]:
    """Draw the curves of a run as PNG files in the folder; `alarm` is the run's threshold for KL."""
    return drawing.save(curves(environment, rows, run, alarm), folder)


def curves(environment: AnyEnvironment, rows: Sequence[Row], run: str, alarm: float) -> dict[str, Figure]:
    """Return the figure of each plot by file name; leave out a plot for which no update has a figure."""
    if not rows:
        raise InputError("no update has been made yet; there are no curves to draw")
    version = f"v{rows[-1]['version']} ({plain(rows[-1]['digest'][:DIGEST_SHOWN])})"
    subtitle = f"{plain(run)}, {version} · {environment.title} · rolling mean of {WINDOW} updates"
    name = environment.headline_name
    solved = next(metric for metric in environment.metrics if metric.is_share)
    words = {metric.name: metric.name.replace("_", " ") for metric in environment.metrics}
    detection = [name for name in words if name in (environment.detection or ())]

    def by_tier(title: str, labels: Mapping[str, str]) -> Figure | None:
        return _by_tier(environment, rows, f"{title} in training, by tier", subtitle, labels)

    drawn = {
        "training_mean.png": by_tier(f"Mean {name}", {_MEAN: f"mean {name}"}),
        "training_solved.png": by_tier(solved.title.capitalize(), {solved.name: f"{solved.title}, %"}),
        "training_detection.png": by_tier(
            " and ".join([words[name] for name in detection]).capitalize(),
            {name: f"{words[name]}, %" for name in detection},
        ),
        "training_policy.png": _policy(rows, subtitle, alarm),
        "training_time.png": _time(rows, subtitle),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _by_tier(
    environment: AnyEnvironment, rows: Sequence[Row], title: str, subtitle: str, labels: Mapping[str, str]
) -> Figure | None:
    """Draw a panel for each of the figures, which are given by name with their label, and a line for each tier."""

    def lines(rows: Sequence[Row], name: str) -> list[Line]:
        form = partial(headline, environment) if name == _MEAN else share
        tiers = zip(environment.tiers, PALETTE, strict=False)
        found = [Line(tier, colour, *series(rows, of_tier(tier, name)), form) for tier, colour in tiers]
        return [line for line in found if len(line.at)]

    found = {name: (lines(rows, name), lines(held_out(rows), name)) for name in labels}
    found = {name: both for name, both in found.items() if any(both)}
    if not found:
        return None
    figure, panels = canvas(title, subtitle, len(found))
    for axes, (name, (training, played)) in zip(panels, found.items(), strict=True):
        if name != _MEAN:
            drawing.percent_axis(axes)
        # Before the labels: the line may change the heights at which they touch.
        elif min([line.values.min() for line in (*training, *played)]) < 0:
            drawing.zero_line(axes)
        axes.set_ylabel(labels[name])
        _draw_by_tier(axes, training, played)
    drawing.update_axis(panels[-1], rows)
    return figure


def _policy(rows: Sequence[Row], subtitle: str, alarm: float) -> Figure | None:
    divergence = Line("", PALETTE[0], *series(rows, of_learner("kl")), "{:.3f}".format)
    entropy = Line("", PALETTE[5], *series(rows, of_learner("entropy")), "{:.2f}".format)
    if not len(divergence.at):
        return None
    figure, (above, below) = canvas("KL to the base, and entropy", subtitle, 2)
    _draw_lines(above, [divergence])
    # A threshold far above the curve would press it flat.
    if divergence.values.max() > alarm / 2:
        above.set_ylim(top=max(1.15 * alarm, above.get_ylim()[1]))
        above.axhline(alarm, color=_ALARM, linewidth=1, linestyle="--")
        drawing.write(above, f"alarm at {alarm:g}", (0, alarm), (5, 3), _ALARM, xycoords=("axes fraction", "data"))
    above.set_ylabel("KL, nats a token")
    _draw_lines(below, [entropy])
    below.set_ylabel("entropy, nats a token")
    # The estimate of KL may be below zero, where the policy is still the base.
    above.set_ylim(bottom=min(0.0, 1.15 * divergence.values.min()))
    below.set_ylim(bottom=0)
    drawing.update_axis(below, rows)
    return figure


def _time(rows: Sequence[Row], subtitle: str) -> Figure:
    at = np.array([row["update"] for row in rows], dtype=float)
    laps = [smoothed(at, np.array([row["time"][lap] for row in rows])) for lap in LAPS]
    figure, (axes,) = canvas("Time of an update", subtitle)
    if len(at) == 1:  # an area needs two ends
        at, laps = np.array([at[0] - 0.5, at[0] + 0.5]), [np.repeat(lap, 2) for lap in laps]
    axes.stackplot(at, laps, colors=PALETTE[: len(LAPS)], alpha=0.85, linewidth=0)
    tops = np.cumsum([lap[-1] for lap in laps])
    axes.set_ylim(0, 1.08 * float(np.sum(laps, axis=0).max()))
    labels = [
        Label(f"{name} {lap[-1]:.2g} s", colour, float(top - lap[-1] / 2))
        for name, colour, lap, top in zip(LAPS, PALETTE, laps, tops, strict=False)
    ]
    drawing.label_ends(axes, float(at[-1]), labels)
    axes.set_ylabel("seconds")
    drawing.update_axis(axes, rows)
    return figure


def _draw_by_tier(axes: Axes, training: Sequence[Line], played: Sequence[Line]) -> None:
    """Draw the training lines, and the held-out lines as dots joined by a dotted line."""
    dotted: dict[str, Any] = {"linewidth": 1, "linestyle": ":", "marker": "D"}
    for line in played:
        axes.plot(line.at, line.values, color=line.colour, markersize=6, markeredgecolor="white", zorder=3, **dotted)
    _draw_lines(axes, training)
    trained = {line.name for line in training}
    for line in played:
        if line.name not in trained:
            _label_above(axes, line, float(line.values[-1]))
    if played:
        # Proxies for the legend: the lines themselves have the colour of their tier.
        axes.plot([], [], color=GREY, linewidth=2, label="training")
        axes.plot([], [], color=GREY, label="held out", **dotted)
        axes.legend(frameon=False, loc="best", fontsize=9)


def _draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    at_the_end: list[Label] = []
    last = max([line.at[-1] for line in lines], default=0.0)
    for line in lines:
        means = smoothed(line.at, line.values)
        axes.scatter(line.at, line.values, s=9, color=line.colour, alpha=0.25, linewidths=0)
        # Where a tier was not played for longer than the window, nothing is known and nothing is drawn.
        gaps = np.flatnonzero(np.diff(line.at) > WINDOW) + 1
        drawing.draw_course(axes, np.insert(line.at, gaps, np.nan), np.insert(means, gaps, np.nan), line.colour)
        if last - line.at[-1] < WINDOW:
            at_the_end.append(_label(line, float(means[-1])))
        else:
            _label_above(axes, line, float(means[-1]))
    drawing.label_ends(axes, last, at_the_end)


def _label(line: Line, value: float) -> Label:
    return Label(f"{line.name} {line.format(value)}".strip(), line.colour, value)


def _label_above(axes: Axes, line: Line, value: float) -> None:
    """Write the label of a line that ends before others do."""
    label = _label(line, value)
    drawing.write(axes, label.text, (line.at[-1], value), (0, 10), label.colour, ha="right", path_effects=_HALO)
