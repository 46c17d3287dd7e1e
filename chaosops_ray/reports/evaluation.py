"""A run's evaluation as its folder holds it, checked before anything is written from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from chaosops_ray import evaluate
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.run_folder import EVALUATION, RunFolder


def read(folder: RunFolder, environment: AnyEnvironment) -> dict[str, Any] | None:
    """Read the evaluation of a run; return None before it is made."""
    path = folder.path / EVALUATION
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path} is not JSON; evaluate the run again") from None
    header = (found.get("schema"), found.get("world")) if isinstance(found, dict) else None
    if header != (evaluate.SCHEMA, environment.name):
        raise InputError(f"{path} is not an evaluation of world {environment.name} ({evaluate.SCHEMA}); make it again")
    read: dict[str, Any] = found
    try:
        check(read, environment)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is not as an evaluation is written ({error!r:.80}); make it again") from None
    return read


def check(found: Mapping[str, Any], environment: AnyEnvironment) -> None:
    """Raise KeyError, TypeError, ValueError or OverflowError if the reports cannot show this evaluation."""
    _check_text(found["rules"])
    _check_text(found["set"])
    if found["seeds"] is not None:
        _check_text(found["seeds"])
    for key, cells in (("tier", found["cells"]), (environment.grouping, found[f"by_{environment.grouping}"])):
        for cell in _list(cells):
            _check_text(cell["policy"])
            _check_text(cell[key])
            for figure in (cell["episodes"], cell["median"], cell["mean"]):
                _check_figure(figure)
            _check_interval(cell["mean_ci"])
            for metric in environment.metrics:
                if cell[metric.name] is not None:
                    _check_figure(cell[metric.name])
                    _check_interval(cell[f"{metric.name}_ci"])
                elif cell[f"{metric.name}_ci"] is not None:
                    raise ValueError(f"an interval of {metric.name}, which has no value")
    for cell in found["cells"]:
        _check_tier(environment, cell["tier"])
    for row in _list(found.get("differences", [])):
        _check_tier(environment, row["tier"])
        _check_text(row["policy"])
        _check_text(row["against"])
        _check_figure(row["mean"])
        _check_interval(row["ci"])


def _check_text(value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError("a name that is not text")


def _check_tier(environment: AnyEnvironment, value: Any) -> None:
    if value not in environment.tiers:
        raise ValueError("a tier that the world does not have")


def _check_figure(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a figure that is not a finite number")


def _check_interval(value: Any) -> None:
    low, high = _list(value)
    _check_figure(low)
    _check_figure(high)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list where one belongs")
    return value
