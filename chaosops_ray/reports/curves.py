"""The curves of a run as data, for web/curves.js: which figures there are, what they mean, and their values so far.

The same figures as run_plots.py draws. The document is JSON: `updates` and `columns` hold a value, or null, for each
update; `figures` says which columns stand in which panel; `bands` are the stages of the curriculum; `marks` are events.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from chaosops_ray.config import Run
from chaosops_ray.reports.metrics_rows import LAPS, Row
from chaosops_ray.sim import curriculum
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError

# Updates over which curves.js averages; as in the plots.
WINDOW = 9
MAX_UPDATES = 20_000
_DIGITS = 6
_HEADLINE = re.compile(r"(\+?)\.([0-9])f")
_MEAN = "mean"
_AUTO = "auto"  # the world's own curriculum
_TEAL, _ROSE = 5, 1


class Mark(NamedTuple):
    """An event of a run, at an update."""

    update: int
    kind: str  # alarm, actors, promotion, resumed, start
    text: str


class Curves:
    """The curves of a run, row by row."""

    def __init__(self, environment: AnyEnvironment, run: Run) -> None:
        self._environment = environment
        self._run = run
        self.figures = figures(environment, run)
        self._columns = {key: array("d") for key in keys(self.figures)}  # NaN where a row has none
        self._marks: list[Mark] = []
        self._tiers: dict[str, int] = {}  # by tier the update that played it first
        self._alarmed = False
        self._replaced = 0
        self.last: Row | None = None
        self.held_out: Row | None = None  # the last row with a held-out evaluation

    @property
    def done(self) -> int:
        """The number of updates so far."""
        return len(self._columns[_FIRST])

    def add(self, row: Row) -> None:
        """Append the row of the next update; InputError, and no change, for one that is not this row."""
        update = self.done + 1
        if update > MAX_UPDATES:
            raise InputError(f"curves are drawn of the first {MAX_UPDATES:,} updates")
        if row.get("update") != update:
            raise InputError(f"line {update} is not that of update {update}; lines are missing or changed")
        try:
            values = {key: _value(row, key) for key in self._columns}
            tiers = [tier for tier in self._environment.tiers if tier in row["tiers"]]
            replaced = _whole(row.get("actors_replaced", 0))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"line {update} is not a row of metrics ({str(error)[:80]})") from None
        for key, value in values.items():
            self._columns[key].append(math.nan if value is None else value)
        self._note(update, values, tiers, replaced)
        self.last = row
        if "evaluation" in row:
            self.held_out = row

    def mark(self, mark: Mark) -> None:
        """Add an event that the rows do not show."""
        self._marks.append(mark)

    def _note(self, update: int, values: Mapping[str, float | None], tiers: list[str], replaced: int) -> None:
        kl, alarm = values[_KL], self._run.alarm.kl
        alarmed = kl is not None and kl > alarm
        if alarmed and not self._alarmed:
            self._marks.append(Mark(update, "alarm", f"alarm: KL {kl:.2f} is above {alarm:g} nats a token"))
        self._alarmed = alarmed
        if replaced > self._replaced:
            count = replaced - self._replaced
            self._marks.append(
                Mark(update, "actors", f"{count} {'actor' if count == 1 else 'actors'} lost and replaced")
            )
        elif replaced < self._replaced:  # the count begins again with each command
            self._marks.append(Mark(update, "resumed", "the run was resumed"))
        self._replaced = replaced
        for tier in tiers:
            self._tiers.setdefault(tier, update)

    def bands(self) -> list[dict[str, Any]]:
        """Return the stages of the curriculum: from which update on, and the tiers that are drawn."""
        spelling = self._environment.curriculum if self._run.curriculum == _AUTO else self._run.curriculum
        found = curriculum.parse(spelling, self._environment.tiers, self._environment.promotions)
        if isinstance(found, curriculum.Staged):
            starts, start = [], 1
            for tiers, length in found.stages:
                starts.append((start, _stage(tiers.split("+"))))
                start += length
            return [{"from": start, "text": text} for start, text in starts if start <= self._run.updates]
        # Nothing in a row names the stage; that a tier is played for the first time shows the promotion to it.
        return [{"from": update, "text": tier} for tier, update in sorted(self._tiers.items(), key=lambda one: one[1])]

    def document(self, after: int = 0) -> dict[str, Any]:
        """Return everything, or of the values only those of later updates."""
        bands = self.bands()
        first = [Mark(band["from"], "start", f"the curriculum begins with {band['text']}") for band in bands[:1]]
        promotions = [
            Mark(band["from"], "promotion", f"the curriculum goes on to {band['text']}")
            for _, band in pairwise(bands)
            if band["from"] <= self.done
        ]
        marks = sorted([*first, *self._marks, *promotions])
        return {
            "window": WINDOW,
            "updates": list(range(after + 1, self.done + 1)),
            "of": self._run.updates,
            "columns": {
                key: [None if math.isnan(value) else value for value in column[after:]]
                for key, column in self._columns.items()
            },
            "figures": self.figures,
            "bands": bands,
            "marks": [mark._asdict() for mark in marks],
        }


def figures(environment: AnyEnvironment, run: Run) -> list[dict[str, Any]]:
    """Return the figures, each with its panels and their lines; `key` names the column of a line."""
    solved = next(metric for metric in environment.metrics if metric.is_share)
    detection = [
        name for name in (metric.name for metric in environment.metrics) if name in (environment.detection or ())
    ]
    words = {name: name.replace("_", " ") for name in detection}
    name = environment.headline_name
    found = [
        _figure(
            "mean",
            f"Mean {name} in training, by tier",
            f"The mean {name} of the episodes that an update was trained on. Higher is better.",
            [_by_tier(environment, _MEAN, f"mean {name}", "points", headline_form(environment))],
        ),
        _figure(
            "solved",
            f"{solved.title.capitalize()} in training, by tier",
            f"The share of an update's episodes that were {solved.title}.",
            [_by_tier(environment, solved.name, solved.title, "% of episodes", _SHARE, low=0, high=1)],
        ),
    ]
    if detection:
        found.append(
            _figure(
                "detection",
                f"{' and '.join(words.values()).capitalize()} in training, by tier",
                "Of the episodes in which an agent misbehaves, the share in which it was caught; and the share of "
                "episodes in which an innocent agent was accused.",
                [_by_tier(environment, one, words[one], "% of episodes", _SHARE, low=0, high=1) for one in detection],
            )
        )
    return [*found, _policy(run), _time()]


def keys(figures: list[dict[str, Any]]) -> list[str]:
    """Return the keys of all columns that these figures draw."""
    lines = [line for figure in figures for panel in figure["panels"] for line in panel["lines"]]
    return [*[line["key"] for line in lines], *[line["held_out"] for line in lines if "held_out" in line]]


def headline_form(environment: AnyEnvironment) -> dict[str, Any]:
    """Return how curves.js writes a value of the world's headline score."""
    found = _HEADLINE.fullmatch(environment.headline_format)
    if found is None:
        raise ValueError(f"curves.js cannot write {environment.headline_format!r}")
    return {"sign": bool(found[1]), "digits": int(found[2])}


