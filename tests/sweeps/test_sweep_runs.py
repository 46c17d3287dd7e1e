"""A sweep on a real Ray, whose driver is killed and which is resumed; and what is said of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import pytest
import ray

from chaosops_ray import config
from chaosops_ray.store.run_folder import CHECKPOINTS_KEPT, RunFolder
from chaosops_ray.training import launch
from tests.support.cluster import SMALL, make, ray_here
from tests.support.models import tiny_base
from tests.support.sweeps import CONFIGS

# Two CPUs hold one trial at a time.
SETTINGS = (
    *[one for one in SMALL if not one.startswith("updates=")],
    *("checkpoint_every=1", "rollout.shards=1", "resources.learner_cpus=1.2", "evaluation.seeds=1000"),
)
# One arm that does well, and one that its alarm stops.
PAIR = {
    "arms": {
        "plain": {"extends": str(CONFIGS / "3a.yaml"), "tiny": {"updates": 3}},
        # The estimate of KL may be below 0 in the first updates, and is not for thirty.
        "alarmed": {
            "extends": str(CONFIGS / "3a.yaml"),
            "tiny": {"updates": 30, "alarm": {"kl": 1e-9, "action": "abort"}},
        },
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


def chaosops(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaosops_ray.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


class Resumed(NamedTuple):
    """A sweep whose driver was killed, and which was resumed: its folder, exit code and output."""

    out: Path
    code: int
    said: str


@pytest.fixture(scope="module")
def resumed(address: str, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """The driver is killed as soon as the trial that trains to its end has made a checkpoint."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "small.yaml").write_text(json.dumps(PAIR))
    out = folder / "small"
    given = [word for setting in SETTINGS for word in ("--set", setting)]
    process = chaosops("tune", str(folder / "small.yaml"), *given, "--out", str(out), "--address", address)
    until = monotonic() + 300
    while not list(out.glob("trials/plain-s0/checkpoints/update-*")):
        assert process.poll() is None, process.communicate()[0]
        assert monotonic() < until, "no trial has made a checkpoint"
        sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "report.md").exists()
    return Resumed(out, *resume(out, address))


def resume(out: Path, address: str) -> tuple[int, str]:
    process = chaosops("tune", "--resume", str(out), "--address", address)
    said, _ = process.communicate(timeout=600)
    return process.returncode, said


def states(out: Path) -> dict[str, tuple[str, int]]:
    """What became of each trial, and after how many updates."""
    found = json.loads((out / "comparison.json").read_text())
    return {one["trial"]: (one["state"], one["updates"]) for one in found["trials"]}


def logged(out: Path, session: int, trial: str) -> list[dict[str, object]]:
    """What Tune has logged of a trial since the sweep was begun, or resumed for the n-th time."""
    (path,) = (out / "tune" / str(session)).glob(f"trial_*{trial}*/result.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_sweep_ends_in_a_report_and_a_failed_trial_is_in_it(resumed: Resumed) -> None:
    out, code, said = resumed
    assert code == 1, said  # one has failed
    assert re.search(r"^alarmed-s0 failed: update \d: KL", said, re.MULTILINE)
    assert f"undecided: {PAIR['hypotheses'][0]['claim']}" in said
    assert said.endswith(f"report: {out / 'report.html'}\n")
    found = states(out)
    assert found["plain-s0"] == ("finished", 3)
    assert found["alarmed-s0"][0] == "failed"
    cells = json.loads((out / "comparison.json").read_text())["cells"]
    assert {cell["policy"] for cell in cells} == {"plain", "random", "blind", "heuristic", "lookup", "oracle"}


def test_an_alarm_is_no_accident(resumed: Resumed) -> None:
    """To go on after it would be to overrule it: no retry, and no checkpoint of the update that set it off."""
    out, _, said = resumed
    assert said.count("alarmed-s0: failed") == 1
    _, updates = states(out)["alarmed-s0"]
    assert 1 <= updates < 30
    folder = RunFolder(out / "trials" / "alarmed-s0")
    assert folder.checkpoints() == [*range(1, updates)][-CHECKPOINTS_KEPT:]


def test_every_trial_is_a_run_folder_with_its_own_report_and_metrics(resumed: Resumed) -> None:
    folder = RunFolder(resumed.out / "trials" / "plain-s0")
    assert [row["update"] for row in folder.metrics()] == [1, 2, 3]
    assert (folder.path / "report.html").is_file()
    found = logged(resumed.out, 2, "plain-s0")
    assert [row["update"] for row in found] in ([2, 3], [3])  # it went on, and did not begin again
    assert all("score" in row for row in found)  # what early stopping compares


def evaluated(run: Path) -> dict[str, Any]:
    """The evaluation of a run, but for its name and for the files that hold times."""
    found = json.loads((run / "evaluation.json").read_text())
    assert found["policies"]["trained"].pop("run") == run.name
    return {name: value for name, value in found.items() if name not in ("files", "seal")}


def test_a_sweep_whose_driver_was_killed_ends_as_if_nothing_had_happened(
    resumed: Resumed, address: str, tmp_path: Path
) -> None:
    """The trial is compared with a run that was never stopped, and so is what the sweep makes of it."""
    trial = resumed.out / "trials" / "plain-s0"
    training = make(tmp_path / "run", config.load(trial / "config.yaml"))
    launch.finish(training, lambda _row: None, lambda _text: None)
    went_on, never_stopped = RunFolder(trial).metrics(), training.folder.metrics()
    assert [row["digest"] for row in went_on] == [row["digest"] for row in never_stopped]
    assert evaluated(trial) == evaluated(training.folder.path)

    out = Path(shutil.copytree(resumed.out, tmp_path / resumed.out.name))
    shutil.rmtree(out / "trials" / "plain-s0")
    training.folder.path.rename(out / "trials" / "plain-s0")
    for name in ("report.md", "comparison.json"):
        (out / name).unlink()
    code, said = resume(out, address)
    assert code == 1, said
    for name in ("report.md", "comparison.json"):
        assert (out / name).read_bytes() == (resumed.out / name).read_bytes()
    # Nothing of a sweep that is over is played again.
    assert sorted(path.name for path in (out / "tune").iterdir()) == ["1", "2"]
    assert RunFolder(out / "trials" / "plain-s0").metrics() == never_stopped
