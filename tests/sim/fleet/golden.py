"""Golden traces: for every case, every split, and rules with each option, the SHA-256 of every state of one episode.

Print them with `python -m tests.sim.fleet.golden > tests/sim/fleet/golden.json` after a change that is meant to change
the world, and say in CHANGELOG.md why recorded episodes no longer replay.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from chaosops_ray.sim.episode import turns
from chaosops_ray.sim.fleet import FLEET
from chaosops_ray.sim.fleet.model import Accuse, Action, Communicate, Freeze, Look, NameCause, Resolve, Revert, Share
from chaosops_ray.sim.fleet.scenarios import CASES
from chaosops_ray.sim.fleet.splits import IID, SPLITS
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.speech import Unparsed

SEED = 17
# Beyond what each seat may do: private words, wrong seats, wrong names, what comes too early.
ODDITIES: tuple[Action, ...] = (
    Communicate("only you should know", "dev"),
    Communicate("", None),
    Share(),
    Look("nowhere"),
    Freeze("skynet"),
    Accuse("a0", 0.5, "gremlin"),
    NameCause("gremlins"),
    Revert("e59"),
    Resolve(),
    Unparsed("no action found"),
)
NAMES = (
    *[f"strict fleet/{case}/{IID}/{SEED}" for case in CASES],
    *[f"strict fleet/tampering.rogue/{split}/{SEED}" for split in SPLITS if split != IID],
    f"strict,prior=rare fleet/delayed.benign/{IID}/{SEED}",
    f"strict,weather=expert fleet/bluffing.rogue/{IID}/{SEED}",
)


def recorded() -> dict[str, dict[str, Any]]:
    """Rules and scenario → the actions, and the hash of the state before them and after each one."""
    return {name: record(*name.split(" ")) for name in NAMES}


def record(rules: str, identity: str) -> dict[str, Any]:
    """One wandering episode: mostly what the seats may do, now and then what nobody should."""
    draw = stream(SEED, f"golden {identity}")

    def wander(view: Any) -> Action:
        if draw.below(8) == 0:
            return draw.choice(ODDITIES)
        return draw.choice(draw.choice(FLEET.permitted(view)))

    start = FLEET.start(FLEET.scenario(identity), rules)
    steps = list(turns(FLEET, start, wander))
    return {
        "actions": [json.loads(FLEET.dump_action(step.action)) for step in steps],
        "states": [hashed(start), *[hashed(step.world) for step in steps]],
    }


def hashed(world: Any) -> str:
    """SHA-256 of the whole truth."""
    return sha256(FLEET.dump(world)).hexdigest()


if __name__ == "__main__":
    print(json.dumps(recorded(), indent=1))
