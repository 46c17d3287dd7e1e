"""Recorded episodes as ATIF trajectories: what they hold, and that Harbor's own validator takes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.cli import main
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools.model import Call
from chaosops_ray.store.episodes import read_episodes, write_episodes
from chaosops_ray.wire import UNTRAINED, Origin
from tests.support.recordings import SEATS, chat, evaluated

HARBOR = os.environ.get("HARBOR_PYTHON")
# Prints for each file the errors that the validator of Harbor's package finds.
VALIDATES = """
import json, sys
from harbor.utils.trajectory_validator import TrajectoryValidator

for path in sys.argv[1:]:
    validator = TrajectoryValidator()
    assert validator.validate(path) == (not validator.errors)
    print(json.dumps(validator.errors))
"""


@pytest.fixture(scope="module", params=["incident", "tools", "fleet"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    seats = ["--seats", SEATS] if request.param == "incident" else []
    options = [*seats, "--tiers", {"incident": "hard", "tools": "expert", "fleet": "colluding"}[request.param]]
    evaluated(folder, request.param, "--policies", "oracle,random", *options)
    assert main(["export-log", str(folder / "episodes.parquet"), str(folder / "out"), "--format", "atif"]) == 0
    return folder


def trajectories(exported: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for path in sorted((exported / "out").iterdir()):
        number, role = path.stem.split("-")
        yield int(number), role, json.loads(path.read_text())


def parted(trajectory: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the seat was told before its first turn, the first view included, and its turns."""
    steps = trajectory["steps"]
    first = max(at for at, step in enumerate(steps) if step["source"] == "user")
    return steps[: first + 1], steps[first + 1 :]


def test_each_seat_of_each_episode_has_a_trajectory(exported: Path) -> None:
    wanted = {
        (episode.number, row["role"])
        for episode in read_episodes(exported / "episodes.parquet")
        for row in episode.rows
    }
    found = list(trajectories(exported))
    assert {(number, role) for number, role, _ in found} == wanted
    assert len({one["trajectory_id"] for _, _, one in found}) == len(found)
    assert len({one["session_id"] for _, _, one in found}) == len({number for number, *_ in found})


def test_steps_are_what_a_chat_seat_read_and_said(exported: Path) -> None:
    recorded = {episode.number: episode for episode in read_episodes(exported / "episodes.parquet")}
    for number, role, one in trajectories(exported):
        turns = [turn for turn in chat(recorded[number]) if turn.role == role]
        told, acted = parted(one)
        assert [step["step_id"] for step in one["steps"]] == list(range(1, len(one["steps"]) + 1))
        sources = {"system": "system", "user": "user", "assistant": "agent"}
        read = [(sources[message["role"]], message["content"]) for message in turns[0].conversation]
        assert [(step["source"], step["message"]) for step in told] == read
        # The examples, and nothing else, are marked as not to be trained on; no model was asked for them.
        assert [step.get("is_copied_context") for step in told] == [None, *[True] * (len(told) - 2), None]
        assert {step["llm_call_count"] for step in told if step["source"] == "agent"} == {0}
        assert [step["message"] for step in acted] == [turn.answer for turn in turns]
        observed = [result["content"] for step in acted[:-1] for result in step["observation"]["results"]]
        assert observed == [turn.conversation[-1]["content"] for turn in turns[1:]]
        assert "observation" not in acted[-1]


