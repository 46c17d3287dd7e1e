"""Part b: the way of a version from the learner to a sampler that may serve it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from peft import PeftModel

from benchmarks.on_gpu.bench import Bench, Case, clean, peak_bytes, restart_peak
from benchmarks.on_gpu.shapes import ROWS, SHAPES
from chaosops_ray.learner import lora
from chaosops_ray.learner.adapter import adapter_files
from chaosops_ray.learner.probe import probe
from chaosops_ray.store import versions
from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest
from chaosops_ray.workers.adoption import check_adoption
from chaosops_ray.workers.samplers.torch import TorchSampler

PART = "b"
DEFAULT_SHAPES = ("3b",)
BASE = sha256(b"random weights").hexdigest()
STEPS = ("export", "publish", "load", "proof")


class Timed:
    """A sampler that adds up the seconds of its methods."""

    def __init__(self, sampler: TorchSampler, device: str) -> None:
        self._sampler = sampler
        self._device = device
        self.seconds: dict[str, float] = defaultdict(float)

    async def adopt(self, version: PolicyVersion) -> int:
        """Load a version."""
        began = time.perf_counter()
        bound = await self._sampler.adopt(version)
        self.add("load", began)
        return bound

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """Score texts."""
        began = time.perf_counter()
        found = await self._sampler.score(texts, number)
        self.add("proof", began)
        return found

    async def retire(self, number: int) -> None:
        """Forget a version."""
        await self._sampler.retire(number)

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int
    ) -> list[Sample]:
        """Sample, which is not measured here."""
        return await self._sampler.sample(cohort, requests, decoding, number)

    async def release(self) -> None:
        """Drop what is kept."""
        await self._sampler.release()

    def add(self, step: str, began: float) -> None:
        """Add the time since then to a step."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        self.seconds[step] += time.perf_counter() - began


def measure(bench: Bench) -> Iterator[Case]:
    """Yield a case for each shape."""
    for shape in bench.clock.in_time(bench.shapes or DEFAULT_SHAPES, lambda shape: named(shape, bench.ranks[0])):
        yield asyncio.run(case(bench, shape))
        clean(bench.device)


def named(shape: str, rank: int) -> str:
    """Return the name of a case, unique in this part."""
    return f"{shape}, r {rank}"


async def case(bench: Bench, name: str) -> Case:
    """Publish and adopt versions of one adapter, each with other weights."""
    device, shape, rank = bench.device, SHAPES[name], bench.ranks[0]
    found: Case = {
        "part": PART,
        "name": named(name, rank),
        "shape": name,
        "parameters": shape.parameters,
        "rank": rank,
        "runs": bench.runs,
    }
    saved = bench.saved(name)
    restart_peak(device)
    sampler = Timed(TorchSampler(saved, bench.threads, device), device)
    model = lora.with_adapter(lora.load_base(str(saved), device), rank, 2 * rank, seed=0)
    modules, texts = lora.bound_modules(model), proof_texts(shape.vocabulary)
    rounds, decisive, last = [], True, None
    probed = None
    for number in range(bench.runs + 1):
        disturb(model, number)
        sampler.seconds.clear()
        began = time.perf_counter()
        files = adapter_files(model, "random")
        sampler.add("export", began)
        began = time.perf_counter()
        version = versions.publish(bench.folder / "adapters" / name, number, BASE, files)
        sampler.add("publish", began)
        began = time.perf_counter()
        probed = probe(model, texts, modules, probed)
        sampler.add("proof", began)
        adoption = await check_adoption(sampler, version, probed, last)
        decisive &= adoption.decisive
        if last is not None:
            await sampler.retire(last.number)
        last = version
        rounds.append(dict(sampler.seconds))
    del sampler, model
    spent = {step: statistics.median([one[step] for one in rounds[1:]]) for step in STEPS}
    return found | {
        "seconds": statistics.median([sum(one.values()) for one in rounds[1:]]),
        **{f"{step}_seconds": spent[step] for step in STEPS},
        "adapter_bytes": sum([path.stat().st_size for path in Path(version.path).iterdir()]),
        "decisive": decisive,
        "peak_memory_bytes": peak_bytes(device),
    }


def proof_texts(vocabulary: int) -> tuple[Ids, ...]:
    """Texts as long as the openings of world 1's roles, on which a run proves its versions."""
    lengths = [high for _, high in ROWS["incident"].openings]
    return tuple(
        [tuple([1 + (7 * place + length) % (vocabulary - 1) for place in range(length)]) for length in lengths]
    )


@torch.no_grad()
def disturb(model: PeftModel, seed: int) -> None:
    """Give the adapter other weights, as an update does; it begins as nothing."""
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            weight.normal_(0, 0.02)


def table(cases: list[Case]) -> list[str]:
    """The figures in lines."""
    lines = [f"{'':<20}" + "".join([f"{step:>10}" for step in (*STEPS, "sync")]) + f"{'adapter':>12}"]
    for one in cases:
        steps = "".join([f"{one[f'{step}_seconds']:>8.3f} s" for step in STEPS])
        proven = "" if one["decisive"] else "  (the proof could not tell versions apart)"
        lines.append(f"{one['name']:<20}{steps}{one['seconds']:>8.3f} s{one['adapter_bytes'] / 1e6:>9.1f} MB{proven}")
    return lines
