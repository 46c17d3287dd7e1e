"""The time of day, for the stamps that other programs expect on what they are sent. Nothing here goes by it."""

from __future__ import annotations

import time


def stamp() -> float:
    """Return the seconds since 1970, as this machine has them."""
    return time.time()
