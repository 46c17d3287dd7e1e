"""The figures of a row of metrics, each with its unit and what it means, from the table of metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from chaosops_ray.reports.metrics_rows import Row
from chaosops_ray.reports.tables import DASH, DIGEST_SHOWN
from chaosops_ray.telemetry import table

_MAX_FIGURES = 1000
_LONGEST_NAME = 60
_LONGEST_FIGURE = 80
_ELSEWHERE = "Other figures"
_TIER = "tier"
_DIGEST = "digest"
# The worlds' own metrics, of which the table of metrics knows only that they are means: what they mean, and their unit.
OWN = {
    "success": ("share of episodes that were solved", "share"),
    "mttr": ("mean steps until an incident was resolved, over those that were", "steps"),
    "rogue_catch": ("share with a right accusation, over the episodes in which an agent misbehaves", "share"),
    "false_positive": ("share with a wrong accusation, over all episodes", "share"),
    "refused": ("mean number of actions that the seat may not take", "actions"),
    "unparsed": ("mean number of completions that are not an action", "actions"),
    "correctness": ("share of answers that are right", "share"),
    "answered": ("share of episodes that gave an answer", "share"),
    "steps": ("mean number of steps", "steps"),
    "faults": ("mean number of faults of the tools that were met", "faults"),
    "repeats": ("mean number of calls that were made before", "calls"),
    "restored": ("share of episodes in which the fleet was restored", "share"),
    "harm": ("mean share of the requests that were lost", "share"),
    "caught": ("share with a rogue frozen or accused, over the episodes that have one", "share"),
    "false_accusation": ("share with an agent accused as a rogue that is none, over all episodes", "share"),
    "false_freeze": ("share with an agent frozen that is no rogue, over all episodes", "share"),
    "attributed_agent": (
        "share in which the agent accused most is to blame, over the episodes in which one is",
        "share",
    ),
    "attributed_kind": ("share in which the kind of cause was named", "share"),
    "attributed_deed": ("share in which a deed that did the damage was named, over the episodes with one", "share"),
    "turns_to_accuse": ("mean turns until the first right accusation, over the episodes with one", "turns"),
    "looks": ("mean number of looks", "looks"),
    "suspicion": ("mean probability, as the policy said at the end, that there is a culprit", "probability"),
}


class Figure(NamedTuple):
    """A figure with its values: one, or one for each tier."""

    name: str
    unit: str
    help: str  # empty where the figure before has the same
    values: tuple[str, ...]


class Section(NamedTuple):
    """Figures that belong together; without tiers, each has one value."""

    title: str
    tiers: tuple[str, ...]
    figures: tuple[Figure, ...]


def sections(row: Row) -> list[Section]:
    """Return the figures of a row in the order of the table, and after them those that it does not know."""
    found: dict[tuple[str, bool], dict[str, tuple[str, str, dict[str, str]]]] = {}
    for count, (path, value) in enumerate(_leaves(row)):
        if count >= _MAX_FIGURES:
            break
        title, name, unit, help_text, tier = _known(path)
        figures = found.setdefault((title, tier is not None), {})
        figures.setdefault(name, (unit, help_text, {}))[2][tier or ""] = _written(path, value)
    order = [*[topic.title for topic in table.TOPICS], _ELSEWHERE]
    made = [_section(title, figures) for (title, _), figures in found.items()]
    return sorted(made, key=lambda one: order.index(one.title))


def _section(title: str, figures: Mapping[str, tuple[str, str, dict[str, str]]]) -> Section:
    tiers = tuple(dict.fromkeys([tier for _, _, values in figures.values() for tier in values]))
    rows = []
    said = ""
    for name, (unit, help_text, values) in figures.items():
        rows.append(
            Figure(name, unit, "" if help_text == said else help_text, tuple([values.get(t, DASH) for t in tiers]))
        )
        said = help_text
    return Section(title, () if tiers == ("",) else tiers, tuple(rows))


def _known(path: tuple[str, ...]) -> tuple[str, str, str, str, str | None]:
    """Return section, name, unit, help and tier of the figure at a place of the row."""
    try:
        metric, labels = table.metric_of(path)
    except table.UnknownKeyError:
        return _ELSEWHERE, _cut(".".join(path)), "", "", None
    title = next(topic.title for topic in table.TOPICS if metric in topic.metrics)
    tier = labels.get(_TIER)
    own = [part for part in path[1:] if part != tier] or [path[0]]
    name = own[-1] if tier is not None else ".".join(own)
    if own[0] == "heuristic":
        name = "mean of the heuristic"
    help_text, unit = OWN.get(labels.get("metric", ""), (metric.help, metric.unit))
    return title, _cut(name), unit, help_text.replace("`", ""), tier


def _leaves(row: Row) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the place of each figure and the figure; without recursion, because a damaged row may be deep."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), row)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*path, str(key)), value[key]) for key in list(value)[::-1]]
        elif path:
            yield path, value


def _written(path: tuple[str, ...], value: Any) -> str:
    if value is None:
        return DASH
    if path == (_DIGEST,):
        return str(value)[:DIGEST_SHOWN]
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.6g}".replace("-", "−") if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_FIGURE else f"{text[: _LONGEST_FIGURE - 1]}…"


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
