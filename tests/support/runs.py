"""A run as `train` leaves it, scripted: rows of metrics, an evaluation, a folder with both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chaosops_ray import evaluate
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.rng import stream
from chaosops_ray.store.files import sealed
from chaosops_ray.store.run_folder import EVALUATION, RunFolder

INCIDENT = ENVIRONMENTS["incident"]
TOOLS = ENVIRONMENTS["tools"]
FLEET = ENVIRONMENTS["fleet"]
RULES = INCIDENT.rules("strict")
CONFIG = f"rules: {RULES}\nmodel: tiny\nsampler: torch\nseed: 7\nupdates: 160\n"
UPDATES = 160


def row(update: int, environment: AnyEnvironment = INCIDENT, tiers: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The row of an update of a run that learns."""
    way = 1 - math.exp(-update / 40)
    draw = stream(update, "scripted", 0)

    def noisy(value: float, by: float) -> float:
        return value + by * (2 * draw.uniform() - 1)

    by_tier = {}
    for hard, tier in enumerate(environment.tiers):
        mean = -400 - 250 * hard + (520 + 250 * hard) * way
        found: dict[str, float | None] = {"episodes": 42, "mean": noisy(mean, 80)}
        if environment is TOOLS:
            found["mean"] = max(0.0, noisy(way * (1 - 0.2 * hard), 0.08))
        for metric in environment.metrics:
            share = min(1.0, max(0.0, noisy(0.9 * way, 0.1)))
            found[metric.name] = share if metric.is_share else noisy(3, 1)
        by_tier[tier] = found
    if environment is INCIDENT:
        by_tier["easy"]["rogue_catch"] = None
    return {
        "update": update,
        "updates": UPDATES,
        "version": update,
        "digest": f"{update:064x}",
        "rules": environment.rules("strict"),
        "rule_options": {"catch": 1.0, "false_flag": 1.0},
        "episodes": 128,
        "groups": {"played": 8, "learnt_from": 7},
        "tiers": {tier: found for tier, found in by_tier.items() if tiers is None or tier in tiers},
        "rewards": dict.fromkeys(environment.roles, noisy(12.5 * way, 3)),
        "learner": {
            "entropy": noisy(2.4 - 2 * way, 0.1),
            "clipped_low": 0.01,
            "clipped_high": 0.02,
            "gradient_norm": noisy(0.5, 0.2),
            "mismatch": 2.1e-5,
            "mismatch_max": 3e-4,
            "importance_weight": 1.0,
            "effective_sample_size": 0.98,
            "kl": max(0.0, noisy(0.9 * way, 0.05)),
            "learning_rate": 1e-3,
            "entropy_coefficient": 0.1,
            "tokens": 24000.0,
            "tokens_written": 1900.0,
        },
        "components": dict.fromkeys(environment.components, noisy(20 * way, 5)),
        "staleness": {"mean": 0.0, "max": 0},
        "adoption": {"error": 3e-6, "decisive": True},
        "time": {
            "rollout": noisy(1.2, 0.2),
            "engine": 0.6,
            "update": noisy(0.8, 0.1),
            "adopt": noisy(0.15, 0.05),
            "export": 0.03,
            "load": 0.02,
            "proof": 0.04,
            "idle_learner": 0.63,
            "idle_engines": 0.72,
            "overlap": 0.0,
            "queue": 0.01,
            "steps_per_second": 250.0,
        },
        "machine": {
            "memory": {"driver": 420_000_000, "learner": 910_000_000, "sampler-0": 600_000_000, "shard-0": 90_000_000},
            "gpu_memory": {"learner": 9_000_000_000},
            "learner_tokens_per_second": 30000.0,
            "engine_tokens_per_second": 1100.0,
            "learner": {
                "checkpointing": "no layers, as configured",
                "attention": "sdpa, padded rows",
                "kernels": "transformers",
            },
            "sinks_failed": {},
        },
        "actors_replaced": 0,
    }


def rows(count: int = UPDATES, environment: AnyEnvironment = INCIDENT) -> list[dict[str, Any]]:
    """The first rows of such a run."""
    return [row(update, environment) for update in range(1, count + 1)]


def with_held_out(
    found: list[dict[str, Any]], every: int, environment: AnyEnvironment = INCIDENT
) -> list[dict[str, Any]]:
    """The same rows, with what the held-out set gave after each `every`-th update, to the heuristic as well."""
    played = [row(10_000 + one["update"], environment)["tiers"] for one in found]
    return [
        one
        | {
            "evaluation": {"tiers": tiers, "heuristic": dict.fromkeys(tiers, 0.5)},
            "time": one["time"] | {"evaluate": 1.5},
        }
        if one["update"] % every == 0
        else one
        for one, tiers in zip(found, played, strict=True)
    ]


def played(environment: AnyEnvironment = INCIDENT) -> Iterator[tuple[str, evaluate.Played]]:
    """The episodes of a small evaluation, of a baseline under the name of the trained policy and of others."""
    scenarios = environment.scenarios(environment.selections[0], [1000, 1001])
    baselines = evaluate.baselines(environment, f"oracle,random,{environment.usual}")
    return evaluate.play_all({"trained": baselines.pop("oracle"), **baselines}, scenarios, "strict")


def evaluation(environment: AnyEnvironment = INCIDENT) -> dict[str, Any]:
    """The figures of these episodes."""
    results = [evaluate.result(environment, name, one.episode) for name, one in played(environment)]
    return evaluate.summary(environment, results, "strict", environment.selections[0], "1000-1001")


def folder(path: Path, count: int = UPDATES, config: str = CONFIG) -> RunFolder:
    """The run's folder after so many updates, not evaluated yet."""
    run = RunFolder.create(path, config)
    for found in rows(count):
        run.log(found)
    return run


def log(run: RunFolder, digests: Mapping[int, str], count: int) -> None:
    """Log so many updates, with the digests of the versions that are really there."""
    for found in rows(count):
        run.log(found | ({"digest": digests[found["update"]]} if found["update"] in digests else {}))


def write_evaluation(run: Path, found: dict[str, Any]) -> None:
    """Put an evaluation there that no run would write, sealed as if one had."""
    (run / EVALUATION).write_text(json.dumps(sealed(found | {"files": {}})))


def evaluated(path: Path, count: int = UPDATES, config: str = CONFIG, **more: Any) -> RunFolder:
    """The same with its evaluation, and with more keys in it."""
    run = folder(path, count, config)
    with run.record_evaluation({}, INCIDENT.selections[0]) as writer:
        for name, one in played():
            writer.add(INCIDENT, name, one.episode)
    run.finish([], json.loads(json.dumps(evaluation())) | more)
    return run
