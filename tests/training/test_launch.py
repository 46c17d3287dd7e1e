"""What a person can get wrong about a training run: one line, exit code 2, nothing begun; and no policy but the trained one."""

from __future__ import annotations

import json
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from chaosops_ray import config
from chaosops_ray import evaluate as evaluation
from chaosops_ray.cli import main
from chaosops_ray.config import load
from chaosops_ray.learner import lora
from chaosops_ray.reports import run_report
from chaosops_ray.sim import environment_named
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import episodes, run_folder, versions
from chaosops_ray.training import base_models, check, launch, loop, policies
from chaosops_ray.wire import EpisodeReport
from tests.support import runs
from tests.support.models import publish

CONFIG = str(Path(__file__).parents[2] / "tune_configs" / "3a.yaml")
INCIDENT = environment_named("incident")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert "report" not in out
    return err


# Each with the key, option or thing that its line has to name.
MISTAKES = {
    "typo in a setting": (["--set", "learner.lora_rnk=8"], "learner.lora_rnk"),
    "typo in the file": (["--set", "modle=tiny"], "modle"),
    "no such model": (["--set", "model=/no/such/model"], "/no/such/model"),
    "a name that no hub has": (["--set", "model=no such!"], "no such!"),
    "a value out of range": (["--set", "batch.group=1"], "batch.group"),
    "a curriculum that is none": (["--set", "curriculum=easy:5,extreme:5"], "extreme"),
    "a world that is none": (["--set", "world=chess"], "chess"),
    "rules that are none": (["--set", "rules=lenient"], "lenient"),
    "a stream that is none": (["--set", "credit.streams={pilot: {team: 1}}"], "pilot"),
    "options of the other world": (["--set", "world=tools"], "rule_options."),
    "evaluation on what is trained on": (["--set", "evaluation.seeds=99990-100010"], "evaluation.seeds"),
    "a policy that is none": (["--set", "evaluation.policies=[perfect]"], "perfect"),
    "a seed that is none": (["--seed", "-1"], "seed"),
    "nowhere to write": (["--out", "/dev/null/run"], "/dev/null"),
    "turns that overlap": (
        ["--set", "resources={colocate: true, sampler_gpus: 0.5, learner_gpus: 0.5}", "--set", "schedule=pipelined"],
        "resources.colocate",
    ),
    "more than one GPU to share": (
        ["--set", "resources={colocate: true, sampler_gpus: 1, learner_gpus: 0.5}"],
        "resources.colocate",
    ),
    "no cluster there": (["--address", "127.0.0.1:1"], "127.0.0.1:1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    arguments, key = MISTAKES[mistake]
    out = tmp_path / "run"
    given = ["train", CONFIG, "--set", "model=tiny", "--out", str(out), *arguments]
    assert main(given) == 2
    assert key in said(capsys)
    assert not out.exists()


def test_a_run_folder_that_is_taken_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    assert main(["train", CONFIG, "--set", "model=tiny", "--out", str(tmp_path)]) == 2
    assert str(tmp_path) in said(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["train"], "--resume"),
        (["train", CONFIG, "--resume", "x"], "--resume"),
        (["train", "/no/such.yaml"], "/no/such.yaml"),
        (["train", "--resume", "/no/such/run"], "/no/such/run"),
        (["train", str(Path(CONFIG).with_name("phase3.yaml"))], "chaosops tune"),
        (["train", "--resume", "x", "--seed", "3"], "--seed"),
    ],
)
def test_so_is_a_mistake_about_the_command(capsys: pytest.CaptureFixture[str], arguments: list[str], key: str) -> None:
    assert main(arguments) == 2
    assert key in said(capsys)


def test_explain_prints_the_configuration_and_the_actors_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", CONFIG, "--set", "model=tiny", "--seed", "5", "--explain"]) == 0
    out = capsys.readouterr().out
    resolved, _, actors = out.partition("\nactors:\n")
    assert yaml.safe_load(resolved)["seed"] == 5
    assert yaml.safe_load(resolved)["rules"] == "strict/2"
    assert "1 learner" in actors
    assert "torch sampler" in actors
    assert "together: 0.6 CPU" in actors
    assert "seats: " not in actors
    assert main(["train", CONFIG, "--set", "model=tiny", "--set", "seats.dev=oracle", "--explain"]) == 0
    assert "\nseats: sre, oversight, manager by the policy that learns; dev by oracle\n" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# -- the trained policy, and nothing in its place -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with one version in it."""
    path = tmp_path_factory.mktemp("runs") / "one"
    given = load(Path(CONFIG), ["model=tiny"])
    folder = run_folder.RunFolder.create(path, check.written(given))
    base = base_models.prepare("tiny")
    model = lora.with_adapter(lora.load_base(str(base.path), "cpu"), 4, 8, 0)
    version = publish(model, folder.adapters, 3, base.digest, base.name)
    runs.log(folder, {3: version.digest}, 3)
    return path


