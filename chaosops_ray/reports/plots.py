"""The plots of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chaosops_ray.reports.drawing import GREY, PALETTE, Plot, Values, canvas, save, zero_line
from chaosops_ray.reports.suspicion_tables import figure_text
from chaosops_ray.reports.tables import headline, models_lines, set_named
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.twins import ALARMS, AUROC, CATCH, FALSE_ALARMS, OVERALL

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Up to so many policies, bars are wide enough for level figures above them.
_LEVEL = 4

# So many models are named below the title.
_MODELS_NAMED = 3

MEAN, DETECTION = "mean_by_tier.png", "catch_against_false_alarms.png"
ROC, CALIBRATION = "roc.png", "calibration.png"

Cells = Sequence[Mapping[str, Any]]


def plot(environment: AnyEnvironment, evaluation: Mapping[str, Any], folder: Path) -> list[Plot]:
    """Draw an evaluation as PNG files in the folder."""
    cells = evaluation["cells"]
    subtitle = f"{environment.title} · rules {evaluation['rules']} · {set_named(evaluation)}"
    models = models_lines(evaluation.get("policies", {}))
    more = [f"and {len(models) - _MODELS_NAMED} more models"] if len(models) > _MODELS_NAMED else []
    subtitle = "\n".join([subtitle, *models[:_MODELS_NAMED], *more])
    drawn = {MEAN: _mean_by_tier(environment, cells, subtitle)}
    if environment.detection is not None:
        drawn[DETECTION] = _catch_against_false_alarms(environment, environment.detection, cells, subtitle)
    if environment.suspicion is not None:
        drawn[ROC] = _roc(evaluation[OVERALL], subtitle)
        drawn[CALIBRATION] = _calibration(evaluation[OVERALL], subtitle)
    return save(drawn, folder)


def plot_paths(environment: AnyEnvironment, folder: Path) -> list[Path]:
    """Return the files that `plot` writes."""
    names = [MEAN]
    names += [DETECTION] if environment.detection is not None else []
    names += [ROC, CALIBRATION] if environment.suspicion is not None else []
    return [folder / name for name in names]


def _mean_by_tier(environment: AnyEnvironment, cells: Cells, subtitle: str) -> Figure:
    figure, (axes,) = canvas(f"Mean {environment.headline_name} by tier, with 95 % intervals", subtitle)
    policies = list(dict.fromkeys(cell["policy"] for cell in cells))
    tiers = [tier for tier in environment.tiers if any(cell["tier"] == tier for cell in cells)]
    width = 0.8 / len(policies)
    # Above narrow bars, level figures would overlap.
    rotation = 90 if len(policies) > _LEVEL else 0
    for index, policy in enumerate(policies):
        own = {cell["tier"]: cell for cell in cells if cell["policy"] == policy}
        places = [tiers.index(tier) + (index - (len(policies) - 1) / 2) * width for tier in own]
        means, whiskers = _whiskers(list(own.values()), "mean")
        bars = axes.bar(
            places,
            means,
            width * 0.92,
            label=policy,
            color=PALETTE[index % len(PALETTE)],
            yerr=whiskers,
            capsize=3,
            ecolor="#333333",
        )
        labels = [headline(environment, mean) for mean in means]
        axes.bar_label(bars, labels=labels, fontsize=8, padding=3, rotation=rotation)
    zero_line(axes)
    axes.margins(y=0.2 if rotation else 0.12)
    axes.set_xticks(range(len(tiers)), tiers)
    axes.set_ylabel(f"mean {environment.headline_name}")
    axes.legend(frameon=False, loc="best")
    return figure


def _catch_against_false_alarms(
    environment: AnyEnvironment, detection: tuple[str, str], cells: Cells, subtitle: str
) -> Figure:
    catch, alarm = detection
    catch_name, alarm_name = catch.replace("_", " "), alarm.replace("_", " ")
    figure, (axes,) = canvas(f"{catch_name.capitalize()} against {alarm_name}, with 95 % intervals", subtitle)
    policies = list(dict.fromkeys(cell["policy"] for cell in cells))
    markers = {tier: MARKERS[index % len(MARKERS)] for index, tier in enumerate(environment.tiers)}
    caught = [cell for cell in cells if cell[catch] is not None]
    for cell in caught:
        place = policies.index(cell["policy"])
        (x,), x_whiskers = _whiskers([cell], alarm)
        (y,), y_whiskers = _whiskers([cell], catch)
        axes.errorbar(
            100 * x,
            100 * y,
            xerr=100 * x_whiskers,
            yerr=100 * y_whiskers,
            marker=markers[cell["tier"]],
            # Later policies are drawn smaller, so that one on top of another does not hide it.
            markersize=max(5, 14 - 3 * place),
            color=PALETTE[place % len(PALETTE)],
            markeredgecolor="white",
            elinewidth=0.8,
            clip_on=False,
            zorder=3 + place,
        )
    for index, policy in enumerate(policies):
        axes.scatter([], [], color=PALETTE[index % len(PALETTE)], marker="o", label=policy)
    for tier, marker in markers.items():
        if any(cell["tier"] == tier for cell in caught):
            axes.scatter([], [], color="#888888", marker=marker, label=tier)
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.set_xlabel(f"{alarm_name}, % of all episodes")
    axes.set_ylabel(f"{catch_name}, % of those with something to catch")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _roc(policies: Cells, subtitle: str) -> Figure:
    """Draw catches against false accusations at every threshold of suspicion, a curve for each policy."""
    figure, (axes,) = canvas("Catch against false accusation, at every threshold", subtitle)
    _diagonal(axes)
    axes.axvline(100 * FALSE_ALARMS, color=GREY, linewidth=0.8, linestyle=":")
    for place, policy in enumerate(policies):
        if not policy["curve"]:
            continue
        colour = PALETTE[place % len(PALETTE)]
        x, y = 100 * np.array(policy["curve"]).T
        auroc, catch = (figure_text(one, policy[one.name]) for one in (AUROC, CATCH))
        axes.plot(x, y, color=colour, linewidth=2, label=f"{policy['policy']}\nAUROC {auroc}, TPR {catch}", zorder=3)
        # The mark lies where the threshold really is, which is on the dotted line as far as the fit holds.
        (at,), whiskers = _whiskers([policy], CATCH.name)
        axes.errorbar(
            [100 * policy[ALARMS.name]],
            [100 * at],
            yerr=100 * whiskers,
            marker=MARKERS[place % len(MARKERS)],
            markersize=8,
            color=colour,
            markeredgecolor="white",
            capsize=3,
            clip_on=False,
            zorder=4,
        )
    axes.set_xlim(-1, 101)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("false accusation, % of the innocent")
    axes.set_ylabel("catch, % of the guilty")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _calibration(policies: Cells, subtitle: str) -> Figure:
    """Draw how many are guilty of those that were held to be so likely guilty, and how many episodes tell it."""
    figure, (axes, counts) = canvas("Calibration of suspicion, with 95 % intervals", subtitle, panels=2)
    _diagonal(axes)
    for place, policy in enumerate(policies):
        colour = PALETTE[place % len(PALETTE)]
        bins = policy["calibration"]
        shift = 0.9 * (place - (len(policies) - 1) / 2)
        x = 100 * np.array([one["suspicion"] for one in bins])
        y, whiskers = _whiskers(bins, "guilty")
        axes.errorbar(
            x + shift,
            100 * y,
            yerr=100 * whiskers,
            marker=MARKERS[place % len(MARKERS)],
            color=colour,
            markeredgecolor="white",
            markersize=7,
            linewidth=1.2,
            elinewidth=0.9,
            capsize=2,
            label=policy["policy"],
            clip_on=False,
            zorder=3 + place,
        )
        counts.bar(x + shift, [one["episodes"] for one in bins], 0.8, color=colour)
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.set_ylabel("guilty, %, by the prior")
    counts.set_xlabel("suspicion, %")
    counts.set_ylabel("episodes")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 100], [0, 100], color="#bbbbbb", linewidth=1, linestyle="--", zorder=1)


def _whiskers(cells: Cells, name: str) -> tuple[Values, Values]:
    """Return a figure of each cell, and how far its interval reaches below and above."""
    values = np.array([cell[name] for cell in cells], dtype=float)
    low, high = np.array([cell[f"{name}_ci"] for cell in cells], dtype=float).T
    # Of figures that are certain, rounding may put the value beside its interval.
    return values, np.maximum([values - low, high - values], 0)
