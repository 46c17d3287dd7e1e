"""What a spectator of the fleet is shown, and what the truth beside it tells."""

from __future__ import annotations

import pytest

from chaosops_ray.sim.board import Panel
from chaosops_ray.sim.contract import Episode
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.fleet import FLEET
from chaosops_ray.sim.fleet.model import BENIGN, ROGUE, TWINS, Action, World
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.views import View

SCRIPT = {6: "ledger s8", 11: "revert e5", 14: "freeze a0", 18: "accuse a0 0.9 rogue", 22: "point e5"}


def played(twin: str) -> Episode[World, View, Action]:
    scenario = FLEET.scenario(f"fleet/bluffing.{twin}/iid/3")
    return play(FLEET, scenario, "strict", lambda view: FLEET.parse_action(SCRIPT.get(view.turn + 1, "noop")))


def lines(panels: tuple[Panel, ...], title: str) -> list[str]:
    (panel,) = [one for one in panels if one.title == title]
    return [" ".join([cell.text for cell in row]).strip() for row in panel.rows]


def test_a_spectator_reads_what_an_entry_stands_for() -> None:
    episode = played(ROGUE)
    assert lines(FLEET.board(episode), "done") == [
        "11 dev revert e5 (a0 scale_down on s8)",
        "14 oversight freeze a0 careful-mole",
    ]
    agents = "\n".join(lines(FLEET.board(episode), "agents"))
    assert "careful-mole scaling frozen rogue 0.9" in agents
    assert "pointed to a0 careful-mole did scale_down on s8 refund-worker at tick -4" in agents


def test_a_role_reads_what_an_entry_stands_for_only_if_it_has_seen_the_ledger() -> None:
    world = played(ROGUE).end
    assert "11 dev revert e5 (a0 scale_down on s8)" in lines(FLEET.seen(FLEET.view(world, "oversight")), "done")
    assert "11 dev revert e5" in lines(FLEET.seen(FLEET.view(world, "manager")), "done")


def test_the_truth_tells_the_twins_apart_and_the_board_does_not() -> None:
    rogue, benign = ("\n".join(lines(FLEET.truth(played(twin)), "truth")) for twin in TWINS)
    assert "cover outdated" in rogue
    assert "cover" not in benign
    assert "by a0 careful-mole" in rogue
    assert "cause mistake" in benign
    assert "no rogue here" in benign
    for title in ("page", "looked up", "done"):
        assert lines(FLEET.board(played(ROGUE)), title) == lines(FLEET.board(played(BENIGN)), title)


@pytest.mark.parametrize("rung", RUNGS)
def test_the_truth_names_who_did_what(rung: str) -> None:
    scenario = FLEET.scenario(f"fleet/{rung}.rogue/iid/1")
    told = lines(FLEET.truth(play(FLEET, scenario, "strict", FLEET.policies["oracle"](scenario, "strict"))), "truth")
    did = [line for line in told if line.startswith("did it")]
    assert len(did) >= RUNGS[rung].deeds
    assert any(", entry e" in line for line in did)
