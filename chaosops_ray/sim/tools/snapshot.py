"""The snapshots of the tools world: which fields, each of the right type, can stand together."""

from __future__ import annotations

import json

from chaosops_ray.sim.rule_sets import recorded
from chaosops_ray.sim.snapshot import Snapshot
from chaosops_ray.sim.tools import scenarios
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.database import check_row
from chaosops_ray.sim.tools.model import RULE_SETS, Rules, World, parse_rules
from chaosops_ray.sim.weather import KINDS


def _recorded(spelling: str) -> Rules:
    return parse_rules(recorded(spelling, RULE_SETS))


def _spelling(rules: Rules) -> str:
    return rules.name


def _is_possible(world: World) -> bool:
    for target, values in world.storage.rows:
        table, *columns = target.split(" ")
        check_row(table, dict(zip(columns, json.loads(values), strict=True)))
    for made in world.made:
        if made.ok and made.tool not in TOOLS:
            return False
        json.loads(made.shown), json.loads(made.truth)
        if made.tool and not isinstance(json.loads(made.arguments), dict):
            return False
    texts = (*world.storage.reports, *world.storage.outbox, *[entry[-1] for entry in world.storage.files])
    for text in (*texts, *[entry[-1] for entry in world.storage.notes], *[values for _, values in world.storage.rows]):
        json.loads(text)
    return (
        0 <= world.step <= world.task.max_steps
        and len(world.made) == world.step
        and all(made.fault in ("", *KINDS) for made in world.made)
    )


SNAPSHOTS = Snapshot(World, "a tools world", scenarios.parse, _recorded, _spelling, _is_possible)
