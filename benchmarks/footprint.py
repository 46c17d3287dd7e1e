"""Memory of learner and samplers: what chaosops_ray/training/footprint.py says, beside what they take.

    python -m benchmarks.footprint [--model MODEL] [--only learner,torch,vllm] [--json FILE]

Each case is one process (vllm: and its engine's) that works at the limits of its settings, as the estimate supposes: a
micro-batch of `tokens_per_forward` tokens, rows of `context` tokens, a cache that is full. Without a GPU, what is
measured is the largest resident memory as Linux counts it, libraries included. With one, it is what torch's allocator
had handed out at the most, and the estimate beside it is without the CUDA context. The model is a folder or a name, by
default the tiny model's.

The bar: no estimate is more than 20 % from what was measured. The exit code is 1 where one is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray import config
from chaosops_ray.config import Run
from chaosops_ray.process_environment import set_variables
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.training import base_models, footprint

BAR = 0.20
ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "tune_configs" / "3a.yaml"
BASE = "0" * 64  # in place of a base model's digest
# One transcript's role: batches are then small.
ALONE = "seats={oversight: learn, sre: heuristic, dev: heuristic, manager: heuristic}"


class Case(NamedTuple):
    """A process, and the settings of its run."""

    process: str  # learner, torch or vllm
    settings: tuple[str, ...]


def learner(tokens: int, context: int, *settings: str) -> Case:
    """A learner whose batch is one micro-batch."""
    return Case(
        "learner",
        (
            f"learner.tokens_per_forward={tokens}",
            f"resources.context={context}",
            f"batch={{scenarios: 1, group: {max(2, tokens // context)}, refill: 0}}",
            *settings,
        ),
    )


def sampler(engine: str, context: int, group: int, *settings: str) -> Case:
    """A sampler with rows that grow to the context."""
    return Case(
        engine,
        (
            f"resources.context={context}",
            f"batch={{scenarios: 2, group: {group}, refill: 0}}",
            # About one group's, beside the one that is computed.
            "resources.cache_share=0.002",
            *settings,
        ),
    )


CHOICES = ("rollout.structured=choices", "rollout.max_tokens=2")
WHOLE = ("rollout.structured=choices", "rollout.max_tokens=96")
OFFERED = 16  # whole actions to choose among
SCHEMA = ("rollout.structured=schema",)
ON, OFF = "learner.checkpointing=true", "learner.checkpointing=false"
CASES = (
    learner(512, 256, ON),
    learner(512, 256, OFF),
    learner(1024, 512, ON),
    learner(2048, 1024, ON),
    learner(1024, 512, OFF, *CHOICES),
    learner(1024, 512, ON, *SCHEMA),
    learner(2048, 1024, ON, *WHOLE),
    sampler("torch", 512, 2, "style=compact"),
    sampler("torch", 2048, 4),
    sampler("torch", 2048, 4, *WHOLE),
    sampler("vllm", 512, 2, "style=compact"),
    sampler("vllm", 2048, 4),
)


def run_of(case: Case, model: Path, *, on_gpu: bool) -> Run:
    """The run of a case: the published one, with one role that learns."""
    engine = "vllm" if case.process == "vllm" else "torch"
    gpus = int(on_gpu)
    return config.load(
        CONFIG,
        [
            f"model={model}",
            "style=full",
            f"sampler={engine}",
            ALONE,
            "evaluation.seeds=1000-1000",
            f"resources={{learner_gpus: {gpus}, sampler_gpus: {gpus}, learner_threads: 1}}",
            "learner.recompute=false",
            *case.settings,
        ],
    )


# -- in the process that is measured ----------------------------------------------------------------------------------


def work_as_learner(run: Run, model: Path) -> None:
    """Update twice, the second time with rows that fill a micro-batch; then publish and save."""
    import chaosops_ray.learner.actor  # noqa: F401 - and Ray with it, as in a run
    from chaosops_ray.learner.learner import Learner

    made = Learner(run, "measured", model, BASE, {"oversight": {"flags": 1.0}})
    trainer, draw = made.prepare(), random.Random(0)
    # The optimizer's moments are there from its first step on.
    trainer.update([row_of(run, model, 16, draw)], 1e-5, 0.0, 0)
    # A micro-batch counts the actions to choose among, so that transcripts with them are shorter.
    length = run.resources.context - trees(run, model).row
    rows = [row_of(run, model, length, draw) for _ in range(max(1, run.learner.tokens_per_forward // length))]
    trainer.update(rows, 1e-5, 0.0, 1)
    made.adapter()
    made.save(1)


def trees(run: Run, model: Path) -> footprint.Trees:
    """The tokens of whole actions to choose among, as they are estimated."""
    return footprint.trees_of(run, environment_named(run.world), footprint.known(model))


def offered(vocabulary: int, nodes: int, draw: random.Random) -> tuple[tuple[int, ...], ...]:
    """Whole actions of random tokens, whose tree has about so many."""
    length = max(2, 1 + nodes // OFFERED)  # an action's last token is read by nothing
    return tuple([tuple([draw.randrange(vocabulary) for _ in range(length)]) for _ in range(OFFERED)])


def choosing_row(vocabulary: int, length: int, found: footprint.Trees, draw: random.Random) -> Any:
    """A transcript of random tokens whose turns chose among whole actions."""
    from chaosops_ray.choice_tree import choice_tree
    from chaosops_ray.learner.batch import Choice, Row

    turns = max(1, found.row // found.turn)
    choices = [Choice(choice_tree(offered(vocabulary, found.turn, draw)), 0) for _ in range(turns)]
    tokens, at = [draw.randrange(vocabulary) for _ in range(length)], []
    for number, one in enumerate(choices):
        written = one.tree.choices[one.chosen]
        start = (number + 1) * length // turns - len(written)
        tokens[start : start + len(written)] = written
        at.append(start)
    spread = tuple([draw.gauss(0, 1) for _ in at])
    return Row(tuple(tokens), tuple(at), (-1.0,) * len(at), spread, choices=tuple(choices))


def row_of(run: Run, model: Path, length: int, draw: random.Random) -> Any:
    """A transcript of random tokens, as many of them written as can be: one is read before every completion."""
    from chaosops_ray.learner.batch import Row

    if (found := trees(run, model)).turn:
        return choosing_row(footprint.shape(model).vocabulary, max(length, 2 * found.turn), found, draw)
    vocabulary = footprint.shape(model).vocabulary
    limit = min(run.rollout.max_tokens, length - 1)
    tokens = tuple([draw.randrange(vocabulary) for _ in range(length)])
    at = tuple([place for place in range(1, length) if place % (limit + 1)])
    row = Row(tokens, at, (-1.0,) * len(at), tuple([draw.gauss(0, 1) for _ in at]))
    if run.rollout.structured == "choices":
        lines = [tuple(sorted({tokens[place], *draw.sample(range(vocabulary), 7)})) for place in at]
        return row._replace(allowed=tuple(lines))
    if run.rollout.structured == "schema":
        return row._replace(masks=(b"\xff" * (-(-vocabulary // 8)),) * len(at))
    return row


async def work_as_sampler(run: Run, model: Path) -> None:
    """Adopt two versions, and sample cohorts whose rows grow to the context."""
    import chaosops_ray.workers.actors  # noqa: F401 - and Ray with it, as in a run
    from chaosops_ray.wire import Decoding, PolicyVersion, SampleRequest
    from chaosops_ray.workers.samplers import build

    opening = footprint.longest_opening(run, environment_named(run.world), footprint.known(model))
    with tempfile.TemporaryDirectory() as folder:
        adapters = subprocess.run(  # elsewhere: the sampler holds no second model
            [
                sys.executable,
                "-m",
                "benchmarks.footprint",
                "--adapters",
                folder,
                str(model),
                str(run.learner.lora_rank),
            ],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        versions = [PolicyVersion(*one) for one in json.loads(adapters.stdout)]
        engine = build.build(run.sampler, build.settings(run, model))
        vocabulary = footprint.shape(model).vocabulary
        draw, found = random.Random(0), trees(run, model)
        try:
            for version in versions:
                await engine.adopt(version)
                await engine.score([tuple([draw.randrange(vocabulary) for _ in range(opening)])], version.number)
            grown = run.resources.context - opening - 8
            for cohort in range(run.batch.scenarios):
                rows = [[draw.randrange(vocabulary) for _ in range(opening)] for _ in range(run.batch.group)]
                for _ in range(5):
                    among = offered(vocabulary, found.turn, draw) if found.turn else None
                    requests = [SampleRequest(place, tuple(row), place, among) for place, row in enumerate(rows)]
                    decoding = Decoding(1.0, max(2, *map(len, among or ((),))), (0,))
                    samples = await engine.sample(str(cohort), requests, decoding, versions[-1].number)
                    for row, sample in zip(rows, samples, strict=True):
                        row += sample.tokens
                        read = max(1, grown // 4 - len(sample.tokens))
                        row += [draw.randrange(vocabulary) for _ in range(read)]
            for _ in range(prompts_left(run, model)):
                # The prefix cache keeps every prompt: in a run, its memory is all used after some updates.
                prompt = tuple([draw.randrange(vocabulary) for _ in range(run.resources.context - 2)])
                await engine.sample("", [SampleRequest(0, prompt, 0)], Decoding(1.0, 2, (0,)), versions[-1].number)
            told(children=True)
        finally:
            await engine.close()


def prompts_left(run: Run, model: Path) -> int:
    """The prompts of the longest length that fill the cache of vllm on a CPU, beside what was sampled."""
    if run.sampler != "vllm" or run.resources.sampler_gpus:
        return 0
    used = run.batch.scenarios * run.batch.group * run.resources.context
    held = footprint.VLLM_CPU_CACHE // footprint.cached(footprint.shape(model), 4)
    return max(0, -(-(held - used) // run.resources.context))


def adapters_in(folder: Path, model: Path, rank: int) -> list[tuple[int, str, str]]:
    """Publish two adapters of random weights."""
    import torch

    from chaosops_ray.learner import lora
    from chaosops_ray.learner.adapter import adapter_files
    from chaosops_ray.store import versions

    made = lora.with_adapter(lora.load_base(str(model), "cpu"), rank, 2 * rank, 0)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if ".lora_B." in name:
                weight.normal_(0, 0.01)
    files = adapter_files(made, "measured")
    published = [versions.publish(folder, number, BASE, files) for number in range(2)]
    return [(one.number, one.digest, one.path) for one in published]


def told(*, children: bool = False) -> None:
    """Print the peak of this process, with those of the processes that it has started."""
    import psutil
    import torch

    own = psutil.Process()
    counted = [own, *(own.children(recursive=True) if children else ())]
    found = {"memory": sum([peak(process.pid) for process in counted])}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated()
    print(json.dumps(found), flush=True)


def peak(pid: int) -> int:
    """The most resident memory that a process has had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


