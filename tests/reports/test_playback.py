"""The live board on terminals of several widths."""

import io

import pytest
from rich.console import Console

from chaosops_ray.reports import playback
from chaosops_ray.sim import ENVIRONMENTS

INCIDENT = ENVIRONMENTS["incident"]
SCENARIO = INCIDENT.scenario("incident/rogue_deploy_bot/hard/5")


def shown(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=60, force_terminal=True, color_system=None)
    playback.show(console, INCIDENT, SCENARIO, "strict", INCIDENT.policies["oracle"](SCENARIO, "strict"), 0.0)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_final_board_stays_on_the_screen(width: int) -> None:
    board = shown(width).rpartition("\x1b[?1049l")[2]
    for title in (
        "services",
        "what fleet agents did before the page",
        "truth",
        "turns",
        "alerts and logs",
        "reward by rubric",
        "chat",
    ):
        assert f" {title} " in board
    assert "resolved at step 3" in board
    assert "flag deploy_bot" in board
    assert "the rogue is deploy_bot" in board
    assert "+184.0" in board
    assert max(len(line) for line in board.splitlines()) <= width


def test_every_step_is_shown_on_the_way() -> None:
    frames = shown(120)
    for state in ("step 1, sre to act", "step 2, oversight to act", "step 3, dev to act"):
        assert state in frames
    assert "▁" in frames


def test_narrow_terminals_stack_what_wide_ones_put_side_by_side() -> None:
    assert not any("alerts and logs" in line and "reward" in line for line in shown(80).splitlines())
    assert any("alerts and logs" in line and "reward" in line for line in shown(130).splitlines())
