"""The display of a fine-tuning: steps done, the latest loss and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chaosops_ray.reports.progress import PHASE_SECONDS, Display, History, clock_time


class StepProgress(Display):
    """A panel on a terminal; in a pipe, a line for a step, and no more often than every ten seconds."""

    def __init__(
        self, console: Console, title: str, steps: int, loss: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`loss` says what the figure of a step is."""
        self._steps = steps
        self._loss = loss
        self._curve: list[float] = []
        self._started = clock()
        self._printed = -PHASE_SECONDS
        super().__init__(console, title, clock)

    def say(self, text: str) -> None:
        """Show what happens now; the time before the first step is no step's."""
        if not self._curve:
            self._started = self._clock()
        super().say(text)

    def step(self, done: int, loss: float) -> None:
        """Show a finished step."""
        self._curve = [*self._curve, loss]  # another thread may be drawing
        if self._live is not None:
            self._live.refresh()
            return
        now = self._clock()
        if now - self._printed >= PHASE_SECONDS or done == self._steps:
            self._printed = now
            self._print(f"step {done}/{self._steps} · {self._figure()} · {clock_time(self._left())} left")

    def drawn(self) -> RenderableType:
        """Return the panel as it is now."""
        done = len(self._curve)
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        remaining = f", {clock_time(self._left())} left" if done < self._steps else ""
        head = Text(f"step {done}/{self._steps}", "bold")
        grid.add_row(head, ProgressBar(self._steps, done), f"{self._elapsed()} elapsed{remaining}")
        if not done:
            return self._framed(grid)
        curve = Table.grid(padding=(0, 2))
        curve.add_row(self._figure(), History(self._curve))
        return self._framed(grid, curve)

    def _figure(self) -> str:
        return f"{self._curve[-1]:.3f} {self._loss}"

    def _left(self) -> float | None:
        """Estimate the seconds until the last step; None before the first."""
        done = len(self._curve)
        return (self._clock() - self._started) / done * (self._steps - done) if done else None
