"""The display of a sweep in progress: a live table of its trials on a terminal, lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel as Frame
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chaosops_ray.reports.progress import LONGEST_PHASE, Display, clock_time
from chaosops_ray.reports.tables import headline, metric_figure, plain
from chaosops_ray.sim.contract import AnyEnvironment

_REFRESHES_PER_SECOND = 1
# In a pipe, a trial gets a line each time it has made this share of its updates.
_TOLD_EVERY = 0.25
_STYLES = {"waiting": "bright_black", "running": "cyan", "finished": "green", "failed": "bold red"}


class Standing(NamedTuple):
    """The state of a trial, as it is shown."""

    updates: int
    state: str = "waiting"
    update: int = 0
    row: Mapping[str, Any] = {}
    note: str = ""


class SweepProgress(Display):
    """The display of a sweep: call a method for each event of a trial."""

    def __init__(
        self,
        console: Console,
        environment: AnyEnvironment,
        sweep: str,
        trials: Sequence[tuple[str, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`trials` are names, each with the number of its updates."""
        self._environment = environment
        self._sweep = plain(sweep)
        self._trials = {name: Standing(updates) for name, updates in trials}
        super().__init__(console, _REFRESHES_PER_SECOND, clock)

    # -- events -------------------------------------------------------------------------------------------------------

    def began(self, name: str) -> None:
        """Show that the trial was placed."""
        self._change(name, state="running", note="")
        self._tell(f"{name}: placed")

    def updated(self, name: str, row: Mapping[str, Any]) -> None:
        """Show an update of the trial."""
        self._phase = ""
        before = self._trials[name]
        # Another thread may be drawing: replace what it reads, never change it. A tier that this update did not play
        # keeps its last figures.
        self._change(name, state="running", update=row["update"], row={**before.row, **row})
        if int(row["update"] / before.updates / _TOLD_EVERY) > int(before.update / before.updates / _TOLD_EVERY):
            self._tell(f"{name}: {self._summary(name)}")

    def was_over(self, name: str, update: int) -> None:
        """Show that the trial had ended before this sweep was resumed."""
        self._change(name, state="finished", update=update)

    def retried(self, name: str, why: str) -> None:
        """Show that the trial failed and is resumed from its last checkpoint."""
        note = plain(f"failed, is resumed from its last checkpoint: {why}", LONGEST_PHASE)
        self._change(name, state="waiting", note=note)
        self._tell(f"{name}: {note}")

    def failed(self, name: str, why: str) -> None:
        """Show that the trial failed and is not retried."""
        note = plain(why, LONGEST_PHASE)
        self._change(name, state="failed", note=note)
        self._tell(f"{name}: failed: {note}")

    def ended(self, name: str) -> None:
        """Show that the trial is over."""
        self._change(name, state="finished")
        self._tell(f"{name}: over after {self._trials[name].update} updates")

    def _change(self, name: str, **fields: Any) -> None:
        self._trials = {**self._trials, name: self._trials[name]._replace(**fields)}

    def _tell(self, text: str) -> None:
        if self._live is None:
            super()._tell(f"{clock_time(self._clock() - self._began)}  {text}")

    # -- the table ----------------------------------------------------------------------------------------------------

    def _summary(self, name: str) -> str:
        standing = self._trials[name]
        means = [f"{tier} {text}" for tier in self._environment.tiers if (text := self._mean(standing, tier))]
        return f"{standing.update}/{standing.updates}  {', '.join(means)}"

    def _mean(self, standing: Standing, tier: str) -> str:
        value = standing.row.get(f"{tier}/mean")
        return "" if value is None else headline(self._environment, value)

    def drawn(self) -> RenderableType:
        """Return the table as it is now."""
        trials = self._trials
        table = Table(box=None, pad_edge=False, header_style="bright_black", expand=True)
        for title in ("trial", "", "update"):
            table.add_column(title, no_wrap=True)
        table.add_column("", ratio=1, min_width=8)
        metrics = [metric for metric in self._environment.metrics if metric.name in (self._environment.detection or ())]
        for tier in self._environment.tiers:
            table.add_column(tier, justify="right", no_wrap=True)
        hardest = self._environment.tiers[-1]
        for metric in metrics:
            table.add_column(f"{hardest} {metric.title}", justify="right", no_wrap=True)
        table.add_column("KL", justify="right", no_wrap=True)
        for name, standing in trials.items():
            table.add_row(
                name,
                Text(standing.state, _STYLES[standing.state]),
                f"{standing.update}/{standing.updates}",
                Text(standing.note, "yellow", overflow="ellipsis", no_wrap=True)
                if standing.note
                else ProgressBar(standing.updates, standing.update),
                *[self._mean(standing, tier) for tier in self._environment.tiers],
                *[
                    ""
                    if (value := standing.row.get(f"{hardest}/{metric.name}")) is None
                    else metric_figure(metric, value)
                    for metric in metrics
                ],
                f"{standing.row['kl']:.2f}" if "kl" in standing.row else "",
            )
        over = sum([standing.state in ("finished", "failed") for standing in trials.values()])
        spent = clock_time(self._clock() - self._began)
        head = Text(f"{over} of {len(trials)} trials over, {spent}", "bold")
        parts: list[RenderableType] = [head]
        if self._phase:
            parts.append(Text(f"▸ {self._phase}", "bold cyan"))
        return Frame(
            Group(*parts, "", table),
            title=Text(f"{self._sweep} · {self._environment.title}"),
            title_align="left",
            border_style="bright_black",
            box=box.ROUNDED,
        )
