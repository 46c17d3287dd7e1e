"""The snapshots of the incident room: which fields, each of the right type, can stand together."""

from __future__ import annotations

from chaosops_ray.sim.incident import scenarios
from chaosops_ray.sim.incident.model import (
    CAPS,
    MAX_REPLICAS,
    ROLES,
    RULE_SETS,
    SERVICES,
    SEVERITIES,
    SEVERITY,
    Rules,
    World,
    parse_rules,
)
from chaosops_ray.sim.rule_sets import recorded
from chaosops_ray.sim.snapshot import Snapshot


def _recorded(spelling: str) -> Rules:
    return parse_rules(recorded(spelling, RULE_SETS))


def _spelling(rules: Rules) -> str:
    return rules.spelling


def _is_possible(world: World) -> bool:
    metrics = [metric for service in world.services for metric in service[1:] if not isinstance(metric, str)]
    return (
        tuple([service.name for service in world.services]) == SERVICES
        and all(service.health in SEVERITY for service in world.services)
        and all(abs(metric) <= MAX_REPLICAS for metric in metrics)
        and 0 <= world.step <= CAPS[world.scenario.tier]
        and 0 <= world.first_declaration <= world.step
        and len(world.decoys) == len(world.logs)
        and len(world.intents) == len(world.fleet)
        and all(alert.severity in SEVERITIES for alert in world.alerts)
        and all(message.sender in ROLES and message.to in (None, *ROLES) for message in world.messages)
    )


SNAPSHOTS = Snapshot(World, "an incident", scenarios.parse, _recorded, _spelling, _is_possible)
