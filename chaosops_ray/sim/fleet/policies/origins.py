"""Where failures begin: which services fail by themselves, weighed by what the page and traces show.

Failures come up the calls by a law that the topology gives. So for every service, or pair of services, it is known what
others would fail if this one did, and a few observed figures tell who it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from math import exp, log, prod
from typing import Final, NamedTuple

from chaosops_ray.sim.fleet import physics
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import DEMAND, EDGE, PROVIDER, ROOM, SOUND, Ability, Figures, Tick, Topology
from chaosops_ray.sim.fleet.plot import FAILING, LOST_AT_PAGE, PEAK

# How far a service may be damaged: the utilisation that it comes to, or how sound its configuration is left. Between
# these the law is taken as linear. The first one is none at all.
UTILISATIONS: Final = (0.0, 1.05, 1.15, 1.27, 1.45, 1.75, 2.2)
SOUNDNESS: Final = (1.0, 0.9, 0.8, 0.68, 0.55, 0.4, 0.25)
# Those that a page may come from, and the one that is typical.
PAGED: Final = (2, 3, 4)
TYPICAL: Final = 3
# A load near the middle of what comes with a page, and ticks until retries have settled.
PEAKING: Final = sum(PEAK) / 2
SETTLED: Final = 2
# The scale of errors in observed shares, which have heavy tails: services are disturbed by more than is weighed here.
SCALE: Final = 0.01
TAIL: Final = 1.5
# Deviation of an observed share for two origins, where the law is taken as linear in logarithms.
APPROXIMATE: Final = 0.012
UNIT: Final = 0.25
# How likely a page, or figures, that should not be.
STRAY: Final = 0.02
UNFIT: Final = 1e-5
PAIRED: Final = 0.3
# A service's failures show where at least this much of them comes up.
SHOWS: Final = 0.05
SINGULAR: Final = 1e-6
# How much likelier than others a service that failed by itself still does.
OTHERS: Final = 0.1

# A snapshot: shares that services were seen to fail in one tick.
Shares = Mapping[int, float]


class Origin(NamedTuple):
    """Services that may fail by themselves, together, and how much this weighs."""

    services: tuple[int, ...]
    weight: float


class Fits(NamedTuple):
    """How well origins explain a snapshot: each service by what may be damaged, and pairs; filled when asked for."""

    seen: Shares
    singles: dict[int, tuple[float, ...]]
    pairs: dict[tuple[int, int], float]


class Origins:
    """The law of failures of one topology."""

    def __init__(self, topology: Topology, most: int) -> None:
        self.topology = topology
        self.most = most
        self.inner = [place for place, one in enumerate(topology.services) if one.layer != EDGE]
        self._graph = physics.graph(topology)
        self._total = sum(topology.entry)
        self._fits: dict[tuple[tuple[int, float], ...], Fits] = {}
        self._chances: dict[tuple[int, tuple[tuple[int, float], ...]], float] = {}
        self._slopes = {place: self._slope(place) for place in self.inner}
        sound = (1.0,) * len(topology.services)
        self._plain = Ability(tuple([service.room for service in topology.services]), sound, sound)
        self._entering = tuple([load * PEAKING for load in topology.entry])
        self._base = self._lived(self._plain)
        self._responses = {place: self._damaged(place) for place in self.inner}

    def _slope(self, origin: int) -> tuple[float, ...]:
        """Return how much of a service's own failures comes up to all services, in logarithms."""
        failed = [0.0] * len(self.topology.services)
        for place, below in self._graph.upwards:
            answered = 1.0 - UNIT if place == origin else 1.0
            for callee, weight in below:
                answered *= 1.0 - weight * failed[callee]
            failed[place] = 1.0 - answered
        return tuple([log(1 - share) / log(1 - UNIT) for share in failed])

    def _lived(self, able: Ability) -> Tick:
        found = physics.tick(self._graph, self._entering, able, self._graph.none)
        for _ in range(SETTLED - 1):
            found = physics.tick(self._graph, self._entering, able, found.failed)
        return found

    def _damaged(self, place: int) -> dict[str, list[Figures]]:
        """Return what all services fail if a service is damaged, by what is damaged and how far."""
        fields = {MANDATES[agent.mandate].field for agent in self.topology.agents if place in agent.powers}
        if self.topology.services[place].layer == PROVIDER:
            fields &= {SOUND}
        return {
            field: [self._response(place, field, level) for level in range(len(UTILISATIONS))]
            for field in sorted(fields)
        }

    def _response(self, place: int, field: str, level: int) -> Figures:
        if level == 0:
            return self._base.failed
        used = self._base.used[place] / UTILISATIONS[level]
        factor = {SOUND: SOUNDNESS[level], ROOM: used, DEMAND: 1 / used}[field]
        return self._lived(self._plain.after(field, place, factor)).failed

    def _lost(self, failed: Figures) -> float:
        return sum([load * failed[place] for place, load in enumerate(self.topology.entry)]) / self._total

    # -- what is likely before anybody looks --------------------------------------------------------------------------

    def paged(self, edges: Sequence[int]) -> dict[int, float]:
        """Weigh the services by how plots are drawn and by the edges that a page names, the worst first."""
        found = self._drawn()
        return {place: weight * max(STRAY, self._pages(place, edges)) for place, weight in found.items()}

    def _drawn(self) -> dict[int, float]:
        """Weigh the services by who may take from them: any agent, and any service that would be felt."""
        found = dict.fromkeys(self.inner, 0.0)
        for agent in self.topology.agents:
            field = MANDATES[agent.mandate].field
            able = [
                place
                for place in agent.powers
                if field in self._responses[place]
                and self._lost(self._responses[place][field][TYPICAL]) >= LOST_AT_PAGE * 0.8
            ]
            for place in able:
                found[place] += 1 / len(able)
        return {place: max(weight, STRAY) for place, weight in found.items()}

    def _pages(self, origin: int, edges: Sequence[int]) -> float:
        """Return how likely a page names these edges if failures begin at this service."""
        hits = 0.0
        for responses in self._responses[origin].values():
            for level in PAGED:
                failed = responses[level]
                worst = sorted(self._graph.edges, key=lambda place: -failed[place])
                named = [place for place in worst if failed[place] > FAILING] or worst[:1]
                if named == list(edges):
                    hits += 1.0
                elif named[0] == edges[0] or set(named) == set(edges):
                    hits += 0.2
        return hits / (len(PAGED) * max(1, len(self._responses[origin])))

    # -- what figures tell --------------------------------------------------------------------------------------------

    def weighed(self, prior: Mapping[int, float], snapshots: Iterable[Shares]) -> list[Origin]:
        """Weigh all origins by the snapshots, the likeliest first; they share one origin."""
        seen = [self._fits_of(one) for one in snapshots if any(share >= FAILING / 2 for share in one.values())]
        total = sum(prior.values())
        weights: dict[tuple[int, ...], float] = {
            (place,): weight / total * self._single(place, seen) for place, weight in prior.items()
        }
        if self.most > 1 and seen:
            for pair in combinations(self.inner, 2):
                weight = PAIRED * prior[pair[0]] * prior[pair[1]] / total**2
                if weight > UNFIT:
                    weights[pair] = weight * prod([self._double(pair, fits) for fits in seen])
        total = sum(weights.values())
        found = [Origin(services, weight / total) for services, weight in weights.items()]
        return sorted(found, key=lambda one: -one.weight)

    def _fits_of(self, seen: Shares) -> Fits:
        key = tuple(sorted(seen.items()))
        if key not in self._fits:
            self._fits[key] = Fits(seen, {}, {})
        return self._fits[key]

    def _single(self, origin: int, seen: Sequence[Fits]) -> float:
        """Return how well one origin explains the snapshots."""
        for fits in seen:
            if origin not in fits.singles:
                responses = self._responses[origin].values()
                fits.singles[origin] = tuple([self._fit(one, fits.seen) for one in responses]) or (UNFIT,)
        each = [prod(together) for together in zip(*[fits.singles[origin] for fits in seen], strict=True)]
        return sum(each) / len(each) if each else 1.0

    def _double(self, pair: tuple[int, int], fits: Fits) -> float:
        if pair not in fits.pairs:
            fits.pairs[pair] = max(UNFIT, exp(-self._pair(*pair, fits.seen) / 2))
        return fits.pairs[pair]

    def _fit(self, responses: Sequence[Figures], seen: Shares) -> float:
        """Return how well a snapshot fits to the nearest of these responses, or to one between two of them."""
        best = UNFIT
        for low, high in pairwise(responses):
            up = down = 0.0
            for place, share in seen.items():
                rise = high[place] - low[place]
                up += rise * (share - low[place])
                down += rise * rise
            part = min(1.0, max(0.0, up / down)) if down else 0.0
            fit = 1.0
            for place, share in seen.items():
                error = (share - low[place] - part * (high[place] - low[place])) / SCALE
                fit *= 1 + error * error
            best = max(best, fit**-TAIL)
        return best

    def _pair(self, one: int, other: int, seen: Shares) -> float:
        """Return about the least squared error, in deviations, with which two origins explain a snapshot together."""
        ours, theirs = self._slopes[one], self._slopes[other]
        aa = ab = bb = ay = by = yy = 0.0
        for place, share in seen.items():
            a, b, y = ours[place], theirs[place], -log(max(0.02, 1 - share))
            aa, ab, bb = aa + a * a, ab + a * b, bb + b * b
            ay, by, yy = ay + a * y, by + b * y, yy + y * y
        down = aa * bb - ab * ab
        if down <= 1e-9:
            return 1e9
        first, second = (ay * bb - by * ab) / down, (by * aa - ay * ab) / down
        if first <= 0.03 or second <= 0.03:
            return 1e9
        return max(0.0, yy - first * ay - second * by) / APPROXIMATE**2

    def shows(self, site: int, seen: Shares) -> bool:
        """Tell if a snapshot would show that a service fails by itself."""
        return any(self._slopes[site][place] > SHOWS for place in seen)

    def chance(self, site: int, seen: Shares) -> float:
        """Return how likely a service is among those that fail by themselves in a snapshot, seen alone."""
        if all(share < FAILING for share in seen.values()):
            return 0.0
        key = (site, tuple(sorted(seen.items())))
        if key not in self._chances:
            found = 0.0
            for origin in self.weighed({place: 1.0 if place == site else OTHERS for place in self.inner}, [seen]):
                found += origin.weight * (site in origin.services)
            self._chances[key] = found
        return self._chances[key]

    def own(self, site: int, sites: Sequence[int], seen: Shares) -> float | None:
        """Return about how much a service fails by itself, if failures begin at these; None where it does not show."""
        places = [place for place in seen if self._slopes[site][place] > SHOWS]
        if not places:
            return None
        columns = [self._slopes[one] for one in sites]
        wanted = [-log(max(0.02, 1 - seen[place])) for place in seen]
        rows = [[column[place] for column in columns] for place in seen]
        found = least_squares(rows, wanted)
        return None if found is None else 1 - exp(-max(0.0, found[list(sites).index(site)]))


def least_squares(rows: list[list[float]], wanted: list[float]) -> list[float] | None:
    """Solve a few linear equations in the least squares; None where they do not tell the unknowns apart."""
    count = len(rows[0])
    normal = [
        [sum([row[i] * row[j] for row in rows]) for j in range(count)]
        + [sum([row[i] * value for row, value in zip(rows, wanted, strict=True)])]
        for i in range(count)
    ]
    for i in range(count):
        pivot = max(range(i, count), key=lambda k: abs(normal[k][i]))
        normal[i], normal[pivot] = normal[pivot], normal[i]
        if abs(normal[i][i]) < SINGULAR:
            return None
        for k in range(count):
            if k != i:
                part = normal[k][i] / normal[i][i]
                normal[k] = [a - part * b for a, b in zip(normal[k], normal[i], strict=True)]
    return [normal[i][count] / normal[i][i] for i in range(count)]
