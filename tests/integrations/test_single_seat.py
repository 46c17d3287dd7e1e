"""The Gymnasium environment of one seat."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from chaosops_ray.integrations.single_seat import SPEC, SingleSeat
from chaosops_ray.sim import ENVIRONMENTS, InputError
from tests.support.bare import named
from tests.support.toy_world import TOY

ROOT = Path(__file__).parents[2]
INCIDENT = ENVIRONMENTS["incident"]


@pytest.mark.parametrize(
    "settings",
    [
        {"role": "oversight"},
        {"role": "manager", "colleagues": "oracle"},
        {"role": "sre", "colleagues": {"oversight": "flag-nothing", "dev": "lookup", "manager": "random"}},
        {"role": "dev", "observation": "text"},
        {"world": "tools"},
        {"world": "tools", "observation": "text", "pay": "stream"},
        {"world": TOY, "role": "guesser", "colleagues": "random"},
    ],
    ids=named,
)
def test_the_package_s_own_check_passes_without_a_warning(settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(SPEC, **settings, render_mode="ansi").unwrapped)


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others() -> None:
    def drawn(seed: int) -> list[Any]:
        env = SingleSeat(role="oversight")
        env.reset(seed=seed)
        found = [env.game.session.running.scenario]
        for _ in range(3):
            env.reset()
            found.append(env.game.session.running.scenario)
        return found

    assert drawn(4) == drawn(4)
    assert len({*drawn(4), *drawn(5)}) == 8


def test_a_text_is_what_a_language_model_in_this_seat_reads() -> None:
    env = SingleSeat(role="oversight", colleagues="flag-nothing", observation="text")
    first, _ = env.reset(options={"scenario": "incident/db_deadlock/easy/3"})
    assert first == INCIDENT.render(env.game.session.view, None, "full")
    later, *_ = env.step(0)
    assert later.startswith("Step 6\n")
    assert len(later) < len(first)


def test_a_turn_is_left_to_the_role_however_quick_the_colleagues_are() -> None:
    """The oracle in Dev's seat ends every easy incident before the manager has a turn; on hard it does not."""
    env = SingleSeat(role="manager", colleagues="oracle", tiers=("easy", "hard"))
    tiers = set()
    for seed in range(8):
        env.reset(seed=seed)
        tiers.add(env.game.session.running.scenario.tier)
        assert env.game.session.role == "manager"
    assert tiers == {"hard"}
    with pytest.raises(InputError, match="colleagues leave no turn to manager in 100 scenarios"):
        SingleSeat(role="manager", colleagues="oracle", tiers=("easy",)).reset(seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"world": "nowhere"}, "unknown world 'nowhere'"),
        ({"role": "cook"}, "unknown role of world incident 'cook'"),
        ({"colleagues": "nobody"}, "no baseline 'nobody' to play oversight"),
        ({"colleagues": {"dev": "oracle"}}, "a baseline for each of oversight, dev, manager, got dev"),
        ({"rules": "lax"}, "unknown rule set 'lax'"),
        ({"tiers": ("easiest",)}, "unknown tier of world incident 'easiest'"),
        ({"pay": "much"}, "unknown pay 'much'"),
        ({"observation": "pixels"}, "unknown observation 'pixels'"),
        ({"render_mode": "human"}, "unknown render_mode 'human'"),
    ],
)
def test_what_does_not_exist_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        SingleSeat(**settings)


def test_a_step_outside_of_an_episode_is_refused() -> None:
    env = SingleSeat("tools")
    with pytest.raises(InputError, match="call reset first"):
        env.step(0)
    env.reset(seed=1)
    while not env.step(0)[2]:
        pass
    with pytest.raises(InputError, match="call reset first"):
        env.step(0)
    env.reset(seed=1)
    with pytest.raises(InputError, match="action -1 of agent"):
        env.step(np.int64(-1))


def test_the_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "gymnasium.md").read_text(), re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        exec(program, {})  # noqa: S102 - in this process, where the libraries are loaded
        assert re.search(r"-?[0-9]+\.[0-9]", capsys.readouterr().out)
