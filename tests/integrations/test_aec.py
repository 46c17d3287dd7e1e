"""The PettingZoo environments of all roles."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, seed_test

from chaosops_ray.integrations import aec
from chaosops_ray.sim import InputError
from tests.support.bare import WORLDS, named, vocabulary
from tests.support.toy_world import TOY

SETTINGS: list[dict[str, Any]] = [
    {"world": "incident"},
    {"world": "incident", "colleagues": {"dev": "oracle", "manager": "heuristic"}, "pay": "stream", "tiers": ("hard",)},
    {"world": "tools"},
    {"world": TOY},
]


@pytest.mark.parametrize("given", SETTINGS, ids=named)
def test_the_package_s_own_suites_pass(given: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Agents have their roles' names, and not player_0 and so on.
        warnings.filterwarnings("ignore", message="We recommend agents to be named")
        api_test(aec.env(**given, render_mode="ansi"), num_cycles=30)
        parallel_api_test(aec.parallel_env(**given), num_cycles=30)
    seed_test(lambda: aec.env(**given))
    parallel_seed_test(lambda: aec.parallel_env(**given))


@pytest.mark.parametrize("given", [{"world": "incident", "tiers": ("hard",)}, {"world": "tools"}], ids=named)
def test_episodes_are_cut_off_as_the_package_s_own_suite_wants_it(given: dict[str, Any]) -> None:
    module = SimpleNamespace(
        env=lambda **more: aec.env(**given, **more), parallel_env=lambda **more: aec.parallel_env(**given, **more)
    )
    max_cycles_test(module)


def played(seed: int, given: dict[str, Any]) -> list[Any]:
    """Everything that two episodes show from their beginnings to their ends, with actions that are permitted."""
    env = aec.env(**given)
    env.reset(seed=seed)
    found: list[Any] = []
    for _ in range(2):
        for agent in env.agent_iter():
            seen, reward, is_over, is_cut, info = env.last()
            assert seen is not None
            found.append((agent, seen.tolist(), reward, is_over, is_cut, info["action_mask"].tolist()))
            env.step(None if is_over or is_cut else env.action_space(agent).sample(info["action_mask"]))
        assert not env.agents
        env.reset()
    return found


@pytest.mark.parametrize("given", SETTINGS, ids=named)
def test_the_same_seed_gives_the_same_whole_episodes(given: dict[str, Any]) -> None:
    """The package's own test stops after one step."""
    first = played(7, given)
    assert len(first) > 2 * len(aec.env(**given).possible_agents)
    assert played(7, given) == first
    assert played(8, given) != first


@settings(max_examples=8)
@given(st.data())
def test_a_round_is_all_roles_turns(data: st.DataObject) -> None:
    """The parallel form gives what the turns give when each role does what it chose at the start of the round."""
    environment = data.draw(st.sampled_from(WORLDS), label="world")
    scenario = data.draw(st.sampled_from(environment.cases))
    numbers = data.draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), label="numbers")
    rounds, turns = aec.parallel_env(world=environment), aec.env(world=environment)
    seen, infos = rounds.reset(options={"scenario": scenario.identity})
    turns.reset(options={"scenario": scenario.identity})
    place = 0
    while rounds.agents:
        for role in rounds.agents:
            assert np.array_equal(seen[role], turns.observe(role))
            assert np.array_equal(infos[role]["action_mask"], turns.infos[role]["action_mask"])
        actions = {role: numbers[place % len(numbers)] % len(vocabulary(environment, role)) for role in rounds.agents}
        place += 1
        seen, rewards, is_over, is_cut, infos = rounds.step(actions)
        paid = dict.fromkeys(actions, 0.0)
        for _ in actions:
            if not any(turns.terminations.values()):
                turns.step(actions[turns.agent_selection])
                paid = {role: before + turns.rewards[role] for role, before in paid.items()}
        assert (rewards, is_over, is_cut) == (paid, turns.terminations, turns.truncations)
    assert all(is_over.values())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="max_cycles must be at least 1, got 0"):
        aec.env(max_cycles=0)
    with pytest.raises(InputError, match="unknown render_mode 'human'"):
        aec.env(render_mode="human")
    env = aec.env()
    with pytest.raises(InputError, match="call reset first"):
        env.step(0)
