"""What a seat remembers of an episode: all results that it was shown, its own and those that others shared."""

from __future__ import annotations

from chaosops_ray.sim.fleet.model import AUDIT, CANARY, COMPARE, LEDGER, LOOK, TRACE, Entry, Result
from chaosops_ray.sim.fleet.views import View


def place(name: object) -> int:
    """Return the place that a short index such as s3 stands for."""
    return int(str(name)[1:])


class Recorded:
    """An entry of the platform's ledger."""

    def __init__(self, number: int, tick: int, agent: int, operation: str, target: int) -> None:
        self.number, self.tick, self.agent, self.operation, self.target = number, tick, agent, operation, target


class Notes:
    """The results that a seat knows, by kind and subject; of the same look the last one counts."""

    def __init__(self) -> None:
        self.results: dict[tuple[int, str], Result] = {}
        self.shared_until = 0

    def read(self, view: View) -> None:
        """Take down what this view shows."""
        told = [result for message in (*view.chat, *view.inbox) for result in message.results]
        for result in (*view.results, *told):
            if not result.fault:
                self.results[result.turn, result.role] = result
        for message in view.chat:
            if message.sender == view.role and message.results:
                self.shared_until = max(self.shared_until, message.turn)

    def unshared(self, role: str) -> bool:
        """Tell if a role has results that it has not shared."""
        return any(turn > self.shared_until and by == role for turn, by in self.results)

    def last(self, kind: str, subject: int) -> Result | None:
        """Return the last result of this look at this subject."""
        found = [one for one in self.results.values() if (one.look, one.subject) == (kind, subject)]
        return max(found, key=lambda one: one.turn) if found else None

    def looked(self, kind: str) -> list[int]:
        """Return the subjects of all looks of this kind, each once, in the order of their first one."""
        found = sorted([one for one in self.results.values() if one.look == kind], key=lambda one: one.turn)
        return list(dict.fromkeys([one.subject for one in found]))

    # -- services ---------------------------------------------------------------------------------------------------

    def passed_on(self, service: int) -> dict[int, int] | None:
        """Return what a service's callees passed on to it, in percent; None where it was not traced."""
        found = self.last(TRACE, service)
        return None if found is None else {place(row[1]): int(row[3]) for row in found.rows if row[0] == "calls"}

    def failing(self) -> dict[int, int]:
        """Return the share of requests that services fail, in percent, as it was last seen by any look."""
        return {service: seen[-1][1] for service, seen in self._failed().items() if seen}

    def worst(self) -> dict[int, int]:
        """Return the largest share of requests that services were seen to fail, in percent."""
        return {service: max([share for _, share in seen]) for service, seen in self._failed().items() if seen}

    def around(self, service: int, turn: int) -> tuple[list[int], list[int]]:
        """Return the shares of requests that a service was seen to fail up to a turn, and after it."""
        seen = self._failed().get(service, [])
        return [share for when, share in seen if when <= turn], [share for when, share in seen if when > turn]

    def _failed(self) -> dict[int, list[tuple[int, int]]]:
        """Return when each service was seen, and the share of requests that it failed then."""
        found: dict[int, list[tuple[int, int]]] = {}
        for one in sorted(self.results.values(), key=lambda one: one.turn):
            if one.look == TRACE:
                for row in one.rows:
                    found.setdefault(place(row[1]), []).append((one.turn, int(row[2])))
            elif one.look in (LOOK, COMPARE):
                kind, column = ("at", 4) if one.look == LOOK else ("now", 3)
                shares = [int(row[column]) for row in one.rows if row[0] == kind]
                found.setdefault(one.subject, []).extend([(one.turn, share) for share in shares[-1:]])
        return found

    def measured(self, service: int) -> dict[int, int]:
        """Return a service's utilisation by tick, from the page on, as looks have shown it."""
        found: dict[int, int] = {}
        compared = self.last(COMPARE, service)
        if compared is not None:
            found |= {int(row[1]): int(row[2]) for row in compared.rows}
        return found

    # -- agents -----------------------------------------------------------------------------------------------------

    def ledger(self, service: int) -> list[Recorded]:
        """Return what the ledger has of a service."""
        found: dict[int, Recorded] = {}
        for one in sorted(self.results.values(), key=lambda one: one.turn):
            if (one.look, one.subject) == (LEDGER, service):
                for row in one.rows:
                    number = place(row[0])
                    found[number] = Recorded(number, int(row[1]), place(row[2]), str(row[3]), service)
        return sorted(found.values(), key=lambda entry: (entry.tick, entry.number))

    def log(self, agent: int) -> list[Entry] | None:
        """Return an agent's own log, as it was last audited; None where it was not."""
        found = self.last(AUDIT, agent)
        if found is None:
            return None
        return [Entry(int(row[0]), str(row[1]), place(row[2]), int(row[3]), str(row[4])) for row in found.rows]

    def reliefs(self, entry: int) -> list[float]:
        """Return all readings of a canary of this entry."""
        return [
            float(one.rows[0][1])
            for one in self.results.values()
            if (one.look, one.subject) == (CANARY, entry) and one.rows
        ]
