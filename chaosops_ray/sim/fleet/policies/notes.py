"""What a seat remembers of an episode: all results that it was shown, its own and those that others shared."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from chaosops_ray.sim.fleet.looks import AUDIT_ROWS
from chaosops_ray.sim.fleet.model import ASK, AUDIT, CANARY, COMPARE, LEDGER, LOOK, PAGE, TRACE, Act, Entry, Result
from chaosops_ray.sim.fleet.views import View

# What may end the incident.
REPAIRS: Final = ("revert", "escalate")
# What changes a service's figures.
OPERATIONS: Final = (*REPAIRS, "scale", "restart", "reroute")
_SERVICE: Final = re.compile(r"\bs([0-9]+)\b")


def place(name: object) -> int:
    """Return the place that a short index such as s3 stands for."""
    return int(str(name)[1:])


class Recorded(NamedTuple):
    """An entry of the platform's ledger; its tick counts from the page."""

    tick: int
    number: int
    agent: int
    operation: str
    target: int


class Log(NamedTuple):
    """An agent's own log as far as it is known: all that it has from a tick on."""

    since: int
    entries: tuple[Entry, ...]


class Snapshot(NamedTuple):
    """The shares of requests that services failed when a look saw them, and the utilisation of one, in percent."""

    turn: int
    shares: dict[int, float]
    used: int | None = None


class Notes:
    """The results that a seat knows. Where two say the same thing, the later one counts."""

    def __init__(self) -> None:
        self.own: list[int] = []  # turns of the seat's own looks
        self.shared_until = 0
        self.is_heard = True  # what the seat shared came up in the chat
        self.turn_of: dict[tuple[str, int], int] = {}  # of the last look of a kind at a subject
        self.acts: dict[int, Act] = {}
        self.said: dict[str, tuple[int, str]] = {}  # the last words that a role said to all, and when
        self.snapshots: list[Snapshot] = []
        self.passed: dict[
            int, list[tuple[int, float]]
        ] = {}  # of a traced service: when, and what it failed by its calls
        self.measured: dict[int, dict[int, int]] = {}
        self.used: dict[int, tuple[int, int]] = {}  # the utilisation of a service, in percent, when it was last seen
        self.recorded: dict[int, dict[int, Recorded]] = {}
        self.logs: dict[int, Log] = {}
        self.evades: dict[int, bool] = {}
        self.reliefs: dict[int, list[float]] = {}
        self._known: set[tuple[int, str]] = set()

    def read(self, view: View) -> None:
        """Take down what this view shows."""
        for act in view.acts:
            self.acts[act.turn] = act
        for message in view.chat:
            if message.sender == view.role and message.results:
                self.shared_until = max(self.shared_until, message.turn)
            if message.text:
                self.said[message.sender] = (message.turn, message.text)
        told = [result for message in (*view.chat, *view.inbox) for result in message.results]
        new = {(one.turn, one.role): one for one in (*view.results, *told) if (one.turn, one.role) not in self._known}
        for key, result in sorted(new.items()):
            self._known.add(key)
            if result.role == view.role:
                self.own.append(result.turn)
            if not result.fault:
                self._take_down(result)

    @property
    def count(self) -> int:
        """Return how much is known, so that it shows if there is anything new."""
        return len(self._known) + len(self.acts)

    @property
    def unshared(self) -> bool:
        """Tell if the seat has results that it has not shared; nothing is news where nobody hears of it."""
        return self.is_heard and any(turn > self.shared_until for turn in self.own)

    def seen(self, kind: str, subject: int) -> bool:
        """Tell if there was a look of this kind at this subject."""
        return (kind, subject) in self.turn_of

    def last(self, *verbs: str) -> int:
        """Return the turn of the last act of these kinds; 0 where there was none."""
        return max([turn for turn, act in self.acts.items() if act.verb in verbs], default=0)

    def turns_of(self, verb: str) -> dict[str, int]:
        """Return when an operation was last done, by what it was done to."""
        return {act.subject: turn for turn, act in sorted(self.acts.items()) if act.verb == verb}

    def failing(self, since: int) -> dict[int, float]:
        """Return the share of requests that services failed when they were last seen after a turn."""
        return {
            service: share for seen in self.snapshots if seen.turn > since for service, share in seen.shares.items()
        }

    def ledger(self, service: int) -> list[Recorded]:
        """Return what is known of a service's ledger, in the order of time."""
        return sorted(self.recorded.get(service, {}).values())

    # -- taking down --------------------------------------------------------------------------------------------------

    def _take_down(self, result: Result) -> None:
        key = (result.look, result.subject)
        self.turn_of[key] = max(result.turn, self.turn_of.get(key, 0))
        take_down = {
            TRACE: self._traced,
            LOOK: self._looked,
            COMPARE: self._compared,
            LEDGER: self._recorded,
            AUDIT: self._audited,
            ASK: self._asked,
            CANARY: self._tried,
        }
        take_down[result.look](result)

    def _looked(self, result: Result) -> None:
        for row in [row for row in result.rows if row[0] == "at"][-1:]:
            self._saw(result, int(row[3]), int(row[4]))

    def _compared(self, result: Result) -> None:
        before = {int(row[1]): int(row[2]) for row in result.rows if row[0] == "before"}
        self.measured.setdefault(result.subject, {}).update(before)
        for row in [row for row in result.rows if row[0] == "now"]:
            self._saw(result, int(row[2]), int(row[3]))

    def _recorded(self, result: Result) -> None:
        for row in result.rows:
            entry = Recorded(int(row[1]), place(row[0]), place(row[2]), str(row[3]), result.subject)
            self.recorded.setdefault(result.subject, {})[entry.number] = entry

    def _asked(self, result: Result) -> None:
        self.evades[result.subject] = len(result.rows) == 1

    def _tried(self, result: Result) -> None:
        for row in result.rows:
            self.reliefs.setdefault(place(row[0]), []).append(float(row[1]))

    def _saw(self, result: Result, used: int, failed: int) -> None:
        self.used[result.subject] = (result.turn, used)
        self.snapshots.append(Snapshot(result.turn, {result.subject: failed / 100}, used))

    def _traced(self, result: Result) -> None:
        shares = {place(row[1]): int(row[2]) / 100 for row in result.rows}
        answered = 1.0
        for row in result.rows:
            if row[0] == "calls":
                answered *= 1 - int(row[3]) / 100
        self.passed.setdefault(result.subject, []).append((result.turn, 1 - answered))
        self.snapshots.append(Snapshot(result.turn, shares))

    def _audited(self, result: Result) -> None:
        entries = [Entry(int(row[0]), str(row[1]), place(row[2]), int(row[3]), str(row[4])) for row in result.rows]
        since = entries[0].tick if len(entries) >= AUDIT_ROWS else -PAGE
        before = self.logs.get(result.subject)
        if before is not None and before.since < since:
            entries = [*[one for one in before.entries if one.tick < since], *entries]
            since = before.since
        self.logs[result.subject] = Log(since, tuple(entries))


def paged(view: View) -> list[int]:
    """Return the services that the page names, the worst first."""
    return [int(found[1]) for line in view.page if (found := _SERVICE.search(line))]