def test_calls_rewards_and_scores_are_those_of_the_record(exported: Path) -> None:
    recorded = {episode.number: episode for episode in read_episodes(exported / "episodes.parquet")}
    for number, role, one in trajectories(exported):
        rows = [row for row in recorded[number].rows if row["role"] == role]
        _, acted = parted(one)
        assert [step["extra"]["reward"] for step in acted] == [row["reward"] for row in rows]
        assert [step["extra"]["state_hash"] for step in acted] == [row["state_hash"] for row in rows]
        assert one["agent"]["name"] == rows[0]["player"]
        assert all(step["llm_call_count"] == 0 for step in acted)
        total = sum(row["reward"] for row in recorded[number].rows)
        assert one["final_metrics"]["extra"]["return"] == pytest.approx(total)
        if one["extra"]["world"] != "tools":
            assert not any("tool_calls" in step for step in acted)
            continue
        offered = {tool["function"]["name"] for tool in one["agent"]["tool_definitions"]}
        for step, row in zip(acted, rows, strict=True):
            (call,) = step["tool_calls"]
            assert {"tool": call["function_name"], "arguments": call["arguments"]} == json.loads(row["action"])
            assert call["function_name"] in offered
            for result in step.get("observation", {"results": []})["results"]:
                assert result["source_call_id"] == call["tool_call_id"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """An episode in which a model writes texts and calls that nobody expects."""
    tools = ENVIRONMENTS["tools"]
    scenario = tools.scenarios("synthetic", [1000])[0]
    texts = ["\ud800 half", "\x00\x1b[31m", "\N{SNOWMAN}" * 2000]
    calls = [Call("web_search", json.dumps({"query": text, "\ud800": 10**500})) for text in texts]
    actions = iter([*calls, Unparsed(texts[0]), Call("nothing", "{}")] * 3)
    with write_episodes(
        tmp_path / "odd.parquet", {"trained": {"run": "first", "version": 3, "model": "tiny"}}
    ) as writer:
        episode = play(tools, scenario, "strict", lambda _: next(actions))
        writer.add(tools, "trained", episode, [Origin(3, "9f2c")] * len(episode.steps))
    assert main(["export-log", str(tmp_path / "odd.parquet"), str(tmp_path / "out"), "--format", "atif"]) == 0
    return tmp_path


def test_a_model_is_named_with_its_version(odd: Path) -> None:
    ((_, _, one),) = trajectories(odd)
    agent = one["agent"]
    assert (agent["name"], agent["version"], agent["model_name"]) == ("trained", "3", "tiny")
    _, acted = parted(one)
    assert {step["llm_call_count"] for step in acted} == {1}
    assert {step["extra"]["digest"] for step in acted} == {"9f2c"}


def test_what_a_trained_model_wrote_is_its_message(tmp_path: Path) -> None:
    incident = ENVIRONMENTS["incident"]
    scenario = incident.scenarios("published")[0]
    episode = play(incident, scenario, "strict", incident.policies["oracle"](scenario, "strict"))
    wrote = Origin(3, "9f2c", 'All is quiet. {"action": "noop"}', (-0.5, -0.25))
    own = [step.role == "oversight" for step in episode.steps]
    with write_episodes(tmp_path / "own.parquet", {"trained": {"version": 3, "model": "m"}}) as writer:
        origins = [wrote if is_own else UNTRAINED for is_own in own]
        writer.add(incident, "trained", episode, origins, dict.fromkeys(("sre", "dev", "manager"), "oracle"))
    assert main(["export-log", str(tmp_path / "own.parquet"), str(tmp_path / "out"), "--format", "atif"]) == 0
    for _, role, one in trajectories(tmp_path):
        _, acted = parted(one)
        spelt = [incident.format_action(step.action, "full") for step in episode.steps if step.role == role]
        assert [step["message"] for step in acted] == ([wrote.completion] * sum(own) if role == "oversight" else spelt)


def test_no_text_is_beyond_utf_8(odd: Path) -> None:
    """JSON can spell half of a character, which most readers then refuse."""
    (path,) = (odd / "out").iterdir()
    assert not re.search(r"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]", path.read_text())


def test_a_file_is_no_place_for_trajectories(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-log", str(odd / "odd.parquet"), str(odd / "out.json"), "--format", "atif"]) == 2
    assert "name a new folder" in capsys.readouterr().err
    assert not (odd / "out.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(HARBOR is None, reason="HARBOR_PYTHON names no Python with Harbor's package: see docs/inspect.md")
def test_harbor_takes_every_trajectory(exported: Path, odd: Path) -> None:
    assert HARBOR is not None
    files = [*sorted((exported / "out").iterdir()), *(odd / "out").iterdir()]
    spoilt = json.loads(files[0].read_text())
    spoilt["steps"][1]["step_id"] = 7
    wrong = odd / "wrong.json"
    wrong.write_text(json.dumps(spoilt))
    ran = subprocess.run([HARBOR, "-c", VALIDATES, *files, wrong], capture_output=True, text=True, check=True)
    *errors, of_wrong = [json.loads(line) for line in ran.stdout.splitlines()]
    assert errors == [[]] * len(files)
    assert of_wrong  # the validator can refuse
