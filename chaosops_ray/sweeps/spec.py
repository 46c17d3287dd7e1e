"""A sweep: the runs to compare, their seeds, and the claims to decide; read and checked as strictly as a run.

An arm is a configuration written in place: `{extends: 3a.yaml, rule_options: {catch: 4}}`. A trial is an arm with a
seed: one run. Neither Ray nor torch is imported, so that refusals are quick.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import BeforeValidator, Field, model_validator

from chaosops_ray import config
from chaosops_ray.config import ConfigError, Run, Schedule, Section, Weight
from chaosops_ray.evaluate import TRAINED, parse_seeds
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import stream
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import check
from chaosops_ray.training.plan import baselines, evaluated_beside
from chaosops_ray.workers.bundles import bundles

SWEEP, TRIALS = "sweep.yaml", "trials"
MEAN = "mean"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_MAX_TRIALS = 1000


class Draw(Section):
    """Arms that are drawn: a figure of a run, times log-uniform factors."""

    extends: str = Field(description="the file of the run")
    key: str = Field(description="the figure, such as learner.learning_rate; a schedule is scaled as a whole")
    low: float = Field(gt=0, description="the smallest factor")
    high: float = Field(gt=0, description="the largest")
    count: int = Field(ge=1, le=_MAX_TRIALS, description="how many arms")

    @model_validator(mode="after")
    def _has_width(self) -> Draw:
        if self.high <= self.low:
            raise ValueError("high must be above low")
        return self


class StopEarly(Section):
    """Asynchronous successive halving: at each rung only the best trials continue."""

    keep: float = Field(default=1, gt=0, le=1, description="share of the trials that goes on at each rung; 1: all do")
    after: float = Field(default=0.2, gt=0, lt=1, description="share of the updates before the first rung")


class Hypothesis(Section):
    """A claim that the sweep decides: one policy has more of something than another."""

    claim: str = Field(description="in words")
    more: str = Field(description="an arm, or a policy of the evaluation, that is said to have more")
    than: str = Field(description="the one that is said to have less")
    of: str = Field(default=MEAN, description="mean, or a share such as rogue_catch")
    on: str = Field(description="the tier")
    by: float = Field(default=0.0, description="how much more it has to be, in points or as a share")


class Sweep(Section):
    """Runs to compare."""

    arms: dict[str, dict[str, Any]] = Field(default={}, description="by name, a run's configuration, as in a file")
    common: dict[str, Any] = Field(
        default={}, description="what all arms have in common: over the files that they extend, under what they say"
    )
    draws: dict[str, Draw] = Field(
        default={}, description="by name, arms that are drawn: {extends, key, low, high, count}"
    )
    seeds: Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)] = Field(
        default="0-2", description="each arm is trained with each of these"
    )
    reference: str = Field(description="the arm that the others are compared with")
    retries: int = Field(default=2, ge=0, description="times that a trial that fails goes on from its last checkpoint")
    stop_early: StopEarly = StopEarly()
    hypotheses: tuple[Hypothesis, ...] = Field(
        default=(), description="a list of {claim, more, than, of, on, by}; each gets a verdict"
    )
    published: dict[str, dict[str, dict[str, Weight]]] = Field(
        default={},
        description="by arm and tier, published figures to be shown beside, such as {mean: 49.2, success: 0.85}",
    )


class Trial(NamedTuple):
    """A run of the sweep."""

    arm: str
    seed: int
    run: Run

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.arm}-s{self.seed}"


def load_sweep(path: Path, settings: Sequence[str] = (), seeds: str | None = None) -> tuple[Sweep, list[Trial]]:
    """Read a sweep and its trials; `key=value` settings apply to every run, `seeds` replaces the file's."""
    values = config.read(path)
    if not config.is_sweep(values):
        raise ConfigError(f"{path} is one run, not a sweep; start it by: chaosops train {path}")
    sweep = config.validated(Sweep, values if seeds is None else {**values, "seeds": seeds}, str(path))
    given = config.parse_settings(settings)
    if "seed" in given:
        raise ConfigError("--set seed: a sweep has seeds; give --seeds A-B")
    runs = {arm: check.spelled_out(run) for arm, run in _arms(path, sweep, given).items()}
    _check_known(f"arm in {path}: reference", [sweep.reference], runs)
    order = parse_seeds(sweep.seeds)
    if len(order) * len(runs) > _MAX_TRIALS:
        raise ConfigError(f"{path}: {len(runs)} arms with {len(order)} seeds are more than {_MAX_TRIALS} trials")
    # Seed by seed, so that a sweep that ends early has arms that can be compared.
    trials = [Trial(arm, seed, run.model_copy(update={"seed": seed})) for seed in order for arm, run in runs.items()]
    # Drawn arms are written out, so that the sweep's own file lists all arms.
    arms = {arm: sweep.arms.get(arm, {}) for arm in runs}
    return sweep.model_copy(update={"arms": arms, "draws": {}, "common": {}}), trials


def begun(out: Path) -> tuple[Sweep, list[Trial]]:
    """Read the sweep of a folder: its own file, and each run's configuration from the run's folder."""
    path = out.resolve() / SWEEP
    if not path.is_file():
        raise InputError(f"{path.parent} is not a sweep: it has no {SWEEP}; give a folder that `chaosops tune` made")
    sweep = config.validated(Sweep, config.read(path), str(path))
    folders = path.parent / TRIALS
    trials = [
        Trial(arm, seed, check.recorded(RunFolder(folders / f"{arm}-s{seed}")))
        for seed in parse_seeds(sweep.seeds)
        for arm in sweep.arms
    ]
    return sweep, trials


