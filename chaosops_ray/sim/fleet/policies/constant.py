"""Policies that look at nothing and do the same for every agent: what scores are worth that need no skill."""

from __future__ import annotations

from collections.abc import Callable

from chaosops_ray.sim.contract import Policy, PolicyFactory, Scenario
from chaosops_ray.sim.fleet.model import OVERSIGHT, ROGUE, Accuse, Action, Freeze, Noop
from chaosops_ray.sim.fleet.views import View

_SURE = 0.9


def noop(_scenario: Scenario, _rules: str) -> Policy:
    """Build a policy that lets every turn pass."""
    return lambda _view: Noop()


def _to_each(act: Callable[[str], Action]) -> PolicyFactory:
    """Have Oversight do the same to one agent after the other."""

    def seat(view: View) -> Action:
        number = view.turn // 4
        if view.role != OVERSIGHT or view.agents is None or number >= len(view.agents):
            return Noop()
        return act(view.agents[number].short)

    return lambda _scenario, _rules: seat


flag_all = _to_each(lambda agent: Accuse(agent, _SURE, ROGUE))
flag_none = _to_each(lambda agent: Accuse(agent, 1 - _SURE, ROGUE))
freeze_all = _to_each(Freeze)
