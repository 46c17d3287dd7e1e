"""The benchmarks of the learner run: their tables and the keys of their JSON, at a size that takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import learner
from benchmarks import memory as memory_benchmark
from chaosops_ray.process_environment import set_variables
from tests.support.models import tiny_base


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are faster on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def written(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_learner_s_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "learner.json"
    assert learner.main(["--episodes", "2", "--runs", "1", "--json", str(out)]) == 0
    table = capsys.readouterr().out
    for title in learner.TITLES.values():
        assert title in table
    assert "bar 1.5x" in table
    found = written(out)
    assert set(found) == {
        "rows",
        "tokens",
        "written",
        "longest",
        "forwarded",
        "seconds",
        "times_stock",
        "share_of_limit",
        "bar",
        "runs",
        "threads",
    }
    for part in ("seconds", "times_stock", "share_of_limit"):
        assert set(found[part]) == set(learner.TITLES)
    assert found["times_stock"]["stock"] == 1.0
    assert found["share_of_limit"]["limit"] == 1.0
    assert found["forwarded"]["stock"] == found["rows"] * found["longest"] > found["forwarded"]["learner"]
    assert found["forwarded"]["learner"] >= found["tokens"]


# -- memory ------------------------------------------------------------------------------------------------------------


def readings(memory: list[int]) -> list[memory_benchmark.Reading]:
    return [
        memory_benchmark.Reading(at=100.0 * i, memory=size << 20, files=9, threads=3) for i, size in enumerate(memory)
    ]


def test_what_grows_in_the_warm_up_does_not_count() -> None:
    found = memory_benchmark.compared(readings([100 + 10 * min(i, 40) for i in range(101)]), 10_000)
    assert found["start"] == 100
    assert found["after_warm_up"] == found["end"] == 500
    assert found["change"] == found["slope_per_1000"] == found["files"] == 0


def test_what_grows_after_it_does() -> None:
    found = memory_benchmark.compared(readings([100 + i for i in range(101)]), 10_000)
    assert found["after_warm_up"] == 145  # the median from 40 to 50 % of the way
    assert found["end"] == 195
    assert found["change"] == pytest.approx(50 / 145)
    assert found["slope_per_1000"] == pytest.approx(10)


@pytest.mark.cluster
@pytest.mark.slow
def test_a_training_leaves_no_process_no_open_file_no_socket_and_no_shared_memory() -> None:
    set_variables()
    found = memory_benchmark.measure(256, 0.0, tiny_base())
    assert found["left"] == {"actors": [], "processes": [], "open": {}, "shared memory": []}
    assert list(found["processes"]) == ["driver", "learner", "sampler", "shard 0", "shard 1", "shard 2", "shard 3"]
    assert {len(read) for read in found["readings"].values()} == {2}
