"""A real language model is trained for one update, through the whole program, in each world, by each way and engine.

Each case prints its seconds and its memory, and the seconds of CPU, which other programs change less.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from chaosops_ray.cli import main
from chaosops_ray.learner.probe import TOLERANCE_FP32
from chaosops_ray.store import episodes, versions
from chaosops_ray.store.run_folder import EVALUATION_EPISODES, RunFolder
from tests.support.models import made_smollm2

CONFIG = Path(__file__).parents[2] / "tune_configs" / "smollm2.yaml"
LIMIT = 6e9
LOOK_EVERY = 0.25
# A run's actors, which are counted with what they start: vllm's engine is a process of its own. Ray's daemons are not.
ACTORS = ("ray::LearnerHost", "ray::SamplerHost", "ray::Shard")
EASIEST = {"incident": "easy", "tools": "warmup"}
# With these, the episodes of a group earn differently where the model chooses among actions, so that there is something
# to learn: with the tools, one of two answers its question rightly.
SEEDS = {"incident": 2, "tools": 4}


@pytest.fixture(scope="module", autouse=True)
def model() -> None:
    """The model, made before the first case."""
    made_smollm2()


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("structured", ["no", "choices"])
@pytest.mark.parametrize("world", EASIEST)
@pytest.mark.parametrize("sampler", ["torch", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_an_update_of_a_real_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sampler: str, world: str, structured: str
) -> None:
    began = time.monotonic()
    out = tmp_path / "run"
    settings = {
        "updates": 1,
        "seed": SEEDS[world],
        "world": world,
        "sampler": sampler,
        # In one world Oversight learns. In the other there is one seat, and greedy play reads one document six times.
        **({"seats": "{}", "batch.scenarios": 1, "resources.context": 5632} if world == "tools" else {}),
        "curriculum": f"{EASIEST[world]}:1",
        "evaluation.tiers": EASIEST[world],
        "rollout.structured": structured,
        # The longest choice hands a document over.
        "rollout.max_tokens": 512 if structured == "choices" else 32,
    }
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "chaosops_ray.cli", "train", str(CONFIG), *given, "--out", str(out)]
    log = tmp_path / "log"
    with log.open("w") as written:
        run = psutil.Popen(command, stdout=written, stderr=written)
        memory, worked = watched(run)
    with capsys.disabled():
        took = f"{time.monotonic() - began:.0f} s, {worked:.0f} s of CPU"
        print(f"\n{sampler} {world} {structured}: {took}, {in_mib(memory)}")
    assert run.returncode == 0, log.read_text()
    assert sum(memory.values()) < LIMIT, in_mib(memory)

    folder = RunFolder(out)
    (row,) = folder.metrics()
    # A free completion of so small a model hardly ever holds an action. Episodes that all went alike teach nothing: the
    # next version then has the same weights.
    has_learnt = row["groups"]["learnt_from"] > 0
    assert has_learnt or structured == "no"
    assert not has_learnt or row["learner"]["gradient_norm"] > 0
    assert all(math.isfinite(value) for value in numbers(row))
    assert row["adoption"]["error"] <= TOLERANCE_FP32
    first, second = [versions.read(folder.adapters / f"policy-v{number}") for number in (0, 1)]
    assert row["digest"] == second.digest
    assert (second.digest != first.digest) == has_learnt

    capsys.readouterr()
    for file, version in ((out / "episodes" / "update-000001.parquet", first), (out / EVALUATION_EPISODES, second)):
        assert main(["replay", str(file)]) == 0
        origins = {
            (found["version"], found["digest"])
            for episode in episodes.read_episodes(file)
            for found in episode.rows
            if found["player"] == "trained"
        }
        assert origins == {(version.number, version.digest)}


def watched(run: psutil.Popen) -> tuple[dict[str, int], float]:
    """Wait for a run's end; return the memory of its processes when their sum was largest, and their seconds of CPU."""
    largest: dict[str, int] = {}
    worked: dict[str, float] = {}
    while True:
        found = list(held(run))
        worked |= {name: seconds for name, _, seconds in found}
        now = {name: memory for name, memory, _ in found}
        if sum(now.values()) > sum(largest.values()):
            largest = now
        try:
            run.wait(LOOK_EVERY)
        except psutil.TimeoutExpired:
            continue
        return largest, sum(worked.values())


def held(run: psutil.Popen) -> Iterator[tuple[str, int, float]]:
    """Yield the name, proportional memory and seconds of CPU of a run's driver, actors and engines.

    Proportional memory is what a process has for itself and its part of each page that it shares. The processes load
    the same libraries and map the same weights, so that a sum of resident memory would count one page several times.
    """
    yield from taken(run, "driver")
    for process in run.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            title = " ".join(process.cmdline()[:1]).split(".")[0]
            if title.startswith(ACTORS):
                yield from taken(process, title)
                for started in process.children(recursive=True):
                    yield from taken(started, f"{title}'s")


def taken(process: psutil.Process, name: str) -> Iterator[tuple[str, int, float]]:
    with suppress(psutil.NoSuchProcess):
        yield f"{name} {process.pid}", process.memory_full_info().pss, sum(process.cpu_times()[:2])


def in_mib(memory: dict[str, int]) -> str:
    shown = [f"{name.partition(' ')[0]} {size >> 20}" for name, size in memory.items()]
    return f"{sum(memory.values()) >> 20} MiB at most ({', '.join(shown)})"


def numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in a row of metrics."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value
