"""What the hand rules and the ceiling have in common: seats with notes of their own, and how an incident is watched."""

from __future__ import annotations

from chaosops_ray.sim.fleet.model import DEV, OVERSIGHT, SRE, Action, Share, Topology
from chaosops_ray.sim.fleet.policies.notes import Notes
from chaosops_ray.sim.fleet.views import View

# A paged service that fails less than this share of its requests by what it calls is well.
WELL = 0.03


class Seats:
    """Rules for four seats; an instance plays one seat or several, each from what that seat has been shown."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._notes: dict[str, Notes] = {}
        self._done: dict[str, list[Action]] = {}

    def __call__(self, view: View) -> Action:
        """Choose a seat's action."""
        notes = self._notes.setdefault(view.role, Notes())
        done = self._done.setdefault(view.role, [])
        before = notes.shared_until
        notes.read(view)
        if done and isinstance(done[-1], Share):
            notes.is_heard = notes.shared_until > before
        act = {SRE: self.sre, OVERSIGHT: self.oversight, DEV: self.dev}.get(view.role, self.manager)
        action = act(view, notes, done)
        done.append(action)
        return action

    def sre(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Choose the SRE's action."""
        raise NotImplementedError

    def oversight(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Choose Oversight's action."""
        raise NotImplementedError

    def dev(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Choose the Dev's action."""
        raise NotImplementedError

    def manager(self, view: View, notes: Notes, done: list[Action]) -> Action:
        """Choose the Manager's action."""
        raise NotImplementedError


def is_well(notes: Notes, edge: int, since: int) -> bool | None:
    """Tell if a paged service answers again; None where nobody has traced it since that turn."""
    turn, share = notes.passed.get(edge, [(0, 0.0)])[-1]
    return None if turn <= since else share < WELL
