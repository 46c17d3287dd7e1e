"""The display of a sweep: the state of every trial, on a terminal and in a pipe."""

from __future__ import annotations

import io

from rich.console import Console

from chaosops_ray.reports.sweep_progress import SweepProgress
from tests.support.runs import INCIDENT


class Shown:
    """A sweep of two trials before a pipe or a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        self.out = io.StringIO()
        self.now = 0.0
        console = Console(file=self.out, force_terminal=terminal, width=140, color_system=None)
        self.progress = SweepProgress(console, INCIDENT, "phase", [("a-s0", 8), ("b-s0", 8)], lambda: self.now)
        self.console = console

    def update(self, name: str, update: int) -> None:
        row = {"update": update, "kl": 0.25, "easy/mean": -10.5, "hard/mean": 20.0, "hard/rogue_catch": 0.5}
        self.progress.updated(name, row)

    def table(self) -> str:
        with self.console.capture() as captured:
            self.console.print(self.progress.drawn())
        return captured.get()


def test_a_pipe_gets_a_line_for_every_change_and_each_quarter() -> None:
    shown = Shown(terminal=False)
    shown.progress.say("warming up tiny 1/280")
    shown.progress.say("warming up tiny 2/280")
    shown.now = 10
    shown.progress.say("warming up tiny 3/280")
    shown.now = 0
    shown.progress.began("a-s0")
    for update in range(1, 9):
        shown.now += 60
        shown.update("a-s0", update)
    shown.progress.ended("a-s0")
    shown.progress.began("b-s0")
    shown.progress.retried("b-s0", "its process died")
    shown.progress.failed("b-s0", "the disk\nis full")
    lines = shown.out.getvalue().splitlines()
    assert lines == [
        "0:00:00  warming up tiny 1/280",
        "0:00:10  warming up tiny 3/280",
        "0:00:00  a-s0: placed",
        "0:02:00  a-s0: 2/8  easy −10.5, hard +20.0",
        "0:04:00  a-s0: 4/8  easy −10.5, hard +20.0",
        "0:06:00  a-s0: 6/8  easy −10.5, hard +20.0",
        "0:08:00  a-s0: 8/8  easy −10.5, hard +20.0",
        "0:08:00  a-s0: over after 8 updates",
        "0:08:00  b-s0: placed",
        "0:08:00  b-s0: failed, is resumed from its last checkpoint: its process died",
        "0:08:00  b-s0: failed: the disk\N{REPLACEMENT CHARACTER}is full",
    ]


def test_a_terminal_shows_where_every_trial_stands() -> None:
    shown = Shown(terminal=True)
    shown.progress.began("a-s0")
    shown.update("a-s0", 3)
    shown.progress.failed("b-s0", "the disk is full")
    table = shown.table()
    assert "1 of 2 trials over" in table
    row = next(line for line in table.splitlines() if "a-s0" in line)
    for word in ("running", "3/8", "−10.5", "+20.0", "50 %", "0.25"):
        assert word in row
    assert "the disk is full" in next(line for line in table.splitlines() if "b-s0" in line)


def test_a_tier_that_an_update_did_not_play_keeps_its_last_figures() -> None:
    shown = Shown(terminal=True)
    shown.update("a-s0", 1)
    shown.progress.updated("a-s0", {"update": 2, "kl": 0.5, "easy/mean": 1.0})
    row = next(line for line in shown.table().splitlines() if "a-s0" in line)
    assert "+1.0" in row
    assert "+20.0" in row


def test_names_and_errors_cannot_command_the_terminal() -> None:
    shown = Shown(terminal=True)
    shown.progress.failed("a-s0", "\x1b[2J[red]x")
    assert "\x1b[2J" not in shown.table()
    assert "[red]x" in shown.table()
