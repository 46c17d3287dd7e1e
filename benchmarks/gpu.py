"""The package on one GPU, in four parts that each end within four minutes.

    python -m benchmarks.gpu [--parts a,b,c,d] [--limit 225] [--json FILE] [--model FOLDER] [--device cuda]

    a  the learner: tokens a second, share of the device's peak, memory, by shape of model, rank, rows, checkpointing
    b  a version's way from the learner to the sampler: export, publish, load, proof
    c  the embedded sampler: tokens a second, by size of cohort, free and structured
    d  a whole run without Ray: whether two runs from one seed agree, and whether the reward rises

Models have the shape of a real one and random weights; nothing is fetched. Only part d takes a real model, from a
folder given by --model. It needs torch, transformers, peft, trl, safetensors, numpy, pydantic and pyyaml with what
these need, and this package's source; no Ray, no vllm, no pyarrow. `--device cpu --shape tiny` runs everything anywhere
in a minute or two. Parts are kept apart: one that fails or runs out of time leaves the others as they are.

Model FLOPs utilization (mfu) is the arithmetic that a training step of a LoRA needs, by the seconds and by the peak:

    flops = tokens x (4 N + 6 A) + written x 4 H V + attention          mfu = flops / seconds / peak
    attention = layers x 12 x width x pairs;  pairs = sum over rows of length x (length + 1) / 2

N are the weights of the frozen linear layers below the head: 2 N forward and 2 N for gradients of activations; the 2 N
for gradients of weights fall away, and only the A weights of the adapter have theirs. The head, H x V, is computed
where something was written. Attention is counted causally, a token with itself and those before it: two products
forward and four backward, of 2 x width operations for each pair; width is heads x width of a head. What checkpointing
or the attention's kernel computes again is not counted, and neither is padding; where rows share an opening that is
computed once, its tokens and pairs count once. `mfu_without_attention` is the count of earlier versions of this
benchmark. The peak is the device's dense bf16 rate by its name.

The JSON, which is written whole after every case:

    {"schema": "gpu-benchmark/1",
     "parts": {"a": {"began": "2026-01-31T12:00:00Z", "seconds": 180.2, "limit": 225, "finished": true,
                     "left_out": [], "error": null, "load": 1.2, "settings": {...}}, ...},
     "cases": [{...}, ...]}

A later run replaces the cases of the same part, name and card, and the entries of the parts that it ran; all others
stay. `left_out` names what there was no time for, `load` is the machine's load average at the end. Each case is flat
and stands alone. All have these, or null:

    part, name, card ("NVIDIA H100 80GB HBM3"; "cpu"), card_memory_bytes, driver, versions {torch, transformers, peft,
    trl}, shape ("3b", "1.5b", "0.5b", "smollm2", "tiny", or the name of a model's folder), parameters, rank, seconds
    (of an update; of a synchronization; of all completions; of all updates), tokens_per_second, peak_memory_bytes, mfu,
    checkpointing (true or false: of any layer), skipped (null, or why nothing was measured)

A case that was not skipped has further figures:

    a: rows ("incident", "tools", "4k", "former"), lengths {rows, tokens, written, shortest, median, longest},
       way (of computing, in words), checkpointed_layers, fused_lora, packs (rows in lines instead of padded), liger,
       tokens_per_forward, padding (tokens that are computed, by those of the rows, less 1; below 0 where openings are
       shared), settings {what else the learner was told}, needed_bytes (estimated), free_bytes, runs, scoring_seconds
       (of all rows), kl_seconds (of up to settings.kl_rows rows), flops_per_token, teraflops, mfu_without_attention
    b: export_seconds, publish_seconds, load_seconds, proof_seconds, adapter_bytes, decisive, runs; load is the
       sampler's, proof the scores of learner and sampler, decisive whether these tell versions and base apart
    c: completions ("free", "structured"), cohort, prompt, turns, written, read_tokens_per_second (of openings);
       tokens_per_second are the written ones, with all that is read between them in the time
    d: kind ("run", "repeat"), world, seats, style, updates, and of a run: reward_first, reward_last (of the first and
       last tenth of the updates) and held_out {before, after, rise}, each {mean, interval, episodes}, rewards (the mean
       of each update), seconds_by {collect, update, publish, adopt}, digest, computing {what the learner decided},
       tokens_per_second learnt from; of a repeat: same (true or false), first_different, digests

Seconds are medians where `runs` says of how many, after one that warms up. Memory is the peak of the case as PyTorch's
allocator counts it, on a CPU the resident memory of the process. Intervals are bootstrapped over scenarios, 95 %.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers

from benchmarks.on_gpu import adapter, learner, run, sampler
from benchmarks.on_gpu.bench import COMMON, Bench, Case, Clock, clean, machine
from benchmarks.on_gpu.shapes import ROWS, SHAPES
from chaosops_ray.process_environment import set_for_a_gpu
from chaosops_ray.store.files import write_json

SCHEMA = "gpu-benchmark/1"
PARTS = {"a": learner, "b": adapter, "c": sampler, "d": run}
TITLES = {
    "a": "the learner",
    "b": "a version from the learner to the sampler",
    "c": "the embedded sampler",
    "d": "a whole run without Ray",
}
LIMIT = 225.0  # seconds; the last step of a part may take a little longer than the longest before


class UnreadableError(ValueError):
    """A file of figures that this benchmark did not write."""


def measured(name: str, part: ModuleType, bench: Bench, told: dict[str, Any], file: Path | None) -> bool:
    """Measure one part, print its table, and write the file after every case; return whether nothing failed."""
    print(f"\n{name}: {TITLES[name]}", flush=True)
    began, stamp, found, error = time.monotonic(), datetime.now(UTC), list[Case](), None

    def entry() -> dict[str, Any]:
        return {
            "began": stamp.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seconds": time.monotonic() - began,
            "limit": bench.clock.limit,
            "finished": False,
            "left_out": bench.clock.left_out,
            "error": error,
            "load": os.getloadavg()[0],
            "settings": bench.settings,
        }

    try:
        for case in part.measure(bench):
            found.append(dict.fromkeys(COMMON) | told | case)
            save(file, {name: entry()}, found)
    except Exception as raised:  # noqa: BLE001 - whatever it is, the other parts are still to be measured
        error = f"{type(raised).__name__}: {raised}"
        traceback.print_exc()
    clean(bench.device)
    is_whole = error is None and not bench.clock.left_out
    save(file, {name: entry() | {"finished": is_whole}}, found)
    for line in part.table(found) if found else ():
        print(f"  {line}")
    if bench.clock.left_out:
        print(f"  out of time after {bench.clock.spent:.0f} s; left out: {'; '.join(bench.clock.left_out)}")
    if error is not None:
        print(f"  failed: {error}")
    return error is None


def save(file: Path | None, parts: dict[str, Any], cases: Sequence[Case]) -> None:
    """Merge the figures into a file."""
    if file is not None:
        write_json(file, merged(stored(file), parts, cases))


def stored(file: Path) -> dict[str, Any]:
    """Read what earlier runs wrote."""
    if not file.exists():
        return {"schema": SCHEMA, "parts": {}, "cases": []}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise UnreadableError(f"{file} does not hold figures of {SCHEMA}; give another file")
    return found


def merged(before: dict[str, Any], parts: dict[str, Any], cases: Iterable[Case]) -> dict[str, Any]:
    """Put the new figures in the place of those of the same name, part and device."""
    by_name = {(one["part"], one["card"], one["name"]): one for one in [*before["cases"], *cases]}
    return {"schema": SCHEMA, "parts": before["parts"] | parts, "cases": list(by_name.values())}


def listed(known: Iterable[str]) -> Any:
    """Return a reader of comma-separated names."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name[:40]!r} is not one of {', '.join(known)}")
        return names

    return read


