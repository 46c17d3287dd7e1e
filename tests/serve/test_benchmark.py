"""The benchmark of the server runs, against `chaosops serve` in a process of its own, at a size that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import serve


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
