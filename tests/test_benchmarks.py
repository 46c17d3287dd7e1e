"""The benchmarks of the learner run: their tables and the keys of their JSON, at a size that takes seconds."""

from __future__ import annotations

import ast
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu, learner
from benchmarks import memory as memory_benchmark
from chaosops_ray.process_environment import set_variables
from tests.support.models import tiny_base

ROOT = Path(__file__).parents[1]


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


def test_the_gpu_benchmark_runs_anywhere_when_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = tmp_path / "gpu.json"
    given = ["--shape", "tiny", "--device", "cpu", "--rows", "6", "--runs", "1", "--json", str(out)]
    assert gpu.main(given) == 0
    table = capsys.readouterr().out
    assert table.startswith("tiny on cpu: 6 rows, ")
    for words in (
        "update, scoring first",
        "adapter export",
        "adapter digest",
        "tokens/s",
        "peak unknown",
        "peak memory",
    ):
        assert words in table
    found = written(out)
    assert set(found) == {
        "device",
        "rows",
        "tokens",
        "written",
        "longest",
        "padding",
        "seconds",
        "tokens_per_second",
        "flops_per_token",
        "teraflops",
        "peak_teraflops",
        "mfu",
        "peak_memory_gib",
        "adapter_bytes",
        "runs",
    }
    assert set(found["seconds"]) == {
        "update",
        "update, scoring first",
        "KL to the base",
        "adapter export",
        "adapter digest",
    }
    assert found["mfu"] is found["peak_memory_gib"] is None
    assert found["tokens_per_second"] * found["seconds"]["update"] == pytest.approx(found["tokens"])
    # Two layers of 64 wide, inner 128, half of the heads for keys and values; rank 4 on each of seven.
    frozen = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    adapter = 2 * 4 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))
    head = 4 * 64 * 512 * found["written"] / found["tokens"]
    assert found["flops_per_token"] == pytest.approx(4 * frozen + 6 * adapter + head)


def test_the_gpu_benchmark_refuses_without_a_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "no GPU" in said.err
    assert "--shape tiny --device cpu" in said.err


@pytest.mark.parametrize("shape", gpu.SHAPES)
def test_rows_of_the_gpu_benchmark_are_as_it_says(shape: str) -> None:
    chosen, draw = gpu.SHAPES[shape], random.Random(1)
    for _ in range(30):
        row = gpu.random_row(chosen, draw)
        shortest, longest = chosen.length
        assert shortest - chosen.between[1] - 2 * chosen.written[1] <= len(row.tokens) <= longest
        assert row.at[-1] == len(row.tokens) - 1
        assert len(row.at) == len(row.advantages) == len(row.log_probs) == len(set(row.at))


@pytest.mark.parametrize(
    ("name", "rate"), [("NVIDIA H200", 989e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12)]
)
def test_peaks_go_by_the_device_s_name(monkeypatch: pytest.MonkeyPatch, name: str, rate: float) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert gpu.peak("cuda") == rate


def test_an_unknown_device_has_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Abacus 3000")
    assert gpu.peak("cuda") is None
    assert gpu.peak("cpu") is None


def reached(source: Path, seen: set[str]) -> Iterator[str]:
    """Libraries that a module imports, itself or through modules of this package."""
    for node in ast.walk(ast.parse(source.read_text())):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *[f"{node.module}.{name.name}" for name in node.names]]
        for name in names:
            path = ROOT / Path(*name.split(".")).with_suffix(".py")
            if not name.startswith("chaosops_ray"):
                yield name.split(".")[0]
            elif path.is_file() and name not in seen:
                seen.add(name)
                yield from reached(path, seen)


def test_the_gpu_benchmark_needs_no_more_than_it_says() -> None:
    """No ray, no engine, no world: what it imports is what its docstring lists."""
    seen: set[str] = set()
    libraries = set(reached(ROOT / "benchmarks" / "gpu.py", seen))
    assert {name.split(".")[1] for name in seen} == {
        "config",
        "learner",
        "plain_text",
        "process_environment",
        "sim",
        "spans",
        "store",
        "wire",
    }
    assert libraries - sys.stdlib_module_names <= {
        "datasets",
        "peft",
        "pydantic",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
        "trl",
        "yaml",
    }


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
