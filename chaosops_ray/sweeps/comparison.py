"""The comparison of a sweep: arms side by side, paired differences with intervals, a verdict for each claim.

It is computed from the outcomes of the trials alone, so a resumed sweep gives the same as an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chaosops_ray import evaluate
from chaosops_ray.evaluate import TRAINED, Result
from chaosops_ray.reports.sweep_report import Arm, SweepFacts
from chaosops_ray.resampling import CONFIDENCE, RESAMPLES, Weigh, alike
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweeps.spec import MEAN, Hypothesis, Sweep, Trial
from chaosops_ray.training import plan

SCHEMA = "comparison/1"
# Fewer seeds say too little about the next one.
MIN_SEEDS = 3
SUPPORTED, FALSIFIED, UNDECIDED = "supported", "falsified", "undecided"
RULE = (
    "A difference is the mean, over training seeds and held-out scenarios, of what one policy has more than the other "
    f"on the same scenario; arms are paired by training seed. Its {CONFIDENCE:.0%} interval resamples whole scenarios "
    f"and whole training seeds, {RESAMPLES:,} times. A claim is supported if all of the interval lies above the margin "
    "that the claim names, falsified if all of it lies below, and undecided otherwise, or if fewer than "
    f"{MIN_SEEDS} seeds finished in every arm that it is about."
)

Comparison: TypeAlias = dict[str, Any]
# A figure by training seed and scenario; None where it is not defined.
Figures: TypeAlias = Mapping[int, Mapping[Scenario, float | None]]


class Outcome(NamedTuple):
    """A trial at its end: its state, metrics and evaluation."""

    trial: Trial
    state: str  # finished, failed, or stopped
    why: str  # "" for one that finished
    rows: Sequence[Mapping[str, Any]]  # its metrics
    results: Sequence[Result]  # of its evaluation

    def trained(self, tier: str) -> list[Result]:
        """Return the results of the trained policy on a tier."""
        return [one for one in self.results if one.policy == TRAINED and one.scenario.tier == tier]


def compare(environment: AnyEnvironment, sweep: Sweep, outcomes: Sequence[Outcome]) -> Comparison:
    """Compute the contents of the sweep report, except the curves."""
    run = outcomes[0].trial.run
    weigh = evaluate.weighed(environment, run.rules)
    by_arm = {arm: [one for one in outcomes if one.trial.arm == arm] for arm in sweep.arms}
    baselines = _baselines(outcomes, plan.baselines(run, environment))
    results = [
        found._replace(policy=arm)
        for arm, those in by_arm.items()
        for one in those
        for found in one.results
        if found.policy == TRAINED
    ]
    summary = evaluate.summary(
        environment,
        [*results, *baselines],
        environment.rules(run.rules),
        plan.set_named(run.evaluation.set, environment),
        run.evaluation.seeds,
        dict.fromkeys((*sweep.arms, *plan.baselines(run, environment)), plan.evaluated_beside(run, environment)),
    )
    for cell in summary["cells"]:
        cell["seed_means"] = _seed_means(by_arm.get(cell["policy"], ()), cell["tier"], weigh)
    summary["schema"] = SCHEMA
    return summary | {
        "trials": [_trial(one) for one in outcomes],
        "differences": _differences(environment, sweep, by_arm, weigh),
        "verdicts": [_verdict(one, by_arm, baselines, weigh) for one in sweep.hypotheses],
    }


def report_facts(
    sweep: Sweep, outcomes: Sequence[Outcome], comparison: Comparison, digests: Mapping[str, str]
) -> SweepFacts:
    """Gather the contents of the report; `digests` are those of the arms' base models."""
    runs = {one.trial.arm: one.trial.run for one in reversed(outcomes)}
    rows = {arm: [one.rows for one in outcomes if one.trial.arm == arm] for arm in sweep.arms}
    return SweepFacts(
        {arm: Arm(runs[arm], digests[arm], rows[arm]) for arm in sweep.arms},
        sweep.seeds,
        sweep.reference,
        sweep.published,
        comparison,
        RULE,
    )


def _baselines(outcomes: Sequence[Outcome], policies: Sequence[str]) -> list[Result]:
    """Return the results of the baselines, which must be the same in all trials."""
    of_each = [(one.trial.name, [found for found in one.results if found.policy in policies]) for one in outcomes]
    first, results = next((one for one in of_each if one[1]), ("", []))
    for name, those in of_each:
        if those and those != results:
            why = "different versions of this program evaluated them"
            remedy = "delete their evaluation.json and resume the sweep"
            raise InputError(f"baselines differ between {name} and {first}: {why}; {remedy}")
    return results


def _trial(one: Outcome) -> dict[str, Any]:
    last = one.rows[-1] if one.rows else None
    return {
        "trial": one.trial.name,
        "arm": one.trial.arm,
        "seed": one.trial.seed,
        "state": one.state,
        "why": one.why,
        "updates": last["update"] if last else 0,
        "of": one.trial.run.updates,
        "episodes": sum([row["episodes"] for row in one.rows]),
        "kl": last["learner"].get("kl") if last else None,
        "digest": last["digest"] if last else None,
    }


