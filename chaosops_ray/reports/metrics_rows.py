"""Metrics rows as reports read them: one mapping for each update of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

# The times that add up to an update; the engines' time is a part of the rollout's.
LAPS = ("rollout", "update", "adopt")

Row: TypeAlias = Mapping[str, Any]
Of: TypeAlias = Callable[[Row], float | None]


def seconds(row: Row) -> float:
    """Return the time that an update took."""
    return sum([float(row["time"][lap]) for lap in LAPS])


def held_out(rows: Sequence[Row]) -> list[Row]:
    """Return the figures of the held-out set, by tier, for each update after which it was played.

    `heuristic` is the heuristic's mean of each tier on the same scenarios; empty if the run does not play it.
    """
    return [{"update": row["update"], "heuristic": {}, **row["evaluation"]} for row in rows if "evaluation" in row]


def is_past_heuristic(found: Row) -> bool:
    """Return True if the held-out means are above the heuristic's on every tier."""
    heuristic = found["heuristic"]
    return bool(heuristic) and all(found["tiers"][tier]["mean"] > mean for tier, mean in heuristic.items())


def of_tier(tier: str, name: str) -> Of:
    """Return the function that reads a figure of a tier from a row."""
    return lambda row: row["tiers"].get(tier, {}).get(name)


def of_learner(name: str) -> Of:
    """Return the function that reads a figure of the learner from a row."""
    return lambda row: row["learner"].get(name)
