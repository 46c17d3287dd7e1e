"""The snapshots of the fleet: which fields, each of the right type, can stand together."""

from __future__ import annotations

from chaosops_ray.sim.fleet import scenarios
from chaosops_ray.sim.fleet.model import RULE_SETS, Rules, World, parse_rules
from chaosops_ray.sim.rule_sets import recorded
from chaosops_ray.sim.snapshot import Snapshot


def _recorded(spelling: str) -> Rules:
    return parse_rules(recorded(spelling, RULE_SETS))


def _spelling(rules: Rules) -> str:
    return rules.spelling


SNAPSHOTS = Snapshot(World, "a fleet", scenarios.parse, _recorded, _spelling)
