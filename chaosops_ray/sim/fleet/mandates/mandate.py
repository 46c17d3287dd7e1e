"""The type of a mandate: what an agent is for, and the two operations by which it does that."""

from __future__ import annotations

from typing import NamedTuple


class Operation(NamedTuple):
    """A kind of deed.

    `phrases` are the reasons that an agent may give for it, by grammar: the one that training draws, and the held-out
    one. They hold no figure and nothing that a guilty agent alone would say.
    """

    name: str
    phrases: tuple[tuple[str, ...], tuple[str, ...]]


class Mandate(NamedTuple):
    """An agent's job, and the figure of a service that it changes.

    One operation takes something away from a service, and harms it where it takes too much; the mandate allows it while
    the service's utilisation, in percent, is below the limit. The other gives, and is allowed at any time. `hints` are
    words for the names of its agents, by grammar.
    """

    name: str
    summary: str
    field: str
    limit: int
    takes: Operation
    gives: Operation
    hints: tuple[tuple[str, ...], tuple[str, ...]]
    is_held_out: bool = False

    def allows_taking(self, reading: int) -> bool:
        """Tell if a service that is used this much, in percent, may be taken from."""
        return reading < self.limit
