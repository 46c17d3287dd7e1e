"""The learner on a GPU, at full size: tokens a second, how much of the device that is, memory, and the way out.

    python benchmarks/gpu.py [--json FILE] [--shape 3b] [--device cuda] [--rows 64] [--runs 3]

It stands alone: no model is fetched, no world is simulated. It needs this package's learner, config, wire and store,
and for them torch, transformers, peft, trl (with datasets), pydantic and pyyaml. `--shape tiny --device cpu` walks the
same path in seconds anywhere.

The model has the shape of Qwen2.5-3B and random weights, in bf16, with LoRA of rank 32 on all linear layers and with
activation checkpointing; rows are like transcripts in the full style: 600 to 2500 tokens, of which the policy wrote 30
to 60 in each turn. What is measured is `PolicyTrainer.update`, and publishing and reading of its adapter.

    flops = tokens x (4 N + 6 A) + written x 4 H V          model FLOPs utilization = flops / seconds / peak

6 N a token is the usual count: 2 N forward, 2 N for gradients of activations, 2 N for those of weights. The last falls
away for the N weights of the frozen linear layers, and only the A weights of the adapter have it. The head, H x V, is
computed where something was written. Neither what checkpointing computes again nor attention is counted. The peak is
the device's dense bf16 rate by its name.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from peft import PeftModel
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from chaosops_ray.config import Learner
from chaosops_ray.learner import lora
from chaosops_ray.learner.adapter import adapter_files
from chaosops_ray.learner.batch import Row, micro_batches
from chaosops_ray.learner.grpo import PolicyTrainer
from chaosops_ray.store import versions

# Dense bf16 FLOP/s by what the device's name holds; the first that fits.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
}
PAD = "<pad>"
BASE = sha256(b"random weights").hexdigest()


class Shape(NamedTuple):
    """A model, and the rows for it."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    rank: int
    budget: int  # tokens per forward
    opening: tuple[int, int]  # tokens that are read before the first turn
    between: tuple[int, int]  # and before each one after it
    written: tuple[int, int]  # tokens of a turn
    length: tuple[int, int]  # of a row; it ends with the last turn that fits


SHAPES = {
    "3b": Shape(2048, 36, 16, 2, 11008, 151936, 32, 16384, (350, 500), (60, 180), (30, 60), (600, 2500)),
    "tiny": Shape(64, 2, 4, 2, 128, 512, 4, 512, (10, 20), (3, 9), (2, 4), (30, 120)),
}


# -- what is worked on ------------------------------------------------------------------------------------------------


def random_row(shape: Shape, draw: random.Random) -> Row:
    """A transcript of random tokens."""

    def words(between: tuple[int, int]) -> list[int]:
        return [draw.randrange(1, shape.vocabulary) for _ in range(draw.randint(*between))]

    wanted = draw.randint(*shape.length)
    tokens, at, advantages = words(shape.opening), list[int](), list[float]()
    while True:
        turn = words(shape.written)
        at += range(len(tokens), len(tokens) + len(turn))
        advantages += [draw.gauss(0, 1)] * len(turn)
        tokens += turn
        following = words(shape.between)
        if len(tokens) + len(following) + shape.written[1] > wanted:
            return Row(tuple(tokens), tuple(at), (0.0,) * len(at), tuple(advantages))
        tokens += following


