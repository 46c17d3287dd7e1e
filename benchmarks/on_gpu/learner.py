"""Part a: updates of the learner, by shape of model, rank of the adapter, rows and checkpointing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch

from benchmarks.on_gpu import shapes
from benchmarks.on_gpu.bench import Bench, Case, clean, free_bytes, peak_bytes, restart_peak, timed
from benchmarks.on_gpu.shapes import ROWS, SHAPES, Computed
from chaosops_ray.config import Learner
from chaosops_ray.learner import checkpointing, kernels
from chaosops_ray.learner.batch import Row
from chaosops_ray.learner.grpo import PolicyTrainer

PART = "a"
DEFAULT_SHAPES = ("3b", "1.5b")
# Of the memory that is free; the allocator loses some in pieces.
USABLE = 0.92
SMALLEST_BUDGET = 1024
# What the learner is told in every case: an update is measured without the pass that scores its rows, and that alone.
SETTINGS = {"recompute": False, "kl_rows": 32}


class Way(NamedTuple):
    """A way of computing."""

    checkpointing: bool | Literal["auto"] = True
    packs: bool = True  # rows in lines, openings that rows share computed once; otherwise padded rows
    fused: bool | None = None  # LoRA in fewer passes; None: where the learner does so by itself, on a GPU
    liger: bool = False
    is_main: bool = False  # measured with every kind of rows

    @property
    def is_possible(self) -> bool:
        """Tell if this machine can compute in this way, and if it differs from others here."""
        on_gpu = torch.cuda.is_available()
        return (on_gpu or self.fused is None) and (not self.liger or (on_gpu and find_spec("liger_kernel") is not None))


# The first is also measured with the other ranks. The last one is how earlier versions of the learner computed.
WAYS = {
    "checkpointing": Way(is_main=True),
    "no checkpointing": Way(checkpointing=False, is_main=True),
    "as many layers as must be": Way(checkpointing="auto", is_main=True),
    "checkpointing, liger": Way(liger=True),
    "checkpointing, padded": Way(packs=False),
    "checkpointing, padded, PEFT's layers": Way(packs=False, fused=False),
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
    """Return the cases, the most important first; what differs little is measured with the first kind of rows only."""
    (first, *others), found = bench.ranks, list[Planned]()
    ways = {name: way for name, way in WAYS.items() if way.is_possible}
    for shape in bench.shapes or DEFAULT_SHAPES:
        found += [Planned(shape, first, name, kind) for name, way in ways.items() if way.is_main for kind in bench.rows]
        found += [Planned(shape, first, name, bench.rows[0]) for name, way in ways.items() if not way.is_main]
        found += [Planned(shape, rank, next(iter(ways)), bench.rows[0]) for rank in others]
    return found


def measure(bench: Bench) -> Iterator[Case]:
    """Yield the cases as they are measured."""
    for one in bench.clock.in_time(planned(bench), lambda one: one.name):
        yield case(bench, one)
        clean(bench.device)


class Fit(NamedTuple):
    """The tokens in a forward pass, the layers that compute their activations again, the bytes that this needs."""

    budget: int
    checkpointed: int
    needed: int


def fit(bench: Bench, one: Planned, longest: int, room: int) -> Fit:
    """Halve the tokens in a forward pass until the estimate fits the room, as far as a pass holds the longest row."""
    shape, budget = SHAPES[one.shape], max(bench.budget, longest)
    while True:
        found = shapes.estimate(shape, one.rank, budget, bench.width)
        layers = checkpointing.choose(WAYS[one.way].checkpointing, shape.layers, found, room).layers
        wanted = shapes.needed(found, layers)
        if wanted <= room or budget // 2 < max(longest, SMALLEST_BUDGET):
            return Fit(budget, layers, wanted)
        budget //= 2


def case(bench: Bench, one: Planned) -> Case:
    """Measure one case, or say why it was skipped."""
    shape, way = SHAPES[one.shape], WAYS[one.way]
    rows = shapes.random_rows(ROWS[one.rows], bench.tokens, shape.vocabulary, random.Random(0))
    lengths = shapes.lengths(rows)
    free = free_bytes(bench.device)
    room = int(USABLE * free)
    fitted = fit(bench, one, lengths["longest"], room)
    computed = (shapes.packed if way.packs else shapes.padded)(rows, fitted.budget)
    found: Case = {
        "part": PART,
        "name": one.name,
        "shape": one.shape,
        "parameters": shape.parameters,
        "rank": one.rank,
        "rows": one.rows,
        "lengths": lengths,
        "way": one.way,
        "checkpointing": fitted.checkpointed > 0,
        "checkpointed_layers": fitted.checkpointed,
        "fused_lora": bench.device == "cuda" if way.fused is None else way.fused,
        "tokens_per_forward": fitted.budget,
        "packs": way.packs,
        "liger": way.liger,
        "padding": computed.tokens / lengths["tokens"] - 1,
        "needed_bytes": fitted.needed,
        "free_bytes": free,
        "settings": dict(SETTINGS),
        "runs": bench.runs,
    }
    if fitted.needed > room:
        gib = [size / 2**30 for size in (fitted.needed, room)]
        return found | {"skipped": f"needs about {gib[0]:.1f} GiB, and {gib[1]:.1f} can be used"}
    try:
        return found | figures(bench, one, rows, fitted, computed)
    except torch.cuda.OutOfMemoryError as error:
        return found | {"skipped": f"out of memory: {str(error).splitlines()[0][:200]}"}


def figures(bench: Bench, one: Planned, rows: list[Row], fitted: Fit, computed: Computed) -> Case:
    """Measure the updates of one learner."""
    device, shape, way = bench.device, SHAPES[one.shape], WAYS[one.way]
    given = {"lora_rank": one.rank, "lora_alpha": 2 * one.rank, "tokens_per_forward": fitted.budget}
    settings = Learner.model_validate(given | SETTINGS)
    options = {"temperature": 1.0, "seed": 0, "max_completion_length": ROWS[one.rows].written[1]}
    restart_peak(device)
    model = shapes.policy(shape, one.rank, device, fused=way.fused)
    if way.liger:
        kernels.apply(model.get_base_model())
    trainer = PolicyTrainer(
        model, shapes.tokenizer(), settings, bench.folder, options, checkpointed=fitted.checkpointed, packs=way.packs
    )
    scored = trainer.scored(rows)  # as if this policy had sampled them
    rows = [
        row._replace(log_probs=tuple(scored[id(row)][torch.tensor(row.at, device=device) - 1].tolist())) for row in rows
    ]
    del scored
    seconds = timed(lambda number: trainer.update(rows, 1e-5, 0.0, number), bench.runs, device)
    memory = peak_bytes(device)
    scoring = timed(lambda _: trainer.scored(rows), 1, device, warm_up=False)
    divergence = timed(lambda _: trainer.divergence(rows), 1, device, warm_up=False)
    tokens, work = sum([len(row.tokens) for row in rows]), shapes.flops(shape, one.rank, rows, computed)
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
        f"{'':<58}{'update':>9}{'tokens/s':>10}{'TFLOP/s':>9}{'MFU':>7}{'before':>8}{'memory':>10}{'estimate':>10}"
    ]
    for one in cases:
        if one["skipped"]:
            lines.append(f"{one['name']:<58} skipped: {one['skipped']}")
            continue
        mfu, before = ["–" if one[name] is None else f"{one[name]:.1%}" for name in ("mfu", "mfu_without_attention")]
        lines.append(
            f"{one['name']:<58}{one['seconds']:>7.2f} s{one['tokens_per_second']:>10,.0f}{one['teraflops']:>9.3f}"
            f"{mfu:>7}{before:>8}{one['peak_memory_bytes'] / 2**30:>6.1f} GiB{one['needed_bytes'] / 2**30:>6.1f} GiB"
        )
    return lines
