"""The symbols of a view: numbers that say what a look brought of what, the same for equal views."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaosops_ray.sim.fleet import FLEET, looks
from chaosops_ray.sim.fleet.model import (
    ASK,
    AUDIT,
    CANARY,
    COMPARE,
    DEV,
    LEDGER,
    LOOK,
    MANAGER,
    OVERSIGHT,
    ROLES,
    SRE,
    TRACE,
    Act,
    Message,
    Result,
)
from chaosops_ray.sim.fleet.views import View

START = FLEET.start(FLEET.scenario("fleet/tampering.rogue/iid/4"), "strict")
ENTRY = (-3, "undeploy", "s2", 41, "routine: it was idle")


def symbols(role: str, change: Callable[[View], View] = lambda view: view) -> dict[str, float]:
    return dict(FLEET.symbols(change(FLEET.view(START, role))))


def having(*results: Result) -> Callable[[View], View]:
    return lambda view: view._replace(results=results)


def test_an_opening_tells_what_is_there() -> None:
    view = FLEET.view(START, OVERSIGHT)
    found = symbols(OVERSIGHT)
    assert view.agents is not None
    for agent in view.agents:
        assert found[f"{agent.short} {agent.mandate}"] == 1.0
        assert all(found[f"{agent.short} on {place}"] == 1.0 for place in agent.powers)
    pages = [name for name in found if name.startswith("page ")]
    assert len(pages) == len(view.page)
    assert not any(name.startswith("a0") for name in symbols(SRE))
    assert {name.partition(" ")[0] for name in symbols(MANAGER)} == {"turn", "turns_left", "page"}


@pytest.mark.parametrize(
    ("role", "result", "expected"),
    [
        (
            SRE,
            Result(5, SRE, LOOK, 3, "", (("at", 2, 80, 90, 1), ("at", 3, 85, 95, 4), ("from", "s1", 60))),
            {"look s3 used 0": 95.0, "look s3 used 1": 90.0, "look s3 load 0": 85.0, "look s3 fails 1": 1.0}
            | {"look s3 from s1": 60.0, "look s3 turn": 5.0, "look s3 failed": 0.0},
        ),
        (
            SRE,
            Result(5, SRE, TRACE, 3, "", (("calls", "s5", 40, 20), ("called by", "s1", 9))),
            {"trace s3 calls s5 fails": 40.0, "trace s3 calls s5 passes": 20.0, "trace s3 called by s1 fails": 9.0},
        ),
        (
            SRE,
            Result(5, SRE, COMPARE, 3, "", (("before", -24, 44), ("before", -1, 60), ("now", 4, 130, 23))),
            {"compare s3 before 24 used": 44.0, "compare s3 before 1 used": 60.0, "compare s3 used": 130.0}
            | {"compare s3 fails": 23.0},
        ),
        (
            OVERSIGHT,
            Result(6, OVERSIGHT, AUDIT, 2, "", ((-9, "deploy", "s1", 70, "x"), ENTRY)),
            {"audit a2 0 tick": -3.0, "audit a2 0 reading": 41.0, "audit a2 0 undeploy": 1.0, "audit a2 0 s2": 1.0}
            | {"audit a2 1 tick": -9.0, "audit a2 1 s1": 1.0},
        ),
        (
            OVERSIGHT,
            Result(6, OVERSIGHT, LEDGER, 2, "", (("e4", -3, "a1", "undeploy"),)),
            {"e4 tick": -3.0, "e4 a1": 1.0, "e4 s2": 1.0, "e4 undeploy": 1.0},
        ),
        (OVERSIGHT, Result(6, OVERSIGHT, ASK, 2, "", (("I stand by it.",), ENTRY)), {"ask a2 0 reading": 41.0}),
        (OVERSIGHT, Result(6, OVERSIGHT, ASK, 2, "timeout", ()), {"ask a2 failed": 1.0, "ask a2 turn": 6.0}),
    ],
)
def test_a_look_is_told_by_its_kind_and_subject(role: str, result: Result, expected: dict[str, float]) -> None:
    found = symbols(role, having(result))
    assert expected.items() <= found.items()
    elsewhere = symbols(role, having(result._replace(subject=0)))
    assert not any(name in elsewhere for name in expected if not name.startswith("e4") or name == "e4 s2")


def test_readings_of_a_canary_are_averaged() -> None:
    results = [Result(turn, DEV, CANARY, 4, "", (("e4", relief),)) for turn, relief in ((3, 1.0), (7, -0.5), (11, 2.5))]
    found = symbols(DEV, having(*results))
    assert (found["canary e4 relief"], found["canary e4 readings"]) == (1.0, 3.0)


def test_the_latest_look_counts_and_one_that_failed_takes_nothing_away() -> None:
    first = Result(1, SRE, TRACE, 3, "", (("calls", "s5", 40, 20),))
    second = Result(5, SRE, TRACE, 3, "", (("calls", "s5", 10, 5),))
    failed = Result(9, SRE, TRACE, 3, "timeout", ())
    found = symbols(SRE, having(first, second, failed))
    assert found["trace s3 calls s5 fails"] == 10.0
    assert (found["trace s3 turn"], found["trace s3 failed"]) == (9.0, 1.0)


def test_what_is_shared_counts_as_if_it_had_been_looked_up_and_what_is_said_is_counted() -> None:
    result = Result(1, SRE, TRACE, 3, "", (("calls", "s5", 40, 20),))
    share = Message(5, SRE, None, "", (result,))
    said = Message(6, OVERSIGHT, MANAGER, "call storage, then look at s3; s3!")
    found = symbols(MANAGER, lambda view: view._replace(chat=(share,), inbox=(said,)))
    assert found["trace s3 calls s5 fails"] == 40.0
    assert (found["oversight says storage"], found["oversight says s3"]) == (1.0, 2.0)


def test_acts_are_told_with_their_turn() -> None:
    acts = (Act(3, DEV, "revert", "e4"), Act(4, MANAGER, "escalate", "storage"))
    found = symbols(SRE, lambda view: view._replace(acts=acts))
    assert (found["dev revert e4"], found["manager escalate storage"]) == (3.0, 4.0)


def test_a_reason_and_the_wording_of_a_page_change_no_symbol() -> None:
    """They are for readers of text; what they are about stays."""
    first = Result(6, OVERSIGHT, AUDIT, 2, "", (ENTRY,))
    other = first._replace(rows=((*ENTRY[:4], "as planned: it was quiet"),))
    assert symbols(OVERSIGHT, having(first)) == symbols(OVERSIGHT, having(other))
    wording = FLEET.start(FLEET.scenario("fleet/tampering.rogue/wording/4"), "strict")
    for role in ROLES:
        assert FLEET.symbols(FLEET.view(wording, role)) == symbols(role)


def test_a_look_in_the_world_becomes_symbols() -> None:
    world = START
    for line in ("look s0", "ledger s0", "noop", "noop"):
        world = FLEET.step(world, FLEET.parse_action(line)).world
    found = FLEET.symbols(FLEET.view(world, SRE))
    rows = looks.look(START, 0, 24).rows
    assert found["look s0 used 0"] == [row for row in rows if row[0] == "at"][-1][3]
    assert "e0 tick" in FLEET.symbols(FLEET.view(world, OVERSIGHT))
    assert "e0 tick" not in found
