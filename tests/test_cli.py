"""The command line as a person meets it: tables, files, and one line for every mistake."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaosops_ray.cli import main
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.store.episodes import read_episodes


def test_evaluate_prints_the_table_and_writes_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, episodes = tmp_path / "out.json", tmp_path / "episodes.parquet"
    arguments = ["evaluate", "--policies", "random,heuristic,oracle", "--rules", "published", "--json", str(out)]
    assert main([*arguments, "--episodes", str(episodes), "--plots", str(tmp_path), "--by-group"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "−1356.6" in printed.out
    assert "rogue_deploy_bot" in printed.out
    assert len(json.loads(out.read_text())["cells"]) == 9
    for name in ("mean_by_tier.png", "catch_against_false_alarms.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert f"wrote {tmp_path / name}" in printed.out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "catch_against_false_alarms.png",
        "episodes.parquet",
        "mean_by_tier.png",
        "out.json",
    ]

    assert main(["replay", str(episodes)]) == 0
    assert capsys.readouterr().out.startswith("165 episodes, ")


def test_strict_rules_are_the_default_and_everything_can_be_narrowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    arguments = ["evaluate", "--policies", "oracle", "--set", "cross", "--tiers", "hard,easy", "--seeds", "5-6"]
    assert main([*arguments, "--json", str(out)]) == 0
    capsys.readouterr()
    found = json.loads(out.read_text())
    assert (found["rules"], found["set"], found["seeds"]) == ("strict/2", "cross", "5-6")
    assert [(cell["tier"], cell["episodes"]) for cell in found["cells"]] == [
        ("easy", 2 * len(FAILURES)),
        ("hard", 2 * len(FAILURES)),
    ]


def test_evaluating_twice_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.json", "b.json"):
        assert main(["evaluate", "--policies", "random", "--json", str(tmp_path / name)]) == 0
    capsys.readouterr()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


GOOD = ["evaluate", "--policies", "oracle"]
MISTAKES = [
    ([], "COMMAND"),
    (["dance"], "invalid choice: 'dance'"),
    (["evaluate"], "--policies"),
    (["evaluate", "--policies", "orcale"], "valid: random, blind, heuristic, lookup, oracle"),
    (["evaluate", "--policies", "oracle,oracle"], "named twice"),
    (["evaluate", "--policies", ""], "valid: random, blind, heuristic, lookup, oracle"),
    ([*GOOD, "--world", "moon"], "valid: incident, tools"),
    ([*GOOD, "--rules", "lenient"], "valid: strict/2, published"),
    ([*GOOD, "--rules", "strict,multiplier=many"], "number from 0 to 1000"),
    ([*GOOD, "--set", "all"], "valid: published, cross"),
    ([*GOOD, "--tiers", "easy,brutal"], "valid: easy, medium, hard"),
    ([*GOOD, "--seeds", "9-1"], "smaller end first"),
    ([*GOOD, "--seeds", "x"], "write A-B"),
    ([*GOOD, "--json", "nowhere/out.json"], "no folder nowhere"),
    ([*GOOD, "--episodes", "."], "plain file"),
    ([*GOOD, "--plots", "nowhere"], "no folder nowhere"),
    ([*GOOD, "--json", "same", "--episodes", "./same"], "--episodes"),
    ([*GOOD, "--json", "x" * 300], "name too long"),
    ([*GOOD, "--json", "/dev/null"], "plain file"),
    ([*GOOD, "two\nlines"], "unrecognized arguments: two lines"),
    (["play"], "SCENARIO"),
    (["play", "incident/gremlins/hard/1"], "valid: db_deadlock"),
    (["play", "incident/cascade/brutal/1"], "valid: easy, medium, hard"),
    (["play", "incident/cascade/hard/one"], "seed 'one'"),
    (["play", "moon/cascade/hard/1"], "must be a world: incident, tools"),
    (["play", "incident/cascade/hard/1", "--policy", "clown"], "valid: random, blind, heuristic, lookup, oracle"),
    (["play", "incident/cascade/hard/1", "--policy", "oracle,random"], "--policy"),
    (["play", "incident/cascade/hard/1", "--seats", "dev"], "--seats: 'dev' is not ROLE=BASELINE"),
    (["play", "incident/cascade/hard/1", "--structured"], "--structured is about base models"),
    (["play", "--structured", "incident/cascade/hard/1"], "--structured is about base models"),
    (["play", "--structured", "schema", "incident/cascade/hard/1"], "--structured is about base models"),
    (["play", "incident/cascade/hard/1", "--structured=json"], "--structured: invalid choice: 'json'"),
    (["play", "incident/cascade/hard/1", "--structured", "schema", "--policy", "model=tiny"], "for the full style"),
    (["play", "incident/cascade/hard/1", "--policy", "trained=nowhere"], "nowhere is not a run"),
    (["play", "incident/cascade/hard/1", "--policy", "served=nobody"], "served=MODEL@"),
    ([*GOOD, "--seats", "oversigt=random"], "--seats: world incident has no role 'oversigt'; did you mean oversight?"),
    ([*GOOD, "--seats", "dev=orcale"], "did you mean oracle?"),
    ([*GOOD, "--world", "tools", "--seats", "agent=random"], "leave at least one role"),
    (["play", "incident/cascade/hard/1", "--rules", "lenient"], "valid: strict/2, published"),
    (["play", "incident/cascade/hard/1", "--pause", "-1"], "--pause must be 0-60"),
    (["play", "incident/cascade/hard/1", "--pause", "nan"], "--pause must be 0-60"),
    (["play", "incident/cascade/hard/1", "--pause", "long"], "invalid float value"),
    (["play", "incident/cascade/hard/1", "--seed", "3"], "--tier and --seed draw a case of a world"),
    (["play", "incident", "--seed", "x"], "seed 'x'"),
    (["play", "incident", "--tier", "brutal"], "valid: easy, medium, hard"),
    (["play", "moon"], "valid: incident, tools"),
    (["play", "incident", "--seat", "oversight"], "write oversight=human"),
    (["play", "incident", "--seat", "sre=human", "--seats", "sre=oracle"], "sre is to be played by oracle and by you"),
    (["play", "incident/cascade/hard/1", "--seat", "manager=human"], "name other colleagues"),
    (["play", "incident/cascade/hard/1", "--episodes", "never.parquet"], "--seat"),
    (["play", "incident", "--seat", "sre=human", "--episodes", "nowhere/never.parquet"], "nowhere"),
    (["report", "nowhere"], "nowhere is not a run"),
    (["report", "nowhere", "--films", "-1"], "--films must be 0-100"),
    (["report", "nowhere", "--episodes", "1,x"], "write at most 100 numbers"),
    (["report", "nowhere", "--out", "nowhere/page.html"], "nowhere"),
    (["replay"], "FILE"),
    (["replay", "nowhere.parquet"], "No such file"),
    (["replay", "text.parquet"], "cannot read text.parquet"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), MISTAKES, ids=[" ".join(mistake[0])[:60] or "nothing" for mistake in MISTAKES]
)
def test_a_mistake_is_one_line_and_exit_code_two_and_nothing_written(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.parquet").write_text("hello")
    if arguments and "--json" not in arguments and arguments[0] == "evaluate":
        arguments = [*arguments, "--json", "never.json"]
    try:
        code = main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("chaosops")
    assert named in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["text.parquet"]


SEATS = "sre=oracle,dev=oracle,manager=oracle"


def test_policies_are_evaluated_in_one_seat_among_the_same_colleagues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "out.json", tmp_path / "episodes.parquet"
    arguments = ["evaluate", "--policies", "oracle,flag-all,flag-nothing", "--seats", SEATS, "--seeds", "1000"]
    assert main([*arguments, "--json", str(out), "--episodes", str(file)]) == 0
    seats = "seats: sre, dev, manager by oracle; oversight by oracle, flag-all, flag-nothing"
    assert seats in capsys.readouterr().out.splitlines()
    found = json.loads(out.read_text())
    assert found["colleagues"]["flag-all"] == {"sre": "oracle", "dev": "oracle", "manager": "oracle"}
    by_policy = {cell["policy"]: cell for cell in found["cells"] if cell["tier"] == "hard"}
    assert (
        by_policy["oracle"]["success"] == by_policy["flag-all"]["success"] == by_policy["flag-all"]["rogue_catch"] == 1
    )
    assert by_policy["flag-nothing"]["success"] == 0.5  # two of four failures need Oversight's flag
    for episode in read_episodes(file):
        assert {row["player"] for row in episode.rows if row["role"] == "oversight"} == {episode.policy}
        assert {row["player"] for row in episode.rows if row["role"] != "oversight"} == {"oracle"}
    assert main(["replay", str(file)]) == 0


def test_without_seats_every_policy_plays_all_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for name, more in {"default": [], "all": ["--seats", "all"]}.items():
        assert main(["evaluate", "--policies", "heuristic", "--json", str(tmp_path / name), *more]) == 0
        assert "seats: " not in capsys.readouterr().out
        found[name] = json.loads((tmp_path / name).read_text())
    assert found["default"] == found["all"]
    assert found["all"]["colleagues"] == {}


def test_play_says_who_plays_which_seat(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = "incident/misrouted_traffic/hard/17"
    assert main(["play", scenario, "--policy", "flag-all", "--seats", SEATS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seats: sre, dev, manager by oracle; oversight by flag-all"
    turns = [line.split()[1:4] for line in lines if line.strip()[:1].isdigit()]
    assert ["oversight", "flag", "autoscaler"] in turns
    assert ["oversight", "flag", "load_balancer"] in turns
    assert ["manager", "escalate", "resolved"] in turns


def test_play_tells_an_episode_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", "incident/autoscaler_cost_cut/hard/17", "--policy", "oracle"]) == 0
    lines = capsys.readouterr().out.splitlines()
    turns = [
        line.split() for line in lines if line.startswith("  ") and line.strip()[0].isdigit() and "  -  " not in line
    ]
    assert ["2", "oversight", "flag", "autoscaler", "correct_flag", "+46.0"] in turns
    assert ["3", "dev", "scale", "payments", "4", "resolved", "+110.0"] in turns
    assert "   resolved at step 3  rules strict/2  return +184.0" in lines
    assert not any("\x1b" in line for line in lines)


def test_a_person_plays_a_seat_through_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "episodes.parquet"
    arguments = ["play", "incident", "--tier", "hard", "--seed", "8", "--seat", "oversight=human"]
    monkeypatch.setattr("sys.stdin", io.StringIO("flag nobody\n?\nflag autoscaler\n" + "noop\n" * 9))
    assert main([*arguments, "--episodes", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ChaosOps, the incident room · a case of tier hard, drawn by --seed 8 · rules strict/2\n")
    assert "seats: sre, dev, manager by oracle; oversight by you\n" in out
    identity = out.partition("The case was ")[2].partition(".\n")[0]
    assert identity.endswith("/hard/8")
    assert out.count(identity) == 2  # the panel of the truth has it too
    assert main(["replay", str(file)]) == 0
    (episode,) = read_episodes(file)
    assert (episode.policy, episode.scenario) == ("human", identity)


def test_a_person_who_leaves_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "episodes.parquet"
    monkeypatch.setattr("sys.stdin", io.StringIO("noop\n"))
    assert main(["play", "tools", "--seat", "agent=human", "--episodes", str(file)]) == 130
    assert capsys.readouterr().err == "chaosops play: left before the end; nothing was scored or written\n"
    assert not file.exists()


def test_a_world_in_place_of_a_scenario_draws_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in ("3", "3", "4"):
        assert main(["play", "incident", "--tier", "medium", "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert "/medium/3" in said[0]


def test_replay_fails_loudly_where_a_record_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from chaosops_ray.store.episodes import COLUMNS

    path = tmp_path / "episodes.parquet"
    assert main(["evaluate", "--policies", "oracle", "--episodes", str(path)]) == 0
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["reward"] += 1.0
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), path)
    capsys.readouterr()
    assert main(["replay", str(path)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "episode 0 (oracle on incident/db_deadlock/easy/0), step 0: reward was 29.0, is 28.0" in errors[0]
    assert len(errors) == 22
    assert f"{len(rows)} differences in 55 episodes" in errors[-1]


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`chaosops play … | head -1` ends quietly."""
    command = f"{sys.executable} -m chaosops_ray.cli play incident/cascade/hard/1 --plain | head -1"
    ran = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert ran.stdout == "== incident\n"
    assert ran.stderr == ""


def test_a_terminal_that_cannot_show_a_character_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    for encoding in ("ascii", "latin-1"):
        ran = subprocess.run(
            [sys.executable, "-m", "chaosops_ray.cli", "evaluate", "--policies", "oracle", "--json", str(out)],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=True,
        )
        assert ran.stderr == b""
        assert out.exists()
        out.unlink()


def test_a_plot_that_cannot_be_drawn_is_known_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mean_by_tier.png").mkdir()
    arguments = ["evaluate", "--policies", "oracle", "--json", str(tmp_path / "out.json"), "--plots", str(tmp_path)]
    assert main(arguments) == 2
    assert "plain file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mean_by_tier.png"]


def test_the_installed_command_is_this_one() -> None:
    ran = subprocess.run(
        [Path(sys.executable).with_name("chaosops"), "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("chaosops 0.")
