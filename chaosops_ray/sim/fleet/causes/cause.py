"""The type of a cause that lies outside of the fleet's agents."""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """An event that changes a figure of services of these layers, and that this team can remove."""

    name: str
    summary: str
    field: str
    layers: tuple[str, ...]
    team: str
