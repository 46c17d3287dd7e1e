"""How a run went, drawn from its metrics rows: rolling means over the faint points of single updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from chaosops_ray.reports.plots import PALETTE, canvas, save
from chaosops_ray.reports.tables import headline, plain, share
from chaosops_ray.sim.contract import AnyEnvironment, Metric
from chaosops_ray.sim.errors import InputError

# An update's time is the sum of these laps; the engines' is a part of the rollout's.
LAPS = ("rollout", "update", "adopt")
WINDOW = 9

_LABEL_POINTS = 13
_HALO = [withStroke(linewidth=3, foreground="white")]

Row: TypeAlias = Mapping[str, Any]
Figures: TypeAlias = NDArray[np.float64]


class Plot(NamedTuple):
    """A plot as it lies in the run's folder, and what it shows."""

    path: Path
    title: str


class Line(NamedTuple):
    """One figure over the run: at which updates it is defined, its values, and how it is drawn and written."""

    name: str
    colour: str
    at: Figures
    values: Figures
    written: Callable[[float], str]


class Label(NamedTuple):
    """What stands at the end of a line, and where it would like to stand."""

    text: str
    colour: str
    place: float


def draw(environment: AnyEnvironment, rows: Sequence[Row], run: str, alarm: float, folder: Path) -> list[Plot]:
    """The curves of a run as PNG files in the folder, which is made if need be; `alarm` is the run's on KL."""
    figures = curves(environment, rows, run, alarm)
    paths = save({name: figure for name, (_, figure) in figures.items()}, made(folder))
    return [Plot(path, title) for path, (title, _) in zip(paths, figures.values(), strict=True)]


