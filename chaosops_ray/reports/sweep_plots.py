"""The curves of a sweep, by arm: the mean over seeds, and a band from the lowest seed to the highest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

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
from chaosops_ray.reports.metrics_rows import Row
from chaosops_ray.reports.tables import headline, plain, share
from chaosops_ray.sim.contract import AnyEnvironment

Rows = Sequence[Row]


def draw(environment: AnyEnvironment, sweep: str, arms: Mapping[str, Sequence[Rows]], folder: Path) -> list[Plot]:
    """Draw curves as PNG files in the folder; `arms` are the metrics rows of each arm's runs."""
    if not any(rows for runs in arms.values() for rows in runs):
        return []
    subtitle = f"{plain(sweep)} · {environment.title} · rolling mean of {WINDOW} updates, band over seeds"
    drawn = {
        "sweep_mean.png": _by_tier(
            environment, arms, "mean", f"Mean {environment.headline_name} in training, by tier", subtitle
        )
    }
    for metric in environment.metrics:
        if metric.name in (environment.detection or ()):
            title = f"{metric.name.replace('_', ' ').capitalize()} in training, by tier, %"
            drawn[f"sweep_{metric.name}.png"] = _by_tier(environment, arms, metric.name, title, subtitle)
    drawn["sweep_kl.png"] = _divergence(arms, subtitle)
    return save({name: found for name, found in drawn.items() if found is not None}, folder)


def _by_tier(
    environment: AnyEnvironment, arms: Mapping[str, Sequence[Rows]], name: str, title: str, subtitle: str
) -> Titled | None:
    def of_tier(tier: str) -> Of:
        return lambda row: row["tiers"].get(tier, {}).get(name)

    tiers = [tier for tier in environment.tiers if any(_has(runs, of_tier(tier)) for runs in arms.values())]
    if not tiers:
        return None
    figure, panels = canvas(title, subtitle, len(tiers))
    is_share = name != "mean"
    for axes, tier in zip(panels, tiers, strict=True):
        if is_share:
            percent_axis(axes)
        _draw_arms(axes, arms, of_tier(tier), share if is_share else lambda value: headline(environment, value))
        axes.set_ylabel(tier)
    _finish(panels[-1], arms)
    return title, figure


def _divergence(arms: Mapping[str, Sequence[Rows]], subtitle: str) -> Titled | None:
    def of(row: Row) -> float | None:
        found: float | None = row["learner"].get("kl")
        return found

    if not any(_has(runs, of) for runs in arms.values()):
        return None
    title = "KL to the base, nats a token"
    figure, (axes,) = canvas(title, subtitle)
    _draw_arms(axes, arms, of, lambda value: f"{value:.2f}")
    _finish(axes, arms)
    return title, figure


def _has(runs: Sequence[Rows], of: Of) -> bool:
    return any(of(row) is not None for rows in runs for row in rows)


def _finish(axes: Axes, arms: Mapping[str, Sequence[Rows]]) -> None:
    updates = [row["update"] for runs in arms.values() for rows in runs for row in rows]
    update_axis(axes, min(updates), max(updates))


def _draw_arms(axes: Axes, arms: Mapping[str, Sequence[Rows]], of: Of, form: Callable[[float], str]) -> None:
    labels = []
    last = lowest = 0.0
    for place, (arm, runs) in enumerate(arms.items()):
        lines = [line for rows in runs if len((line := _line(rows, of))[0])]
        if not lines:
            continue
        at, low, middle, high = band(lines)
        colour = PALETTE[place % len(PALETTE)]
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        draw_course(axes, at, middle, colour)
        lowest = min(lowest, float(np.nanmin(low)))
        labels.append(Label(f"{arm} {form(middle[-1])}", colour, float(middle[-1])))
        last = max(last, float(at[-1]))
    # Before the labels: the line may change the heights at which they touch.
    if lowest < 0:
        zero_line(axes)
    label_ends(axes, last, labels)


def _line(rows: Rows, of: Of) -> tuple[Values, Values]:
    at, values = series(rows, of)
    return at, smoothed(at, values) if len(at) else values


def band(lines: Sequence[tuple[Values, Values]]) -> tuple[Values, Values, Values, Values]:
    """Return the updates at which any seed has a figure, and there the lowest, the mean and the highest of the seeds.

    Between its figures a seed is interpolated; before its first and after its last it does not count.
    """
    at = np.unique(np.concatenate([line[0] for line in lines]))
    drawn = np.array([np.interp(at, *line, left=np.nan, right=np.nan) for line in lines])
    return at, np.nanmin(drawn, axis=0), np.nanmean(drawn, axis=0), np.nanmax(drawn, axis=0)
