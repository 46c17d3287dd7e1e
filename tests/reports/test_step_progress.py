"""The display of a fine-tuning on a terminal and in a pipe."""

from __future__ import annotations

import io

from rich.console import Console

from chaosops_ray.reports.step_progress import StepProgress


class Shown(StepProgress):
    """A display on a made-up console, with a clock that is set by hand."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.now = 100.0
        self.file = io.StringIO()
        console = Console(file=self.file, width=80, height=40, force_terminal=terminal, color_system=None)
        super().__init__(console, "warm · some/model", 20, "nats per action", clock=lambda: self.now)

    def after(self, seconds: float, done: int, loss: float) -> None:
        self.now += seconds
        self.step(done, loss)

    def frame(self) -> str:
        console = Console(file=io.StringIO(), width=80, color_system=None)
        console.print(self.drawn())
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()


def test_a_terminal_has_a_panel_with_the_time_left() -> None:
    shown = Shown(terminal=True)
    with shown:
        shown.say("loading")
        shown.now += 1000  # loading is no part of the steps
        shown.say("fine-tuning")
        assert "step 0/20" in shown.frame()
        for done in (1, 2, 3):
            shown.after(10, done, 3.0 / done)
    frame = shown.frame()
    for part in (
        "warm · some/model",
        "step 3/20",
        "0:17:10 elapsed, 0:02:50 left",
        "1.000 nats per action",
        "▸ fine-tuning",
    ):
        assert part in frame
    assert max(map(len, frame.splitlines())) <= 80


def test_a_pipe_has_a_line_now_and_then_and_one_for_the_last_step() -> None:
    shown = Shown()
    with shown:
        shown.say("fine-tuning")
        for done in range(1, 21):
            shown.after(4, done, 20.0 - done)
    lines = shown.file.getvalue().splitlines()
    assert lines[:3] == [
        "fine-tuning",
        "step 1/20 · 19.000 nats per action · 0:01:16 left",
        "step 4/20 · 16.000 nats per action · 0:01:04 left",
    ]
    assert lines[-1] == "step 20/20 · 0.000 nats per action · 0:00:00 left"
    assert len(lines) == 9
