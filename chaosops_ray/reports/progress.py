"""The display of a run in progress: a live panel on a terminal, a line for each update in a pipe."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chaosops_ray.reports.metrics_rows import LAPS, Row, held_out, seconds
from chaosops_ray.reports.tables import DASH, headline, metric_figure, plain, share
from chaosops_ray.sim.board import amount, sparkline
from chaosops_ray.sim.contract import AnyEnvironment, Metric

# In a pipe, a phase that only counts (building 120/400) gets a line no more often than this.
PHASE_SECONDS = 10.0
LONGEST_PHASE = 200
LONGEST_NOTE = 500
_REFRESHES_PER_SECOND = 2
_RECENT = 20  # updates from which the remaining time is estimated
_HISTORY = (8, 40)  # fewest and most bars of the history
_HEADING_EVERY = 25


class Display:
    """A context manager that redraws itself on a terminal and prints lines into a pipe."""

    def __init__(self, console: Console, title: str, clock: Callable[[], float]) -> None:
        self._console = console
        self._title = Text(title)
        self._clock = clock
        self._began = clock()
        self._phase = ""
        self._last_line = ("", 0.0)
        # Live draws as soon as it is made: a subclass sets its own fields before it calls this.
        self._live = (
            Live(get_renderable=self.drawn, console=console, refresh_per_second=_REFRESHES_PER_SECOND)
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Show what happens now, in a few words."""
        self._phase = plain(text, LONGEST_PHASE)
        if self._live is not None:
            self._live.refresh()
            return
        kind, now = re.sub(r"[0-9]+", "", self._phase), self._clock()
        if kind != self._last_line[0] or now - self._last_line[1] >= PHASE_SECONDS:
            self._last_line = (kind, now)
            self._print(self._phase)

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._print(plain(text, LONGEST_NOTE))

    def drawn(self) -> RenderableType:
        """Return what a terminal shows now."""
        raise NotImplementedError

    def _print(self, text: str) -> None:
        """Print a line into a pipe, or above the panel of a terminal."""
        self._console.print(Text(text), soft_wrap=True)

    def _elapsed(self) -> str:
        return clock_time(self._clock() - self._began)

    def _framed(self, head: RenderableType, *body: RenderableType, subtitle: Text | None = None) -> Panel:
        phase = [Text(f"▸ {self._phase}", "bold cyan")] if self._phase else []
        return Panel(
            Group(head, *phase, *body),
            title=self._title,
            title_align="left",
            subtitle=subtitle,
            subtitle_align="right",
            border_style="bright_black",
        )


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
        self._updates = updates
        self._alarm = alarm
        self._rows = list(before)
        self._ends: tuple[tuple[int, float], ...] = ()
        self._lines = 0
        super().__init__(console, f"{plain(run)} · {environment.title}", clock)

    def __call__(self, row: Row, /) -> None:
        """Show a finished update; one that is repeated from a checkpoint replaces all that followed it."""
        update = row["update"]
        is_again = bool(self._ends) and self._ends[-1][0] >= update
        # Another thread may be drawing: replace what it reads, never change it.
        self._rows = [*[old for old in self._rows if old["update"] < update], row]
        self._ends = (*(() if is_again else self._ends[-_RECENT:]), (update, self._clock()))
        self._phase = ""
        if self._live is None:
            self._print_update(row)
        if held_out([row]):  # on a terminal it stays above the panel
            self._print(f"held out {latest_held_out(self._environment, [row])}")
        if self._live is not None:
            self._live.refresh()

    def _print_update(self, row: Row) -> None:
        if self._lines % _HEADING_EVERY == 0:
            for text in heading(self._environment, row):
                self._print(text)
        self._lines += 1
        self._print(line(self._environment, row, self._alarm, self._left()))

    def drawn(self) -> RenderableType:
        """Return the panel as it is now."""
        rows = self._rows
        head = self._header(rows[-1]["update"] if rows else 0)
        if not rows:
            return self._framed(head)
        body = (tiers(self._environment, rows), "", figures(self._environment, rows, self._alarm))
        policy = f"{rows[-1]['rules']} · policy-v{rows[-1]['version']} {rows[-1]['digest'][:12]}"
        return self._framed(head, "", *body, subtitle=Text(policy, "bright_black"))

    def _header(self, update: int) -> RenderableType:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        remaining = f", {clock_time(self._left())} left" if update < self._updates else ""
        done = Text(f"update {update}/{self._updates}", "bold")
        grid.add_row(done, ProgressBar(self._updates, update), f"{self._elapsed()} elapsed{remaining}")
        return grid

    def _left(self) -> float | None:
        """Estimate the seconds until the last update from the latest ones; None before the first."""
        ends = self._ends
        if not ends:
            return None
        first, last = ends[0], ends[-1]
        each = seconds(self._rows[-1]) if first == last else (last[1] - first[1]) / (last[0] - first[0])
        return max(0.0, each * (self._updates - last[0]) - (self._clock() - last[1]))


