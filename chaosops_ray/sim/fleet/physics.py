"""The fleet's physics: load goes down the calls, failures come back up, and nobody is told a symptom by a table.

One tick is one pass down and one pass up the call graph. A service serves what it has room for and sheds the rest; a
configuration that is not sound fails requests once its service is busy; a call that fails is tried again, once in two
times, a tick later, so that failures make load.
"""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.sim.fleet.model import EDGE, Ability, Figures, Tick, Topology

# Of the calls that fail, the share that is tried again in the next tick.
RETRIES = 0.5
# The utilisation from which on an unsound configuration shows, and from which on it shows in full.
BITES_FROM = 0.5
BITES_FULLY = 0.7
# A queue cannot grow beyond this: latency is counted up to it.
FULLEST = 0.95


class Graph(NamedTuple):
    """A topology as physics reads it, by place: calls with their rates, and callers with the weight of a failure."""

    order: tuple[int, ...]
    calls: tuple[tuple[tuple[int, float, float], ...], ...]  # callee, rate, weight of its failures
    callers: tuple[tuple[int, ...], ...]
    edges: tuple[int, ...]


def graph(topology: Topology) -> Graph:
    """Return the call graph of a topology."""
    services = topology.services
    callers: list[list[int]] = [[] for _ in services]
    for place, service in enumerate(services):
        for call in service.calls:
            callers[call.callee].append(place)
    return Graph(
        topology.order,
        tuple([tuple([(call.callee, call.rate, min(1.0, call.rate)) for call in one.calls]) for one in services]),
        tuple([tuple(found) for found in callers]),
        tuple([place for place, one in enumerate(services) if one.layer == EDGE]),
    )


def tick(of: Graph, entering: Figures, able: Ability, failed_before: Figures) -> Tick:
    """Compute one tick from what enters and what the services are able to do."""
    room, demand, sound = able
    load = list(entering)
    calls = of.calls
    for place in of.order:
        here = load[place] * demand[place]
        load[place] = here
        served = here if here < room[place] else room[place]
        for callee, rate, _ in calls[place]:
            load[callee] += served * rate * (1.0 + RETRIES * failed_before[callee])
    failed = [0.0] * len(load)
    used = failed[:]
    for place in reversed(of.order):
        used[place] = full = load[place] / room[place]
        answered = 1.0 if full <= 1.0 else 1.0 / full
        if sound[place] < 1.0:
            answered *= 1.0 - (1.0 - sound[place]) * _bite(full)
        for callee, _, weight in calls[place]:
            if failed[callee]:
                answered *= 1.0 - weight * failed[callee]
        failed[place] = 1.0 - answered
    entered = lost = 0.0
    for place in of.edges:
        entered += entering[place]
        lost += entering[place] * failed[place]
    return Tick(tuple(load), tuple(used), tuple(failed), lost / entered)


def _bite(full: float) -> float:
    if full <= BITES_FROM:
        return 0.0
    return 1.0 if full >= BITES_FULLY else (full - BITES_FROM) / (BITES_FULLY - BITES_FROM)


def own_failures(full: float, sound: float) -> float:
    """Return the share of requests that a service fails by itself, whatever it calls."""
    answered = 1.0 if full <= 1.0 else 1.0 / full
    return 1.0 - answered * (1.0 - (1.0 - sound) * _bite(full))


def latency(of: Graph, base: Figures, now: Tick) -> Figures:
    """Return the latency of each service: its own, which grows as it fills, and that of what it waits for."""
    found = [0.0] * len(base)
    for place in reversed(of.order):
        own = base[place] / (1.0 - min(now.used[place], FULLEST))
        found[place] = own + sum([rate * found[callee] for callee, rate, _ in of.calls[place]])
    return tuple(found)
