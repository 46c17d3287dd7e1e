"""Work limits without a clock: a tool's work ends after so many steps, in so much memory."""

from __future__ import annotations


class ToolError(ValueError):
    """An error for a call that cannot be carried out; the agent reads the message and has spent a step."""


class Meter:
    """A budget of work and memory; both are charged before they are used."""

    __slots__ = ("memory", "steps")

    def __init__(self, steps: int, memory: int) -> None:
        self.steps = steps
        self.memory = memory

    def work(self, amount: int = 1) -> None:
        """Charge so many steps."""
        self.steps -= amount
        if self.steps < 0:
            raise ToolError("work limit reached")

    def hold(self, size: int) -> None:
        """Charge so many bytes; what was held once is never given back, so the sum of all that was made is bounded."""
        self.memory -= size
        if self.memory < 0:
            raise ToolError("memory limit reached")
