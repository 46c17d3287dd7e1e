"""Measuring a run: its last version beside the baselines, on scenarios that training never draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaosops_ray import evaluate
from chaosops_ray.config import Run
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.store import files, run_folder
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import plan
from chaosops_ray.wire import EpisodeReport


def held_out(run: Run, environment: AnyEnvironment) -> tuple[Scenario, ...]:
    """The scenarios that the run is measured on."""
    seeds = evaluate.parse_seeds(run.evaluation.seeds)
    return environment.scenarios(plan.set_named(run.evaluation.set, environment), seeds)


def measure(
    run: Run,
    environment: AnyEnvironment,
    folder: RunFolder,
    scenarios: Sequence[Scenario],
    reports: Sequence[EpisodeReport],
) -> dict[str, Any]:
    """Write the results of the last version, whose reports these are, beside those of the baselines; the summary."""
    selection = plan.set_named(run.evaluation.set, environment)
    rules = environment.rules(run.rules)
    results = [
        evaluate.Result(evaluate.TRAINED, environment.scenario(one.scenario), one.headline, one.metrics)
        for one in reports
    ]
    players = evaluate.baselines(environment, ",".join(run.evaluation.policies))
    results += [
        evaluate.result(environment, name, played.episode)
        for name, played in evaluate.play_all(players, scenarios, rules)
    ]
    summary = evaluate.summary(environment, results, rules, selection, run.evaluation.seeds)
    summary["differences"] = evaluate.differences(environment, results, evaluate.TRAINED, run.evaluation.policies)
    # The summary comes last: where it is, the run is over.
    files.write_lines(folder.path / run_folder.RESULTS, evaluate.rows(results))
    files.write_json(folder.path / run_folder.EVALUATION, summary)
    return summary


def results(folder: RunFolder, environment: AnyEnvironment) -> list[evaluate.Result]:
    """The results of a run that is over, episode by episode."""
    path = folder.path / run_folder.RESULTS
    return evaluate.results_of(environment, files.read_lines(path), str(path))
