"""Scenario ids, the evaluation sets, and the start of an incident in the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chaosops_ray.sim.contract import Scenario, parse_identity, parse_seed
from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.fleet import story
from chaosops_ray.sim.fleet.model import TWINS, Rules, World
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.splits import IID, SPLITS

NAME: Final = "fleet"
CASES: Final = tuple([f"{rung}.{twin}" for rung in RUNGS for twin in TWINS])
SELECTIONS: Final = (IID, *[split for split in SPLITS if split != IID], "all")
SEEDS: Final = range(5)


def parse(identity: str) -> Scenario:
    """Return the scenario of an id such as fleet/framing.rogue/iid/17."""
    form = f"{NAME}/RUNG.TWIN/SPLIT/SEED, for example {NAME}/framing.rogue/iid/0"
    case, split, seed = parse_identity(identity, NAME, form)
    if case not in CASES:
        raise unknown("case", case, CASES)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return scenario(case, split, parse_seed(seed))


def scenario(case: str, split: str, seed: int) -> Scenario:
    """Return the scenario of these parts."""
    rung = case.partition(".")[0]
    return Scenario(NAME, case, split, seed, RUNGS[rung].tier, rung, rung)


def select(selection: str, seeds: Sequence[int] | None = None) -> tuple[Scenario, ...]:
    """Return the scenarios of one split, or of all, twins side by side."""
    if selection not in SELECTIONS:
        raise unknown("evaluation set", selection, SELECTIONS)
    splits = SPLITS if selection == "all" else (selection,)
    return tuple(
        [
            scenario(f"{rung}.{twin}", split, seed)
            for split in splits
            for rung in RUNGS
            for seed in (SEEDS if seeds is None else seeds)
            for twin in TWINS
        ]
    )


def start(begun: Scenario, rules: Rules) -> World:
    """Return the incident as the page goes out."""
    return World(begun, rules, story.plot(begun).able, (), 0)
