"""The display of a sweep in progress: a live table of its trials on a terminal, lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chaosops_ray.reports.progress import LONGEST_PHASE, Display
from chaosops_ray.reports.tables import headline, metric_figure, plain
from chaosops_ray.sim.contract import AnyEnvironment

# In a pipe, a trial gets a line each time it has made this share of its updates.
_LINE_EVERY = 0.25
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
        self._trials = {name: Standing(updates) for name, updates in trials}
        super().__init__(console, f"{plain(sweep)} · {environment.title}", clock)

    def began(self, name: str) -> None:
        """Show that the trial was placed."""
        self._change(name, "placed", state="running", note="")

    def updated(self, name: str, row: Mapping[str, Any]) -> None:
        """Show an update of the trial; a tier that it did not play keeps its last figures."""
        self._phase = ""
        before = self._trials[name]
        self._change(name, state="running", update=row["update"], row={**before.row, **row})
        if int(row["update"] / before.updates / _LINE_EVERY) > int(before.update / before.updates / _LINE_EVERY):
            standing = self._trials[name]
            means = [f"{tier} {text}" for tier in self._environment.tiers if (text := self._mean(standing, tier))]
            self._print(f"{name}: {standing.update}/{standing.updates}  {', '.join(means)}")

    def was_over(self, name: str, update: int) -> None:
        """Show that the trial had ended before this sweep was resumed."""
        self._change(name, state="finished", update=update)

    def retried(self, name: str, why: str) -> None:
        """Show that the trial failed and is resumed from its last checkpoint."""
        note = plain(f"failed, is resumed from its last checkpoint: {why}", LONGEST_PHASE)
        self._change(name, note, state="waiting", note=note)

    def failed(self, name: str, why: str) -> None:
        """Show that the trial failed and is not retried."""
        note = plain(why, LONGEST_PHASE)
        self._change(name, f"failed: {note}", state="failed", note=note)

    def ended(self, name: str) -> None:
        """Show that the trial is over."""
        self._change(name, f"over after {self._trials[name].update} updates", state="finished")

    def _change(self, name: str, event: str = "", **fields: Any) -> None:
        # Another thread may be drawing: replace what it reads, never change it.
        self._trials = {**self._trials, name: self._trials[name]._replace(**fields)}
        if event:
            self._print(f"{name}: {event}")

    def _print(self, text: str) -> None:
        if self._live is None:
            super()._print(f"{self._elapsed()}  {text}")

    def _mean(self, standing: Standing, tier: str) -> str:
        return _shown(standing, f"{tier}/mean", partial(headline, self._environment))

    def drawn(self) -> RenderableType:
        """Return the table as it is now."""
        trials, tiers = self._trials, self._environment.tiers
        metrics = [metric for metric in self._environment.metrics if metric.name in (self._environment.detection or ())]
        table = Table(box=None, pad_edge=False, header_style="bright_black", expand=True)
        for title in ("trial", "", "update"):
            table.add_column(title, no_wrap=True)
        table.add_column("", ratio=1, min_width=8)
        for title in (*tiers, *[f"{tiers[-1]} {metric.title}" for metric in metrics], "KL"):
            table.add_column(title, justify="right", no_wrap=True)
        for name, standing in trials.items():
            note = Text(standing.note, "yellow", overflow="ellipsis", no_wrap=True)
            table.add_row(
                name,
                Text(standing.state, _STYLES[standing.state]),
                f"{standing.update}/{standing.updates}",
                note if standing.note else ProgressBar(standing.updates, standing.update),
                *[self._mean(standing, tier) for tier in tiers],
                *[_shown(standing, f"{tiers[-1]}/{one.name}", partial(metric_figure, one)) for one in metrics],
                _shown(standing, "kl", "{:.2f}".format),
            )
        over = sum([standing.state in ("finished", "failed") for standing in trials.values()])
        return self._framed(Text(f"{over} of {len(trials)} trials over, {self._elapsed()}", "bold"), "", table)


def _shown(standing: Standing, name: str, form: Callable[[float], str]) -> str:
    value = standing.row.get(name)
    return "" if value is None else form(value)