def policy(shape: Shape, device: str) -> PeftModel:
    """The model with its adapter, made on the device itself."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.device(device):
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        base = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return lora.with_adapter(base, shape.rank, 2 * shape.rank, seed=0)


def tokenizer() -> PreTrainedTokenizerFast:
    """TRL wants one, with padding; nothing is tokenized."""
    model = Tokenizer(models.WordLevel({PAD: 0}, unk_token=PAD))
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token=PAD, eos_token=PAD)


# -- measuring --------------------------------------------------------------------------------------------------------


def flops(model: PeftModel, shape: Shape, rows: Sequence[Row]) -> float:
    """Of an update that steps once, by the formula above."""
    adapter: int = sum([weight.numel() for weight in model.parameters() if weight.requires_grad])
    frozen: int = sum(
        [
            module.weight.numel()
            for name, module in model.named_modules()
            if name.endswith(".base_layer") and isinstance(module, torch.nn.Linear)
        ]
    )
    tokens, written = sum([len(row.tokens) for row in rows]), sum([len(row.at) for row in rows])
    return tokens * (4.0 * frozen + 6.0 * adapter) + written * 4.0 * shape.hidden * shape.vocabulary


def peak(device: str) -> float | None:
    """What the device could do, if its name is known."""
    if device == "cpu":
        return None
    name = torch.cuda.get_device_name()
    return next((rate for part, rate in PEAKS.items() if part in name), None)


def timed(work: Callable[[int], object], runs: int) -> float:
    """The median of so many runs, after one that warms up."""
    spent = []
    for number in range(runs + 1):
        began = time.perf_counter()
        work(number)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[1:])


def measure(shape: Shape, device: str, count: int, runs: int, folder: Path) -> dict[str, Any]:
    """Everything, on one model."""
    draw = random.Random(0)
    rows = [random_row(shape, draw) for _ in range(count)]
    settings = Learner(lora_rank=shape.rank, lora_alpha=2 * shape.rank, tokens_per_forward=shape.budget)
    model = policy(shape, device)
    options = {"temperature": 1.0, "seed": 0, "max_completion_length": shape.written[1]}
    trainer = PolicyTrainer(model, tokenizer(), settings, folder, options)
    scored = trainer.scored(rows)
    rows = [
        row._replace(log_probs=tuple(scored[id(row)][torch.tensor(row.at, device=device) - 1].tolist())) for row in rows
    ]

    def update(number: int) -> None:
        trainer.update(rows, 1e-5, 0.0, number)

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = {"update, scoring first": timed(update, runs)}
    trainer.settings = settings.model_copy(update={"recompute": False})
    seconds["update"] = timed(update, runs)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    seconds["KL to the base"] = timed(lambda _: trainer.divergence(rows), runs)
    seconds["adapter export"] = timed(
        lambda number: versions.publish(folder, number, BASE, adapter_files(model, "random")), runs
    )
    seconds["adapter digest"] = timed(lambda _: versions.read(folder / versions.folder_name(runs), BASE), runs)

    tokens, work = sum([len(row.tokens) for row in rows]), flops(model, shape, rows)
    rate = peak(device)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "rows": len(rows),
        "tokens": tokens,
        "written": sum([len(row.at) for row in rows]),
        "longest": max([len(row.tokens) for row in rows]),
        "padding": forwarded(rows, shape.budget) / tokens - 1,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds["update"],
        "flops_per_token": work / tokens,
        "teraflops": work / seconds["update"] / 1e12,
        "peak_teraflops": None if rate is None else rate / 1e12,
        "mfu": None if rate is None else work / seconds["update"] / rate,
        "peak_memory_gib": memory,
        "adapter_bytes": sum([path.stat().st_size for path in (folder / versions.folder_name(runs)).iterdir()]),
        "runs": runs,
    }


def forwarded(rows: Sequence[Row], budget: int) -> int:
    """Tokens that are computed, padding included."""
    return sum([len(part) * max([len(row.tokens) for row in part]) for part in micro_batches(rows, budget)])


def show(name: str, found: dict[str, Any]) -> None:
    """The table."""
    print(
        f"{name} on {found['device']}: {found['rows']} rows, {found['tokens']:,} tokens ({found['written']:,} written, "
        f"{found['longest']:,} in the longest row), {found['padding']:.0%} padding; median of {found['runs']}"
    )
    for title, spent in found["seconds"].items():
        print(f"  {title:<26}{spent:>10.3f} s")
    print(f"  {'learner':<26}{found['tokens_per_second']:>10,.0f} tokens/s")
    share = "peak unknown" if found["mfu"] is None else f"{found['mfu']:.1%} of {found['peak_teraflops']:.0f}"
    print(f"  {'model FLOPs':<26}{found['teraflops']:>10.3f} TFLOP/s, {share}")
    memory = "not measured" if found["peak_memory_gib"] is None else f"{found['peak_memory_gib']:.1f} GiB"
    print(f"  {'peak memory of an update':<26}{memory:>14}")
    print(f"  {'adapter':<26}{found['adapter_bytes'] / 1e6:>10.1f} MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the figures where asked."""
    parser = argparse.ArgumentParser(description="The learner on a GPU, at full size.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--shape", choices=SHAPES, default="3b", help="of the model")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for trying out")
    parser.add_argument("--rows", type=int, default=64, help="of the batch")
    parser.add_argument("--runs", type=int, default=3, help="how many times each part is measured")
    given = parser.parse_args(arguments)
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the trainer takes a GPU where it sees one
    elif not torch.cuda.is_available():
        print("torch sees no GPU, which this needs; to try it out, add --shape tiny --device cpu", file=sys.stderr)
        return 2
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the libraries about each other
        found = measure(SHAPES[given.shape], given.device, given.rows, given.runs, Path(folder))
    show(given.shape, found)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
