"""The evaluation in a run's folder, checked before anything is written from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chaosops_ray import evaluate, twins
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.run_folder import EVALUATION, RunFolder


def read(folder: RunFolder, environment: AnyEnvironment) -> dict[str, Any] | None:
    """Read the evaluation of a run; return None before it is made."""
    found = folder.evaluation()
    if found is None:
        return None
    path = folder.path / EVALUATION
    remedy = f"delete it, and train --resume {folder.path} makes it again"
    try:
        if (found["schema"], found["world"]) != (evaluate.SCHEMA, environment.name):
            raise ValueError(f"it is not {evaluate.SCHEMA} of world {environment.name}")
        check(found, environment)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(f"{path} is not a valid evaluation ({error!r:.80}); {remedy}") from None
    try:
        environment.recorded_rules(found["rules"])
    except InputError as error:
        raise InputError(f"{path}: {error}; {remedy}") from None
    return found


def check(found: Mapping[str, Any], environment: AnyEnvironment) -> None:
    """Raise one of the errors that `read` names if the reports cannot show this evaluation."""
    differences = _list(found.get("differences", []))
    texts = [found["rules"], found["set"], *([] if found["seeds"] is None else [found["seeds"]])]
    figures: list[Any] = []
    for key, cells in (("tier", found["cells"]), (environment.grouping, found[f"by_{environment.grouping}"])):
        for cell in _list(cells):
            texts += [cell["policy"], cell[key]]
            figures += [cell["episodes"], cell["median"], cell["mean"], *_interval(cell["mean_ci"])]
            for metric in environment.metrics:
                value, interval = cell[metric.name], cell[f"{metric.name}_ci"]
                if value is not None or interval is not None:
                    figures += [value, *_interval(interval)]
    if environment.suspicion is not None:
        figures += _of_suspicion(found, environment)
    for those in found.get("colleagues", {}).values():
        texts += [text for pair in those.items() for text in pair]
    for row in differences:
        texts += [row["policy"], row["against"]]
        figures += [row["mean"], *_interval(row["ci"])]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name that is not text")
    if any(row["tier"] not in environment.tiers for row in (*found["cells"], *differences)):
        raise ValueError("a tier that the world does not have")
    for figure in figures:
        if isinstance(figure, bool) or not isinstance(figure, int | float) or not math.isfinite(figure):
            raise ValueError("a figure that is not a finite number")


def _of_suspicion(found: Mapping[str, Any], environment: AnyEnvironment) -> list[Any]:
    """Return the figures over twins that tables and plots show."""
    figures: list[Any] = []
    lists = [found["cells"], found[f"by_{environment.grouping}"], found[twins.OVERALL]]
    lists += [found[twins.BY_SETTING]] if twins.BY_SETTING in found else []
    for cell in [cell for cells in lists for cell in _list(cells)]:
        for figure in twins.FIGURES:
            value, interval = cell[figure.name], cell[f"{figure.name}_ci"]
            if value is not None or interval is not None:
                figures += [value, *_interval(interval)]
    for cell in found[twins.OVERALL]:
        figures += [cell["episodes"], *[share for point in _list(cell["curve"]) for share in _interval(point)]]
        for one in _list(cell["calibration"]):
            figures += [one["suspicion"], one["guilty"], one["episodes"], *_interval(one["guilty_ci"])]
    return figures


def _interval(value: Any) -> list[Any]:
    low, high = _list(value)
    return [low, high]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list where one belongs")
    return value