def evaluate(policies: str, *more: str) -> int:
    return main(["evaluate", "--policies", policies, "--seeds", "1000", "--tiers", "easy", *more])


def test_an_adapter_is_evaluated_like_any_policy(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells, file = tmp_path / "cells.json", tmp_path / "episodes.parquet"
    assert evaluate(f"trained={run},random", "--json", str(cells), "--episodes", str(file)) == 0
    assert "trained" in capsys.readouterr().out
    assert {cell["policy"] for cell in json.loads(cells.read_text())["cells"]} == {"trained", "random"}
    version = versions.read(run / "adapters" / "policy-v3")
    for episode in episodes.read_episodes(file):
        stamps = {(row["version"], row["digest"]) for row in episode.rows}
        assert stamps == ({(3, version.digest)} if episode.policy == "trained" else {episodes.UNTRAINED[:2]})
    assert evaluate(f"trained={run}@3") == 0


def test_a_run_is_evaluated_in_the_seats_that_learned(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command as by the run itself, and beside baselines in the same seats; the report and the card say so."""
    path = Path(shutil.copytree(run, tmp_path / "run"))
    given = load(Path(CONFIG).with_name("oversight.yaml"), ["model=tiny", "evaluation.seeds=1000"])
    (path / run_folder.CONFIG).write_text(check.written(given))
    file = tmp_path / "episodes.parquet"
    assert evaluate(f"trained={path}", "--episodes", str(file)) == 0
    assert "seats: sre, dev, manager by oracle; oversight by trained" in capsys.readouterr().out
    for episode in episodes.read_episodes(file):
        assert {(row["role"], row["player"], row["version"]) for row in episode.rows} == {
            ("sre", "oracle", -1), ("oversight", "trained", 3), ("dev", "oracle", -1),
        }  # fmt: skip
    assert evaluate(f"trained={path}", "--episodes", str(file), "--seats", "all") == 0
    assert all(row["player"] == "trained" for episode in episodes.read_episodes(file) for row in episode.rows)

    folder = run_folder.RunFolder(path)
    training = loop.prepare(given, base_models.prepare("tiny"), folder)
    scenarios = INCIDENT.scenarios("published", [1000])
    played = policies.trained(INCIDENT, str(path), "torch")(scenarios, "strict")
    reports = [
        EpisodeReport(
            one.episode.scenario.identity, one.episode.scenario.tier, one.episode.total, 0.0,
            evaluation.result(INCIDENT, "trained", one.episode).metrics, {}, {},
            tuple([INCIDENT.dump_action(step.action) for step in one.episode.steps]), one.origins or (),
        )
        for one in played
    ]  # fmt: skip
    found = launch.measure(training, folder.version(), scenarios, reports)
    recorded = list(episodes.read_episodes(path / run_folder.EVALUATION_EPISODES))
    assert not [line for one in recorded for line in episodes.differences(one)]
    assert len(recorded) == len(scenarios) * len({cell["policy"] for cell in found["cells"]})
    assert found["colleagues"]["trained"] == found["colleagues"]["flag-all"] == given.colleagues
    success = {cell["policy"]: cell["success"] for cell in found["cells"] if cell["tier"] == "easy"}
    assert success["random"] == success["flag-nothing"] == 1  # oracles resolve it, whoever oversees them
    page = run_report.write(folder, INCIDENT).read_text()
    assert "Seats: sre, dev, manager by oracle; oversight by trained, random, blind," in page
    capsys.readouterr()


@pytest.mark.parametrize(
    ("file", "before", "after", "named"),
    [
        (run_folder.CONFIG, "rules: strict/2", "rules: strict", "rules strict/1"),
        (run_folder.CONFIG, "rules: strict/2", "rules: strict/3,catch=2.0,false_flag=1.0", "rules strict/3"),
        (run_folder.CONFIG, "rules: strict/2\n", "", "rules strict/1"),
        (run_folder.METRICS, '"rules": "strict/2"', '"rules": "strict"', "rules strict/1"),
    ],
    ids=["without a version", "of another version", "of an old default", "in the metrics"],
)
def test_a_run_begun_under_other_rules_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, before: str, after: str, named: str
) -> None:
    """Every command that would play it, continue it, or hand it on; the run stays as it was."""
    path = runs.folder(tmp_path / "run", 2).path
    text = (path / file).read_text()
    assert before in text
    (path / file).write_text(text.replace(before, after))
    for command in (
        ["train", "--resume", f"{path}"],
        ["evaluate", "--policies", f"trained={path}"],
        ["export", f"{path}"],
    ):
        assert main(command) == 2
        line = said(capsys)
        for part in (f"{path}, {file}: {named} are not played", "it has strict/2 and published", "train it again"):
            assert part in line
    assert (path / file).read_text() == text.replace(before, after)
    assert not [*(path / "adapters").iterdir(), *(path / "checkpoints").iterdir(), *path.glob("export")]


def broken(run: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    return copy


def remove_adapter(run: Path) -> None:
    shutil.rmtree(run / "adapters" / "policy-v3")


def remove_weights(run: Path) -> None:
    (run / "adapters" / "policy-v3" / versions.WEIGHTS).unlink()


def flip_a_byte(run: Path) -> None:
    path = run / "adapters" / "policy-v3" / versions.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


def remove_marker(run: Path) -> None:
    (run / "adapters" / "policy-v3" / versions.MARKER).unlink()


def other_base(run: Path) -> None:
    """The same adapter, and a run that says it belongs to another base model."""
    base = base_models.prepare("tiny")
    shutil.rmtree(run / "adapters" / "policy-v3")
    model = lora.with_adapter(lora.load_base(str(base.path), "cpu"), 4, 8, 0)
    publish(model, run / "adapters", 3, "0" * 64, base.name)


def remove_configuration(run: Path) -> None:
    (run / run_folder.CONFIG).unlink()


def remove_model(run: Path) -> None:
    given = yaml.safe_load((run / run_folder.CONFIG).read_text())
    given["model"] = "/no/such/model"
    (run / run_folder.CONFIG).write_text(yaml.safe_dump(given))


SABOTAGE = [remove_adapter, remove_weights, flip_a_byte, remove_marker, other_base, remove_configuration, remove_model]


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda function: function.__name__)
def test_nothing_is_ever_played_in_place_of_the_trained_policy(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sabotage: object
) -> None:
    """Every entry point to an adapter: the command, with and without a version's number, and the function below it."""
    copy = broken(run, tmp_path)
    sabotage(copy)  # type: ignore[operator]
    cells = tmp_path / "cells.json"
    for spelling in (f"trained={copy}", f"trained={copy}@3"):
        assert evaluate(spelling, "--json", str(cells)) == 2
        said(capsys)
        assert not cells.exists()
    with pytest.raises((InputError, versions.AdapterError, config.ConfigError)):
        policies.trained(INCIDENT, str(copy), "torch")


@pytest.mark.parametrize("number", ["4", "x", "-1", "999999999999"])
def test_a_version_that_is_not_there_is_an_error(run: Path, capsys: pytest.CaptureFixture[str], number: str) -> None:
    assert evaluate(f"trained={run}@{number}") == 2
    said(capsys)


def test_a_run_of_the_other_world_is_an_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--world", "tools", "--policies", f"trained={run}"]) == 2
    assert "incident" in said(capsys)


# -- a model that somebody serves -------------------------------------------------------------------------------------


class Chat(BaseHTTPRequestHandler):
    """A model that restarts the database, whatever it is asked."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["messages"][0]["role"] == "system"
        said = json.dumps({"choices": [{"message": {"content": '{"action": "restart", "service": "db"}'}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def test_a_served_model_is_evaluated_like_any_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(policies.KEY, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        cells = tmp_path / "cells.json"
        code = evaluate(f"served=any@{url},random", "--json", str(cells))
        server.shutdown()
        thread.join()
    assert code == 0
    capsys.readouterr()
    assert {cell["policy"] for cell in json.loads(cells.read_text())["cells"]} == {"served", "random"}
    # Nobody is there any more, and nobody else answers in its place.
    monkeypatch.setattr(policies, "RETRIES", 0)
    assert evaluate(f"served=any@{url}") == 2
    said(capsys)


@pytest.mark.parametrize("spelling", ["served=", "served=any", "served=@http://x", "served=any@ftp://x", "learnt=x"])
def test_a_served_model_that_is_misspelt_is_an_error(capsys: pytest.CaptureFixture[str], spelling: str) -> None:
    assert evaluate(spelling) == 2
    said(capsys)
