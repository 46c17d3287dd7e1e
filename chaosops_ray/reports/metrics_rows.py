"""Metrics rows as reports read them: one mapping for each update of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

# The times that add up to an update; the engines' time is a part of the rollout's.
LAPS = ("rollout", "update", "adopt")

Row: TypeAlias = Mapping[str, Any]


class HeldOut(NamedTuple):
    """Figures of the held-out set, by tier, as played after an update."""

    update: int
    tiers: Mapping[str, Row]


def seconds(row: Row) -> float:
    """Return the time that an update took."""
    return sum([float(row["time"][lap]) for lap in LAPS])


def held_out(rows: Sequence[Row]) -> list[HeldOut]:
    """Return what the held-out set gave during training, for each update after which it was played."""
    return [HeldOut(row["update"], row["evaluation"]["tiers"]) for row in rows if "evaluation" in row]
