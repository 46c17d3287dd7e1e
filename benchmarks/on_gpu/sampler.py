"""Part c: tokens a second of the embedded sampler, by size of cohort, free and structured."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import torch

from benchmarks.on_gpu.bench import Bench, Case, clean, peak_bytes, restart_peak
from benchmarks.on_gpu.shapes import SHAPES
from chaosops_ray.wire import Decoding, Ids, SampleRequest
from chaosops_ray.workers.samplers.torch import TorchSampler

PART = "c"
DEFAULT_SHAPES = ("1.5b", "3b")
WAYS = ("free", "structured")
# A conversation of world 1 in the full style, as benchmarks/row_lengths.py finds it: every row reads the same opening,
# writes, reads what is new, and writes again.
OPENING, BETWEEN, TURNS = 505, 33, 3
WRITTEN = 32  # tokens of a free completion; a structured one is shorter
# Permitted actions: they begin alike, as {"action": "..." does, and differ in names and in length.
CHOICES, ALIKE, LENGTHS = 24, 5, (10, 18)


class Planned(NamedTuple):
    """One case before it is measured."""

    shape: str
    way: str
    cohort: int

    @property
    def name(self) -> str:
        """The name, unique in this part."""
        return f"{self.shape}, {self.way}, {self.cohort} rows"


def planned(bench: Bench) -> list[Planned]:
    """Return the cases, each model's together."""
    return [
        Planned(shape, way, cohort)
        for shape in bench.shapes or DEFAULT_SHAPES
        for cohort in bench.cohorts
        for way in WAYS
    ]


def measure(bench: Bench) -> Iterator[Case]:
    """Yield the cases as they are measured."""
    sampler, loaded = None, ""
    for one in bench.clock.in_time(planned(bench), lambda one: one.name):
        if sampler is None or loaded != one.shape:
            del sampler
            clean(bench.device)
            sampler, loaded = TorchSampler(bench.saved(one.shape), bench.threads, bench.device), one.shape
            asyncio.run(sampler.adopt_base(sha256(b"random weights").hexdigest()))
            asyncio.run(play(sampler, one._replace(cohort=2)))  # warms up
        try:
            yield asyncio.run(case(bench, sampler, one))
        except torch.cuda.OutOfMemoryError as error:
            yield described(one) | {"skipped": f"out of memory: {str(error).splitlines()[0][:200]}"}
        asyncio.run(sampler.release())


def described(one: Planned) -> Case:
    """What a case is."""
    return {
        "part": PART,
        "name": one.name,
        "shape": one.shape,
        "parameters": SHAPES[one.shape].parameters,
        "rank": None,
        "completions": one.way,
        "cohort": one.cohort,
        "prompt": OPENING,
        "turns": TURNS,
    }


async def case(bench: Bench, sampler: TorchSampler, one: Planned) -> Case:
    """Measure one case."""
    restart_peak(bench.device)
    began = time.perf_counter()
    written = await play(sampler, one)
    seconds = time.perf_counter() - began
    await sampler.release()
    began = time.perf_counter()
    await read(sampler, one)
    reading = time.perf_counter() - began
    return described(one) | {
        "written": written,
        "seconds": seconds,
        "tokens_per_second": written / seconds,
        "read_tokens_per_second": one.cohort * OPENING / reading,
        "peak_memory_bytes": peak_bytes(bench.device),
    }


class Words:
    """A source of random tokens; 0 is not among them."""

    def __init__(self, one: Planned) -> None:
        self._draw = random.Random(one.cohort)
        self._vocabulary = SHAPES[one.shape].vocabulary

    def some(self, least: int, most: int) -> Ids:
        """Return so many tokens."""
        return tuple([self._draw.randrange(1, self._vocabulary) for _ in range(self._draw.randint(least, most))])

    def actions(self) -> tuple[Ids, ...]:
        """Return completions to choose among; 0 ends all of them, so that none begins another."""
        begun = self.some(ALIKE, ALIKE)
        least, most = [length - ALIKE - 1 for length in LENGTHS]
        return tuple([(*begun, *self.some(least, most), 0) for _ in range(CHOICES)])


async def play(sampler: TorchSampler, one: Planned) -> int:
    """Play the turns of a cohort; return the tokens that were written."""
    words = Words(one)
    opening, choices = words.some(OPENING, OPENING), words.actions() if one.way == "structured" else None
    prompts = [opening] * one.cohort
    written = 0
    for turn in range(TURNS):
        requests = [SampleRequest(row, prompt, 1000 * turn + row, choices) for row, prompt in enumerate(prompts)]
        found = await sampler.sample(one.name, requests, Decoding(1.0, WRITTEN, ()), None)
        written += sum([len(sample.tokens) for sample in found])
        between = words.some(BETWEEN, BETWEEN)
        prompts = [(*prompt, *sample.tokens, *between) for prompt, sample in zip(prompts, found, strict=True)]
    return written


async def read(sampler: TorchSampler, one: Planned) -> None:
    """Read the opening by every row, for one token each."""
    opening = Words(one).some(OPENING, OPENING)
    requests = [SampleRequest(row, opening, row) for row in range(one.cohort)]
    await sampler.sample("reading", requests, Decoding(1.0, 1, ()), None)


def table(cases: list[Case]) -> list[str]:
    """The figures in lines."""
    lines = [f"{'':<30}{'seconds':>9}{'written/s':>11}{'read/s':>11}{'memory':>11}"]
    for one in cases:
        if one["skipped"]:
            lines.append(f"{one['name']:<30} skipped: {one['skipped']}")
            continue
        lines.append(
            f"{one['name']:<30}{one['seconds']:>9.2f}{one['tokens_per_second']:>11,.1f}"
            f"{one['read_tokens_per_second']:>11,.0f}{one['peak_memory_bytes'] / 2**30:>7.1f} GiB"
        )
    return lines
