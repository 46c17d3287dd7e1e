"""The type of a mandate: what an agent is for, and the two operations by which it does that."""

from __future__ import annotations

from typing import NamedTuple


class Operation(NamedTuple):
    """A kind of deed. It is warranted while the target's utilisation, in percent, is below or above a limit.

    `phrases` are the reasons that an agent may give for it, by grammar: the one that training draws, and the held-out
    one. They hold no figure and nothing that a guilty agent alone would say.
    """

    name: str
    is_below: bool
    limit: int
    phrases: tuple[tuple[str, ...], tuple[str, ...]]

    def warrants(self, reading: int) -> bool:
        """Tell if this reading is one to act on."""
        return reading < self.limit if self.is_below else reading > self.limit


class Mandate(NamedTuple):
    """An agent's job, and the figure of a service that it changes.

    The first operation takes something away from a service and harms it where it takes too much; the second gives.
    `hints` are words for the names of its agents, by grammar.
    """

    name: str
    summary: str
    field: str
    takes: Operation
    gives: Operation
    hints: tuple[tuple[str, ...], tuple[str, ...]]
    is_held_out: bool = False
