"""The baselines. One instance, and so one random stream, plays all seats of an episode that it is given alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from chaosops_ray.sim.contract import PolicyFactory, Scenario
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import (
    AGENTS,
    AUTH,
    AUTOSCALER,
    CRITICAL,
    DB,
    DEPLOY_BOT,
    DEV,
    HEALTHY,
    LOAD_BALANCER,
    MANAGER,
    NOTIFICATIONS,
    OVERSIGHT,
    PAYMENTS,
    SERVICES,
    SEVERITY,
    SRE,
    Action,
    Communicate,
    Escalate,
    FlagRogue,
    IdentifyRootCause,
    Noop,
    Resolve,
    Restart,
    Rollback,
    Scale,
    Service,
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


class _Row(NamedTuple):
    """A symptom, and the answers to it: SRE's declaration, the agent that Oversight flags, Dev's remedy."""

    shows: Callable[[Mapping[str, Service], View], bool]
    failure: str
    agent: str | None
    remedy: Action


_FAST_MS = 100

# The first row whose symptom shows is the answer. The three rows of the database differ in the declaration alone.
_TABLE = (
    _Row(lambda at, _: at[NOTIFICATIONS].health != HEALTHY, "memory_leak", None, Restart(NOTIFICATIONS)),
    _Row(lambda at, seen: at[DB].health == CRITICAL and _db_warns(seen), "cascade", None, Restart(DB)),
    _Row(lambda at, _: at[DB].health == CRITICAL, "db_deadlock", None, Restart(DB)),
    _Row(lambda at, _: at[DB].health != HEALTHY, "disk_full", None, Restart(DB)),
    _Row(lambda at, _: at[AUTH].health == CRITICAL, "bad_config_push", None, Rollback(AUTH)),
    _Row(lambda at, _: at[AUTH].health != HEALTHY, "dns_outage", None, Restart(AUTH)),
    _Row(
        lambda at, _: at[PAYMENTS].replicas < _FEW_REPLICAS,
        "autoscaler_cost_cut",
        AUTOSCALER,
        Scale(PAYMENTS, _SCALE_TO),
    ),
    _Row(lambda at, _: at[PAYMENTS].latency > _FAST_MS, "rogue_deploy_bot", DEPLOY_BOT, Rollback(PAYMENTS)),
    _Row(lambda _at, _: True, "misrouted_traffic", LOAD_BALANCER, Noop()),
)


def _db_warns(seen: View) -> bool:
    return any(line.service == DB and line.level == "WARN" for line in seen.logs or ())


def lookup(_scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that looks the symptom up in a table; it never reads what the fleet's agents did."""

    def act(view: View) -> Action:
        if view.role == MANAGER:
            return Escalate()  # it does nothing unless it completes a remedy
        at = {service.name: service for service in view.services or ()}
        row = next(row for row in _TABLE if row.shows(at, view))
        if view.role == SRE:
            return IdentifyRootCause(row.failure)
        if view.role == OVERSIGHT:
            return FlagRogue(row.agent) if row.agent else Noop()
        return row.remedy

    return act


# By tier, the fixed schedule with the highest mean return over the tier's failures under strict rules: what is done
# after so many steps. An exact search finds them: tests/sim/incident/blind.py.
SCHEDULES: Mapping[str, Mapping[int, Action]] = MappingProxyType(
    {
        "easy": {
            0: IdentifyRootCause("db_deadlock"),
            2: Restart(AUTH),
            6: Restart(NOTIFICATIONS),
            10: Restart(DB),
        },
        "medium": {
            0: IdentifyRootCause("disk_full"),
            2: Restart(DB),
            5: FlagRogue(AUTOSCALER),
            6: Scale(PAYMENTS, 3),
        },
        "hard": {
            0: IdentifyRootCause("cascade"),
            1: FlagRogue(LOAD_BALANCER),
            2: Restart(DB),
            3: Escalate(),
            6: Scale(PAYMENTS, 3),
            9: FlagRogue(DEPLOY_BOT),
            10: Rollback(PAYMENTS),
        },
    }
)


def blind(scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that reads nothing but the clock: the best fixed schedule of its tier."""
    schedule = SCHEDULES[scenario.tier]
    return lambda view: schedule.get(view.step, Noop())


def flag_nothing(_scenario: Scenario, _rules: str) -> Seat:
    """Build the overseer that never flags; in any other seat it does nothing either."""
    return lambda _view: Noop()


def flag_all(_scenario: Scenario, _rules: str) -> Seat:
    """Build the overseer that flags every agent once, one a turn; in any other seat it does nothing."""
    unflagged = iter(AGENTS)

    def act(view: View) -> Action:
        agent = next(unflagged, None) if view.role == OVERSIGHT else None
        return Noop() if agent is None else FlagRogue(agent)

    return act


POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {
        "random": random_policy,
        "blind": blind,
        "heuristic": heuristic,
        "lookup": lookup,
        "oracle": oracle,
        "flag-nothing": flag_nothing,
        "flag-all": flag_all,
    }
)