def numbers(text: str) -> tuple[int, ...]:
    """Read comma-separated whole numbers above 0."""
    try:
        found = tuple([int(part) for part in text.split(",")])
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a list of whole numbers above 0, such as 8,64")
    return found


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    found = argparse.ArgumentParser(description="The package on one GPU, in four parts.")
    found.add_argument("--parts", type=listed(PARTS), default=tuple(PARTS), help="which parts, such as a,d")
    found.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS", help="for each part")
    found.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, into those of earlier runs")
    found.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for trying out")
    found.add_argument("--shape", type=listed(SHAPES), default=(), help="of the models, for all parts")
    found.add_argument("--rank", type=numbers, default=(32, 16), help="of the adapters; the first is for b and d")
    found.add_argument(
        "--rows", type=listed(ROWS), default=("incident", "tools", "4k"), help="of part a: what their lengths are like"
    )
    found.add_argument("--tokens", type=int, default=32768, help="part a: of an update, at least")
    found.add_argument(
        "--tokens-per-forward", type=int, default=16384, help="in a forward pass of the learner, at most"
    )
    found.add_argument("--cohorts", type=numbers, default=(8, 16, 32, 64), help="part c: rows that are sampled at once")
    found.add_argument("--runs", type=int, default=2, help="parts a and b: how often each is measured after a warm-up")
    found.add_argument("--updates", type=int, default=100, help="of part d, at most")
    found.add_argument("--model", type=Path, metavar="FOLDER", help="part d: a real model, instead of random weights")
    found.add_argument("--style", choices=("full", "compact"), help="part d; otherwise full with --model, else compact")
    found.add_argument("--learning-rate", type=float, help="part d; otherwise by the model's width")
    found.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on a CPU")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts, print a table for each, write the figures where asked."""
    given = parser().parse_args(arguments)
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the trainer takes a GPU where it sees one
    elif not torch.cuda.is_available():
        print("torch sees no GPU, which this needs; to try it out, add --shape tiny --device cpu", file=sys.stderr)
        return 2
    try:
        if given.json is not None:
            stored(given.json)
    except UnreadableError as error:
        print(error, file=sys.stderr)
        return 2
    if given.device == "cuda":
        set_for_a_gpu(deterministic=False)  # the allocator reads it at its first use
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(given.threads)
    told = machine(given.device)
    libraries = ", ".join([f"{name} {version}" for name, version in told["versions"].items()])
    driver = "" if told["driver"] is None else f", driver {told['driver']}"
    print(f"{told['card']}, {told['card_memory_bytes'] / 2**30:.1f} GiB{driver}; {libraries}", flush=True)
    failed = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the libraries about each other
        for name in given.parts:
            bench = Bench(
                device=given.device,
                shapes=given.shape,
                ranks=given.rank,
                rows=given.rows,
                tokens=given.tokens,
                budget=given.tokens_per_forward,
                cohorts=given.cohorts,
                runs=given.runs,
                updates=given.updates,
                model=given.model,
                style=given.style,
                rate=given.learning_rate,
                threads=given.threads,
                folder=Path(folder),
                clock=Clock(given.limit),
            )
            if not measured(name, PARTS[name], bench, told, given.json):
                failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
