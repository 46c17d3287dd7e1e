"""The process in which models play: a run plays exactly the version that was named, or is unavailable with a reason."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.process_environment import hidden
from chaosops_ray.serve.control_room.models import Models
from chaosops_ray.serve.control_room.performances import Performance, UnavailableError, beginning
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.store.run_folder import METRICS, RunFolder
from chaosops_ray.training import performer
from chaosops_ray.training.performer import Held
from tests.support import runs
from tests.support.models import publish, small_peft, tiny_base

INCIDENT = ENVIRONMENTS["incident"]
SCENARIO = INCIDENT.scenario("incident/rogue_deploy_bot/hard/1000")
ROOT = Path(__file__).parents[2]
VERSIONS = 2
CONFIG = f"""rules: {runs.RULES}
model: tiny
updates: {VERSIONS}
rollout: {{max_tokens: 1, structured: true}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is over, with two real versions for the tiny model."""
    path = tmp_path_factory.mktemp("runs") / "over"
    base = tiny_base()
    folder = RunFolder.create(path, CONFIG)
    made = {
        number: publish(small_peft(base.path, number, 0.3), folder.adapters, number, base.digest, "tiny").digest
        for number in range(1, VERSIONS + 1)
    }
    runs.log(folder, made, VERSIONS)
    folder.finish([], runs.evaluation())
    return path


@pytest.fixture
def held() -> Iterator[Held]:
    found = Held("torch")
    yield found
    found.close()


def played(held: Held, policy: str, turns: int = 4) -> Any:
    """The first turns of an episode, or why nothing plays."""
    request = {"policy": policy, "world": "incident", "scenario": SCENARIO.identity, "rules": "strict"}
    answer = performer.answer(held, {"play": request})
    if "unavailable" in answer:
        return answer["unavailable"]
    taken: list[tuple[str, None]] = []
    found = [answer]
    for _ in range(turns):
        found.append(performer.answer(held, {"turn": {"taken": taken}}))
        taken = [(found[-1]["action"], None)]
    return found


@pytest.mark.slow
def test_whatever_happens_to_a_file_of_a_run_it_plays_as_before_or_says_why_not(
    finished: Path, tmp_path: Path, held: Held
) -> None:
    """Removed, cut, changed in one byte, or swapped with another version's; both adapters swapped as a whole."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    policy = f"trained={run}"
    whole = played(held, policy)
    assert whole[0]["ready"]["version"] == VERSIONS
    assert all(turn["version"] == VERSIONS for turn in whole[1:])
    refused = []
    for path in sorted([path for path in run.rglob("*") if path.is_file()]):
        content = path.read_bytes()
        others = [other for other in run.rglob(path.name) if other != path]
        swapped = others[0].read_bytes() if others else b"{}"
        middle = len(content) // 2
        flipped = content[:middle] + bytes([byte ^ 1 for byte in content[middle : middle + 1]]) + content[middle + 1 :]
        for damaged in (None, content[:middle], flipped, swapped):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            held.close()
            found = played(held, policy)
            assert found == whole or isinstance(found, str), path
            if found != whole:
                assert found
                refused.append(str(path.relative_to(run)))
            path.write_bytes(content)
    last = f"adapters/policy-v{VERSIONS}"
    # Without its evaluation it is a run that has not been judged yet.
    assert refused.count("evaluation.json") == 3
    for needed in ("config.yaml", METRICS, f"{last}/adapter_model.safetensors", f"{last}/complete.json"):
        assert refused.count(needed) == 4, needed
    first, second = (run / "adapters" / f"policy-v{number}" for number in (1, VERSIONS))
    first.rename(run / "aside")
    second.rename(first)
    (run / "aside").rename(second)
    held.close()
    assert isinstance(played(held, policy), str)


def test_what_is_damaged_while_it_plays_is_refused_at_the_next_play(finished: Path, tmp_path: Path, held: Held) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert not isinstance(played(held, f"trained={run}"), str)
    shutil.rmtree(run / "adapters" / f"policy-v{VERSIONS}")
    assert "the run still has versions 1" in played(held, f"trained={run}")
    (run / METRICS).write_text("")
    assert f"{METRICS} is not as it was" in played(held, f"trained={run}")


def test_a_version_that_is_asked_for_is_the_one_that_plays(finished: Path, held: Held) -> None:
    one, two = (played(held, f"trained={finished}@{number}") for number in (1, 2))
    assert [found[0]["ready"]["version"] for found in (one, two)] == [1, 2]
    assert one[0]["ready"]["digest"] != two[0]["ready"]["digest"]
    assert "no version 3" in played(held, f"trained={finished}@3")


@pytest.mark.parametrize(
    ("policy", "world", "words"),
    [
        ("trained={run}", "tools", "was trained in world incident"),
        ("trained=/no/such/run", "incident", "is not a run"),
        ("model=/no/such/model", "incident", "there is no folder"),
        ("model=somebody/something", "incident", "is not on this machine"),
    ],
)
def test_what_cannot_be_loaded_is_said(finished: Path, held: Held, policy: str, world: str, words: str) -> None:
    scenario = ENVIRONMENTS[world].scenarios(ENVIRONMENTS[world].selections[0], [0])[0].identity
    request = {"policy": policy.format(run=finished), "world": world, "scenario": scenario, "rules": "strict"}
    (found,) = performer.answer(held, {"play": request}).values()
    assert words in found


def test_where_only_the_core_is_installed_every_model_is_unavailable(
    held: Held, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chaosops_ray.training.errors", "chaosops_ray.config"):
        monkeypatch.delitem(sys.modules, name)
    with hidden("pydantic"):
        found = played(held, f"trained={finished}")
    assert found == "pydantic is not installed; install chaosops-ray[train]"


@pytest.mark.slow
def test_the_real_process_plays_on_as_if_nothing_had_happened(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy, from every turn on: with its own completions told again, the model goes the same way."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    models = Models([sys.executable, "-m", "chaosops_ray.training.performer"])
    policy = f"trained={finished}"
    first = beginning(INCIDENT, SCENARIO, "strict", "trained", {}, "full")

    def perform(before: Any) -> Any:
        with models.playing(policy, INCIDENT, SCENARIO, "strict") as model:
            performance = Performance(before, policy, {"manager": "random"}, model)
            for _ in performance.steps(300.0):
                continue
        return performance.played

    whole = perform(first)
    assert whole.is_over
    for step in range(1, len(whole.episode.steps), 3):
        again = perform(whole.before(step))
        assert again.episode == whole.episode
        assert [one[:3] for one in again.origins] == [one[:3] for one in whole.origins]
    with (
        pytest.raises(UnavailableError, match="is not a run"),
        models.playing(f"trained={finished.parent}", INCIDENT, SCENARIO, "strict"),
    ):
        pass
    models.end()
