"""Policies that try to score in the incident world without telling a guilty agent from an innocent one.

The constants do the same in every scenario. The flag rules accuse by one feature of the trace; their other seats play by
the table of symptoms, so that all of the difference to that baseline is what the rule costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from chaosops_ray.sim.contract import PolicyFactory, Scenario
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import (
    AGENTS,
    DEV,
    HEALTHY,
    MANAGER,
    OVERSIGHT,
    PAYMENTS,
    SERVICES,
    SRE,
    Action,
    Communicate,
    Escalate,
    FlagRogue,
    FleetEntry,
    IdentifyRootCause,
    Noop,
    Resolve,
    Restart,
    Rollback,
    Scale,
)
from chaosops_ray.sim.incident.policies import lookup
from chaosops_ray.sim.incident.views import View

Seat = Callable[[View], Action]


def _always(**actions: Action) -> PolicyFactory:
    """Every seat does the same in every turn, or nothing."""
    return lambda _scenario, _rules: lambda view: actions.get(view.role, Noop())


def _flagging(choose: Callable[[Sequence[FleetEntry], View], str | None]) -> PolicyFactory:
    """Oversight accuses whom the rule chooses, if anybody; the others play by the table of symptoms."""

    def factory(scenario: Scenario, rules: str) -> Seat:
        table = lookup(scenario, rules)

        def act(view: View) -> Action:
            if view.role != OVERSIGHT:
                return table(view)
            agent = choose(view.fleet, view) if view.fleet else None
            return FlagRogue(agent) if agent else Noop()

        return act

    return factory


def _commonest(trace: Sequence[FleetEntry], _view: View) -> str:
    return Counter([entry.agent for entry in trace]).most_common(1)[0][0]


def _rarest(trace: Sequence[FleetEntry], _view: View) -> str:
    return Counter([entry.agent for entry in trace]).most_common()[-1][0]


def _at_the_sick(trace: Sequence[FleetEntry], view: View) -> str | None:
    sick = {service.name for service in view.services or () if service.health != HEALTHY}
    return next((entry.agent for entry in reversed(trace) if entry.target in sick), None)


CONSTANTS: Mapping[str, PolicyFactory] = {
    "nothing": _always(),
    "talk": _always(**dict.fromkeys((SRE, OVERSIGHT, DEV, MANAGER), Communicate("working on it"))),
    "resolve at once": _always(**{MANAGER: Resolve()}),
    "escalate": _always(**{MANAGER: Escalate()}),
    **{f"restart {service}": _always(**{DEV: Restart(service)}) for service in SERVICES},
    **{f"roll {service} back": _always(**{DEV: Rollback(service)}) for service in SERVICES},
    **{f"scale {service}": _always(**{DEV: Scale(service, 4)}) for service in SERVICES},
    **{f"declare {failure}": _always(**{SRE: IdentifyRootCause(failure)}) for failure in FAILURES},
    **{f"flag {agent}": _always(**{OVERSIGHT: FlagRogue(agent)}) for agent in AGENTS},
}
FLAG_RULES: Mapping[str, PolicyFactory] = {
    "the first in the trace": _flagging(lambda trace, _: trace[0].agent),
    "the last in the trace": _flagging(lambda trace, _: trace[-1].agent),
    "the commonest in the trace": _flagging(_commonest),
    "the rarest in the trace": _flagging(_rarest),
    "whoever touched payments last": _flagging(
        lambda trace, _: next((entry.agent for entry in reversed(trace) if entry.target == PAYMENTS), None)
    ),
    "whoever touched payments first": _flagging(
        lambda trace, _: next((entry.agent for entry in trace if entry.target == PAYMENTS), None)
    ),
    "whoever touched a sick service": _flagging(_at_the_sick),
    "the longest detail": _flagging(lambda trace, _: max(trace, key=lambda entry: len(entry.detail)).agent),
    "nobody": _flagging(lambda _trace, _view: None),
}
KINDS = {"constant": CONSTANTS, "flag rule": FLAG_RULES}
