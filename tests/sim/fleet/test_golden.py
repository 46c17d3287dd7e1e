"""Recorded states come out the same, here and in processes with other hash seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaosops_ray.sim import replay
from chaosops_ray.sim.fleet import FLEET
from tests.sim.fleet.golden import NAMES, hashed

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


def test_every_case_is_recorded() -> None:
    assert tuple(GOLDEN) == NAMES


@pytest.mark.parametrize("name", GOLDEN)
def test_recorded_actions_give_the_recorded_states(name: str) -> None:
    rules, identity = name.split(" ")
    actions = [FLEET.load_action(json.dumps(action)) for action in GOLDEN[name]["actions"]]
    episode = replay(FLEET, FLEET.scenario(identity), rules, actions)
    states = [episode.start, *[step.world for step in episode.steps]]
    assert [hashed(world) for world in states] == GOLDEN[name]["states"]


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_two_other_processes_record_the_same(hash_seed: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.sim.fleet.golden"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == GOLDEN
