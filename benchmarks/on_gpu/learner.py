"""Part a: updates of the learner, by shape of model, rank of the adapter, rows and checkpointing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from benchmarks.on_gpu import shapes
from benchmarks.on_gpu.bench import Bench, Case, clean, free_bytes, peak_bytes, restart_peak, timed
from benchmarks.on_gpu.shapes import ROWS, SHAPES
from chaosops_ray.config import Learner
from chaosops_ray.learner.batch import Row
from chaosops_ray.learner.grpo import PolicyTrainer

PART = "a"
DEFAULT_SHAPES = ("3b", "1.5b")
# Of the memory that is free; the allocator loses some in pieces.
USABLE = 0.92
SMALLEST_BUDGET = 1024
# The ways of computing that are compared, each by what the learner is told; the first is also measured with the other
# ranks.
WAYS: Mapping[str, Mapping[str, Any]] = {
    "checkpointing": {"checkpointing": True},
    "no checkpointing": {"checkpointing": False},
}


class Planned(NamedTuple):
    """One case before it is measured."""

    shape: str
    rank: int
    way: str
    rows: str

    @property
    def name(self) -> str:
        """The name, unique in this part."""
        return f"{self.shape}, r {self.rank}, {self.way}, {self.rows} rows"


def planned(bench: Bench) -> list[Planned]:
    """Return the cases, the most important first: the ranks differ little, so one way and one kind of rows tells it."""
    shapes_, rows, ways = bench.shapes or DEFAULT_SHAPES, bench.rows, list(WAYS)
    first, *others = bench.ranks
    found = [Planned(shape, first, way, kind) for shape in shapes_ for way in ways for kind in rows]
    return found + [Planned(shape, rank, ways[0], rows[0]) for shape in shapes_ for rank in others]


def measure(bench: Bench) -> Iterator[Case]:
    """Yield the cases as they are measured."""
    for one in bench.clock.in_time(planned(bench), lambda one: one.name):
        yield case(bench, one)
        clean(bench.device)


def budget_of(bench: Bench, one: Planned, longest: int, free: int) -> tuple[int, int]:
    """Return the tokens in a forward pass, halved until the estimate fits the free memory; and this estimate."""
    checkpointing = bool(WAYS[one.way]["checkpointing"])
    budget = max(bench.budget, longest)
    while True:
        wanted = shapes.needed(SHAPES[one.shape], one.rank, budget, checkpointing=checkpointing, width=bench.width)
        if wanted <= USABLE * free or budget // 2 < max(longest, SMALLEST_BUDGET):
            return budget, wanted
        budget //= 2


def case(bench: Bench, one: Planned) -> Case:
    """Measure one case, or say why it was skipped."""
    shape, way = SHAPES[one.shape], WAYS[one.way]
    rows = shapes.random_rows(ROWS[one.rows], bench.tokens, shape.vocabulary, random.Random(0))
    free = free_bytes(bench.device)
    lengths = shapes.lengths(rows)
    budget, wanted = budget_of(bench, one, lengths["longest"], free)
    found: Case = {
        "part": PART,
        "name": one.name,
        "shape": one.shape,
        "parameters": shape.parameters,
        "rank": one.rank,
        "rows": one.rows,
        "lengths": lengths,
        "checkpointing": way["checkpointing"],
        "settings": dict(way),
        "tokens_per_forward": budget,
        "padding": shapes.padding(rows, budget),
        "needed_bytes": wanted,
        "free_bytes": free,
        "runs": bench.runs,
    }
    if wanted > USABLE * free:
        gib = [size / 2**30 for size in (wanted, USABLE * free)]
        return found | {"skipped": f"needs about {gib[0]:.1f} GiB, and {gib[1]:.1f} can be used"}
    try:
        return found | figures(bench, one, rows, budget)
    except torch.cuda.OutOfMemoryError as error:
        return found | {"skipped": f"out of memory: {str(error).splitlines()[0][:200]}"}


def figures(bench: Bench, one: Planned, rows: list[Row], budget: int) -> Case:
    """Measure the updates of one learner."""
    device, shape = bench.device, SHAPES[one.shape]
    given = {"lora_rank": one.rank, "lora_alpha": 2 * one.rank, "tokens_per_forward": budget, "recompute": False}
    settings = Learner.model_validate(given | dict(WAYS[one.way]))
    options = {"temperature": 1.0, "seed": 0, "max_completion_length": ROWS[one.rows].written[1]}
    restart_peak(device)
    model = shapes.policy(shape, one.rank, device)
    trainer = PolicyTrainer(model, shapes.tokenizer(), settings, bench.folder, options)
    scored = trainer.scored(rows)  # as if this policy had sampled them
    rows = [
        row._replace(log_probs=tuple(scored[id(row)][torch.tensor(row.at, device=device) - 1].tolist())) for row in rows
    ]
    del scored
    seconds = timed(lambda number: trainer.update(rows, 1e-5, 0.0, number), bench.runs, device)
    memory = peak_bytes(device)
    scoring = timed(lambda _: trainer.scored(rows), 1, device, warm_up=False)
    divergence = timed(lambda _: trainer.divergence(rows), 1, device, warm_up=False)
    tokens, work = sum([len(row.tokens) for row in rows]), shapes.flops(shape, one.rank, rows)
    rate = None if device == "cpu" else shapes.peak(torch.cuda.get_device_name())
    return {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "scoring_seconds": scoring,
        "kl_seconds": divergence,
        "peak_memory_bytes": memory,
        "flops_per_token": sum(work) / tokens,
        "teraflops": sum(work) / seconds / 1e12,
        "mfu": None if rate is None else sum(work) / seconds / rate,
        "mfu_without_attention": None if rate is None else work.weights / seconds / rate,
    }


def table(cases: list[Case]) -> list[str]:
    """The figures in lines."""
    lines = [
        f"{'':<44}{'update':>9}{'tokens/s':>10}{'TFLOP/s':>9}{'MFU':>7}{'before':>8}{'memory':>10}{'estimate':>10}"
    ]
    for one in cases:
        if one["skipped"]:
            lines.append(f"{one['name']:<44} skipped: {one['skipped']}")
            continue
        mfu, before = ["–" if one[name] is None else f"{one[name]:.1%}" for name in ("mfu", "mfu_without_attention")]
        lines.append(
            f"{one['name']:<44}{one['seconds']:>7.2f} s{one['tokens_per_second']:>10,.0f}{one['teraflops']:>9.3f}"
            f"{mfu:>7}{before:>8}{one['peak_memory_bytes'] / 2**30:>6.1f} GiB{one['needed_bytes'] / 2**30:>6.1f} GiB"
        )
    return lines
