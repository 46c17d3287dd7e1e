"""The style of all plots, and the parts that they share: files, axes, lines, labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from chaosops_ray.reports.metrics_rows import Of, Row
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.files import atomic_file

# Colours that stay apart for colour-blind readers and in print.
PALETTE = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb"),
    *("#222222", "#ee8866", "#44bb99"),
)
GREY = "#555555"
# Updates over which curves are averaged.
WINDOW = 9

_LABEL_POINTS = 13

Values: TypeAlias = NDArray[np.float64]


class Plot(NamedTuple):
    """A plot's file and its title."""

    path: Path
    title: str

    def _repr_png_(self) -> bytes:
        """Return the picture, which a notebook shows in place of its path."""
        return self.path.read_bytes()


class Label(NamedTuple):
    """A text at the end of a line, and the height at which it should stand."""

    text: str
    colour: str
    place: float


def save(figures: Mapping[str, Figure], folder: Path) -> list[Plot]:
    """Write each figure, given by file name, as a PNG file; make the folder if it is missing."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    plots = []
    for name, figure in figures.items():
        with atomic_file(folder / name) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
        plots.append(Plot(folder / name, str(figure.get_label())))
    return plots


def canvas(title: str, subtitle: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Make an empty figure with panels one above the other on the same horizontal axis; its label is the title.

    The subtitle may have several lines.
    """
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.6 if panels == 1 else 2.9 * panels), layout="constrained")
        axes = list(figure.subplots(panels, sharex=True, squeeze=False)[:, 0])
    figure.set_label(title)
    lines = subtitle.count("\n") + 1
    axes[0].set_title(title + "\n" * lines, loc="left", fontsize=13, fontweight="bold")
    # A run may be called $x$.
    write(axes[0], subtitle, (0, 1), (0, 8), GREY, xycoords="axes fraction", parse_math=False)
    for panel in axes:
        panel.grid(axis="y", color="#dddddd", linewidth=0.8)
        panel.set_axisbelow(True)
    return figure, axes


def percent_axis(axes: Axes) -> None:
    """Show shares on the vertical axis, from 0 to 100 %."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])


def zero_line(axes: Axes) -> None:
    """Draw a line at zero."""
    axes.axhline(0, color="#333333", linewidth=0.8)


def update_axis(axes: Axes, rows: Iterable[Row]) -> None:
    """Show the updates of the rows on the horizontal axis."""
    updates = [row["update"] for row in rows]
    axes.set_xlim(min(updates) - 0.5, max(updates) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("update")


def series(rows: Sequence[Row], of: Of) -> tuple[Values, Values]:
    """Return the updates at which a figure is defined, and its values there."""
    found = [(row["update"], value) for row in rows if (value := of(row)) is not None]
    at, values = np.array(found, dtype=float).reshape(-1, 2).T
    return at, values


def smoothed(at: Values, values: Values) -> Values:
    """Replace each value by the mean of all values at most half a window of updates away."""
    half = WINDOW // 2
    first = np.searchsorted(at, at - half, "left")
    last = np.searchsorted(at, at + half, "right")
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Values = (sums[last] - sums[first]) / (last - first)
    return means


def draw_course(axes: Axes, at: Values, values: Values, colour: str) -> None:
    """Draw values over updates as a line, or as a point where there is only one."""
    axes.plot(at, values, color=colour, linewidth=2, marker="o" if len(at) == 1 else "")


def write(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], colour: str, **more: Any
) -> None:
    """Write small text at an offset, in points, from a place."""
    axes.annotate(text, at, offset, textcoords="offset points", fontsize=9, color=colour, **more)


def label_ends(axes: Axes, x: float, labels: Sequence[Label]) -> None:
    """Write each label where its line ends; move apart those that would touch."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101 - the canvas made both
    low, high = axes.get_ylim()
    # The height of a label in units of the axis; title and ticks take a quarter of the figure.
    gap = _LABEL_POINTS * (high - low) / (0.75 * 72 * figure.get_figheight() / len(figure.axes))
    for place, label in zip(spread([label.place for label in labels], gap), labels, strict=True):
        write(axes, label.text, (x, place), (7, 0), label.colour, va="center", annotation_clip=False)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move places as little as possible so that any two are a gap apart; keep their order."""
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
