"""The type of a cause that lies outside of the fleet's agents."""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """Something that happens to services of these layers, changes this figure of theirs, and is removed by this team."""

    name: str
    summary: str
    field: str
    layers: tuple[str, ...]
    team: str