_SHARE = {"times": 100, "digits": 0, "suffix": " %"}
_KL, _FIRST = "learner/kl", "learner/kl"


def _figure(name: str, title: str, help: str, panels: list[dict[str, Any]], **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"name": name, "title": title, "help": help, "panels": panels, **more}


def _by_tier(
    environment: AnyEnvironment, name: str, label: str, unit: str, form: dict[str, Any], **more: Any
) -> dict[str, Any]:
    lines = [
        {
            "key": f"tiers/{tier}/{name}",
            "held_out": f"evaluation/tiers/{tier}/{name}",
            "name": tier,
            "colour": number,
        }
        for number, tier in enumerate(environment.tiers)
    ]
    return {"label": label, "unit": unit, "form": form, "lines": lines, **more}


def _policy(run: Run) -> dict[str, Any]:
    kl = {"label": "KL", "unit": "nats a token", "form": {"digits": 3}, "alarm": run.alarm.kl}
    entropy = {"label": "entropy", "unit": "nats a token", "form": {"digits": 2}, "low": 0}
    return _figure(
        "policy",
        "KL to the base, and entropy",
        "KL: how far the policy has moved from the model it began with; a run that moves too far sounds an alarm. "
        "Entropy: how undecided its choices are; near 0 it always does the same.",
        [
            kl | {"lines": [{"key": _KL, "name": "KL", "colour": 0}]},
            entropy | {"lines": [{"key": "learner/entropy", "name": "entropy", "colour": _TEAL}]},
        ],
    )


def _time() -> dict[str, Any]:
    lines = [{"key": f"time/{lap}", "name": lap, "colour": number} for number, lap in enumerate(LAPS)]
    return _figure(
        "time",
        "Time of an update",
        "Rollout: playing episodes. Update: learning from them. Adopt: handing the new version to the samplers.",
        [{"label": "time", "unit": "seconds", "form": {"digits": 1, "suffix": " s"}, "low": 0, "lines": lines}],
        stacked=True,
    )


def _value(row: Row, key: str) -> float | None:
    """Return the figure under a key; None where the row has none."""
    found: Any = row
    for part in key.split("/"):
        if not isinstance(found, Mapping):
            raise TypeError(f"{key} is not in its place")
        found = found.get(part)
        if found is None:
            return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{key} is not a number")
    return float(f"{found:.{_DIGITS}g}")


def _stage(tiers: list[str]) -> str:
    """Write the tiers that take turns, each with how often it does."""
    counts = {tier: tiers.count(tier) for tier in tiers}
    return " + ".join([tier if count == 1 else f"{count} × {tier}" for tier, count in counts.items()])


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("actors_replaced is not a whole number")
    return value