# -- in the one that compares -----------------------------------------------------------------------------------------


def compared(case: Case, model: Path, *, on_gpu: bool) -> dict[str, Any]:
    """What is said of a case, and what was measured of it."""
    run = run_of(case, model, on_gpu=on_gpu)
    name = "learner" if case.process == "learner" else "sampler"
    machine = footprint.here()
    (need,) = [one for one in footprint.needs(run, environment_named(run.world), model, machine) if one.name == name]
    given = json.dumps([case.process, *case.settings])
    asked = [sys.executable, "-m", "benchmarks.footprint", "--model", str(model), "--measure", given]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{given} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    parts = {k: v for k, v in need.gpu.items() if k != footprint.LIBRARIES} if on_gpu else need.memory
    size = measured["gpu" if on_gpu else "memory"]
    return {
        "process": case.process,
        "settings": list(case.settings),
        "estimate": sum(parts.values()),
        "parts": parts,
        "measured": size,
        "ratio": sum(parts.values()) / size,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the cases one after the other, print a line for each, write the figures where asked."""
    set_variables()
    parser = argparse.ArgumentParser(description="Memory of learner and samplers: estimated and measured.")
    parser.add_argument("--model", default="tiny", help="a model's folder, tiny or smollm2 (default: tiny)")
    parser.add_argument("--only", default="learner,torch,vllm", help="which processes")
    parser.add_argument("--number", type=int, action="append", help="of the cases, from 0; repeatable (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--adapters", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.adapters is not None:
        folder, model, rank = given.adapters
        print(json.dumps(adapters_in(Path(folder), Path(model), int(rank))))
        return 0
    on_gpu = bool(footprint.here().gpus) and not os.environ.get("CHAOSOPS_ON_CPU")
    if given.measure is not None:
        model = Path(given.model)  # of the process that compares: to look for it loads libraries
        process, *settings = json.loads(given.measure)
        run = run_of(Case(process, tuple(settings)), model, on_gpu=on_gpu)
        if process == "learner":
            work_as_learner(run, model)
            told()
        else:
            asyncio.run(work_as_sampler(run, model))
        return 0
    model = base_models.prepare(given.model).path
    found = []
    for number, case in enumerate(CASES):
        if case.process in given.only.split(",") and (given.number is None or number in given.number):
            one = compared(case, model, on_gpu=on_gpu)
            found.append(one)
            print(
                f"{case.process:<8}{one['estimate'] / 2**20:>8,.0f} MiB said{one['measured'] / 2**20:>8,.0f} measured"
                f"{one['ratio']:>7.2f}  {' '.join(case.settings)}\n         "
                + ", ".join([f"{part} {size / 2**20:,.0f}" for part, size in one["parts"].items()]),
                flush=True,
            )
    if given.json is not None:
        given.json.write_text(json.dumps({"model": str(model), "cases": found}, indent=2) + "\n")
    return int(any(abs(one["ratio"] - 1) > BAR for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
