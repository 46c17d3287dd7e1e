"""Where the time of one update went: a bar for each stretch of work, a row for each process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from chaosops_ray.reports import drawing
from chaosops_ray.reports.drawing import GREY, PALETTE, Plot
from chaosops_ray.reports.tables import plain
from chaosops_ray.spans import DRIVER, Span
from chaosops_ray.store import timeline

FILE = "training_timeline.png"
# A large run has more processes than a picture has room for.
_ROWS = 12
# Kinds of work, by what they are for; each has a colour, and all others have the last.
_KINDS = {
    "play episodes": ("collect", "play", "sample"),
    "learn": ("update",),
    "publish": ("publish", "export"),
    "load": ("load",),
    "prove": ("proof", "probe"),
    "wait for adoption": ("adopt",),
    "other": (),
}
_COLOURS = dict(zip(_KINDS, (*PALETTE[:4], PALETTE[5], PALETTE[6], GREY), strict=True))
_THIN = 0.15  # of a bar's height: a gap to the next row


def draw(path: Path, run: str, folder: Path) -> list[Plot]:
    """Draw the last update of a timeline as a PNG file in the folder, if it has one."""
    figure = last_update(timeline.read(path), run)
    return drawing.save({FILE: figure}, folder) if figure is not None else []


def last_update(events: Sequence[timeline.Event], run: str) -> Figure | None:
    """Return the figure of the last update; None if the events have none that is whole."""
    tracks = timeline.tracks(events)
    own = tracks.get(DRIVER, [])
    ends = [span.end for span in own if span.name == "adopt"]
    begun = [span.start for span in own if span.name == "collect" and ends and span.start < ends[-1]]
    if not begun:
        return None
    start, end = begun[-1], ends[-1]
    shown = {name: [span for span in spans if start < span.end and span.start < end] for name, spans in tracks.items()}
    names = [name for name in sorted(shown, key=timeline.order) if shown[name]]
    hidden = len(names) - _ROWS
    more = f" · {hidden} more processes are in {timeline.TIMELINE}" if hidden > 0 else ""
    number = next(event["args"]["update"] for event in reversed(events) if event["name"] == "adopt")
    subtitle = f"{plain(run)} · {end - start:.2g} s from the collecting of episodes to the adoption{more}"
    figure, (axes,) = drawing.canvas(f"Where the time of update {number} went", subtitle)
    _draw(axes, {name: shown[name] for name in names[:_ROWS]}, start, end)
    return figure


def _draw(axes: Axes, rows: Mapping[str, Sequence[Span]], start: float, end: float) -> None:
    used = set()
    for row, spans in enumerate(rows.values()):
        for span in spans:
            kind = next((kind for kind, names in _KINDS.items() if span.name in names), "other")
            used.add(kind)
            left, right = max(span.start, start), min(span.end, end)
            bar = [(left - start, right - left)]
            # What runs side by side in one process is seen through each other.
            axes.broken_barh(bar, (row - 0.5 + _THIN, 1 - 2 * _THIN), color=_COLOURS[kind], alpha=0.8, linewidth=0)
    axes.set_xlim(0, end - start)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_xlabel("seconds")
    patches = [Patch(color=colour, alpha=0.8, label=kind) for kind, colour in _COLOURS.items() if kind in used]
    axes.legend(
        handles=patches, frameon=False, fontsize=9, ncols=len(patches), loc="upper center", bbox_to_anchor=(0.5, -0.14)
    )
