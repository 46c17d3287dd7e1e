"""The policy that does nothing: what others are measured from."""

from __future__ import annotations

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet.model import Action, Noop
from chaosops_ray.sim.fleet.views import View


def noop(scenario: Scenario, rules: str) -> Policy:  # noqa: ARG001 - every factory is given both
    """Build a policy that lets every turn pass."""

    def act(_: View) -> Action:
        return Noop()

    return act
