"""The limits of a server: what one caller may use, and how many callers there may be."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Limits that hold for every caller; times are in seconds."""

    sessions: int = 64  # at the same time
    idle: float = 900.0  # a session without a message for so long is ended
    message: int = 65_536  # bytes of a message or of a request's body
    refusals: int = 100  # messages of one connection that are no JSON object, or too long, before it is closed
    resets: int = 100_000  # of one session
    steps: int = 1_000_000  # of one session
    request: float = 30.0  # until a request must have arrived in whole
