"""The process in which models play, as the server sees it: whatever it does, nothing plays in a model's place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.serve.control_room.models import Models, named
from chaosops_ray.serve.control_room.performances import BrokenOffError, UnavailableError
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.errors import InputError
from tests.support import model_process

INCIDENT = ENVIRONMENTS["incident"]
SCENARIO = INCIDENT.scenario("incident/rogue_deploy_bot/hard/1000")
ROOT = Path(__file__).parents[3]
NOOP = '{"action": "noop"}'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def started(log: Path, **given: Any) -> Models:
    return Models([sys.executable, model_process.__file__, str(log)], **given)


@pytest.fixture
def models(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Models]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = started(log)
    yield found
    found.end()


def turn(models: Models, policy: str, seconds: float = 60.0) -> Any:
    with models.playing(policy, INCIDENT, SCENARIO, "strict") as model:
        return model.act(seconds)


def test_a_model_that_plays_well_is_held_from_play_to_play(models: Models, log: Path) -> None:
    with models.playing("trained=well", INCIDENT, SCENARIO, "strict") as model:
        assert (model.name, model.version, model.style, model.described) == ("trained", 7, "compact", {"run": "over"})
        action, origin = model.act(60.0)
        assert (origin.version, origin.completion, origin.log_probs) == (7, "as it wrote", (-0.5,))
        model.follow(action, None)
        model.follow(NOOP, "what it wrote")
        model.act(60.0)
    turn(models, "trained=well")
    lines = log.read_text().splitlines()
    assert lines.count("started") == 1
    assert [line for line in lines if line.startswith("turn")] == [
        "turn []",
        f"turn {json.dumps([[action, None], [NOOP, 'what it wrote']])}",
        "turn []",
    ]


LOADING = {
    "die": "ended with exit code 3",
    "killed": "ended by SIGKILL; it may have needed more memory than there is",
    "flood": "nonsense",
    "nonsense": "nonsense",
    "list": "nonsense",
    "no-action": "nonsense",
    "no adapter": "^UNAVAILABLE: no adapter$",
}


def test_a_model_that_cannot_be_loaded_is_unavailable_and_the_next_one_plays(models: Models, log: Path) -> None:
    for how, words in LOADING.items():
        with pytest.raises(UnavailableError, match=words):
            turn(models, f"trained=load-{how}")
    assert "turn" not in log.read_text()
    assert turn(models, "trained=well")[0]


def test_a_turn_that_fails_ends_the_performance_and_the_next_one_plays(models: Models, log: Path) -> None:
    words = {
        "die": "ended with exit code 3",
        "killed": "SIGKILL",
        "flood": "nonsense",
        "nonsense": "nonsense",
        "list": "nonsense",
        "no-action": "nonsense",
        "no-number": "nonsense",
        "foreign": r"version 7 was asked and version 6 \(dddddddddddd\) answered",
        "failed": "^the engine is gone$",
    }
    for how, expected in words.items():
        with pytest.raises(BrokenOffError, match=expected):
            turn(models, f"trained={how}")
    assert turn(models, "trained=well")[0]
    # What is no answer at all ends the process; an answer that says it failed does not.
    assert log.read_text().splitlines().count("started") == 1 + 7


def test_a_process_that_hangs_is_ended(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    models = started(log, load_seconds=60.0, turn_seconds=0.2)
    with pytest.raises(BrokenOffError, match=r"did not answer within 0\.2 s; it was ended"):
        turn(models, "trained=hang")
    with models.playing("trained=hang", INCIDENT, SCENARIO, "strict") as model:
        for _ in range(20_000):  # more than a pipe holds, and nobody reads it
            model.follow(NOOP, "x" * 100)
        with pytest.raises(BrokenOffError, match=r"within 0\.01 s"):
            model.act(0.01)
    models.end()


def test_one_performance_at_a_time_has_the_process(models: Models) -> None:
    holding = models.playing("trained=well", INCIDENT, SCENARIO, "strict")
    with holding, pytest.raises(UnavailableError, match="playing for another page"):
        turn(models, "trained=well")
    assert turn(models, "trained=well")


def test_a_server_that_ends_ends_the_process_and_starts_no_other(models: Models) -> None:
    with models.playing("trained=well", INCIDENT, SCENARIO, "strict") as model:
        models.end()
        with pytest.raises(BrokenOffError, match="the server is ending"):
            model.act(60.0)
    with pytest.raises(UnavailableError, match="the server is ending"):
        turn(models, "trained=well")


def test_a_command_that_cannot_be_started_is_said() -> None:
    with pytest.raises(UnavailableError, match="cannot be started: No such file"):
        turn(Models(["/no/such/program"]), "trained=well")


def test_names_show_no_address_and_no_key() -> None:
    found = named("trained=/elsewhere/run@3,model=tiny,served=qwen@http://user:secret@127.0.0.1:8000/v1")
    assert list(found) == ["trained=/elsewhere/run@3", "model=tiny", "served=qwen"]
    assert named("") == {}
    for spelling in ("oracle", "ppo=run", "trained=", "model=a,model=a", "served=q@http://a,served=q@http://b"):
        with pytest.raises(InputError):
            named(spelling)


@pytest.mark.parametrize("idle", ["0.01", "600"])
def test_the_real_process_ends_when_it_is_idle_and_when_its_parent_is_gone(idle: str) -> None:
    command = [sys.executable, "-m", "chaosops_ray.training.performer", "--idle", idle]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        if idle == "600":
            assert process.stdin is not None
            process.stdin.close()
        assert process.wait(60) == 0