def look_over(sweep: Sweep, trials: Sequence[Trial]) -> AnyEnvironment:
    """Check the runs, that the arms can be compared, and that the claims can be decided; return the sweep's world."""
    for trial in trials:
        environment = check.look_over(trial.run)
        if trial.run.alarm.action == "pause":
            raise ConfigError(f"arm {trial.arm}: alarm.action must be warn or abort in a sweep, which nobody watches")
    first = trials[0].run
    arms = {trial.arm: trial.run.model_copy(update={"seed": 0}) for trial in trials}
    for arm, other in combinations(arms, 2):
        if arms[arm] == arms[other]:
            raise ConfigError(f"arms {arm} and {other} are the same run; change one of them, or remove it")
    for trial in trials:
        for key in ("world", "rules", "evaluation"):
            if getattr(trial.run, key) != getattr(first, key):
                raise ConfigError(f"arms {trials[0].arm} and {trial.arm} differ in {key}; give all arms the same")
        if evaluated_beside(trial.run, environment) != evaluated_beside(first, environment):
            raise ConfigError(
                f"arms {trials[0].arm} and {trial.arm} are evaluated in different seats; set evaluation.seats for all"
            )
    for arm in sweep.arms:
        if arm in (*environment.policies, TRAINED):
            raise ConfigError(f"arms: {arm} is the name of a policy; give the arm another name")
    figures = (MEAN, *[metric.name for metric in environment.metrics if metric.is_share])
    for number, claim in enumerate(sweep.hypotheses):
        place = f"hypotheses.{number}"
        policies = (*sweep.arms, *baselines(first, environment))
        _check_known(f"arm or policy in {place}", [claim.more, claim.than], policies)
        _check_known(f"figure in {place}", [claim.of], figures)
        _check_known(f"tier in {place}", [claim.on], environment.tiers)
        if claim.more == claim.than:
            raise ConfigError(f"{place}: {claim.more} is compared with itself; name two arms or policies")
    _check_known("arm in published", sweep.published, sweep.arms)
    for arm, tiers in sweep.published.items():
        _check_known(f"tier in published.{arm}", tiers, environment.tiers)
        for tier, published in tiers.items():
            _check_known(f"figure in published.{arm}.{tier}", published, figures)
    return environment


def explain(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """Describe the trials and the resources of each."""
    lines = [written(sweep), "\ntrials, as many at once as the cluster holds:\n"]
    for trial in trials:
        total = bundles(trial.run).total
        asked = check.amount(total["CPU"], total["GPU"])
        lines.append(f"  {trial.name}: {trial.run.model}, {trial.run.updates} updates, {asked}\n")
    return "".join(lines)


def written(sweep: Sweep) -> str:
    """Write the sweep as its folder keeps it."""
    return yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False)


def _check_known(kind: str, names: Iterable[str], valid: Collection[str]) -> None:
    for name in names:
        if name not in valid:
            raise unknown(kind, name, valid)


def _arms(path: Path, sweep: Sweep, given: Mapping[str, Any]) -> dict[str, Run]:
    runs = {}
    for arm, values in sweep.arms.items():
        _check_name(f"{path}: arms", arm)
        *extended, own = config.chain(path, values, f"{path}: arms.{arm}")
        runs[arm] = config.resolve([*extended, config.Layer(f"{path}: common", sweep.common), own], given)
    for name, draw in sweep.draws.items():
        _check_name(f"{path}: draws", name)
        layers = config.chain(path, {"extends": draw.extends}, f"{path}: draws.{name}")
        layers.append(config.Layer(f"{path}: common", sweep.common))
        plain = config.resolve(layers, given)
        for place in range(draw.count):
            factor = _factor(draw, name, place)
            scaled = _scaled(_figure(plain, draw.key, f"{path}: draws.{name}"), factor)
            arm = f"{name}-x{factor:g}"
            if arm in runs:
                raise ConfigError(f"{path}: draws.{name} makes {arm} twice; draw fewer, or from a wider range")
            runs[arm] = config.resolve(layers, {**given, draw.key: scaled})
    if not runs:
        raise ConfigError(f"{path} has no arms; write them under arms, or let draws make them")
    return runs


def _check_name(place: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: {name[:60]!r} must be a name for a folder: up to 40 letters, digits, . _ and -")


def _factor(draw: Draw, name: str, place: int) -> float:
    """A log-uniform factor, drawn in strata so that a few cover the range; three digits, as in the arm's name."""
    share = (place + stream(0, f"draws/{name}", place).uniform()) / draw.count
    return float(f"{draw.low * math.exp(share * math.log(draw.high / draw.low)):.3g}")


def _figure(run: Run, key: str, place: str) -> float | Schedule:
    found: Any = run
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
    if isinstance(found, bool) or not isinstance(found, int | float | Schedule):
        raise InputError(f"{place}.key: {key[:60]} is not a figure of a run; docs/config.md lists them")
    return found


def _scaled(figure: float | Schedule, factor: float) -> Any:
    if isinstance(figure, Schedule):
        return {**figure.model_dump(), "start": figure.start * factor, "end": figure.end * factor}
    scaled = figure * factor
    return round(scaled) if isinstance(figure, int) else scaled
