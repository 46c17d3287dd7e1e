"""The display of an episode as plain values, so that a terminal and a web page draw the same panels and charts."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Tone = Literal["plain", "muted", "good", "warn", "bad", "accent"]

_BARS = "▁▂▃▄▅▆▇█"


class Cell(NamedTuple):
    """A piece of text and its tone."""

    text: str
    tone: Tone = "plain"


Row = tuple[Cell, ...]


class Panel(NamedTuple):
    """A titled table; a heading of no columns makes it a list of lines."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[Row, ...]
    tone: Tone = "plain"
    is_wide: bool = False
    # How many of the last rows are shown where room is short; 0 for all of them.
    last: int = 0


class Chart(NamedTuple):
    """Figures over an episode: the value of each line before the first turn and after each one."""

    title: str
    unit: str
    help: str
    lines: tuple[tuple[str, tuple[float, ...]], ...]


def reward_panel(title: str, components: Iterable[tuple[str, float]]) -> Panel:
    """Return a panel of the rewards so far, by component, with their sum."""
    totals: dict[str, float] = {}
    for name, value in components:
        totals[name] = totals.get(name, 0.0) + value
    rows: list[Row] = [
        (
            Cell(name.replace("_", " ").replace(".", ": ")),
            Cell(amount(totals[name]), "good" if totals[name] > 0 else "bad"),
        )
        for name in sorted(totals)
    ]
    rows.append((Cell("return", "accent"), Cell(amount(sum([totals[name] for name in totals])), "accent")))
    return Panel(title, (), tuple(rows))


def amount(value: float) -> str:
    """Format a reward with its sign, and with a second decimal where it has one."""
    return f"{value:+.2f}".removesuffix("0")


def sparkline(values: Sequence[float], low: float, high: float, width: int = 12) -> str:
    """Draw the last `width` values as bars; what lies outside [low, high] is drawn at the edge."""
    span = high - low
    top = len(_BARS) - 1
    return "".join(_BARS[max(0, min(top, round((value - low) / span * top)))] for value in values[-width:])