def tiers(environment: AnyEnvironment, rows: Sequence[Row]) -> RenderableType:
    """Draw the latest figures of each tier, muted where they are of an earlier update, and the mean's history."""
    shares = _shares(environment)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
    table.add_column("tier", no_wrap=True)
    for title in ("n", f"mean {environment.headline_name}", *[metric.title for metric in shares]):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("history", min_width=_HISTORY[0], max_width=_HISTORY[1])
    for tier in environment.tiers:
        having = [row for row in rows if tier in row["tiers"]]
        if having:
            found = having[-1]["tiers"][tier]
            cells = [tier, str(found["episodes"]), *_figures(environment, shares, found)]
            means = History([row["tiers"][tier]["mean"] for row in having])
            table.add_row(*cells, means, style="" if having[-1] is rows[-1] else "bright_black")
    return table


class History(NamedTuple):
    """Values as a line of bars, which takes the width that a table leaves it."""

    values: Sequence[float]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(history(self.values, options.max_width), "cyan")


def history(values: Sequence[float], width: int) -> str:
    """Draw all values as at most `width` bars, each the mean of equally many values."""
    bars = min(width, len(values))
    means = [fmean(values[i * len(values) // bars : (i + 1) * len(values) // bars]) for i in range(bars)]
    low, high = min(means), max(means)
    return sparkline(means, low, high if high > low else low + 1, width)


def figures(environment: AnyEnvironment, rows: Sequence[Row], alarm: float) -> RenderableType:
    """Draw the figures of the last update that are not by tier, and the latest means of the held-out set."""
    row = rows[-1]
    groups, laps = row["groups"], row["time"]

    def of_learner(name: str, form: str) -> str:
        return number(row["learner"].get(name), form)

    is_alarming = is_over(row, alarm)
    divergence = f"KL {of_learner('kl', '.3f')}" + (f", over the alarm at {alarm:g}" if is_alarming else "")
    steps = f"entropy {of_learner('entropy', '.2f')} · gradient {of_learner('gradient_norm', '.2f')}"
    replaced = row["actors_replaced"]
    busy = share(laps["engine"] / laps["rollout"] if laps["rollout"] else None)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bright_black", no_wrap=True)
    grid.add_column()
    if held_out(rows):
        grid.add_row("held out", latest_held_out(environment, rows))
    rewards = [f"{role} {amount(row['rewards'][role]).replace('-', '−')}" for role in environment.roles]
    grid.add_row("reward", " · ".join(rewards))
    grid.add_row(
        "policy",
        Text.assemble(
            (divergence, "bold red" if is_alarming else ""), f" · {steps} · mismatch {of_learner('mismatch', '.1e')}"
        ),
    )
    played = f"{row['episodes']} episodes · {groups['played']} groups, {groups['learnt_from']} learnt from"
    grid.add_row("batch", f"{played} · {number(tokens_per_second(row), ',.0f')} tokens/s")
    grid.add_row("time", f"{seconds(row):.1f} s: {' · '.join([f'{lap} {laps[lap]:.1f}' for lap in LAPS])}")
    actors = (f"{replaced} actors replaced", "yellow" if replaced else "")
    grid.add_row("cluster", Text.assemble(f"engines busy for {busy} of the rollout · ", actors))
    return grid


def latest_held_out(environment: AnyEnvironment, rows: Sequence[Row]) -> str:
    """Write the mean of each tier when the held-out set was last played, beside the heuristic's if that is known."""
    found = held_out(rows)[-1]
    tiers, heuristic = found["tiers"], found["heuristic"]
    written: list[str] = []
    for tier in environment.tiers:
        if tier in tiers:
            name = "" if written else f"{environment.heuristic} "
            beside = f" ({name}{headline(environment, heuristic[tier])})" if tier in heuristic else ""
            written.append(f"{tier} {headline(environment, tiers[tier]['mean'])}{beside}")
    if heuristic:
        ahead = [tier for tier in heuristic if tiers[tier]["mean"] > heuristic[tier]]
        written.append(f"ahead on {len(ahead)} of {len(heuristic)} tiers")
    scenarios = sum([figures["episodes"] for figures in tiers.values()])
    return f"after update {found['update']}, on {scenarios} scenarios: {' · '.join(written)}"


def heading(environment: AnyEnvironment, row: Row) -> tuple[str, str]:
    """Write the two lines of headings for the lines of a run."""
    shares = _shares(environment)
    of_update, of_tier = _layout(row, shares)
    names = of_update.format("update", "time", "tokens/s", "left", "KL ", "entropy")
    figures = of_tier.format("mean", *[metric.title for metric in shares])
    above = "".join([f"   {tier:<{len(figures) - 3}}" for tier in environment.tiers])
    return f"{'':{len(names)}}{above}".rstrip(), names + figures * len(environment.tiers)


def line(environment: AnyEnvironment, row: Row, alarm: float, left: float | None) -> str:
    """Write an update as one line under the headings; an exclamation mark means that KL is over the alarm."""
    shares = _shares(environment)
    of_update, of_tier = _layout(row, shares)
    written = of_update.format(
        f"{row['update']}/{row['updates']}",
        f"{seconds(row):.1f} s",
        number(tokens_per_second(row), ",.0f"),
        clock_time(left),
        number(row["learner"].get("kl"), ".3f") + ("!" if is_over(row, alarm) else " "),
        number(row["learner"].get("entropy"), ".2f"),
    )
    for tier in environment.tiers:
        found = row["tiers"].get(tier)
        figures = [""] * (1 + len(shares)) if found is None else _figures(environment, shares, found)
        written += of_tier.format(*figures)
    return written.rstrip()


def _layout(row: Row, shares: Sequence[Metric]) -> tuple[str, str]:
    """Return the format of the columns of an update, and of those of a tier."""
    counted = max(6, 2 * len(str(row["updates"])) + 1)
    of_shares = "".join([f" {{:>{max(5, len(metric.title))}}}" for metric in shares])
    return f"{{:>{counted}}}  {{:>8}}  {{:>8}}  {{:>8}}  {{:>7}}  {{:>7}}", f"   {{:>8}}{of_shares}"


def _shares(environment: AnyEnvironment) -> list[Metric]:
    return [metric for metric in environment.metrics if metric.is_share and metric.in_tables]


def _figures(environment: AnyEnvironment, shares: Sequence[Metric], found: Row) -> list[str]:
    return [headline(environment, found["mean"]), *[metric_figure(metric, found[metric.name]) for metric in shares]]


def is_over(row: Row, alarm: float) -> bool:
    """Return True if KL to the base is over the alarm."""
    return bool(row["learner"].get("kl", 0.0) > alarm)


def tokens_per_second(row: Row) -> float | None:
    """Return the tokens that the learner took in, read and written ones, per second of the update."""
    tokens, spent = row["learner"].get("tokens"), seconds(row)
    return None if tokens is None or not spent else tokens / spent


def number(value: float | None, form: str) -> str:
    """Format a figure; write a dash where there is none."""
    return DASH if value is None else format(value, form)


def clock_time(spent: float | None) -> str:
    """Format seconds as h:mm:ss; write a dash where they are not known."""
    if spent is None:
        return DASH
    minutes, rest = divmod(int(spent), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
