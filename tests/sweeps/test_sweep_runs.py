"""Sweeps on a real Ray: stopped, retried, resumed; and what is said of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep

import pytest
import ray

from chaosops_ray.store import run_folder
from tests.support.cluster import SMALL, ray_here
from tests.support.models import tiny_base
from tests.support.sweeps import CONFIGS

# Two CPUs hold one trial at a time.
SETTINGS = (
    *SMALL,
    *("updates=3", "checkpoint_every=1", "rollout.shards=1", "resources.learner_cpus=1.2", "evaluation.seeds=1000"),
)
# One arm that does well, and one that its alarm stops.
PAIR = {
    "arms": {
        "plain": {"extends": str(CONFIGS / "3a.yaml")},
        "alarmed": {"extends": str(CONFIGS / "3a.yaml"), "tiny": {"alarm": {"kl": 1e-9, "action": "abort"}}},
    },
    "seeds": "0",
    "reference": "plain",
    "hypotheses": [{"claim": "It is better than chance.", "more": "plain", "than": "random", "on": "hard"}],
}

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def tiny_model() -> None:
    tiny_base()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray that outlives its drivers, one of which is killed."""
    with ray_here(cpus=2, gpus=0):
        yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "small.yaml"
    path.write_text(json.dumps(PAIR))
    return path


def begun(sweep_file: Path, out: Path, *more: str, settings: Sequence[str] = SETTINGS) -> subprocess.Popen[str]:
    given = [word for setting in settings for word in ("--set", setting)]
    return chaosops("tune", str(sweep_file), *given, "--out", str(out), *more)


def chaosops(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaosops_ray.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=600)
    return process.returncode, said


@pytest.fixture(scope="module")
def undisturbed(sweep_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A sweep from beginning to end, on a Ray of its own: its folder, exit code and output."""
    out = tmp_path_factory.mktemp("undisturbed") / "small"
    return out, *ended(begun(sweep_file, out))


def states(out: Path) -> dict[str, tuple[str, int]]:
    """What became of each trial, and after how many updates."""
    found = json.loads((out / "comparison.json").read_text())
    return {one["trial"]: (one["state"], one["updates"]) for one in found["trials"]}


def test_a_sweep_ends_in_a_report_and_a_failed_trial_is_in_it(undisturbed: tuple[Path, int, str]) -> None:
    out, code, said = undisturbed
    assert code == 1, said  # one has failed
    assert re.search(r"^alarmed-s0 failed: update \d: KL", said, re.MULTILINE)
    assert f"undecided: {PAIR['hypotheses'][0]['claim']}" in said
    assert said.endswith(f"report: {out / 'report.html'}\n")
    found = states(out)
    assert found["plain-s0"] == ("finished", 3)
    assert found["alarmed-s0"][0] == "failed"
    cells = json.loads((out / "comparison.json").read_text())["cells"]
    assert {cell["policy"] for cell in cells} == {"plain", "random", "heuristic", "oracle"}


def test_an_alarm_is_no_accident(undisturbed: tuple[Path, int, str]) -> None:
    """To go on after it would be to overrule it: no retry, and no checkpoint of the update that set it off."""
    out, _, said = undisturbed
    assert said.count("alarmed-s0: failed") == 1
    _, updates = states(out)["alarmed-s0"]
    assert 1 <= updates < 3
    folder = run_folder.RunFolder(out / "trials" / "alarmed-s0")
    assert folder.checkpoints() == [*range(1, updates)]


def test_every_trial_is_a_run_folder_with_its_own_report_and_metrics(undisturbed: tuple[Path, int, str]) -> None:
    out, _, _ = undisturbed
    folder = run_folder.RunFolder(out / "trials" / "plain-s0")
    assert [row["update"] for row in folder.metrics()] == [1, 2, 3]
    assert (folder.path / "report.html").is_file()
    assert logged(out, 1, "plain-s0") == [1, 2, 3]


def logged(out: Path, session: int, trial: str) -> list[int]:
    """The updates that Tune has logged for a trial since the sweep was begun, or resumed for the n-th time."""
    (path,) = (out / "tune" / str(session)).glob(f"trial_*{trial}*/result.json")
    return [json.loads(line)["update"] for line in path.read_text().splitlines()]


def until_a_checkpoint(out: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the trial that trains to its end has made a checkpoint."""
    until = monotonic() + 300
    while not list(out.glob("trials/plain-s0/checkpoints/update-*")):
        assert process.poll() is None, process.communicate()[0]
        assert monotonic() < until, "no trial has made a checkpoint"
        sleep(0.05)


def test_a_driver_that_was_killed_is_resumed_and_ends_in_the_same_report(
    sweep_file: Path, undisturbed: tuple[Path, int, str], address: str, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    process = begun(sweep_file, out, "--address", address)
    until_a_checkpoint(out, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "report.md").exists()
    code, said = ended(chaosops("tune", "--resume", str(out), "--address", address))
    assert code == 1, said
    plain = "trials/plain-s0"
    resumed, never_stopped = (run_folder.RunFolder(folder / plain).metrics() for folder in (out, undisturbed[0]))
    assert [row["digest"] for row in resumed] == [row["digest"] for row in never_stopped]
    for name in ("report.md", "comparison.json"):
        assert (out / name).read_bytes() == (undisturbed[0] / name).read_bytes()
    assert logged(out, 2, "plain-s0")[0] > 1  # it went on, and did not begin again


def test_a_sweep_that_is_over_is_not_played_again(
    undisturbed: tuple[Path, int, str], address: str, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(undisturbed[0], tmp_path / undisturbed[0].name))
    code, said = ended(chaosops("tune", "--resume", str(out), "--address", address))
    assert code == 1, said
    for path in [*out.glob("trials/*/metrics.jsonl"), out / "report.md", out / "comparison.json"]:
        assert path.read_bytes() == (undisturbed[0] / path.relative_to(out)).read_bytes()
    assert [path.name for path in (out / "tune").iterdir()] == ["1"]


def test_who_does_worse_is_stopped_early_and_who_fails_is_retried(address: str, tmp_path: Path) -> None:
    """One trial after the other: the second is judged by the first, and the third never reports."""
    extended = str(CONFIGS / "3a.yaml")
    # Hard pays less than easy from the start; the last never gets its episodes in time.
    arms = {
        "easy": {"extends": extended, "tiny": {"curriculum": "easy:4"}},
        "hard": {"extends": extended, "tiny": {"curriculum": "hard:4"}},
        "hurried": {"extends": extended, "tiny": {"rollout": {"deadline": 1e-6, "retries": 0}}},
    }
    stop = {"keep": 0.5, "after": 0.25}
    path = tmp_path / "race.yaml"
    path.write_text(json.dumps({"arms": arms, "seeds": "0", "reference": "easy", "retries": 1, "stop_early": stop}))
    settings = [setting for setting in SETTINGS if not setting.startswith("curriculum")]
    out = tmp_path / "race"
    code, said = ended(begun(path, out, "--address", address, settings=settings))
    assert code == 1, said
    found = states(out)
    assert found["easy-s0"] == ("finished", 3)
    assert found["hard-s0"][0] == "stopped"
    assert found["hard-s0"][1] < 3
    assert found["hurried-s0"] == ("failed", 0)
    assert len(re.findall("^.*hurried-s0: failed", said, re.MULTILINE)) == 2  # retried once
    assert re.search("^hurried-s0 failed: u0/g0", said, re.MULTILINE)
