"""Draw the topology of a scenario: its services with their call graph, and the agents with their powers.

Everything is drawn by position first: edges, applications, data, providers, so that a caller always comes before what
it calls. Positions are then shuffled into places, so that a place tells nothing.
"""

from __future__ import annotations

from typing import Final

from chaosops_ray.sim.fleet.model import BUSY, CLEAR, COLLUDING, DECEPTIVE, LAYERS, Call, Service, Topology
from chaosops_ray.sim.fleet.names import service_name
from chaosops_ray.sim.fleet.shapes import SHAPES, Layers, Links
from chaosops_ray.sim.fleet.splits import parts_of
from chaosops_ray.sim.fleet.staffing import staffed
from chaosops_ray.sim.rng import Stream, stream

# How many services a tier has, from and to.
SERVICES: Final = {CLEAR: (6, 9), BUSY: (8, 12), DECEPTIVE: (10, 16), COLLUDING: (12, 20)}
# Utilisation at plain load, from and to.
USED: Final = (0.44, 0.58)
# The plain load of an edge service, from and to.
ENTERING: Final = (0.6, 1.4)
# Calls for each request that the caller serves, in hundredths, from and to.
RATE: Final = (30, 150)
# Milliseconds that a service takes by itself, from and to.
LATENCY: Final = (5, 60)
REPLICAS: Final = (2, 9)
REVISION: Final = (100, 999)


def drawn(seed: int, split: str, tier: str) -> Topology:
    """Draw the topology of a seed; the same arguments give the same topology in every process."""
    parts = parts_of(split)
    draw = stream(seed, f"fleet/services/{parts.draws}/{tier}")
    low, high = SERVICES[tier]
    count = low + draw.below(high - low + 1)
    layers = _layers(draw, count)
    links: Links = [[] for _ in range(count)]
    SHAPES[draw.choice(parts.shapes)].link(draw, layers, links)
    _complete(draw, layers, links)
    place = draw.shuffled(range(count))
    services, entry = _built(draw, layers, links, place, parts.service_words)
    agents = staffed(seed, split, tier, place[len(layers.edges) :])
    return Topology(services, agents, place, entry)


def _layers(draw: Stream, count: int) -> Layers:
    """Draw how many services each layer has; at least three are applications."""
    providers = 1 + draw.below(2 if count > 6 else 1)
    edges = 1 + draw.below(min(3, count - providers - 4))
    rest = count - providers - edges
    data = 1 + draw.below(rest // 3)
    first, last = edges + rest - data, edges + rest
    return Layers(range(edges), range(edges, first), range(first, last), range(last, count))


def _complete(draw: Stream, layers: Layers, links: Links) -> None:
    """Link what a shape leaves open: the services below the applications, and applications without a call."""
    applications = layers.applications
    called = {callee for callees in links for callee in callees}
    turn = draw.below(len(applications))
    for callee in (*layers.data, *layers.providers):
        if callee not in called:
            links[applications[turn % len(applications)]].append(callee)
            turn += 1
        second = draw.choice(applications)
        if draw.below(2) and callee not in links[second]:
            links[second].append(callee)
    for caller in applications:
        if not links[caller]:
            links[caller].append(draw.choice(layers.data))


def _built(
    draw: Stream, layers: Layers, links: Links, place: tuple[int, ...], words: int
) -> tuple[tuple[Service, ...], tuple[float, ...]]:
    """Draw the services, each with the room that its plain load needs; return them with what enters at each."""
    load = [0.0] * len(links)
    entry = load[:]
    services: dict[int, Service] = {}
    taken: set[str] = set()
    for layer, positions in zip(LAYERS, layers, strict=True):
        for position in positions:
            here = place[position]
            if position in layers.edges:
                load[position] = entry[here] = draw.uniform(*ENTERING)
            calls = []
            for callee in links[position]:
                rate = _between(draw, RATE) / 100
                load[callee] += load[position] * rate
                calls.append(Call(place[callee], rate))
            name = service_name(draw, words, layer, taken)
            taken.add(name)
            services[here] = Service(
                name=name,
                layer=layer,
                replicas=_between(draw, REPLICAS),
                latency=float(_between(draw, LATENCY)),
                revision=_between(draw, REVISION),
                room=load[position] / draw.uniform(*USED),
                calls=tuple(calls),
            )
    return tuple([services[here] for here in range(len(links))]), tuple(entry)


def _between(draw: Stream, limits: tuple[int, int]) -> int:
    low, high = limits
    return low + draw.below(high - low + 1)
