"""The benchmark of the server runs, against `chaosops serve` in a process of its own, at a size that takes seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import serve

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmark_of_the_server_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "serve.json"
    serve.main(["--world", "tools", "--sessions", "3", "--episodes", "2", "--json", str(out)])
    assert "tools: 18 episodes, each as in this process; one session more: 'all 3 sessions are in use" in (
        capsys.readouterr().out
    )
    (found,) = json.loads(out.read_text())
    assert found["different"] == []
    assert found["growth"] < serve.GROWTH_BAR
    assert found["step_p50_ms"] <= found["step_p99_ms"]


def test_a_figure_beyond_its_bar_fails() -> None:
    good = {"different": [], "refusal": "full", "growth": 0.0, "seconds_to_health": 6.0}
    assert serve.passed(good)
    for worse in ({"different": ["x"]}, {"refusal": None}, {"growth": 0.2}, {"seconds_to_health": 16.0}):
        assert not serve.passed(good | worse)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_benchmark_that_is_ended_takes_its_server_along(stop: signal.Signals) -> None:
    """Also in the background, where a shell has SIGINT ignored."""
    command = [sys.executable, str(ROOT / "benchmarks" / "serve.py"), "--world", "tools", "--sessions", "1"]
    benchmark = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command, "--episodes", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    children: list[psutil.Process] = []
    while not children:
        assert benchmark.poll() is None
        children = psutil.Process(benchmark.pid).children()
    benchmark.send_signal(stop)
    assert benchmark.wait(60) == 128 + stop
    assert not children[0].is_running()
