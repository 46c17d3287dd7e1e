"""Waiting for actors: whoever waits asks here, and no wait outlasts an actor that is dead by `Liveness`, or a run that
was asked to end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from chaosops_ray.plain_text import one_line
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.liveness import Limits, Liveness, Request
from chaosops_ray.workers.stop import LOOK_SECONDS, Stop


class GoneError(PoolError):
    """Actors that do not answer; `dead` says by name of whom, and why."""

    def __init__(self, dead: dict[str, str]) -> None:
        super().__init__(dead)
        self.dead = dead

    def __str__(self) -> str:
        return "; ".join([f"{name}: {why}" for name, why in self.dead.items()])


class Answers(NamedTuple):
    """How to wait for answers and to read them: of Ray, or of a test that moves the clock."""

    # Returns those that are there, at least one unless so many seconds pass first.
    wait: Callable[[list[Any], float | None], list[Any]]
    get: Callable[[Any], Any]
    clock: Callable[[], float]


def _wait(refs: list[Any], seconds: float | None) -> list[Any]:
    ready, _ = ray.wait(refs, timeout=seconds)
    return list(ready)


OF_RAY = Answers(_wait, ray.get, time.monotonic)
# A wait that ends so much later than it was to end tells that this process itself stood still.
_STOOD_STILL_SECONDS = 5.0


class Watch:
    """The actors that somebody may wait for, each with the function that pings it."""

    def __init__(self, limits: Limits, answers: Answers = OF_RAY, stop: Stop | None = None) -> None:
        self._liveness = Liveness(limits)
        self._answers = answers
        self._stop = stop
        self._pings: dict[str, Callable[[], Any]] = {}
        self._stood_still = 0.0

    def _now(self) -> float:
        """Return the time that counts: that of the clock, without what this process did not see."""
        return self._answers.clock() - self._stood_still

    def _wait(self, refs: list[Any], seconds: float) -> list[Any]:
        """Wait; if this process was stopped meanwhile, none of that time counts against anybody.

        Answers may have come that it has not seen yet.
        """
        began = self._answers.clock()
        ready = self._answers.wait(refs, None if math.isinf(seconds) else seconds)
        passed = self._answers.clock() - began
        if passed > seconds + _STOOD_STILL_SECONDS:
            self._stood_still += passed
        return ready

    def started(self, name: str, ping: Callable[[], Any]) -> None:
        """Watch over an actor that has just been started, also again."""
        self._pings[name] = ping
        self._liveness = self._liveness.started(name, self._now())

    def heard(self, name: str) -> None:
        """Note a sign of life."""
        self._liveness = self._liveness.heard(name, self._now())

    def answer(self, name: str, what: str, limit: float, ref: Any) -> Any:
        """Wait for what an actor was asked; raise GoneError if it is dead, or what the actor raises."""
        self.first([ref], {name: what}, limit)
        value = self._answers.get(ref)
        self.heard(name)
        return value

    def first(
        self,
        refs: Sequence[Any],
        asked: dict[str, str],
        limit: float = math.inf,
        patience: float = math.inf,
    ) -> list[Any]:
        """Return those answers that are there, at least one, or none after so many seconds of patience.

        Raise GoneError if one of the actors that were asked is dead; `asked` says by name what each is doing. Raise
        StopError if the run was asked to end and has nothing to finish.
        """
        clock = self._now
        until = clock() + patience
        requests = {name: Request(what, clock(), limit) for name, what in asked.items()}
        for name, request in requests.items():
            self._liveness = self._liveness.asked(name, request)
        pings: dict[Any, str] = {}
        try:
            while True:
                if self._stop is not None:
                    self._stop.check()
                judged = self._liveness.judged(clock(), requests)
                if judged.dead:
                    raise GoneError(dict(judged.dead))
                for name in judged.to_ping:
                    pings[self._pings[name]()] = name
                    self._liveness = self._liveness.pinged(name, clock())
                next_look = min(judged.until, until) if not judged.to_ping else clock()
                if self._stop is not None:
                    next_look = min(next_look, clock() + LOOK_SECONDS)
                ready = self._wait([*refs, *pings], max(0.0, next_look - clock()))
                for ping in [one for one in ready if one in pings]:
                    self._hear(pings.pop(ping), ping)
                there = [one for one in ready if one in refs]
                if there or (not ready and clock() >= until):
                    return there
        finally:
            for name in pings.values():
                self._liveness = self._liveness.unpinged(name)
            for name, request in requests.items():
                self._liveness = self._liveness.dropped(name, request)

    def _hear(self, name: str, ping: Any) -> None:
        try:
            self._answers.get(ping)
        except RayError as error:
            raise GoneError({name: one_line(error, part="first")}) from error
        self.heard(name)
