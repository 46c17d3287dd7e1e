"""The curves of a sweep, by arm: the mean over seeds, and a band from the lowest seed to the highest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chaosops_ray.reports import drawing
from chaosops_ray.reports.drawing import PALETTE, WINDOW, Label, Plot, Values, series, smoothed
from chaosops_ray.reports.metrics_rows import Of, Row, of_learner, of_tier
from chaosops_ray.reports.tables import headline, plain, share
from chaosops_ray.sim.contract import AnyEnvironment

Arms: TypeAlias = Mapping[str, Sequence[Sequence[Row]]]  # the metrics rows of each arm's runs
Line: TypeAlias = tuple[Values, Values]


def draw(environment: AnyEnvironment, sweep: str, arms: Arms, folder: Path) -> list[Plot]:
    """Draw the curves as PNG files in the folder."""
    if not any(rows for runs in arms.values() for rows in runs):
        return []
    subtitle = f"{plain(sweep)} · {environment.title} · rolling mean of {WINDOW} updates, band over seeds"

    def by_tier(name: str, title: str, form: Callable[[float], str]) -> Figure | None:
        panels = {tier: of_tier(tier, name) for tier in environment.tiers}
        return _curves(arms, f"{title} in training, by tier{', %' if form is share else ''}", subtitle, panels, form)

    title = f"Mean {environment.headline_name}"
    drawn = {"sweep_mean.png": by_tier("mean", title, partial(headline, environment))}
    for metric in environment.metrics:
        if metric.name in (environment.detection or ()):
            title = metric.name.replace("_", " ").capitalize()
            drawn[f"sweep_{metric.name}.png"] = by_tier(metric.name, title, share)
    divergence = {"": of_learner("kl")}
    drawn["sweep_kl.png"] = _curves(arms, "KL to the base, nats a token", subtitle, divergence, "{:.2f}".format)
    return drawing.save({name: figure for name, figure in drawn.items() if figure is not None}, folder)


def _curves(
    arms: Arms, title: str, subtitle: str, panels: Mapping[str, Of], form: Callable[[float], str]
) -> Figure | None:
    """Draw a panel for each of the figures, which are given with their label, and a line for each arm."""
    found = {label: {arm: _lines(runs, of) for arm, runs in arms.items()} for label, of in panels.items()}
    found = {label: by_arm for label, by_arm in found.items() if any(by_arm.values())}
    if not found:
        return None
    figure, drawn = drawing.canvas(title, subtitle, len(found))
    for axes, (label, by_arm) in zip(drawn, found.items(), strict=True):
        if form is share:
            drawing.percent_axis(axes)
        _draw_arms(axes, by_arm, form)
        axes.set_ylabel(label)
    drawing.update_axis(drawn[-1], [row for runs in arms.values() for rows in runs for row in rows])
    return figure


def _lines(runs: Sequence[Sequence[Row]], of: Of) -> list[Line]:
    found = [series(rows, of) for rows in runs]
    return [(at, smoothed(at, values)) for at, values in found if len(at)]


def _draw_arms(axes: Axes, by_arm: Mapping[str, Sequence[Line]], form: Callable[[float], str]) -> None:
    labels = []
    last = lowest = 0.0
    for place, (arm, lines) in enumerate(by_arm.items()):
        if not lines:
            continue
        at, low, middle, high = band(lines)
        colour = PALETTE[place % len(PALETTE)]
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        drawing.draw_course(axes, at, middle, colour)
        lowest = min(lowest, float(np.nanmin(low)))
        labels.append(Label(f"{arm} {form(middle[-1])}", colour, float(middle[-1])))
        last = max(last, float(at[-1]))
    # Before the labels: the line may change the heights at which they touch.
    if lowest < 0:
        drawing.zero_line(axes)
    drawing.label_ends(axes, last, labels)


def band(lines: Sequence[Line]) -> tuple[Values, Values, Values, Values]:
    """Return the updates at which any seed has a figure, and there the lowest, the mean and the highest of the seeds.

    Between its figures a seed is interpolated; before its first and after its last it does not count.
    """
    at = np.unique(np.concatenate([line[0] for line in lines]))
    drawn = np.array([np.interp(at, *line, left=np.nan, right=np.nan) for line in lines])
    return at, np.nanmin(drawn, axis=0), np.nanmean(drawn, axis=0), np.nanmax(drawn, axis=0)
