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
from chaosops_ray.spans import Span
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
    """Draw an update of a timeline as a PNG file in the folder, if it has one."""
    figure = typical_update(timeline.read(path), run)
    return drawing.save({FILE: figure}, folder) if figure is not None else []


def typical_update(events: Sequence[timeline.Event], run: str) -> Figure | None:
    """Return the figure of the update that took the median time; None if the events have none that is whole.

    The first update loads libraries, and while the last ones are made nothing is played ahead.
    """
    updates = _updates(events)
    if not updates:
        return None
    start, end, number = sorted(updates, key=lambda one: one[1] - one[0])[(len(updates) - 1) // 2]
    tracks = timeline.tracks(events)
    shown = {name: [span for span in spans if start < span.end and span.start < end] for name, spans in tracks.items()}
    names = [name for name in sorted(shown, key=timeline.order) if shown[name]]
    hidden = len(names) - _ROWS
    more = f" · {hidden} more processes are in {timeline.TIMELINE}" if hidden > 0 else ""
    of = f"the median of the last {len(updates)} updates" if updates[1:] else "the only update so far"
    subtitle = f"{plain(run)} · {end - start:.2g} s from collecting episodes to adoption, {of}{more}"
    figure, (axes,) = drawing.canvas(f"Where the time of update {number} went", subtitle)
    _draw(axes, {name: shown[name] for name in names[:_ROWS]}, start, end)
    return figure


def _updates(events: Sequence[timeline.Event]) -> list[tuple[float, float, int]]:
    """Return start, end and number of each whole update, in order."""
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    for event in events:
        if event["ph"] == "X" and event["name"] == "collect":
            begun[event["args"]["update"]] = event["ts"] / 1e6
        elif event["ph"] == "X" and event["name"] == "adopt":
            ended[event["args"]["update"]] = (event["ts"] + event["dur"]) / 1e6
    return [(begun[number], end, number) for number, end in ended.items() if begun.get(number, end) < end]


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
        handles=patches,
        frameon=False,
        fontsize=9,
        ncols=len(patches),
        columnspacing=1.2,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
    )
