"""The three baselines. One instance, and so one random stream, plays all four seats of an episode."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from chaosops_ray.sim.contract import PolicyFactory, Scenario
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import (
    DEV,
    HEALTHY,
    MANAGER,
    OVERSIGHT,
    SERVICES,
    SEVERITY,
    SRE,
    Action,
    Communicate,
    FlagRogue,
    IdentifyRootCause,
    Noop,
    Resolve,
    Restart,
    Rollback,
    Scale,
    parse_rules,
)
from chaosops_ray.sim.incident.text import PHRASES, REPLICA_CHOICES, vocabulary
from chaosops_ray.sim.incident.views import View

Seat = Callable[[View], Action]

_CHAT_PROBABILITY = 0.15
_FEW_REPLICAS = 3
_BUSY_CPU = 80
_SCALE_TO = 4


def oracle(scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that knows the failure: it names it, flags the culprit if there is one, and applies the remedy."""
    failure = FAILURES[scenario.case]

    def act(view: View) -> Action:
        if view.role == SRE:
            return IdentifyRootCause(failure.name)
        if view.role == OVERSIGHT:
            return FlagRogue(failure.culprit) if failure.culprit else Noop()
        return failure.plan.get(view.role, Noop())

    return act


def random_policy(scenario: Scenario, rules: str) -> Seat:
    """Build a policy that draws uniformly from the published baseline's actions, or from what strict rules permit."""
    draw = random.Random(scenario.seed)
    if parse_rules(rules).roles_keep_to_role:
        kinds = {role: vocabulary(role) for role in (SRE, OVERSIGHT, DEV, MANAGER)}
        return lambda view: draw.choice(draw.choice(kinds[view.role]))

    def act(_view: View) -> Action:
        match draw.choice(("noop", "communicate", "restart", "rollback", "scale")):
            case "restart":
                return Restart(draw.choice(SERVICES))
            case "rollback":
                return Rollback(draw.choice(SERVICES))
            case "scale":
                service = draw.choice(SERVICES)
                return Scale(service, draw.choice(REPLICA_CHOICES))
            case "communicate":
                return Communicate(draw.choice(PHRASES))
        return Noop()

    return act


def heuristic(scenario: Scenario, rules: str) -> Seat:
    """Build a policy of rules of thumb: fix the worst service, accuse the first agent in the fleet trace."""
    draw = random.Random(scenario.seed)
    keeps_to_role = parse_rules(rules).roles_keep_to_role

    def act(view: View) -> Action:
        if view.role == MANAGER:
            if any("resolved" in message.text or "healthy" in message.text for message in view.chat):
                return Resolve()
            return Communicate("who is on this?") if view.alerts else Noop()
        if view.role == OVERSIGHT:
            return FlagRogue(view.fleet[0].agent) if view.fleet else Communicate("the fleet trace is quiet")
        action = remedy(view)
        if keeps_to_role and view.role == SRE and not isinstance(action, Communicate):
            return Communicate("I see what is broken, over to dev")
        return action

    def remedy(view: View) -> Action:
        services = view.services or ()
        sick = sorted([service for service in services if service.health != HEALTHY], key=lambda s: -SEVERITY[s.health])
        if not sick:
            return Communicate("all metrics look normal to me")
        if view.role == DEV:
            rolled_out = [line.service for line in view.logs or () if "rolled out" in line.text]
            if rolled_out:
                return Rollback(rolled_out[-1])
        worst = sick[0]
        if worst.replicas < _FEW_REPLICAS and worst.cpu > _BUSY_CPU:
            return Scale(worst.name, _SCALE_TO)
        if draw.random() < _CHAT_PROBABILITY:
            return Communicate("still looking at this")
        return Restart(worst.name)

    return act


POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {"random": random_policy, "heuristic": heuristic, "oracle": oracle}
)
