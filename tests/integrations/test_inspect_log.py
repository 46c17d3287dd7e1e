"""Recorded episodes as logs of Inspect: what its own reader and its own viewer find in them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chaosops_ray.agents.session import OVER
from chaosops_ray.cli import main
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools.model import Call
from chaosops_ray.store.episodes import COLUMNS, RecordedEpisode, read_episodes, write_episodes
from chaosops_ray.wire import UNTRAINED, Origin
from tests.support.recordings import SEATS, chat, edited, evaluated
from tests.support.toy_world import TOY

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

ROOT = Path(__file__).parents[2]
INCIDENT, TOOLS = ENVIRONMENTS["incident"], ENVIRONMENTS["tools"]
DIGEST = "9f2c" * 16
MODEL = {"run": "first", "version": 240, "updates": 240, "digest": DIGEST, "model": "tiny", "base": "51aa" * 16}
POLICIES = {"incident": ("oracle", "random"), "tools": ("heuristic", "random"), "fleet": ("investigator", "random")}


@pytest.fixture(scope="module", params=["incident", "tools", "fleet"])
def world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def exported(world: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recorded episodes of two policies, the figures of their evaluation, and their logs."""
    folder = tmp_path_factory.mktemp(world)
    options = {
        "incident": ["--seats", SEATS],
        "tools": ["--tiers", "warmup,expert"],
        "fleet": ["--tiers", "clear,busy"],
    }[world]
    evaluated(folder, world, "--policies", ",".join(POLICIES[world]), *options)
    assert main(["export-log", str(folder / "episodes.parquet"), str(folder / "logs")]) == 0
    return folder


def read(path: Path, *, resolve: bool = False) -> EvalLog:
    """Read a log with Inspect's own reader, which takes seconds to import: only the tests that need it wait for it."""
    from inspect_ai.log import read_eval_log

    return read_eval_log(path, resolve_attachments=resolve)


def events(sample: Any, kind: str) -> list[Any]:
    return [event for event in sample.events if event.event == kind]


def logs(exported: Path) -> dict[str, EvalLog]:
    found = [read(path, resolve=True) for path in sorted((exported / "logs").iterdir())]
    return {log.eval.model: log for log in found}


def episodes(exported: Path, policy: str) -> dict[str, RecordedEpisode]:
    found = read_episodes(exported / "episodes.parquet")
    return {episode.scenario: episode for episode in found if episode.policy == policy}


def test_each_policy_has_a_log_with_all_of_its_episodes(world: str, exported: Path) -> None:
    assert [path.name for path in sorted((exported / "logs").iterdir())] == [
        f"{number}-{world}-{policy}.eval" for number, policy in enumerate(POLICIES[world], start=1)
    ]
    found = logs(exported)
    assert tuple(found) == POLICIES[world]
    for policy, log in found.items():
        recorded = episodes(exported, policy)
        assert log.samples is not None
        assert log.status == "success"
        assert [sample.id for sample in log.samples] == sorted(recorded)
        assert log.eval.task == world
        assert log.eval.task_args == {
            "rules": ENVIRONMENTS[world].rules("strict"),
            "set": ENVIRONMENTS[world].selections[0],
            "style": "full",
        }
        for sample in log.samples:
            assert str(sample.input).startswith(f"{sample.id}\n\n")
            assert sample.metadata["episode"] == recorded[str(sample.id)].number
    # The viewer takes logs of one task id for attempts at the same, and lists only the last of them.
    assert len({log.eval.task_id for log in found.values()}) == len(found)
    assert len({log.eval.eval_id for log in found.values()}) == len(found)
    assert len({log.eval.run_id for log in found.values()}) == 1


def test_the_scores_are_the_figures_of_the_evaluation(world: str, exported: Path) -> None:
    figures = json.loads((exported / "figures.json").read_text())
    environment = ENVIRONMENTS[world]
    names = {environment.headline_name: "mean"} | {metric.name: metric.name for metric in environment.metrics}
    for policy, log in logs(exported).items():
        assert log.results is not None
        assert log.samples is not None
        cells = {cell["tier"]: cell for cell in figures["cells"] if cell["policy"] == policy}
        scores = {score.name: score for score in log.results.scores}
        assert set(scores) == set(names)
        for name, figure in names.items():
            expected = {tier: cell[figure] for tier, cell in cells.items() if cell[figure] is not None}
            found = {key: metric.value for key, metric in scores[name].metrics.items() if key != "mean"}
            assert found == pytest.approx(expected)
            scored = [sample for sample in log.samples if name in (sample.scores or {})]
            of_samples = [(sample.scores or {})[name].value for sample in scored]
            assert len(of_samples) == scores[name].scored_samples
            assert scores[name].scored_samples + scores[name].unscored_samples == len(log.samples)  # type: ignore[operator]
            if of_samples:
                weights = [environment.weight(environment.scenario(str(sample.id)), "strict") for sample in scored]
                assert scores[name].metrics["mean"].value == pytest.approx(np.average(of_samples, weights=weights))  # type: ignore[arg-type]
        assert log.results.headline is not None
        assert log.results.headline.score == environment.headline_name
        evaluation = (log.results.metadata or {})["evaluation"]
        assert evaluation["cells"] == [cell for cell in figures["cells"] if cell["policy"] == policy]


