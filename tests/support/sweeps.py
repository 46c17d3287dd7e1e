"""A sweep as `tune` leaves it, scripted: outcomes of its trials, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chaosops_ray import config
from chaosops_ray.evaluate import Result
from chaosops_ray.sim.rng import stream
from chaosops_ray.sweeps.comparison import TRAINED, Outcome
from chaosops_ray.sweeps.spec import Sweep, Trial
from tests.support.runs import INCIDENT, rows

CONFIGS = Path(__file__).parents[2] / "tune_configs"
SCENARIOS = INCIDENT.scenarios("published", range(1000, 1002))
BASELINES = ("random", "heuristic")


def sweep(**changes: Any) -> Sweep:
    """Two arms, one of which does better."""
    given: dict[str, Any] = {
        "arms": {"strong": {}, "weak": {}},
        "seeds": "0-2",
        "reference": "strong",
        "hypotheses": [
            {"claim": "Strong is better.", "more": "strong", "than": "weak", "on": "hard", "by": 20},
            {"claim": "Weak is better.", "more": "weak", "than": "strong", "on": "hard"},
            {"claim": "It catches.", "more": "strong", "than": "random", "of": "rogue_catch", "on": "hard", "by": 0.2},
        ],
        "published": {"strong": {"hard": {"mean": -433.4, "success": 0.4}}},
    }
    return Sweep.model_validate(given | changes)


def results(policy: str, level: float, seed: int) -> list[Result]:
    """Around a level, with shares that go with it."""
    found = []
    for place, scenario in enumerate(SCENARIOS):
        draw = stream(seed, f"{policy}/{level}", place)
        success = float(draw.uniform() < level)
        catch = None if scenario.tier == "easy" else float(draw.uniform() < level)
        figures = {"success": success, "rogue_catch": catch, "false_positive": 0.0, "mttr": 3.0 if success else None}
        metrics = {metric.name: figures.get(metric.name) for metric in INCIDENT.metrics}
        found.append(Result(policy, scenario, 300 * level - 150 + 20 * draw.uniform(), metrics))
    return found


def outcome(arm: str, seed: int, level: float, updates: int = 12) -> Outcome:
    """A trial that finished."""
    run = config.load(CONFIGS / "3a.yaml", ["model=tiny", f"seed={seed}", "evaluation.policies=[random, heuristic]"])
    evaluated = results(TRAINED, level, seed)
    for policy, baseline in zip(BASELINES, (0.1, 0.5), strict=True):
        evaluated += results(policy, baseline, 0)
    return Outcome(Trial(arm, seed, run), "finished", "", rows(updates), evaluated)


def outcomes(seeds: int = 3) -> list[Outcome]:
    """All trials of the sweep."""
    return [outcome(arm, seed, level) for seed in range(seeds) for arm, level in (("strong", 0.95), ("weak", 0.3))]


def failed(outcomes: list[Outcome], name: str, why: str) -> list[Outcome]:
    """The same, but for a trial that failed on the way."""
    return [
        one._replace(state="failed", why=why, rows=one.rows[:5], results=()) if one.trial.name == name else one
        for one in outcomes
    ]
