"""What a person can get wrong about a sweep: one line, exit code 2, nothing begun."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from chaosops_ray.cli import main
from tests.support.sweeps import CONFIGS

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
