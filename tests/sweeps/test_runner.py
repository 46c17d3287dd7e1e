"""Sweeps on a real Ray: side by side, retried, resumed; and what is said of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

import pytest
import yaml

from chaosops_ray.cli import main
from chaosops_ray.store import run_folder
from tests.support.cluster import SMALL
from tests.support.models import tiny_base
from tests.support.sweeps import CONFIGS

SETTINGS = (*SMALL, "updates=3", "checkpoint_every=1", "rollout.shards=1", "evaluation.seeds=1000")
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


@pytest.fixture(scope="module", autouse=True)
def tiny_model() -> None:
    tiny_base()


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "small.yaml"
    path.write_text(json.dumps(PAIR))
    return path


def begun(sweep_file: Path, out: Path, settings: Sequence[str] = SETTINGS) -> subprocess.Popen[str]:
    given = [word for setting in settings for word in ("--set", setting)]
    return chaosops("tune", str(sweep_file), *given, "--out", str(out))


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
    """A sweep from beginning to end: its folder, exit code and output."""
    out = tmp_path_factory.mktemp("undisturbed") / "small"
    return out, *ended(begun(sweep_file, out))


def states(out: Path) -> dict[str, tuple[str, int]]:
    """What became of each trial, and after how many updates."""
    found = json.loads((out / "comparison.json").read_text())
    return {one["trial"]: (one["state"], one["updates"]) for one in found["trials"]}


@pytest.mark.cluster
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


@pytest.mark.cluster
def test_an_alarm_is_no_accident(undisturbed: tuple[Path, int, str]) -> None:
    """To go on after it would be to overrule it: no retry, and no checkpoint of the update that set it off."""
    out, _, said = undisturbed
    assert said.count("alarmed-s0: failed") == 1
    _, updates = states(out)["alarmed-s0"]
    assert 1 <= updates < 3
    folder = run_folder.RunFolder(out / "trials" / "alarmed-s0")
    assert folder.checkpoints() == [*range(1, updates)]


@pytest.mark.cluster
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


@pytest.mark.cluster
def test_a_driver_that_was_killed_is_resumed_and_ends_in_the_same_report(
    sweep_file: Path, undisturbed: tuple[Path, int, str], tmp_path: Path
) -> None:
    out = tmp_path / "small"
    process = begun(sweep_file, out)
    until_a_checkpoint(out, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "report.md").exists()
    code, said = ended(chaosops("tune", "--resume", str(out)))
    assert code == 1, said
    for name in ("report.md", "comparison.json"):
        assert (out / name).read_bytes() == (undisturbed[0] / name).read_bytes()
    assert logged(out, 2, "plain-s0")[0] > 1  # it went on, and did not begin again


@pytest.mark.cluster
def test_a_sweep_that_is_over_is_not_played_again(
    undisturbed: tuple[Path, int, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(undisturbed[0], tmp_path / undisturbed[0].name))
    assert main(["tune", "--resume", str(out)]) == 1, capfd.readouterr()
    for path in [*out.glob("trials/*/metrics.jsonl"), out / "report.md", out / "comparison.json"]:
        assert path.read_bytes() == (undisturbed[0] / path.relative_to(out)).read_bytes()
    assert [path.name for path in (out / "tune").iterdir()] == ["1"]


@pytest.mark.cluster
def test_who_does_worse_is_stopped_early_and_who_fails_is_retried(tmp_path: Path) -> None:
    """Only one trial at a time fits on two CPUs: the second is judged by the first, and the third never reports."""
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
    settings = [s for s in SETTINGS if not s.startswith("curriculum")] + ["resources.learner_cpus=1.2"]
    out = tmp_path / "race"
    code, said = ended(begun(path, out, settings))
    assert code == 1, said
    found = states(out)
    assert found["easy-s0"] == ("finished", 3)
    assert found["hard-s0"][0] == "stopped"
    assert found["hard-s0"][1] < 3
    assert found["hurried-s0"] == ("failed", 0)
    assert len(re.findall("^.*hurried-s0: failed", said, re.MULTILINE)) == 2  # retried once
    assert re.search("^hurried-s0 failed: u0/g0", said, re.MULTILINE)


# -- what a person can get wrong --------------------------------------------------------------------------------------

PHASE3 = str(CONFIGS / "phase3.yaml")
MISTAKES = {
    "nothing": ([], "--resume"),
    "a run": ([str(CONFIGS / "3a.yaml")], "chaosops train"),
    "no such file": (["/no/such.yaml"], "/no/such.yaml"),
    "a typo in a setting": ([PHASE3, "--set", "learner.lora_rnk=8"], "learner.lora_rnk"),
    "a seed": ([PHASE3, "--set", "seed=1"], "--seeds"),
    "seeds that are none": ([PHASE3, "--seeds", "few"], "few"),
    "a pause that nobody would end": ([PHASE3, "--set", "alarm.action=pause"], "alarm.action"),
    "no such sweep": (["--resume", "/no/such/sweep"], "/no/such/sweep"),
    "both": ([PHASE3, "--resume", "x"], "--resume"),
    "resume otherwise": (["--resume", "x", "--seeds", "1"], "--resume"),
    "nowhere to write": ([PHASE3, "--set", "model=tiny", "--out", "/proc/sweep"], "/proc/sweep"),
    "too small a machine": ([PHASE3, "--set", "model=tiny", "--set", "resources.learner_gpus=64"], "resources"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    arguments, key = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *arguments]) == 2
    out, err = capsys.readouterr()
    assert key in err
    assert err.count("\n") == 1
    assert "report" not in out
    assert not list(tmp_path.iterdir())


def test_explain_says_what_would_be_started_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", PHASE3, "--set", "model=tiny", "--seeds", "7", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "  3b-s7: tiny-half, 160 updates, 0.55 CPU\n" in out
    assert yaml.safe_load(out.partition("\ntrials,")[0])["reference"] == "3a"
    assert not list(tmp_path.iterdir())