def test_messages_are_what_chat_seats_read_and_said(exported: Path) -> None:
    for policy, log in logs(exported).items():
        for sample in log.samples or []:
            turns = list(chat(episodes(exported, policy)[str(sample.id)]))
            expected = [
                text
                for turn in turns
                for text in [*[message["content"] for message in turn.conversation[-turn.new :]], turn.answer]
            ]
            assert [message.text for message in sample.messages] == expected
            models = events(sample, "model")
            assert [event.role for event in models] == [turn.role for turn in turns]
            for event, turn in zip(models, turns, strict=True):
                assert [message.text for message in event.input] == [one["content"] for one in turn.conversation]
                assert event.output.completion == turn.answer
                roles = [message.role for message in event.input]
                assert roles[0] == "system"
                assert set(roles[1::2]) <= {"user", "tool"}
                assert set(roles[2::2]) <= {"assistant"}


def test_each_step_has_its_events_and_rewards(exported: Path) -> None:
    for policy, log in logs(exported).items():
        for sample in log.samples or []:
            rows = episodes(exported, policy)[str(sample.id)].rows
            told: list[Any] = [event.data for event in events(sample, "info")]
            assert [data["reward"] for data in told] == [row["reward"] for row in rows]
            assert [data["outcome"] for data in told] == [row["outcome"] for row in rows]
            assert [data["state_hash"] for data in told] == [row["state_hash"] for row in rows]
            for data in told:
                assert sum(data["components"].values()) == pytest.approx(data["reward"])
            assert sum(data["reward"] for data in told) == pytest.approx(sample.metadata["return"])


def test_a_tool_is_called_and_its_result_is_what_the_agent_reads_next(world: str, exported: Path) -> None:
    for policy, log in logs(exported).items():
        for sample in log.samples or []:
            recorded = [json.loads(row["action"]) for row in episodes(exported, policy)[str(sample.id)].rows]
            called = events(sample, "tool")
            if world != "tools":
                assert not called
                continue
            assert [{"tool": event.function, "arguments": event.arguments} for event in called] == recorded
            by_message = [call for one in sample.messages if one.role == "assistant" for call in one.tool_calls or []]
            assert [(call.id, call.function) for call in by_message] == [(one.id, one.function) for one in called]
            results = [one for one in sample.messages if one.role == "tool"]
            assert [one.tool_call_id for one in results] == [event.id for event in called[:-1]]
            assert [one.text for one in results] == [event.result for event in called[:-1]]
            assert called[-1].result == OVER
            assert all(f"{event.function} answered: " in str(event.result) for event in called[:-1])


@pytest.fixture
def two_seats(tmp_path: Path) -> Path:
    """Three episodes of one scenario, in which version 240 of a run plays beside a baseline."""
    path = tmp_path / "episodes.parquet"
    scenario = INCIDENT.scenarios("published")[0]
    episode = play(INCIDENT, scenario, "strict", INCIDENT.policies["oracle"](scenario, "strict"))
    origins = [Origin(240, DIGEST) if step.role == "oversight" else UNTRAINED for step in episode.steps]
    colleagues = dict.fromkeys(("sre", "dev", "manager"), "oracle")
    with write_episodes(path, {"trained": MODEL}) as writer:
        for _ in range(3):
            writer.add(INCIDENT, "trained", episode, origins, colleagues)
    return path


def test_a_log_says_which_model_played_which_seat(two_seats: Path, tmp_path: Path) -> None:
    assert main(["export-log", str(two_seats), str(tmp_path / "out.eval")]) == 0
    log = read(tmp_path / "out.eval")
    assert log.eval.model == "trained"
    assert log.eval.model_args == MODEL == (log.eval.metadata or {})["model"]
    assert log.eval.model_roles is not None
    players = {role: config.model for role, config in log.eval.model_roles.items()}  # type: ignore[union-attr]
    assert players == {"sre": "oracle", "oversight": "trained", "dev": "oracle"}
    assert log.samples is not None
    for event in [event for sample in log.samples for event in events(sample, "model")]:
        assert event.model == players[str(event.role)]
        expected = {"version": 240, "digest": DIGEST} if event.role == "oversight" else None
        assert event.metadata == expected
    spans = [event.name for event in events(log.samples[0], "span_begin")]
    assert spans == [row["role"] for row in next(read_episodes(two_seats)).rows]
    for message in log.samples[0].messages:
        assert (message.metadata or {})["seat"] in players


