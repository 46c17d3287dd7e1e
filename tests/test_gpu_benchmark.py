"""The GPU benchmark: all of its parts on a CPU at a size that takes seconds, its arithmetic, its limits, its file."""

from __future__ import annotations

import ast
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import gpu
from benchmarks.on_gpu import bench as benches
from benchmarks.on_gpu import learner, run, shapes
from benchmarks.on_gpu.bench import COMMON, Bench, Clock
from chaosops_ray.learner.batch import Row

ROOT = Path(__file__).parents[1]
SMALL = (
    *("--shape", "tiny", "--device", "cpu", "--rank", "4", "--rows", "short", "--tokens", "300", "--cohorts", "4"),
    *("--tokens-per-forward", "1024", "--runs", "1", "--updates", "2", "--threads", "1"),
)


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The benchmark hides GPUs; the learner asks torch for deterministic kernels."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def bench(tmp_path: Path, **given: Any) -> Bench:
    told: dict[str, Any] = {
        "device": "cpu",
        "shapes": ("tiny",),
        "ranks": (4,),
        "rows": ("short",),
        "tokens": 300,
        "budget": 4096,
        "cohorts": (4,),
        "runs": 1,
        "updates": 2,
        "model": None,
        "style": None,
        "rate": None,
        "threads": 1,
        "folder": tmp_path,
        "clock": Clock(100),
    }
    return Bench(**told | given)


def written(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_all_parts_run_on_a_cpu_without_ray(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in ("ray", "vllm"):
        monkeypatch.setitem(sys.modules, engine, None)  # importing it now fails
    monkeypatch.setattr(run, "OPENINGS", 20)
    monkeypatch.setattr(run, "HELD_OUT", range(1000, 1002))
    out = tmp_path / "gpu.json"
    assert gpu.main([*SMALL, "--json", str(out)]) == 0
    said = capsys.readouterr().out
    for words in (
        "a: the learner",
        "tokens/s",
        "sync",
        "written/s",
        "two runs from one seed: all digests are the same",
    ):
        assert words in said
    found = written(out)
    assert found["schema"] == "gpu-benchmark/1"
    assert {name: (part["finished"], part["error"]) for name, part in found["parts"].items()} == dict.fromkeys(
        "abcd", (True, None)
    )
    cases: dict[str, list[dict[str, Any]]] = {}
    for case in found["cases"]:
        assert list(case)[: len(COMMON)] == list(COMMON)
        assert (case["card"], case["mfu"], case["skipped"], case["shape"]) == ("cpu", None, None, "tiny")
        assert case["peak_memory_bytes"] > 0
        assert set(case["versions"]) == {"torch", "transformers", "peft", "trl"}
        cases.setdefault(case["part"], []).append(case)
    ways = ["checkpointing", "no checkpointing", "as many layers as must be", "checkpointing, padded"]
    assert [case["name"] for case in cases["a"]] == [f"tiny, r 4, {way}, short rows" for way in ways]
    for case in cases["a"]:
        assert case["tokens_per_second"] * case["seconds"] == pytest.approx(case["lengths"]["tokens"])
    assert [(case["checkpointed_layers"], case["checkpointing"]) for case in cases["a"]] == [
        (2, True),
        (0, False),
        (0, False),
        (2, True),
    ]
    packed, padded = cases["a"][0], cases["a"][-1]
    assert packed["padding"] <= 0 < padded["padding"]
    (adapter,) = cases["b"]
    assert adapter["decisive"]
    steps = [adapter[f"{step}_seconds"] for step in ("export", "publish", "load", "proof")]
    assert sum(steps) == pytest.approx(adapter["seconds"])
    assert [case["completions"] for case in cases["c"]] == ["free", "structured"]
    assert cases["c"][0]["written"] == 4 * 3 * 32
    trained, repeated = cases["d"]
    assert (trained["kind"], repeated["kind"]) == ("run", "repeat")
    assert trained["updates"] == len(trained["rewards"]) == 2
    assert set(trained["seconds_by"]) == {"collect", "update", "publish", "adopt"}
    assert repeated["digests"][0] == repeated["digests"][1]
    assert len(set(repeated["digests"][0])) == 3, "every update gives another version"
    assert trained["digest"] == repeated["digests"][0][-1], "a third run from the seed"


def test_a_case_that_would_not_fit_is_skipped_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "free_bytes", lambda _device: 2**20)
    found = list(learner.measure(bench(tmp_path)))
    assert found
    for case in found:
        assert case["skipped"].startswith("needs about 0.")
        assert "seconds" not in case
    assert "skipped: needs about" in learner.table(found)[1]


def test_tokens_in_a_forward_pass_are_halved_until_they_fit(tmp_path: Path) -> None:
    one = learner.Planned("3b", 32, "no checkpointing", "incident")
    told = bench(tmp_path, device="cuda", budget=16384)
    card = 76 << 30
    fitted = learner.fit(told, one, 1000, card)
    assert (fitted.budget, fitted.checkpointed) == (8192, 0)
    assert fitted.needed < card
    every = learner.fit(told, one._replace(way="checkpointing"), 1000, card)
    assert (every.budget, every.checkpointed) == (16384, 36)
    some = learner.fit(told, one._replace(way="as many layers as must be"), 1000, card)
    assert some.budget == 16384
    assert 0 < some.checkpointed < 36
    assert learner.fit(told, one, 5000, 1).budget == 8192, "a pass holds the longest row"


# -- limits, failures, the file ----------------------------------------------------------------------------------------


def test_a_part_ends_in_time_and_says_what_it_left_out() -> None:
    now = iter([0.0, 0.0, 40.0, 40.0, 80.0, 80.0])
    clock = Clock(100, lambda: next(now))
    done = list(clock.in_time(["first", "second", "third", "fourth"], lambda step: step))
    assert done == ["first", "second"], "a third one of 40 seconds would end after 120"
    assert clock.left_out == ["third", "fourth"]


def test_without_time_nothing_is_measured_and_the_file_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    assert gpu.main([*SMALL, "--parts", "a,b,c", "--limit", "1e-9", "--json", str(out)]) == 0
    found = written(out)
    assert found["cases"] == []
    assert [part["finished"] for part in found["parts"].values()] == [False] * 3
    assert found["parts"]["b"]["left_out"] == ["tiny, r 4"]
    assert capsys.readouterr().out.count("out of time") == 3


def scripted(names: list[str], fails: bool = False) -> Any:
    def measure(_bench: Bench) -> Iterator[dict[str, Any]]:
        yield from [{"part": names[0][0], "name": name, "seconds": 1.0} for name in names]
        if fails:
            raise ValueError("the card fell out")

    return SimpleNamespace(measure=measure, table=lambda cases: [f"{len(cases)} cases"])


def test_a_part_that_fails_leaves_the_others_and_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"a": scripted(["a1", "a2"], fails=True), "b": scripted(["b1"])}
    monkeypatch.setattr(gpu, "PARTS", parts)
    out = tmp_path / "gpu.json"
    assert gpu.main([*SMALL, "--parts", "a,b", "--json", str(out)]) == 1
    found = written(out)
    assert [case["name"] for case in found["cases"]] == ["a1", "a2", "b1"]
    assert found["parts"]["a"]["error"] == "ValueError: the card fell out"
    assert (found["parts"]["a"]["finished"], found["parts"]["b"]["finished"]) == (False, True)
    assert "failed: ValueError: the card fell out" in capsys.readouterr().out


