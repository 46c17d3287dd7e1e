"""Golden traces: for every failure on every tier, under both rule sets, the SHA-256 of every state of one episode.

Print them with `python -m tests.sim.incident.golden > tests/sim/incident/golden.json` after a change that is meant to
change the world, and say in CHANGELOG.md why recorded episodes no longer replay.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.episode import turns
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import (
    ROLES,
    Action,
    Communicate,
    Escalate,
    FlagRogue,
    IdentifyRootCause,
    Resolve,
    Restart,
)
from chaosops_ray.sim.incident.text import vocabulary
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.speech import Unparsed

INCIDENT = ENVIRONMENTS["incident"]
SEED = 17
# Beyond each seat's vocabulary: private words, wrong seats, wrong names.
ODDITIES: tuple[Action, ...] = (
    Communicate("only you should know", "dev"),
    Communicate("", None),
    Resolve(),
    Restart("nowhere"),
    FlagRogue("skynet"),
    FlagRogue(""),
    IdentifyRootCause("gremlins"),
    Escalate(),
    Unparsed("no action found"),
)


def recorded() -> dict[str, dict[str, Any]]:
    """Scenario and rules → the actions, and the hash of the state before them and after each one."""
    return {
        f"{rules} incident/{failure}/{tier}/{SEED}": record(rules, f"incident/{failure}/{tier}/{SEED}")
        for rules in INCIDENT.rule_sets
        for failure in FAILURES
        for tier in INCIDENT.tiers
    }


def record(rules: str, identity: str) -> dict[str, Any]:
    """One wandering episode: mostly what the seats may do, now and then what nobody should."""
    draw = stream(SEED, f"golden {identity}")
    kinds = {role: vocabulary(role) for role in ROLES}

    def wander(view: Any) -> Action:
        if draw.below(5) == 0:
            return draw.choice(ODDITIES)
        return draw.choice(draw.choice(kinds[view.role]))

    start = INCIDENT.start(INCIDENT.scenario(identity), rules)
    steps = list(turns(INCIDENT, start, wander))
    return {
        "actions": [json.loads(INCIDENT.dump_action(step.action)) for step in steps],
        "states": [hashed(start), *[hashed(step.world) for step in steps]],
    }


def hashed(world: Any) -> str:
    """SHA-256 of the whole truth."""
    return sha256(INCIDENT.dump(world)).hexdigest()


if __name__ == "__main__":
    print(json.dumps(recorded(), indent=1))
