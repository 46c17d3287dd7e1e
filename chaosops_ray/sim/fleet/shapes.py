"""The shapes of call graphs: how edge and application services call each other. Two of them are held out from training.

A shape links positions, not places: edges come first, then application, data and provider services, and a caller always
comes before what it calls. What a shape leaves open below the applications is linked in topology.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from chaosops_ray.sim.rng import Stream

# What each position calls.
Links: TypeAlias = list[list[int]]


class Layers(NamedTuple):
    """The positions of each layer."""

    edges: range
    applications: range
    data: range
    providers: range


class Shape(NamedTuple):
    """A way to link edges and applications."""

    name: str
    link: Callable[[Stream, Layers, Links], None]
    is_held_out: bool = False


def _deal(draw: Stream, callers: range, callees: range, links: Links) -> None:
    """Give each callee one caller, in turn."""
    first = draw.below(len(callers))
    for turn, callee in enumerate(callees, first):
        links[callers[turn % len(callers)]].append(callee)


def _fill(draw: Stream, edges: range, callees: range, links: Links) -> None:
    """Let each edge call at least two services."""
    for edge in edges:
        while len(links[edge]) < 2:
            callee = draw.choice(callees)
            if callee not in links[edge]:
                links[edge].append(callee)


def _wide(draw: Stream, layers: Layers, links: Links) -> None:
    """Let edges call every application, and no application another."""
    _deal(draw, layers.edges, layers.applications, links)
    _fill(draw, layers.edges, layers.applications, links)


def _layered(draw: Stream, layers: Layers, links: Links) -> None:
    """Let edges call the applications in front, and those the applications behind them."""
    applications = layers.applications
    middle = (len(applications) + 1) // 2
    front, back = applications[:middle], applications[middle:]
    _deal(draw, layers.edges, front, links)
    _fill(draw, layers.edges, front, links)
    _deal(draw, front, back, links)
    for callee in back:
        caller = front[draw.below(middle)]
        if draw.below(2) and callee not in links[caller]:
            links[caller].append(callee)


def _chain(draw: Stream, layers: Layers, links: Links) -> None:
    """Let requests pass from application to application, in one long chain or in two."""
    applications = layers.applications
    chains = 1 + draw.below(2) if len(applications) >= 6 else 1
    _deal(draw, layers.edges, applications[:chains], links)
    _fill(draw, layers.edges, applications, links)
    for callee in applications[chains:]:
        links[callee - chains].append(callee)


def _hub(draw: Stream, layers: Layers, links: Links) -> None:
    """Let most calls go to one application, or come from it."""
    applications = layers.applications
    middle = 1 + draw.below(len(applications) - 2)
    hub = applications[middle]
    _deal(draw, layers.edges, applications[:middle], links)
    for caller in (*layers.edges, *applications[:middle]):
        links[caller].append(hub)
    _fill(draw, layers.edges, applications, links)
    links[hub].extend((*applications[middle + 1 :], *layers.data, *layers.providers))


SHAPES: Final[dict[str, Shape]] = {
    "wide": Shape("wide", _wide),
    "layered": Shape("layered", _layered),
    "chain": Shape("chain", _chain, is_held_out=True),
    "hub": Shape("hub", _hub, is_held_out=True),
}
