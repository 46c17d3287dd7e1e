"""The plots of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaosops_ray.reports.drawing import PALETTE, Plot, Titled, canvas, save, zero_line
from chaosops_ray.reports.tables import headline, set_named
from chaosops_ray.sim.contract import AnyEnvironment

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Up to so many policies, bars are wide enough for level figures above them.
_LEVEL = 4

PLOT_NAMES = ("mean_by_tier.png", "catch_against_false_alarms.png")


def plot(environment: AnyEnvironment, evaluation: Mapping[str, Any], folder: Path) -> list[Plot]:
    """Draw an evaluation as PNG files in the folder."""
    cells = evaluation["cells"]
    subtitle = f"{environment.title} · rules {evaluation['rules']} · {set_named(evaluation)}"
    drawn = {PLOT_NAMES[0]: _mean_by_tier(environment, cells, subtitle)}
    if environment.detection is not None:
        drawn[PLOT_NAMES[1]] = _catch_against_false_alarms(environment, cells, subtitle)
    return save(drawn, folder)


def plot_paths(environment: AnyEnvironment, folder: Path) -> list[Path]:
    """Return the files that `plot` writes."""
    return [folder / name for name in (PLOT_NAMES if environment.detection is not None else PLOT_NAMES[:1])]


def _mean_by_tier(environment: AnyEnvironment, cells: list[dict[str, Any]], subtitle: str) -> Titled:
    title = f"Mean {environment.headline_name} by tier, with 95 % intervals"
    figure, (axes,) = canvas(title, subtitle)
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
        # Above narrow bars, level figures would overlap.
        axes.bar_label(
            bars,
            labels=[headline(environment, mean) for mean in means],
            fontsize=8,
            padding=3,
            rotation=90 if len(policies) > _LEVEL else 0,
        )
    zero_line(axes)
    axes.margins(y=0.12)
    axes.set_xticks(range(len(tiers)), tiers)
    axes.set_ylabel(f"mean {environment.headline_name}")
    axes.legend(frameon=False, loc="best")
    return title, figure


def _catch_against_false_alarms(environment: AnyEnvironment, cells: list[dict[str, Any]], subtitle: str) -> Titled:
    assert environment.detection is not None  # noqa: S101 - the caller has checked it
    catch, alarm = environment.detection
    catch_name, alarm_name = catch.replace("_", " "), alarm.replace("_", " ")
    title = f"{catch_name.capitalize()} against {alarm_name}, with 95 % intervals"
    figure, (axes,) = canvas(title, subtitle)
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
            # Later policies are drawn smaller, so that one on top of another does not hide it.
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
    axes.set_xlabel(f"{alarm_name}, % of all episodes")
    axes.set_ylabel(f"{catch_name}, % of those with something to catch")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return title, figure
