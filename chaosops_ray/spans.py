"""When which process worked on what: recorded where the work is done, collected by the driver on its own clock.

A span is a stretch of one kind of work of one process. Actors send theirs with answers that they give anyway. Every
process reads its own machine's monotonic clock, which begins anywhere, so the driver works out from these answers how
far the clock of an actor is from its own: the actor took the question after it was asked and answered before the answer
was here.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from statistics import median
from typing import NamedTuple, TypeAlias

DRIVER = "driver"
# How many spans a process keeps until it sends them; beyond that, those that are closest together become one.
LIMIT = 400

Clock: TypeAlias = Callable[[], float]


class Span(NamedTuple):
    """A stretch of work, by the clock of whoever records it."""

    name: str
    start: float
    end: float
    worked: float  # seconds; less than from start to end where pieces with gaps between them became one span
    pieces: int = 1

    @property
    def length(self) -> float:
        """The seconds from start to end."""
        return self.end - self.start


class Work(NamedTuple):
    """The spans that an actor sends, and when it took the question and gave the answer that they come with."""

    spans: tuple[Span, ...]
    taken: float
    answered: float


class Recorder:
    """The spans of one process since it was last asked for them, at most about `limit`."""

    def __init__(self, clock: Clock = time.monotonic, limit: int = LIMIT) -> None:
        self._clock = clock
        self._limit = limit
        self._spans: list[Span] = []
        self._running = Counter[str]()
        self._since: dict[str, float] = {}

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Record the time in this block. What is done several times at once is one span, from the first to the last."""
        if not self._running[name]:
            self._since[name] = self._clock()
        self._running[name] += 1
        try:
            yield
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                self._end(name, self._since.pop(name))

    def _end(self, name: str, start: float) -> None:
        now = self._clock()
        self._spans.append(Span(name, start, now, now - start))
        if len(self._spans) > self._limit:
            self._spans = joined(self._spans)

    def take(self) -> tuple[Span, ...]:
        """Return the spans since the last call, those that are still running up to now."""
        for name, start in self._since.items():
            self._end(name, start)
            self._since[name] = self._spans[-1].end
        spans, self._spans = self._spans, []
        return tuple(spans)


def joined(spans: Sequence[Span]) -> list[Span]:
    """Join neighbours of the same kind whose gap is not above the median gap."""
    gaps = [after.start - before.end for before, after in pairwise(spans) if before.name == after.name]
    narrow = median(gaps) if gaps else -math.inf
    found = [spans[0]]
    for span in spans[1:]:
        last = found[-1]
        if span.name == last.name and span.start - last.end <= narrow:
            found[-1] = Span(span.name, last.start, span.end, last.worked + span.worked, last.pieces + span.pieces)
        else:
            found.append(span)
    return found


class Track(NamedTuple):
    """The spans of one process on the driver's clock, by their start, and by how much at most they may all be off."""

    spans: tuple[Span, ...]
    clock_error: float = 0.0


class _Actor:
    """What an actor sent since the spans were last taken, on its own clock, and what is known of that clock."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.least, self.most = -math.inf, math.inf  # seconds by which its clock may be ahead of the driver's

    def settled(self) -> Track:
        """Return its spans on the driver's clock."""
        # On the driver's machine, both read the same clock.
        is_same = self.least <= 0 <= self.most
        ahead = 0.0 if is_same else (self.least + self.most) / 2
        moved = [span._replace(start=span.start - ahead, end=span.end - ahead) for span in self.spans]
        return Track(tuple(moved), 0.0 if is_same else max(0.0, (self.most - self.least) / 2))


class Timeline:
    """The spans of a run: the driver's own, and those that it heard of from its actors."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._own = Recorder(clock)
        self._actors: dict[str, _Actor] = {}
        self._former: dict[str, list[Track]] = {}  # of actors that were replaced

    def now(self) -> float:
        """Return the time of the driver's clock, to say when an actor was asked."""
        return self._clock()

    def during(self, name: str) -> AbstractContextManager[None]:
        """Record the time in this block as the driver's."""
        return self._own.during(name)

    def started(self, name: str) -> None:
        """Note that an actor is a new process from here on, perhaps on another machine."""
        if name in self._actors:
            self._former.setdefault(name, []).append(self._actors.pop(name).settled())

    def heard(self, name: str, asked: float, work: Work) -> None:
        """Take what came with an answer to what the actor was asked at that time."""
        actor = self._actors.setdefault(name, _Actor())
        actor.spans += work.spans
        actor.least = max(actor.least, work.answered - self._clock())
        actor.most = min(actor.most, work.taken - asked)

    def take(self) -> dict[str, Track]:
        """Return all spans since the last call."""
        tracks = {DRIVER: Track(self._own.take())}
        for name in sorted({*self._actors, *self._former}):
            lives = [*self._former.get(name, ()), *([self._actors[name].settled()] if name in self._actors else ())]
            spans = sorted([span for life in lives for span in life.spans], key=lambda span: span.start)
            if spans:
                tracks[name] = Track(tuple(spans), max([life.clock_error for life in lives]))
        # Clocks of machines drift apart, so the next spans are placed by the next answers.
        self._actors, self._former = {}, {}
        return tracks


def within(spans: Sequence[Span], intervals: Sequence[tuple[float, float]]) -> float:
    """Return the seconds of work inside disjoint intervals; the work of joined pieces counts as spread evenly."""
    return sum(
        [
            max(0.0, min(span.end, end) - max(span.start, start)) * span.worked / span.length
            for span in spans
            for start, end in intervals
            if span.length > 0
        ]
    )


def covered(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """Return the disjoint intervals in which at least one of the spans runs."""
    found: list[tuple[float, float]] = []
    for span in sorted(spans, key=lambda span: span.start):
        if found and span.start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], span.end)
        else:
            found.append((span.start, span.end))
    return found


def named(tracks: Mapping[str, Track], actor: str, *names: str) -> list[Span]:
    """Return the spans of one process that have one of these names."""
    return [span for span in tracks[actor].spans if span.name in names] if actor in tracks else []
