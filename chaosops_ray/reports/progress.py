"""The display of a run in progress: a live panel on a terminal, a line for each update in a pipe."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from statistics import fmean
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel as Frame
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chaosops_ray.reports.metrics_rows import LAPS, Row, held_out, seconds
from chaosops_ray.reports.tables import DASH, headline, metric_figure, plain, share
from chaosops_ray.sim.board import amount, sparkline
from chaosops_ray.sim.contract import AnyEnvironment

# In a pipe, a phase that only counts (building 120/400) gets a line no more often than this.
PHASE_SECONDS = 10.0
_REFRESHES_PER_SECOND = 2
LONGEST_PHASE = 200
_RECENT = 20  # updates from which the remaining time is estimated
_HISTORY = range(8, 41)  # number of bars of the history
_HEADING_EVERY = 25


class Display:
    """A context manager that redraws itself on a terminal and prints lines into a pipe."""

    def __init__(self, console: Console, refreshes_per_second: float, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._began = clock()
        self._phase = ""
        self._told = ("", 0.0)
        # Live draws as soon as it is made: a subclass sets its own fields before it calls this.
        self._live = (
            Live(get_renderable=self.drawn, console=console, refresh_per_second=refreshes_per_second)
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Show what happens now, in a few words."""
        self._phase = plain(text, LONGEST_PHASE)
        if self._live is not None:
            self._live.refresh()
            return
        kind, now = re.sub(r"[0-9]+", "", self._phase), self._clock()
        if kind != self._told[0] or now - self._told[1] >= PHASE_SECONDS:
            self._told = (kind, now)
            self._tell(self._phase)

    def _tell(self, text: str) -> None:
        """Print a line into a pipe."""
        self._console.print(Text(text), soft_wrap=True)

    def drawn(self) -> RenderableType:
        """Return what a terminal shows now."""
        raise NotImplementedError