def test_a_killed_run_keeps_every_case_up_to_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "gpu.json"
    seen = []

    def measure(_bench: Bench) -> Iterator[dict[str, Any]]:
        for number in range(3):
            yield {"part": "a", "name": f"a{number}"}
            seen.append([case["name"] for case in written(out)["cases"]])

    monkeypatch.setattr(gpu, "PARTS", {"a": SimpleNamespace(measure=measure, table=lambda _cases: [])})
    gpu.main([*SMALL, "--parts", "a", "--json", str(out)])
    assert seen == [["a0"], ["a0", "a1"], ["a0", "a1", "a2"]]


def test_runs_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "gpu.json"
    for parts, card in (
        ({"a": scripted(["a1", "a2"]), "b": scripted(["b1"])}, "one"),
        ({"a": scripted(["a2", "a3"])}, "one"),
        ({"a": scripted(["a1"])}, "another"),
    ):
        monkeypatch.setattr(gpu, "PARTS", parts)
        told = benches.machine("cpu") | {"card": card}
        monkeypatch.setattr(gpu, "machine", lambda _device, told=told: told)
        assert gpu.main([*SMALL, "--parts", ",".join(parts), "--json", str(out)]) == 0
    found = written(out)
    assert [(case["name"], case["card"]) for case in found["cases"]] == [
        ("a1", "one"),
        ("a2", "one"),
        ("b1", "one"),
        ("a3", "one"),
        ("a1", "another"),
    ]
    assert set(found["parts"]) == {"a", "b"}


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "evaluation/1"}'])
def test_a_file_of_something_else_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    out = tmp_path / "gpu.json"
    out.write_text(text)
    assert gpu.main([*SMALL, "--json", str(out)]) == 2
    assert capsys.readouterr().err == f"{out} does not hold figures of gpu-benchmark/1; give another file\n"
    assert out.read_text() == text


def test_it_refuses_without_a_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "no GPU" in said.err
    assert "--shape tiny --device cpu" in said.err


# -- shapes, rows, arithmetic ------------------------------------------------------------------------------------------


def test_the_weights_that_are_counted_are_those_of_the_model() -> None:
    shape = shapes.SHAPES["tiny"]
    model = shapes.policy(shape, 4, "cpu")
    linear = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if name.endswith(".base_layer") and isinstance(module, nn.Linear)
    )
    assert shape.linear == linear
    assert shape.adapter(4) == sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    everything = sum(weight.numel() for weight in model.get_base_model().parameters() if not weight.requires_grad)
    assert shape.parameters == pytest.approx(everything, rel=0.02)


