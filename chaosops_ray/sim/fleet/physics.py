"""The fleet's physics: load goes down the calls, failures come back up, and nobody is told a symptom by a table.

One tick is one pass down and one pass up the call graph. A service serves what it has room for and sheds the rest; a
configuration that is not sound fails requests once its service is busy; a call that fails is tried again, once in two
times, a tick later, so that failures make load.
"""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.sim.fleet.model import EDGE, Ability, Call, Figures, Tick, Topology

# Of the calls that fail, the share that is tried again in the next tick.
RETRIES = 0.5
# The utilisation from which on an unsound configuration shows, and from which on it shows in full.
BITES_FROM = 0.57
BITES_FULLY = 0.66


class Graph(NamedTuple):
    """A topology as physics reads it: what each service calls, in the order of a pass down and of one up.

    Down go calls, with their rates; up come failures, with the weight that a caller gives them.
    """

    downwards: tuple[tuple[int, tuple[tuple[int, float], ...]], ...]
    upwards: tuple[tuple[int, tuple[tuple[int, float], ...]], ...]
    callers: tuple[tuple[int, ...], ...]
    edges: tuple[int, ...]
    none: Figures


def graph(topology: Topology) -> Graph:
    """Return the call graph of a topology."""
    services = topology.services
    callers: list[list[int]] = [[] for _ in services]
    for place, service in enumerate(services):
        for call in service.calls:
            callers[call.callee].append(place)
    return Graph(
        tuple(
            [(place, tuple([(call.callee, call.rate) for call in services[place].calls])) for place in topology.order]
        ),
        tuple(
            [
                (place, tuple([(call.callee, weight(call)) for call in services[place].calls]))
                for place in reversed(topology.order)
            ]
        ),
        tuple([tuple(found) for found in callers]),
        tuple([place for place, one in enumerate(services) if one.layer == EDGE]),
        (0.0,) * len(services),
    )


def weight(call: Call) -> float:
    """Return how much of a callee's failures its caller passes on: all, if every request needs the call."""
    return min(1.0, call.rate)


def tick(of: Graph, entering: Figures, able: Ability, failed_before: Figures) -> Tick:
    """Compute one tick from what enters and what the services are able to do."""
    room, demand, sound = able
    load = list(entering)
    used = [0.0] * len(load)
    all_answer = True
    for place, below in of.downwards:
        here = load[place] * demand[place]
        most = room[place]
        load[place] = here
        used[place] = here / most
        if here > most:
            here = most
            all_answer = False
        for callee, rate in below:
            load[callee] += here * rate * (1.0 + RETRIES * failed_before[callee])
    if all_answer and min(sound) >= 1.0:
        return Tick(tuple(load), tuple(used), of.none, 0.0)
    return Tick(tuple(load), tuple(used), *_failures(of, entering, used, sound))


def _failures(of: Graph, entering: Figures, used: list[float], sound: Figures) -> tuple[Figures, float]:
    """Return the share of requests that each service fails, and what the fleet loses by that."""
    failed = list(of.none)
    for place, below in of.upwards:
        full = used[place]
        answered = 1.0 if full <= 1.0 else 1.0 / full
        if sound[place] < 1.0:
            answered *= 1.0 - (1.0 - sound[place]) * _bite(full)
        for callee, weight in below:
            if failed[callee]:
                answered *= 1.0 - weight * failed[callee]
        failed[place] = 1.0 - answered
    entered = lost = 0.0
    for place in of.edges:
        entered += entering[place]
        lost += entering[place] * failed[place]
    return tuple(failed), lost / entered


def _bite(full: float) -> float:
    if full <= BITES_FROM:
        return 0.0
    return 1.0 if full >= BITES_FULLY else (full - BITES_FROM) / (BITES_FULLY - BITES_FROM)


def own_failures(full: float, sound: float) -> float:
    """Return the share of requests that a service fails by itself, whatever it calls."""
    answered = 1.0 if full <= 1.0 else 1.0 / full
    return 1.0 - answered * (1.0 - max(0.0, 1.0 - sound) * _bite(full))
