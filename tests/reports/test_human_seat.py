"""A person's seat on a pipe and on a terminal: what is shown when, the scores, and the record."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from chaosops_ray import evaluate
from chaosops_ray.evaluate import OneByOne
from chaosops_ray.reports import human_seat
from chaosops_ray.reports.human_seat import Look
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.episodes import differences, read_episodes

INCIDENT, TOOLS = ENVIRONMENTS["incident"], ENVIRONMENTS["tools"]
SCENARIO = "incident/autoscaler_cost_cut/hard/17"


def game(
    policy: str = "oracle", seats: tuple[str, ...] = ("oversight=human",), scenario: str = SCENARIO
) -> human_seat.Game:
    environment = TOOLS if scenario.startswith("tools") else INCIDENT
    player = evaluate.baselines(environment, policy)[policy]
    rules = environment.rules("strict")
    return human_seat.game(environment, environment.scenario(scenario), rules, "a case", seats, {}, policy, player)


def played(
    one: human_seat.Game, typed: str, look: Look = "panels", episodes: Path | None = None, *, width: int = 0
) -> str:
    """What a pipe gets, or with a width a terminal."""
    out = io.StringIO()
    console = Console(file=out, width=width or 140, force_terminal=bool(width), color_system=None)
    human_seat.run(one, console, io.StringIO(typed), look, episodes, is_plain=not width)
    return out.getvalue()


@pytest.mark.parametrize("look", ["panels", "full", "compact"])
@pytest.mark.parametrize("width", [0, 60, 140])
def test_the_truth_and_the_rewards_come_at_the_end(look: Look, width: int) -> None:
    for case in INCIDENT.cases:
        if case.tier != "easy":
            one = game(scenario=case._replace(seed=3).identity)
            before, end, after = played(one, "noop\n" * 30, look, width=width).partition("the end")
            assert end
            for told in (case.case, "truth", "reward by", "return "):
                assert told not in before
            assert f"The case was {one.scenario.identity}." in after.replace("\n", "")


def test_a_turn_shows_what_the_role_sees() -> None:
    panels, full, compact = [played(game(), "flag autoscaler\n", look) for look in ("panels", "full", "compact")]
    assert "   auth  healthy  3" in panels
    assert "WHAT FLEET AGENTS DID BEFORE THE PAGE" in full
    assert "oversight may flag say escalate noop" in compact
    assert all("-- your turn 1, as oversight" in text and "your turn 2" not in text for text in (panels, full, compact))
    assert (
        "what fleet agents did" not in played(game(seats=("dev=human",)), "scale payments 4\n").partition("the end")[0]
    )


def test_long_texts_are_wrapped_and_not_cut() -> None:
    """A person who is to answer must be able to read all of a result."""
    one = game("oracle", ("agent=human",), TOOLS.cases[0].identity)
    lines = '{"tool": "read_file", "arguments": {"path": "countries.txt"}}\n' + "get_current_datetime\n" * 20
    text = played(one, lines, width=60).partition("the end")[0]
    assert "…" not in text


def test_the_scores_are_those_of_the_same_case_with_the_same_others() -> None:
    text = played(game("heuristic"), "flag autoscaler\n" + "noop\n" * 9)
    rows = {line.split()[0]: line.split() for line in text.partition("played by")[2].splitlines() if line.strip()}
    assert set(INCIDENT.policies) | {"you"} <= set(rows)
    assert rows["you"][1:] == rows["oracle"][1:]
    expected = OneByOne(
        INCIDENT, INCIDENT.policies["flag-nothing"], dict.fromkeys(("sre", "dev", "manager"), "heuristic")
    )
    (alone,) = expected([INCIDENT.scenario(SCENARIO)], "strict")
    assert rows["flag-nothing"][1] == f"{alone.episode.total:+.1f}".replace("-", "−")


def test_what_was_played_is_recorded_and_replays(tmp_path: Path) -> None:
    file = tmp_path / "episodes.parquet"
    played(game("heuristic"), "flag load_balancer\nflag autoscaler\n" + "noop\n" * 9, episodes=file)
    (recorded,) = read_episodes(file)
    assert differences(recorded) == []
    assert recorded.policy == "human"
    players = {row["role"]: row["player"] for row in recorded.rows}
    assert players["oversight"] == "human"
    assert players["sre"] == players["dev"] == "heuristic"


def test_who_leaves_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(EOFError):
        played(game(scenario="incident/rogue_deploy_bot/hard/7"), "noop\n", episodes=tmp_path / "episodes.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_seat_without_a_turn_is_told_before_anything_is_shown() -> None:
    out = io.StringIO()
    with pytest.raises(InputError, match="name other colleagues") as error:
        human_seat.run(
            game(seats=("manager=human",)), Console(file=out), io.StringIO("noop\n"), "panels", is_plain=True
        )
    assert out.getvalue() == ""
    assert "autoscaler" not in str(error.value)


def test_a_seat_has_one_player() -> None:
    player = evaluate.baselines(INCIDENT, "oracle")["oracle"]
    scenario = INCIDENT.scenario(SCENARIO)
    with pytest.raises(InputError, match="sre is to be played by oracle and by you"):
        human_seat.game(INCIDENT, scenario, "strict", "", ["sre=human"], {"sre": "oracle"}, "oracle", player)


def test_turns_of_models_are_not_recorded_without_their_origin(tmp_path: Path) -> None:
    player = OneByOne(INCIDENT, INCIDENT.policies["oracle"], model={"served": "somebody"})
    one = human_seat.game(
        INCIDENT, INCIDENT.scenario(SCENARIO), "strict", "", ["oversight=human"], {}, "served", player
    )
    with pytest.raises(InputError, match="--episodes"):
        played(one, "flag autoscaler\n", episodes=tmp_path / "episodes.parquet")


def test_bytes_that_are_no_text_are_no_action() -> None:
    typed = io.TextIOWrapper(io.BytesIO(b"flag \xff\xfe\nflag autoscaler\n"), encoding="utf-8")
    out = io.StringIO()
    human_seat.run(game(), Console(file=out, width=140), typed, "panels", is_plain=True)
    assert "agent must be one of" in out.getvalue()
