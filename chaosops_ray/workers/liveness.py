"""Who is dead, as a value: it follows from what actors were asked, when they were heard of, and the time.

    asked ──▶ healthy ──not heard of for `quiet`──▶ suspect: it is pinged ──no answer for `silence`──▶ dead
                 ▲                                       │
                 └─────────────────heard─────────────────┘

An actor is dead as well if something that it was asked is not done by its deadline: its process may live while its
kernel hangs. One that has only been started loads its libraries and its model: it is pinged at once, has `start` to
answer, and the time for what it was asked begins then. Of an actor that nobody waits for, nothing is said.

Nothing here waits or calls; every change returns a new value.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple


class Limits(NamedTuple):
    """Seconds: how long an actor may be quiet before it is pinged, then silent, and how long it may take to start."""

    quiet: float
    silence: float
    start: float


class Request(NamedTuple):
    """Something that an actor was asked: what it is doing since when, and how long that may take."""

    what: str
    since: float
    limit: float


class Actor(NamedTuple):
    """Facts about an actor since it was last started, as times of the clock."""

    begun: float
    first_heard: float | None = None
    heard: float = -math.inf
    pinged: float | None = None  # the ping that it has not answered yet
    asked: tuple[Request, ...] = ()


class Judgement(NamedTuple):
    """Who is dead and why, who has to be pinged now, and until when nothing of this changes by itself."""

    dead: Mapping[str, str]
    to_ping: tuple[str, ...]
    until: float


@dataclass(frozen=True, slots=True)
class Liveness:
    """All actors that are watched."""

    limits: Limits
    actors: Mapping[str, Actor] = field(default_factory=dict)

    def started(self, name: str, now: float) -> Liveness:
        """Begin an actor's next life, which knows nothing of the one before."""
        return replace(self, actors={**self.actors, name: Actor(now)})

    def asked(self, name: str, request: Request) -> Liveness:
        """Note that somebody waits for this."""
        actor = self.actors[name]
        return self._with(name, actor._replace(asked=(*actor.asked, request)))

    def dropped(self, name: str, request: Request) -> Liveness:
        """Note that nobody waits for this any more; the actor may have been started again meanwhile."""
        actor = self.actors[name]
        if request not in actor.asked:
            return self
        place = actor.asked.index(request)
        return self._with(name, actor._replace(asked=(*actor.asked[:place], *actor.asked[place + 1 :])))

    def heard(self, name: str, now: float) -> Liveness:
        """Note a sign of life."""
        actor = self.actors[name]
        first = now if actor.first_heard is None else actor.first_heard
        return self._with(name, actor._replace(first_heard=first, heard=now, pinged=None))

    def pinged(self, name: str, now: float) -> Liveness:
        """Note that a ping is on its way."""
        return self._with(name, self.actors[name]._replace(pinged=now))

    def unpinged(self, name: str) -> Liveness:
        """Note that nobody waits for the ping any more."""
        return self._with(name, self.actors[name]._replace(pinged=None))

    def _with(self, name: str, actor: Actor) -> Liveness:
        return replace(self, actors={**self.actors, name: actor})

    def judged(self, now: float, names: Collection[str] | None = None) -> Judgement:
        """Judge these actors, or all, as far as somebody waits for them."""
        dead: dict[str, str] = {}
        to_ping: list[str] = []
        until = math.inf
        for name, actor in self.actors.items():
            if not actor.asked or (names is not None and name not in names):
                continue
            ends = dict(self._ends(actor))
            end = min(ends, default=math.inf)
            if now >= end:
                dead[name] = ends[end].format(waited=round(now - max(actor.heard, actor.begun), 1))
                continue
            until = min(until, end)
            due = actor.begun if actor.first_heard is None else actor.heard + self.limits.quiet
            if actor.pinged is None and now >= due:
                to_ping.append(name)
            elif actor.pinged is None:
                until = min(until, due)
        return Judgement(dead, tuple(to_ping), until)

    def _ends(self, actor: Actor) -> Iterator[tuple[float, str]]:
        """Yield until when the actor has to be heard of or done, and what is said if it is not."""
        what = actor.asked[0].what
        if actor.first_heard is None:
            yield actor.begun + self.limits.start, f"not heard of since it was started {{waited:g}} s ago, while {what}"
            return
        if actor.pinged is not None:
            yield actor.pinged + self.limits.silence, f"no sign of life for {{waited:g}} s, while {what}"
        for request in actor.asked:
            end = max(request.since, actor.first_heard) + request.limit
            yield end, f"{request.what} took longer than {request.limit:g} s"
