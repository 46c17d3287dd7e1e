"""The style of all plots, and the plots of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chaosops_ray.reports.tables import headline, set_named
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.store.files import atomic_file

# Colours that stay apart for colour-blind readers and in print, one for each policy in order of appearance.
PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Policies whose bars are wide enough for the figures above them.
_ABREAST = 4

PLOT_NAMES = ("mean_by_tier.png", "catch_against_false_alarms.png")


def plot(environment: AnyEnvironment, evaluation: Mapping[str, Any], folder: Path) -> list[Path]:
    """The plots of an evaluation, as PNG files in the folder; their paths."""
    cells = evaluation["cells"]
    subtitle = f"{environment.title} · rules {evaluation['rules']} · {set_named(evaluation)}"
    drawn = {PLOT_NAMES[0]: _mean_by_tier(environment, cells, subtitle)}
    if environment.detection is not None:
        drawn[PLOT_NAMES[1]] = _catch_against_false_alarms(environment, cells, subtitle)
    return save(drawn, folder)


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Each figure as a PNG file of its name in the folder; their paths."""
    paths = []
    for name, figure in figures.items():
        with atomic_file(folder / name) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
        paths.append(folder / name)
    return paths


def plot_paths(environment: AnyEnvironment, folder: Path) -> list[Path]:
    """The files that `plot` writes."""
    return [folder / name for name in (PLOT_NAMES if environment.detection is not None else PLOT_NAMES[:1])]


def canvas(title: str, subtitle: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure in the style of all plots, with panels one above the other on the same horizontal axis."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.6 if panels == 1 else 2.9 * panels), layout="constrained")
        axes = list(figure.subplots(panels, sharex=True, squeeze=False)[:, 0])
    axes[0].set_title(f"{title}\n", loc="left", fontsize=13, fontweight="bold")
    axes[0].annotate(
        subtitle,
        (0, 1),
        (0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color="#555555",
        parse_math=False,  # a run may be called $x$
    )
    for panel in axes:
        panel.grid(axis="y", color="#dddddd", linewidth=0.8)
        panel.set_axisbelow(True)
    return figure, axes


def _mean_by_tier(environment: AnyEnvironment, cells: list[dict[str, Any]], subtitle: str) -> Figure:
    figure, (axes,) = canvas(f"Mean {environment.headline_name} by tier, with 95 % intervals", subtitle)
    policies = list(dict.fromkeys(cell["policy"] for cell in cells))
    tiers = [tier for tier in environment.tiers if any(cell["tier"] == tier for cell in cells)]
    width = 0.8 / len(policies)
    for index, policy in enumerate(policies):
        own = {cell["tier"]: cell for cell in cells if cell["policy"] == policy}
        places = [tiers.index(tier) + (index - (len(policies) - 1) / 2) * width for tier in own]
        means = [cell["mean"] for cell in own.values()]
        whiskers = [
            [cell["mean"] - cell["mean_ci"][0] for cell in own.values()],
            [cell["mean_ci"][1] - cell["mean"] for cell in own.values()],
        ]
        colour = PALETTE[index % len(PALETTE)]
        bars = axes.bar(
            places,
            means,
            width * 0.92,
            label=policy,
            color=colour,
            yerr=whiskers,
            capsize=3,
            ecolor="#333333",
        )
        # Where bars are narrow, figures stand upright rather than in each other's way.
        axes.bar_label(
            bars,
            labels=[headline(environment, mean) for mean in means],
            fontsize=8,
            padding=3,
            rotation=90 if len(policies) > _ABREAST else 0,
        )
    axes.axhline(0, color="#333333", linewidth=0.8)
    axes.margins(y=0.12)
    axes.set_xticks(range(len(tiers)), tiers)
    axes.set_ylabel(f"mean {environment.headline_name}")
    axes.legend(frameon=False, loc="best")
    return figure


def _catch_against_false_alarms(environment: AnyEnvironment, cells: list[dict[str, Any]], subtitle: str) -> Figure:
    assert environment.detection is not None  # noqa: S101 - the caller has looked
    catch, alarm = environment.detection
    titles = {metric.name: metric.name.replace("_", " ") for metric in environment.metrics}
    figure, (axes,) = canvas(f"{titles[catch].capitalize()} against {titles[alarm]}, with 95 % intervals", subtitle)
    policies = list(dict.fromkeys(cell["policy"] for cell in cells))
    tiers = list(environment.tiers)
    for cell in cells:
        if cell[catch] is None:
            continue
        place = policies.index(cell["policy"])
        x, y = 100 * cell[alarm], 100 * cell[catch]
        axes.errorbar(
            x,
            y,
            xerr=[[x - 100 * cell[f"{alarm}_ci"][0]], [100 * cell[f"{alarm}_ci"][1] - x]],
            yerr=[[y - 100 * cell[f"{catch}_ci"][0]], [100 * cell[f"{catch}_ci"][1] - y]],
            marker=MARKERS[tiers.index(cell["tier"]) % len(MARKERS)],
            # Later policies are drawn smaller, so that one that stands on another still shows it.
            markersize=max(5, 14 - 3 * place),
            color=PALETTE[place % len(PALETTE)],
            markeredgecolor="white",
            elinewidth=0.8,
            clip_on=False,
            zorder=3 + place,
        )
    shown = [tier for tier in tiers if any(cell["tier"] == tier and cell[catch] is not None for cell in cells)]
    for index, policy in enumerate(policies):
        axes.scatter([], [], color=PALETTE[index % len(PALETTE)], marker="o", label=policy)
    for tier in shown:
        axes.scatter([], [], color="#888888", marker=MARKERS[tiers.index(tier) % len(MARKERS)], label=tier)
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.set_xlabel(f"{titles[alarm]}, % of all episodes")
    axes.set_ylabel(f"{titles[catch]}, % of those with something to catch")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