def made(folder: Path) -> Path:
    """The folder, which is there now."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    return folder


def curves(environment: AnyEnvironment, rows: Sequence[Row], run: str, alarm: float) -> dict[str, tuple[str, Figure]]:
    """Title and figure of each plot by file name; a plot for which no update has a figure is left out."""
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


def seconds(row: Row) -> float:
    """How long the update took."""
    return sum([float(row["time"][lap]) for lap in LAPS])


def smoothed(at: Figures, values: Figures) -> Figures:
    """The mean over all values at most half a window of updates away, those that there are."""
    half = WINDOW // 2
    first = np.searchsorted(at, at - half, "left")
    last = np.searchsorted(at, at + half, "right")
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Figures = (sums[last] - sums[first]) / (last - first)
    return means


# -- the plots --------------------------------------------------------------------------------------------------------


def _mean(environment: AnyEnvironment, rows: Sequence[Row], subtitle: str) -> tuple[str, Figure] | None:
    title = f"Mean {environment.headline_name} in training, by tier"
    lines = _by_tier(environment, rows, "mean", lambda value: headline(environment, value))
    if not lines:
        return None
    figure, (axes,) = canvas(title, subtitle)
    _draw_lines(axes, lines)
    if min([line.values.min() for line in lines]) < 0:
        axes.axhline(0, color="#333333", linewidth=0.8)
    axes.set_ylabel(f"mean {environment.headline_name}")
    finish(axes, rows)
    return title, figure


def _solved(environment: AnyEnvironment, rows: Sequence[Row], subtitle: str) -> tuple[str, Figure] | None:
    solved = next(metric for metric in environment.metrics if metric.is_share)
    return _shares(environment, rows, subtitle, f"{solved.title.capitalize()} in training, by tier", [solved])


def _detection(environment: AnyEnvironment, rows: Sequence[Row], subtitle: str) -> tuple[str, Figure] | None:
    metrics = [metric for metric in environment.metrics if metric.name in (environment.detection or ())]
    words = [metric.name.replace("_", " ") for metric in metrics]
    return _shares(environment, rows, subtitle, f"{' and '.join(words).capitalize()} in training, by tier", metrics)


def _shares(
    environment: AnyEnvironment, rows: Sequence[Row], subtitle: str, title: str, metrics: Sequence[Metric]
) -> tuple[str, Figure] | None:
    found = [(metric, lines) for metric in metrics if (lines := _by_tier(environment, rows, metric.name, share))]
    if not found:
        return None
    figure, panels = canvas(title, subtitle, len(found))
    for axes, (metric, lines) in zip(panels, found, strict=True):
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
        axes.set_ylabel(f"{metric.name.replace('_', ' ') if len(metrics) > 1 else metric.title}, %")
        _draw_lines(axes, lines)
    finish(panels[-1], rows)
    return title, figure


def _policy(rows: Sequence[Row], subtitle: str, alarm: float) -> tuple[str, Figure] | None:
    divergence = _line(rows, "", PALETTE[0], lambda row: row["learner"].get("kl"), lambda value: f"{value:.3f}")
    entropy = _line(rows, "", PALETTE[5], lambda row: row["learner"].get("entropy"), lambda value: f"{value:.2f}")
    if not len(divergence.at):
        return None
    title = "KL to the base, and entropy"
    figure, (above, below) = canvas(title, subtitle, 2)
    _draw_lines(above, [divergence])
    # An alarm far above would press the curve flat.
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
    finish(below, rows)
    return title, figure


def _time(rows: Sequence[Row], subtitle: str) -> tuple[str, Figure] | None:
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
    write_beside(axes, float(at[-1]), labels)
    axes.set_ylabel("seconds")
    finish(axes, rows)
    return title, figure


# -- lines ------------------------------------------------------------------------------------------------------------


def _by_tier(
    environment: AnyEnvironment, rows: Sequence[Row], figure: str, written: Callable[[float], str]
) -> list[Line]:
    """A line for each tier for which the figure is defined in any update."""

    def of_tier(tier: str, colour: str) -> Line:
        return _line(rows, tier, colour, lambda row: row["tiers"].get(tier, {}).get(figure), written)

    lines = [of_tier(tier, colour) for tier, colour in zip(environment.tiers, PALETTE, strict=False)]
    return [line for line in lines if len(line.at)]


def _line(
    rows: Sequence[Row], name: str, colour: str, of: Callable[[Row], float | None], written: Callable[[float], str]
) -> Line:
    found = [(row["update"], value) for row in rows if (value := of(row)) is not None]
    at, values = np.array(found, dtype=float).reshape(-1, 2).T
    return Line(name, colour, at, values, written)


def _draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    at_the_end: list[Label] = []
    over = max([line.at[-1] for line in lines])
    for line in lines:
        means = smoothed(line.at, line.values)
        axes.scatter(line.at, line.values, s=9, color=line.colour, alpha=0.25, linewidths=0)
        # Where a tier was not played for longer than the window, nothing is known and nothing is drawn.
        gaps = np.flatnonzero(np.diff(line.at) > WINDOW) + 1
        axes.plot(
            np.insert(line.at, gaps, np.nan),
            np.insert(means, gaps, np.nan),
            color=line.colour,
            linewidth=2,
            marker="o" if len(line.at) == 1 else "",
        )
        label = Label(f"{line.name} {line.written(means[-1])}".strip(), line.colour, float(means[-1]))
        if over - line.at[-1] < WINDOW:
            at_the_end.append(label)
        else:
            _write_above(axes, line.at[-1], label)
    write_beside(axes, over, at_the_end)


def _write_above(axes: Axes, x: float, label: Label) -> None:
    """For a line that ends on the way, where others go on to its right."""
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


def write_beside(axes: Axes, x: float, labels: Sequence[Label]) -> None:
    """Each label where its line ends; those that would touch are moved apart."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101 - the canvas made both
    low, high = axes.get_ylim()
    # What a label takes up, as axes are high after title and ticks have had their share.
    gap = _LABEL_POINTS * (high - low) / (0.75 * 72 * figure.get_figheight() / len(figure.axes))
    for place, label in zip(apart([label.place for label in labels], gap), labels, strict=True):
        axes.annotate(
            label.text,
            (x, place),
            (7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=label.colour,
            annotation_clip=False,
        )


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The places, moved as little as keeps their order and a gap between any two of them."""
    clusters: list[list[int]] = []

    def start(cluster: list[int]) -> float:
        return fmean([places[index] for index in cluster]) - gap * (len(cluster) - 1) / 2

    for index in sorted(range(len(places)), key=lambda index: places[index]):
        clusters.append([index])
        while len(clusters) > 1 and start(clusters[-1]) - start(clusters[-2]) < gap * len(clusters[-2]):
            last = clusters.pop()
            clusters[-1] += last
    moved = list(places)
    for cluster in clusters:
        for rank, index in enumerate(cluster):
            moved[index] = start(cluster) + gap * rank
    return moved


def finish(axes: Axes, rows: Sequence[Row]) -> None:
    """The axis of updates."""
    first, last = rows[0]["update"], rows[-1]["update"]
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("update")
