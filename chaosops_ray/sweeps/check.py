"""A sweep, checked before anything is started; as for a run, neither Ray nor torch is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from chaosops_ray.config import ConfigError
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweeps.spec import Sweep, Trial, look_over, reload
from chaosops_ray.training import check
from chaosops_ray.workers.bundles import bundles

SWEEP = "sweep.yaml"
TRIALS = "trials"


def begun(out: Path) -> tuple[Sweep, list[Trial]]:
    """Read the sweep of a folder."""
    out = out.resolve()
    if not (out / SWEEP).is_file():
        raise InputError(f"{out} is not a sweep: it has no {SWEEP}; give a folder that `chaosops tune` made")
    return reload(out / SWEEP, out / TRIALS)


def looked_over(sweep: Sweep, trials: Sequence[Trial]) -> AnyEnvironment:
    """Check everything in a sweep that can be wrong; return its world."""
    for trial in trials:
        environment = check.look_over(trial.run)
        if trial.run.alarm.action == "pause":
            raise ConfigError(
                f"arm {trial.arm}: alarm.action must be warn or abort in a sweep: nobody is there to end a pause"
            )
    look_over(sweep, trials, environment)
    return environment


def explain(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """Describe the trials, and what each asks of the cluster."""
    lines = []
    for trial in trials:
        total = bundles(trial.run).total
        asked = check.amount(total["CPU"], total["GPU"])
        lines.append(f"  {trial.name}: {trial.run.model}, {trial.run.updates} updates, {asked}\n")
    written = yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False)
    return f"{written}\ntrials, as many at once as the cluster holds:\n{''.join(lines)}"
