"""Arms of a sweep over their updates: the mean over seeds, and a band from the lowest seed to the highest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chaosops_ray.reports.plots import PALETTE, canvas, save
from chaosops_ray.reports.run_plots import WINDOW, Figures, Label, Plot, finish, made, smoothed, write_beside
from chaosops_ray.reports.tables import headline, plain, share
from chaosops_ray.sim.contract import AnyEnvironment

Rows = Sequence[Mapping[str, Any]]
Of = Callable[[Mapping[str, Any]], float | None]


def draw(environment: AnyEnvironment, sweep: str, arms: Mapping[str, Sequence[Rows]], folder: Path) -> list[Plot]:
    """By arm, the metrics of its runs; the curves as PNG files in the folder."""
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
    figures = {name: found for name, found in drawn.items() if found is not None}
    paths = save({name: figure for name, (_, figure) in figures.items()}, made(folder))
    return [Plot(path, title) for path, (title, _) in zip(paths, figures.values(), strict=True)]


def _by_tier(
    environment: AnyEnvironment, arms: Mapping[str, Sequence[Rows]], name: str, title: str, subtitle: str
) -> tuple[str, Figure] | None:
    def of_tier(tier: str) -> Of:
        return lambda row: row["tiers"].get(tier, {}).get(name)

    tiers = [tier for tier in environment.tiers if any(_has(runs, of_tier(tier)) for runs in arms.values())]
    if not tiers:
        return None
    figure, panels = canvas(title, subtitle, len(tiers))
    is_share = name != "mean"
    for axes, tier in zip(panels, tiers, strict=True):
        if is_share:
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
        _draw_arms(axes, arms, of_tier(tier), share if is_share else lambda value: headline(environment, value))
        if not is_share and axes.get_ylim()[0] < 0:
            axes.axhline(0, color="#333333", linewidth=0.8)
        axes.set_ylabel(tier)
    finish(panels[-1], _span(arms))
    return title, figure


def _divergence(arms: Mapping[str, Sequence[Rows]], subtitle: str) -> tuple[str, Figure] | None:
    def of(row: Mapping[str, Any]) -> float | None:
        found: float | None = row["learner"].get("kl")
        return found

    if not any(_has(runs, of) for runs in arms.values()):
        return None
    title = "KL to the base, nats a token"
    figure, (axes,) = canvas(title, subtitle)
    _draw_arms(axes, arms, of, lambda value: f"{value:.2f}")
    finish(axes, _span(arms))
    return title, figure


def _has(runs: Sequence[Rows], of: Of) -> bool:
    return any(of(row) is not None for rows in runs for row in rows)


def _span(arms: Mapping[str, Sequence[Rows]]) -> list[dict[str, int]]:
    updates = [row["update"] for runs in arms.values() for rows in runs for row in rows]
    return [{"update": min(updates)}, {"update": max(updates)}]


def _draw_arms(axes: Axes, arms: Mapping[str, Sequence[Rows]], of: Of, written: Callable[[float], str]) -> None:
    labels = []
    over = 0.0
    for place, (arm, runs) in enumerate(arms.items()):
        lines = [line for rows in runs if len((line := _line(rows, of))[0])]
        if not lines:
            continue
        at, low, middle, high = band(lines)
        colour = PALETTE[place % len(PALETTE)]
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(at, middle, color=colour, linewidth=2, marker="o" if len(at) == 1 else "")
        labels.append(Label(f"{arm} {written(middle[-1])}", colour, float(middle[-1])))
        over = max(over, float(at[-1]))
    write_beside(axes, over, labels)


def _line(rows: Rows, of: Of) -> tuple[Figures, Figures]:
    found = [(row["update"], value) for row in rows if (value := of(row)) is not None]
    at, values = np.array(found, dtype=float).reshape(-1, 2).T
    return at, smoothed(at, values) if len(at) else values


def band(lines: Sequence[tuple[Figures, Figures]]) -> tuple[Figures, Figures, Figures, Figures]:
    """Wherever a seed has a figure: the lowest, the mean and the highest of the seeds, interpolated in between."""
    at = np.unique(np.concatenate([line[0] for line in lines]))
    # A seed says nothing of what came before its first figure or after its last.
    drawn = np.array([np.interp(at, *line, left=np.nan, right=np.nan) for line in lines])
    return at, np.nanmin(drawn, axis=0), np.nanmean(drawn, axis=0), np.nanmax(drawn, axis=0)