def _seed_means(outcomes: Sequence[Outcome], tier: str, weigh: Weigh) -> list[float]:
    """Return the mean headline of each seed that finished."""
    return [
        evaluate.mean([(result.scenario, result.headline) for result in one.trained(tier)], weigh)
        for one in outcomes
        if one.results
    ]


def _differences(
    environment: AnyEnvironment, sweep: Sweep, by_arm: Mapping[str, Sequence[Outcome]], weigh: Weigh
) -> list[dict[str, Any]]:
    """Return the differences of the arms from the reference, by tier."""
    rows = []
    names = (MEAN, *[metric.name for metric in environment.metrics if metric.is_share])
    for arm, those in by_arm.items():
        if arm == sweep.reference:
            continue
        for tier in environment.tiers:
            for of in names:
                arms = (those, by_arm[sweep.reference])
                more, than = [_of_arm(outcomes, of, tier) for outcomes in arms]
                found = paired(more, than, weigh)
                if found is not None:
                    rows.append({"arm": arm, "against": sweep.reference, "tier": tier, "of": of, **found})
    return rows


def _of_arm(outcomes: Iterable[Outcome], of: str, tier: str) -> Figures:
    return {one.trial.seed: _figures(one.trained(tier), of) for one in outcomes if one.results}


def _figures(results: Iterable[Result], of: str) -> dict[Scenario, float | None]:
    return {found.scenario: found.headline if of == MEAN else found.metrics[of] for found in results}


def paired(more: Figures, than: Figures, weigh: Weigh = alike) -> dict[str, Any] | None:
    """Return the weighted mean difference, its interval and the number of seeds; None if nothing can be compared."""
    seeds = sorted(more.keys() & than.keys())
    both = [figures[seed] for seed in seeds for figures in (more, than)]
    played = both[0] if both else ()
    scenarios = [one for one in played if all(figures.get(one) is not None for figures in both)]
    if not scenarios:
        return None
    gains = np.array([[more[seed][one] - than[seed][one] for one in scenarios] for seed in seeds])  # type: ignore[operator]
    weights = np.array([weigh(scenario) for scenario in scenarios])
    means = resampled(gains, [scenario.cluster for scenario in scenarios], weights)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return {
        "mean": float(np.average(gains, weights=np.broadcast_to(weights, gains.shape))),
        "ci": [float(low), float(high)],
        "seeds": len(seeds),
    }


def resampled(gains: NDArray[Any], clusters: Sequence[str], weights: NDArray[Any]) -> NDArray[Any]:
    """Return bootstrap means, each over as many seeds (rows) and clusters of scenarios (columns) as there are.

    A scenario's column counts by its weight.
    """
    generator = np.random.default_rng(0)
    seeds = len(gains)
    places = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    columns = np.array([places[name] for name in clusters])
    size = len(places)
    # Exactly 1 if no two scenarios share a cluster and all weigh the same, and then no figure below changes.
    shares = weights * (size / weights.sum())
    sums = np.zeros((size, seeds))
    np.add.at(sums, columns, gains.T * shares[:, None])
    sizes = np.bincount(columns, shares)
    # A mean depends only on how often each of them is drawn.
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    drawn = generator.multinomial(size, np.full(size, 1 / size), size=RESAMPLES)
    means: NDArray[Any] = ((of_seeds @ sums.T) * (drawn / size)).sum(axis=1) / ((drawn * sizes).sum(axis=1) / size)
    return means


def _verdict(
    claim: Hypothesis,
    by_arm: Mapping[str, Sequence[Outcome]],
    baselines: Sequence[Result],
    weigh: Weigh,
) -> dict[str, Any]:
    arms = [name for name in (claim.more, claim.than) if name in by_arm]
    seeds = [one.trial.seed for one in by_arm[arms[0]] if one.results] if arms else [0]

    def figures(name: str) -> Figures:
        if name in by_arm:
            return _of_arm(by_arm[name], claim.of, claim.on)
        # A baseline does not depend on a run's seed.
        results = [one for one in baselines if one.policy == name and one.scenario.tier == claim.on]
        return dict.fromkeys(seeds, _figures(results, claim.of))

    found = paired(figures(claim.more), figures(claim.than), weigh)
    said = claim.model_dump()
    if found is None:
        return said | {"verdict": UNDECIDED, "mean": None, "ci": None, "seeds": 0}
    return said | found | {"verdict": verdict(found["ci"], claim.by, found["seeds"] if arms else MIN_SEEDS)}


def verdict(ci: Sequence[float], by: float, seeds: int) -> str:
    """Decide a claim by RULE, which the report states."""
    low, high = ci
    if seeds < MIN_SEEDS:
        return UNDECIDED
    if low > by:
        return SUPPORTED
    return FALSIFIED if high < by else UNDECIDED