def test_episodes_of_one_scenario_are_epochs(two_seats: Path, tmp_path: Path) -> None:
    from inspect_ai.log import read_eval_log_samples

    assert main(["export-log", str(two_seats), str(tmp_path / "out.eval")]) == 0
    samples = list(read_eval_log_samples(tmp_path / "out.eval"))
    assert [sample.epoch for sample in samples] == [1, 2, 3]
    assert len({sample.id for sample in samples}) == 1
    assert len({sample.uuid for sample in samples}) == 3
    named = [message.id for sample in samples for message in sample.messages]
    assert len(set(named)) == len(named)


def test_the_style_is_that_of_the_texts(two_seats: Path, tmp_path: Path) -> None:
    assert main(["export-log", str(two_seats), str(tmp_path / "out.eval"), "--style", "compact"]) == 0
    log = read(tmp_path / "out.eval", resolve=True)
    first = next(iter(chat(next(read_episodes(two_seats)), "compact")))
    assert log.samples is not None
    assert len(first.conversation) == 2
    assert [message.text for message in log.samples[0].messages[:2]] == [one["content"] for one in first.conversation]


def test_the_same_episodes_make_the_same_bytes(two_seats: Path, tmp_path: Path) -> None:
    """In another process, with another hash seed, in another time zone, and later."""
    out, again = tmp_path / "out.eval", tmp_path / "again.eval"
    assert main(["export-log", str(two_seats), str(out)]) == 0
    elsewhere = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "chaosops_ray.cli", "export-log", str(two_seats), str(again)]
    subprocess.run(command, cwd=ROOT, env=elsewhere, check=True, capture_output=True)
    assert out.read_bytes() == again.read_bytes()


ODD = [
    "\ud800 half a character",
    "\x00\x1b[31m\x07\u202e",
    "attachment://0123456789abcdef",
    "</script><script>alert(1)</script>",
    "\N{WOMAN}\u200d\N{PERSONAL COMPUTER} ünïcödé \ufffe",
    "x" * 3000,
]


def test_texts_with_odd_characters_go_through(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    scenario = TOOLS.scenarios("synthetic", [1000])[0]
    odd = [Call("web_search", json.dumps({"query": text})) for text in ODD]
    numbers = Call("no\ud800tool", json.dumps({"n": 10**500, "deep": [[[{"\ud800": None}]]], "f": 1e308, "t": True}))
    actions = iter([*odd[:2], Unparsed(ODD[0] + "\n" + ODD[1]), numbers, *odd[2:]] * 9)
    policy = '../../a "policy"\n<b>=\N{SNOWMAN}'
    with write_episodes(path, {policy: {"run": "\N{SNOWMAN}\x00"}}) as writer:
        for _ in range(2):
            writer.add(TOOLS, policy, play(TOOLS, scenario, "strict", lambda _: next(actions)))
    assert main(["export-log", str(path), str(tmp_path / "logs")]) == 0
    (file,) = (tmp_path / "logs").iterdir()
    assert re.fullmatch(r"1-tools-[A-Za-z0-9.-]+\.eval", file.name)
    log = read(file)
    assert log.eval.model == policy
    assert log.samples is not None
    for sample, recorded in zip(log.samples, read_episodes(path), strict=True):
        turns = list(chat(recorded))
        said = [message.text for message in sample.messages]
        told = [message["content"] for message in turns[0].conversation]
        assert said[: len(told)] == told
        assert said[len(told) :: 2] == [turn.answer for turn in turns]


def test_several_policies_need_a_folder_or_a_choice(
    exported: Path, world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(exported / "episodes.parquet"), tmp_path / "out.eval"
    assert main(["export-log", file, str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "makes 2 logs" in line
    assert "--policy" in line
    assert main(["export-log", file, str(out), "--policy", "random"]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    # Which log is beside it changes nothing.
    assert out.read_bytes() == (exported / "logs" / f"2-{world}-random.eval").read_bytes()


def cut(path: Path) -> Path:
    other = path.with_name("cut.parquet")
    other.write_bytes(path.read_bytes()[:-300])
    return other


def with_metadata(path: Path, **metadata: bytes) -> Path:
    table = pq.read_table(path)
    other = path.with_name("metadata.parquet")
    changed = {key.encode(): value for key, value in metadata.items()}
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **changed}), other)
    return other


def swapped(path: Path) -> Path:
    rows = pq.read_table(path).to_pylist()
    other = path.with_name("swapped.parquet")
    rows.sort(key=lambda row: -row["episode"])
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), other)
    return other


def without_episodes(path: Path) -> Path:
    other = path.with_name("empty.parquet")
    pq.write_table(pa.Table.from_pylist([], schema=COLUMNS), other)
    return other


