"""What a seat remembers of an episode: all results that it was shown, its own and those that others shared."""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.sim.fleet.model import ASK, AUDIT, CANARY, COMPARE, LEDGER, LOOK, TRACE, Entry, Result
from chaosops_ray.sim.fleet.views import View


def place(name: object) -> int:
    """Return the place that a short index such as s3 stands for."""
    return int(str(name)[1:])


class Recorded(NamedTuple):
    """An entry of the platform's ledger."""

    tick: int
    number: int
    agent: int
    operation: str
    target: int


class Notes:
    """The results that a seat knows. Where two say the same thing, the later one counts."""

    def __init__(self) -> None:
        self.known: set[tuple[int, str]] = set()
        self.own: list[int] = []  # turns of the seat's own looks
        self.shared_until = 0
        self.turn_of: dict[tuple[str, int], int] = {}  # of the last look of a kind at a subject
        self.passed: dict[int, dict[int, int]] = {}
        self.paged_failures: dict[int, tuple[int, int]] = {}  # of a traced service: when, and what its callees pass on
        self.failed: dict[
            int, list[tuple[int, int]]
        ] = {}  # when a service was seen, and what it failed then, in percent
        self.measured: dict[int, dict[int, int]] = {}
        self.recorded: dict[int, dict[int, Recorded]] = {}
        self.logs: dict[int, list[Entry]] = {}
        self.evades: dict[int, bool] = {}
        self.reliefs: dict[int, list[float]] = {}

    def read(self, view: View) -> bool:
        """Take down what this view shows; tell if any of it is new."""
        for message in view.chat:
            if message.sender == view.role and message.results:
                self.shared_until = max(self.shared_until, message.turn)
        told = [result for message in (*view.chat, *view.inbox) for result in message.results]
        new = [one for one in (*view.results, *told) if (one.turn, one.role) not in self.known]
        for result in sorted(new, key=lambda one: one.turn):
            if (result.turn, result.role) not in self.known:
                self.known.add((result.turn, result.role))
                if result.role == view.role:
                    self.own.append(result.turn)
                self._take_down(result)
        return bool(new)

    @property
    def unshared(self) -> bool:
        """Tell if the seat has results that it has not shared."""
        return any(turn > self.shared_until for turn in self.own)

    def seen(self, kind: str, subject: int) -> bool:
        """Tell if there was a look of this kind at this subject."""
        return (kind, subject) in self.turn_of

    def failing(self) -> dict[int, int]:
        """Return the share of requests that services fail, in percent, as it was last seen."""
        return {service: seen[-1][1] for service, seen in self.failed.items()}

    def worst(self) -> dict[int, int]:
        """Return the largest share of requests that services were seen to fail, in percent."""
        return {service: max([share for _, share in seen]) for service, seen in self.failed.items()}

    def around(self, service: int, turn: int) -> tuple[list[int], list[int]]:
        """Return the shares of requests that a service was seen to fail up to a turn, and after it."""
        seen = self.failed.get(service, [])
        return [share for when, share in seen if when <= turn], [share for when, share in seen if when > turn]

    def ledger(self, service: int) -> list[Recorded]:
        """Return what is known of a service's ledger, in the order of time."""
        return sorted(self.recorded.get(service, {}).values())

    # -- taking down --------------------------------------------------------------------------------------------------

    def _take_down(self, result: Result) -> None:
        if result.fault:
            return
        self.turn_of[result.look, result.subject] = max(result.turn, self.turn_of.get((result.look, result.subject), 0))
        if result.look == TRACE:
            self._traced(result)
        elif result.look == LOOK:
            shares = [int(row[4]) for row in result.rows if row[0] == "at"]
            self._saw(result.subject, result.turn, shares[-1:])
        elif result.look == COMPARE:
            before = {int(row[1]): int(row[2]) for row in result.rows}
            self.measured.setdefault(result.subject, {}).update(before)
            self._saw(result.subject, result.turn, [int(row[3]) for row in result.rows if row[0] == "now"])
        elif result.look == LEDGER:
            for row in result.rows:
                entry = Recorded(int(row[1]), place(row[0]), place(row[2]), str(row[3]), result.subject)
                self.recorded.setdefault(result.subject, {})[entry.number] = entry
        elif result.look == AUDIT:
            entries = [Entry(int(row[0]), str(row[1]), place(row[2]), int(row[3]), str(row[4])) for row in result.rows]
            kept = [one for one in self.logs.get(result.subject, []) if entries and one.tick < entries[0].tick]
            self.logs[result.subject] = [*kept, *entries]
        elif result.look == ASK:
            self.evades[result.subject] = len(result.rows) == 1
        elif result.look == CANARY:
            self.reliefs.setdefault(place(result.rows[0][0]), []).append(float(result.rows[0][1]))

    def _traced(self, result: Result) -> None:
        passed = {place(row[1]): int(row[3]) for row in result.rows if row[0] == "calls"}
        worst = self.passed.get(result.subject, {})
        self.passed[result.subject] = {one: max(share, worst.get(one, 0)) for one, share in passed.items()}
        self.paged_failures[result.subject] = (result.turn, sum(passed.values()))
        for row in result.rows:
            self._saw(place(row[1]), result.turn, [int(row[2])])

    def _saw(self, service: int, turn: int, shares: list[int]) -> None:
        self.failed.setdefault(service, []).extend([(turn, share) for share in shares])
