"""Where the time of a rollout goes: in the engine, or around it.

    python benchmarks/rollout.py [--shards 1,2,4] [--json FILE]

The tiny preset's batch (8 scenarios × 16 episodes, all tiers), played by the tiny model as it comes from its warm-up,
by real actors on a local Ray. The sampler records when its engine works on a request; what is left of the wall time is
ours: worlds, words, messages between processes, waiting. The limit is that nothing is left. Median of seven rollouts
after one to warm up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import ray

from chaosops_ray import config
from chaosops_ray.process_environment import set_variables
from chaosops_ray.sim import curriculum
from chaosops_ray.spans import named
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import base_models, loop
from chaosops_ray.training.mastery import NEW
from chaosops_ray.workers.stop import Stop

RUNS = 7
BAR = 0.10
CONFIG = Path(__file__).parents[1] / "tune_configs" / "3a.yaml"


def measure(shards: int, base: base_models.BaseModel, folder: Path) -> dict[str, float]:
    """Medians over the rollouts of one actor pool."""
    run = config.load(CONFIG, ["model=tiny", "curriculum=easy+medium+hard:1", f"rollout.shards={shards}"])
    training = loop.prepare(run, base, RunFolder.create(folder, "model: tiny\n"))
    found: dict[str, list[float]] = {"wall": [], "engine": [], "outside": [], "steps": [], "episodes": []}
    with loop.placed(training, Stop()) as pool:
        state = loop.State(curriculum.parse(run.curriculum, training.environment.tiers, ()), NEW)
        loop.publish(training, pool, state, loop.probes(training))
        for number in range(RUNS + 1):
            pool.timeline.take()
            began = time.perf_counter()
            tasks = training.plan.tasks(state.curriculum, number, 0, run.batch.scenarios)
            groups = pool.dispatch(tasks).gather(run.rollout.deadline, run.rollout.retries)
            wall = time.perf_counter() - began
            pool.hear_samplers()
            worked = sum([span.worked for span in named(pool.timeline.take(), pool.samplers[0], "sample")])
            if number:
                reports = [report for group in groups for report in group.reports]
                steps = sum([len(report.actions) for report in reports])
                for name, value in (
                    ("wall", wall),
                    ("engine", worked),
                    ("outside", 1 - worked / wall),
                    ("steps", steps / wall),
                    ("episodes", len(reports) / wall),
                ):
                    found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Measure, print a table, write the figures where asked."""
    parser = argparse.ArgumentParser(description="The share of rollout time outside the engine.")
    parser.add_argument("--shards", default="1,2,4", metavar="A,B,…", help="numbers of shards (default: 1,2,4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args()
    set_variables()
    base = base_models.prepare("tiny")
    figures = {}
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for shards in [int(part) for part in given.shards.split(",")]:
                figures[str(shards)] = measure(shards, base, Path(folder) / str(shards))
    finally:
        ray.shutdown()
    print(f"{'shards':>6} {'rollout':>9} {'engine':>9} {'outside':>8} {'steps/s':>9} {'episodes/s':>11}")
    for shards_text, row in figures.items():
        print(
            f"{shards_text:>6} {row['wall']:>7.2f} s {row['engine']:>7.2f} s {row['outside']:>7.1%} "
            f"{row['steps']:>9,.0f} {row['episodes']:>11,.1f}"
        )
    print(f"bar: at most {BAR:.0%} outside; the limit is 0 %")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