class Progress(Display):
    """The display of one run: call it with every row of metrics, and `say` for phases without rows."""

    def __init__(
        self,
        console: Console,
        environment: AnyEnvironment,
        run: str,
        updates: int,
        alarm: float,
        before: Sequence[Row] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`alarm` is the run's threshold for KL; `before` are the rows of a run that is resumed."""
        self._environment = environment
        self._run = plain(run)
        self._updates = updates
        self._alarm = alarm
        self._rows = list(before)
        self._ends: tuple[tuple[int, float], ...] = ()
        self._lines = 0
        super().__init__(console, _REFRESHES_PER_SECOND, clock)

    def __call__(self, row: Row, /) -> None:
        """Show a finished update; one that is repeated from a checkpoint replaces all that followed it."""
        update = row["update"]
        is_again = bool(self._ends) and self._ends[-1][0] >= update
        # Another thread may be drawing: replace what it reads, never change it.
        self._rows = [*[old for old in self._rows if old["update"] < update], row]
        self._ends = (*(() if is_again else self._ends[-_RECENT:]), (update, self._clock()))
        self._phase = ""
        if self._live is not None:
            self._live.refresh()
            return
        if self._lines % _HEADING_EVERY == 0:
            for text in heading(self._environment, row):
                self._tell(text)
        self._lines += 1
        self._tell(line(self._environment, row, self._alarm, self._left()))
        if held_out([row]):
            self._tell(f"held out {latest_held_out(self._environment, [row])}")

    def _left(self) -> float | None:
        """Estimate the seconds until the last update from the latest ones; None before the first."""
        ends = self._ends
        if not ends:
            return None
        first, last = ends[0], ends[-1]
        each = seconds(self._rows[-1]) if first == last else (last[1] - first[1]) / (last[0] - first[0])
        return max(0.0, each * (self._updates - last[0]) - (self._clock() - last[1]))

    # -- the panel ------------------------------------------------------------------------------------------------

    def drawn(self) -> RenderableType:
        """Return the panel as it is now."""
        rows = self._rows
        parts: list[RenderableType] = [self._header(rows[-1]["update"] if rows else 0)]
        if self._phase:
            parts.append(Text(f"▸ {self._phase}", "bold cyan"))
        subtitle = None
        if rows:
            inside = self._console.width - 4
            parts += ["", tiers(self._environment, rows, inside), "", figures(self._environment, rows, self._alarm)]
            subtitle = Text(
                f"{rows[-1]['rules']} · policy-v{rows[-1]['version']} {rows[-1]['digest'][:12]}", "bright_black"
            )
        return Frame(
            Group(*parts),
            title=Text(f"{self._run} · {self._environment.title}"),
            title_align="left",
            subtitle=subtitle,
            subtitle_align="right",
            border_style="bright_black",
            box=box.ROUNDED,
        )

    def _header(self, update: int) -> RenderableType:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        remaining = f", {clock_time(self._left())} left" if update < self._updates else ""
        grid.add_row(
            Text(f"update {update}/{self._updates}", "bold"),
            ProgressBar(self._updates, update),
            Text(f"{clock_time(self._clock() - self._began)} elapsed{remaining}"),
        )
        return grid


def tiers(environment: AnyEnvironment, rows: Sequence[Row], width: int) -> RenderableType:
    """Draw the latest figures of each tier, muted where they are of an earlier update, and the mean's history."""
    shares = [metric for metric in environment.metrics if metric.is_share]
    having = {tier: [row for row in rows if tier in row["tiers"]] for tier in environment.tiers}
    heading = ("tier", "n", f"mean {environment.headline_name}", *[metric.title for metric in shares])
    lines = {}
    for tier in [tier for tier, those in having.items() if those]:
        found = having[tier][-1]["tiers"][tier]
        figures = [metric_figure(metric, found[metric.name]) for metric in shares]
        lines[tier] = (tier, str(found["episodes"]), headline(environment, found["mean"]), *figures)
    taken = sum([2 + max([len(cell) for cell in column]) for column in zip(heading, *lines.values(), strict=True)])
    room = max(_HISTORY.start, min(_HISTORY.stop - 1, width - taken))

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
    for name in heading:
        table.add_column(name, justify="left" if name == "tier" else "right", no_wrap=True)
    table.add_column("history", no_wrap=True)
    for tier, cells in lines.items():
        course = history([row["tiers"][tier]["mean"] for row in having[tier]], room)
        style = "" if having[tier][-1] is rows[-1] else "bright_black"
        table.add_row(*cells, Text(course, "cyan"), style=style)
    return table


def history(values: Sequence[float], width: int) -> str:
    """Draw all values as at most `width` bars, each the mean of equally many values."""
    bars = min(width, len(values))
    means = [fmean(values[i * len(values) // bars : (i + 1) * len(values) // bars]) for i in range(bars)]
    low, high = min(means), max(means)
    return sparkline(means, low, high if high > low else low + 1, width)


def figures(environment: AnyEnvironment, rows: Sequence[Row], alarm: float) -> RenderableType:
    """Draw the figures of the last update that are not by tier, and the latest means of the held-out set."""
    row = rows[-1]
    learner, groups, laps = row["learner"], row["groups"], row["time"]
    divergence = Text(f"KL {number(learner.get('kl'), '.3f')}")
    if is_over(row, alarm):
        divergence = Text(f"{divergence}, over the alarm at {alarm:g}", "bold red")
    policy = Text(" · ").join(
        [
            divergence,
            Text(f"entropy {number(learner.get('entropy'), '.2f')}"),
            Text(f"gradient {number(learner.get('gradient_norm'), '.2f')}"),
            Text(f"mismatch {number(learner.get('mismatch'), '.1e')}"),
        ]
    )
    spent = " · ".join([f"{lap} {laps[lap]:.1f}" for lap in LAPS])
    replaced = Text(f"{row['actors_replaced']} actors replaced", "yellow" if row["actors_replaced"] else "")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bright_black", no_wrap=True)
    grid.add_column()
    if held_out(rows):
        grid.add_row("held out", latest_held_out(environment, rows))
    grid.add_row("reward", Text(" · ".join([f"{role} {signed(row['rewards'][role])}" for role in environment.roles])))
    grid.add_row("policy", policy)
    played = f"{row['episodes']} episodes · {groups['played']} groups, {groups['learnt_from']} learnt from"
    grid.add_row("batch", f"{played} · {number(tokens_per_second(row), ',.0f')} tokens/s")
    grid.add_row("time", f"{seconds(row):.1f} s: {spent}")
    busy = Text(f"engines busy for {share(engine_share(row))} of the rollout")
    grid.add_row("cluster", Text(" · ").join([busy, replaced]))
    return grid


def latest_held_out(environment: AnyEnvironment, rows: Sequence[Row]) -> str:
    """Write the mean of each tier when the held-out set was last played."""
    found = held_out(rows)[-1]
    means = [
        f"{tier} {headline(environment, found.tiers[tier]['mean'])}"
        for tier in environment.tiers
        if tier in found.tiers
    ]
    return f"after update {found.update}: {' · '.join(means)}"


# -- lines ------------------------------------------------------------------------------------------------------------


def heading(environment: AnyEnvironment, row: Row) -> tuple[str, str]:
    """Write the two lines of headings for the lines of a run."""
    columns = _columns(row)
    names = "  ".join([f"{name:>{width}}" for name, width in columns.items()])
    figures = " ".join([f"{name:>{width}}" for name, width in _tier_columns(environment).items()])
    above = "".join([f"   {tier:<{len(figures)}}" for tier in environment.tiers])
    return f"{'':{len(names)}}{above}".rstrip(), f"{names}{f'   {figures}' * len(environment.tiers)}"


def line(environment: AnyEnvironment, row: Row, alarm: float, left: float | None) -> str:
    """Write an update as one line under the headings; an exclamation mark means that KL is over the alarm."""
    learner = row["learner"]
    cells = (
        f"{row['update']}/{row['updates']}",
        f"{seconds(row):.1f} s",
        number(tokens_per_second(row), ",.0f"),
        clock_time(left),
        number(learner.get("kl"), ".3f") + ("!" if is_over(row, alarm) else " "),
        number(learner.get("entropy"), ".2f"),
    )
    written = "  ".join([f"{cell:>{width}}" for cell, width in zip(cells, _columns(row).values(), strict=True)])
    widths = _tier_columns(environment)
    for tier in environment.tiers:
        found = row["tiers"].get(tier)
        figures = [""] * len(widths)
        if found is not None:
            shares = [metric_figure(metric, found[metric.name]) for metric in environment.metrics if metric.is_share]
            figures = [headline(environment, found["mean"]), *shares]
        written += "   " + " ".join([f"{cell:>{width}}" for cell, width in zip(figures, widths.values(), strict=True)])
    return written.rstrip()


def _columns(row: Row) -> dict[str, int]:
    """Return names and widths of the columns of an update."""
    counted = 2 * len(str(row["updates"])) + 1
    return {"update": max(6, counted), "time": 8, "tokens/s": 8, "left": 8, "KL ": 7, "entropy": 7}


def _tier_columns(environment: AnyEnvironment) -> dict[str, int]:
    """Return names and widths of the columns of a tier."""
    shares = [metric for metric in environment.metrics if metric.is_share]
    return {"mean": 8} | {metric.title: max(5, len(metric.title)) for metric in shares}


# -- figures ----------------------------------------------------------------------------------------------------------


def is_over(row: Row, alarm: float) -> bool:
    """Return True if KL to the base is over the alarm."""
    return bool(row["learner"].get("kl", 0.0) > alarm)


def tokens_per_second(row: Row) -> float | None:
    """Return the tokens that the learner took in, read and written ones, per second of the update."""
    tokens, spent = row["learner"].get("tokens"), seconds(row)
    return None if tokens is None or not spent else tokens / spent


def engine_share(row: Row) -> float | None:
    """Return the share of the rollout's time in which the engines worked."""
    laps = row["time"]
    return laps["engine"] / laps["rollout"] if laps["rollout"] else None


def number(value: float | None, form: str) -> str:
    """Format a figure; write a dash where there is none."""
    return DASH if value is None else format(value, form)


def signed(value: float) -> str:
    """Format a reward with its sign."""
    return amount(value).replace("-", "−")


def clock_time(spent: float | None) -> str:
    """Format seconds as h:mm:ss; write a dash where they are not known."""
    if spent is None:
        return DASH
    minutes, rest = divmod(int(spent), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