def test_attention_is_counted_pair_by_pair() -> None:
    shape, draw = shapes.SHAPES["tiny"], random.Random(0)
    rows = shapes.random_rows(shapes.ROWS["short"], 1, 512, draw)
    pairs = sum(place + 1 for row in rows for place in range(len(row.tokens)))
    # Two products forward and four backward, each of a multiplication and an addition for each number of the width.
    found = shapes.flops(shape, 4, rows, shapes.padded(rows, 1024))
    assert found.attention == shape.layers * pairs * 6 * 2 * shape.hidden
    tokens, wrote = sum(len(row.tokens) for row in rows), sum(len(row.at) for row in rows)
    assert found.weights == tokens * (4 * shape.linear + 6 * shape.adapter(4)) + wrote * 4 * 64 * 512


def test_what_rows_share_is_counted_once() -> None:
    rows = [Row(tuple(range(20 + extra)), (19 + extra,), (0.0,), (1.0,)) for extra in (1, 2)]
    rows = [row._replace(tokens=(*row.tokens[:18], 100 + place, *row.tokens[19:])) for place, row in enumerate(rows)]
    computed = shapes.packed(rows, 1024)
    assert computed == (21 + 22 - 18, 18, 18 * 19 // 2)
    shape = shapes.SHAPES["tiny"]
    both = shapes.flops(shape, 4, rows, computed)
    apart = shapes.flops(shape, 4, rows, shapes.padded(rows, 1024))
    assert apart.attention - both.attention == shape.layers * 12 * shape.hidden * 18 * 19 // 2
    assert apart.weights - both.weights == 18 * (4 * shape.linear + 6 * shape.adapter(4))


def test_the_estimate_is_near_what_was_measured_on_a_gpu() -> None:
    """docs/benchmarks.md: 12.6 GiB with 16,384 tokens in a forward pass, every layer computed again."""
    found = shapes.estimate(shapes.SHAPES["3b"], 32, 16384, 2)
    assert 1 <= shapes.needed(found, 36) / 2**30 / 12.6 < 1.3
    assert shapes.needed(found, 0) > shapes.needed(found, 18) > shapes.needed(found, 36)


@pytest.mark.parametrize("name", shapes.ROWS)
def test_rows_are_as_long_as_they_say(name: str) -> None:
    kind, draw = shapes.ROWS[name], random.Random(1)
    rows = shapes.random_rows(kind, 20_000, 512, draw)
    assert 0 <= sum(len(row.tokens) for row in rows) - 20_000 < len(rows[-1].tokens)
    for row in rows:
        assert len(row.tokens) <= kind.length[1]
        assert row.at[-1] == len(row.tokens) - 1
        assert len(row.at) == len(row.advantages) == len(row.log_probs) == len(set(row.at))
    shortest = min(low for low, _ in kind.openings)
    for group in range(0, len(rows), shapes.GROUP):
        assert len({row.tokens[:shortest] for row in rows[group : group + shapes.GROUP]}) == 1, "they begin alike"
    if name == "4k":
        assert min(len(row.tokens) for row in rows) > 3800


@pytest.mark.parametrize(
    ("card", "rate"),
    [("NVIDIA H200", 989e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("Abacus 3000", None)],
)
def test_peaks_go_by_the_device_s_name(card: str, rate: float | None) -> None:
    assert shapes.peak(card) == rate


def test_the_driver_is_read_from_what_the_kernel_says(tmp_path: Path) -> None:
    said = tmp_path / "version"
    said.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n")
    assert benches.driver(said) == "550.54.15"
    assert benches.driver(tmp_path / "nothing") is None


# -- what it needs -----------------------------------------------------------------------------------------------------


def reached(source: Path, seen: set[str]) -> Iterator[str]:
    """Libraries that a module imports, itself or through modules of this project."""
    for node in ast.walk(ast.parse(source.read_text())):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *[f"{node.module}.{name.name}" for name in node.names]]
        for name in names:
            path = ROOT / Path(*name.split(".")).with_suffix(".py")
            if name.split(".")[0] not in ("chaosops_ray", "benchmarks"):
                yield name.split(".")[0]
            elif path.is_file() and name not in seen:
                seen.add(name)
                yield from reached(path, seen)


def test_it_needs_no_more_than_it_says() -> None:
    """No Ray, no vllm, no pyarrow: where a GPU is lent, Ray cannot be installed."""
    seen: set[str] = set()
    libraries = set(reached(ROOT / "benchmarks" / "gpu.py", seen))
    assert {"benchmarks.on_gpu.run", "chaosops_ray.workers.samplers.torch", "chaosops_ray.training.plan"} <= seen
    assert libraries - sys.stdlib_module_names <= {
        "datasets",  # TRL needs it
        "huggingface_hub",  # transformers needs it, and tokenizers
        "numpy",
        "peft",
        "pydantic",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
        "trl",
        "yaml",
    }