@pytest.mark.parametrize("form", ["inspect", "atif"])
@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (cut, "cannot read"),
        (without_episodes, "has no episodes"),
        (swapped, "comes after episode"),
        (lambda path: edited(path, 1, reward=7.5), "step 1: reward was 7.5"),
        (lambda path: edited(path, 1, view="{}"), "step 1: view was"),
        (lambda path: edited(path, 2, action="["), "not a recorded action"),
        (lambda path: edited(path, 0, scenario="nowhere/x"), "first part must be a world"),
        (lambda path: edited(path, 0, rules="strict/1,multiplier=2.0"), "rules strict/1 are not played"),
        (lambda path: with_metadata(path, chaosops_policies=b"[]"), "which models"),
        (lambda path: with_metadata(path, chaosops_policies=b'{"trained": {"run": [[]]}}'), "which models"),
        (lambda path: with_metadata(path, chaosops_policies=b"[" * 9999), "which models"),
        (lambda path: with_metadata(path, chaosops_set=b"\xff"), "which models"),
        (lambda path: path.with_name("missing"), "No such file"),
    ],
)
def test_a_damaged_or_edited_file_is_one_line_and_leaves_nothing(
    two_seats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoilt: Any, said: str, form: str
) -> None:
    path = spoilt(two_seats)
    before = sorted(tmp_path.iterdir())
    assert main(["export-log", str(path), str(tmp_path / "out"), "--format", form]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("chaosops export-log: ")
    assert said in line
    assert sorted(tmp_path.iterdir()) == before


def test_a_place_that_is_taken_is_refused(two_seats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out, said in {
        "taken": "is not empty",
        "no/such/out.eval": "there is no folder",
        "out.json": "ends in .eval",
    }.items():
        (tmp_path / "taken").mkdir(exist_ok=True)
        (tmp_path / "taken" / "file").write_text("mine")
        assert main(["export-log", str(two_seats), str(tmp_path / out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["file"]
    old = tmp_path / "old.eval"
    old.write_text("an older log")
    assert main(["export-log", str(edited(two_seats, 1, reward=7.5)), str(old)]) == 2
    assert old.read_text() == "an older log"
    assert main(["export-log", str(two_seats), str(old)]) == 0
    assert read(old).status == "success"


def test_an_unknown_policy_is_named_beside_the_known(
    two_seats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export-log", str(two_seats), str(tmp_path / "out.eval"), "--policy", "oracel"]) == 2
    assert "'oracel'; valid: trained" in capsys.readouterr().err


def test_without_the_extra_one_line_names_it(
    two_seats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    assert main(["export-log", str(two_seats), str(tmp_path / "out.eval")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "install chaosops-ray[inspect]" in line
    assert not (tmp_path / "out.eval").exists()
    assert main(["export-log", str(two_seats), str(tmp_path / "out"), "--format", "atif"]) == 0


def test_the_snippet_of_the_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "inspect.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    commands = re.findall(r"^\.venv/bin/chaosops (.+)$", page, re.MULTILINE)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for command in commands:
            assert main(command.split()) == 0
        printed: list[Any] = []
        exec(program, {"print": lambda *values: printed.append(values)})  # noqa: S102 - the page's own program
    finally:
        os.chdir(before)
    assert printed
    assert str(printed[0][0]).startswith("incident/")


@pytest.mark.slow
def test_the_viewer_serves_the_logs(exported: Path, world: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["view", "--log-dir", str(exported / "logs"), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [Path(sys.executable).with_name("inspect"), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "HOME": str(tmp_path)},
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert any("Running on" in line for line in server.stdout)

            def fetched(path: str) -> Any:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=60) as answer:
                    return json.load(answer)

            files = sorted(fetched("logs")["files"], key=lambda file: file["name"])
            assert [file["task"] for file in files] == [world, world]
            for file, policy in zip(files, POLICIES[world], strict=True):
                log = fetched(f"logs/{urllib.parse.quote(file['name'], safe='')}")
                assert log["eval"]["model"] == policy
                assert len(log["samples"]) == len(episodes(exported, policy))
        finally:
            server.terminate()


def test_scores_of_a_world_with_a_prior_are_weighed_as_its_evaluation_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENTS, TOY.name, TOY)
    episodes, figures = evaluated(tmp_path, "toy", "--policies", "search", "--rules", "rare")
    assert main(["export-log", str(episodes), str(tmp_path / "search.eval")]) == 0
    log = read(tmp_path / "search.eval")
    assert log.results is not None
    (score,) = [score for score in log.results.scores if score.name == "suspicion"]
    cells = {cell["tier"]: cell["suspicion"] for cell in json.loads(figures.read_text())["cells"]}
    assert {name: metric.value for name, metric in score.metrics.items() if name != "mean"} == pytest.approx(cells)
    assert max(cells.values()) < 0.3, "there are few prizes"
