"""The published rules, to the digit: what is counted, how an answer is read, the return and the task score.

Nothing of it is shared with the strict rules: a change of those changes no figure that is compared with published ones.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from itertools import pairwise
from typing import NamedTuple

from chaosops_ray.sim.contract import NOTHING, Score
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.model import SUBMIT, Fact, Question, Task, World

# -- what is counted --------------------------------------------------------------------------------------------------

RETRIEVAL = frozenset(
    (
        "web_search",
        "fetch_url",
        "knowledge_base_lookup",
        "database_query",
        "document_search",
        "api_call",
        "read_file",
    )
)
VERIFICATION = frozenset(
    (
        "fact_check",
        "check_consistency",
        "compare_values",
        "validate_data",
        "validate_url",
        "hash_verify",
        "json_query",
        "text_extract",
    )
)
COMPUTATION = frozenset(("calculator", "python_execute", "data_transform"))
ARTIFACTS = frozenset(
    (
        "scratchpad_write",
        "write_file",
        "database_insert",
        "create_report",
        "send_notification",
        "schedule_task",
        "update_ticket",
        "request_human_review",
    )
)
# By family of question: the sources of which two cross-validate an answer.
SOURCES = {
    "W": frozenset(("knowledge_base_lookup", "web_search", "database_query")),
    "B": frozenset(("knowledge_base_lookup", "database_query")),
    "I": frozenset(("knowledge_base_lookup", "database_query")),
    "E": frozenset(("web_search", "database_query", "document_search", "fetch_url")),
}
WARNED_FROM = 3  # identical calls


class Counts(NamedTuple):
    """The counts of an episode's calls, and how much of its answer is right."""

    correct: float
    answered: bool
    steps: int
    repeats: int
    failures: int
    warnings: int
    faults: int
    recoveries: int
    tools: int
    retrievals: int
    sources: int
    verifications: int
    computations: int
    artifacts: int


def counts(world: World, asked: Question) -> Counts:
    """Count what was done.

    An answer is no call of a tool. It is a step and nothing else, like a call of an unknown tool and a turn without a
    call.
    """
    calls = [made for made in world.made if made.tool in TOOLS and made.tool != SUBMIT]
    times: Counter[tuple[str, str]] = Counter()
    warnings = 0
    for made in calls:
        times[made.tool, made.arguments] += 1
        warnings += bool(made.fault) or times[made.tool, made.arguments] >= WARNED_FROM
    tools = {made.tool for made in calls}
    return Counts(
        correct=0.0 if world.answer is None else correctness(world.answer, asked),
        answered=world.answer is not None,
        steps=world.step,
        repeats=len(calls) - len(times),
        failures=sum([not made.ok for made in calls]),
        warnings=warnings,
        faults=sum([bool(made.fault) for made in calls]),
        recoveries=sum([not before.ok and made.tool != before.tool for before, made in pairwise(calls)]),
        tools=len(tools),
        retrievals=sum([made.ok and made.tool in RETRIEVAL for made in calls]),
        sources=len(tools & SOURCES[world.scenario.group]),
        verifications=sum([made.tool in VERIFICATION for made in calls]),
        computations=sum([made.tool in COMPUTATION for made in calls]),
        artifacts=sum([made.ok and made.tool in ARTIFACTS for made in calls]),
    )


# -- how an answer is read --------------------------------------------------------------------------------------------

_UNITS = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9}
# Whatever follows the digits is optional, so a match never fails late: the time grows with the text and no faster.
_NUMBER = re.compile(
    r"([-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)\s*(billion|million|thousand|bn|b|m|k)?", re.IGNORECASE
)
_NEGATIVE = ("false", "no", "not accurate", "inaccurate", "incorrect", "does not match", "overstated", "understated")
_POSITIVE = ("true", "yes", "accurate", "correct", "matches", "verified")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def correctness(answer: str, asked: Question) -> float:
    """Return the weighted mean of the facts' scores, from 0 to 1; other values beside the right one cost nothing."""
    return sum([fact.weight * _fact_score(answer, fact) for fact in asked.facts])


def _fact_score(answer: str, fact: Fact) -> float:
    if fact.kind == "numeric":
        return _numeric(answer, float(fact.value), fact.tolerance)
    if fact.kind == "boolean":
        return float(_says(answer, is_true=bool(fact.value)))
    if fact.kind == "date":
        return float(_dates(answer, str(fact.value)))
    return _text(answer, str(fact.value))


def readings(answer: str) -> list[float]:
    """Return every number in the text as it is written and, where a unit follows, with the unit.

    A number that is too large for a float is infinite.
    """
    found = []
    for match in _NUMBER.finditer(answer):
        value = float(match[1].replace(",", ""))
        found.append(value)
        # To the pattern some letters beyond ASCII are the same as i, k and s. A word with one of them is no unit.
        unit = _UNITS.get((match[2] or "").translate(_LOWER))
        if unit is not None:
            found.append(value * unit)
    return found


def _numeric(answer: str, expected: float, tolerance: float) -> float:
    errors = [abs(reading - expected) / max(abs(expected), 1e-9) for reading in readings(answer)]
    error = min(errors, default=float("inf"))
    return 1.0 if error <= tolerance else 0.5 if error <= 3 * tolerance else 0.0


def normalised(text: str) -> str:
    """Reduce a text to its runs of ASCII letters, digits and dots, in lower case, with one space between them."""
    return " ".join(re.findall(r"[a-z0-9.]+", text.translate(_LOWER)))


def _text(answer: str, expected: str) -> float:
    if normalised(expected) in normalised(answer):
        return 1.0
    wanted, given = (set(re.findall(r"[a-z0-9]+", text.translate(_LOWER))) for text in (expected, answer))
    return 0.5 if wanted and 2 * len(wanted & given) >= len(wanted) else 0.0


def _says(answer: str, *, is_true: bool) -> bool:
    """Tell if the answer gives this verdict; anything negative anywhere is a no."""
    text = normalised(answer)
    negative = any(phrase in text for phrase in _NEGATIVE)
    return any(phrase in text for phrase in _POSITIVE) and not negative if is_true else negative


def _dates(answer: str, expected: str) -> bool:
    year, month, day = expected.split("-")
    return expected in answer or f"{_MONTHS[int(month) - 1]} {int(day)}, {year}" in answer


# -- the return -------------------------------------------------------------------------------------------------------

CORRECT = 0.7
RECOVERED = 0.2
MOSTLY_CORRECT = 0.7
QUICK = 0.1
REPEAT = -0.05
MOST_FOR_REPEATS = -0.2
UNANSWERED = -0.5


def score(world: World, asked: Question) -> Score:
    """Score the step that led to this world; the last one pays all of the return, and the others nothing.

    No sum of its parts is beyond 1 or below −0.5.
    """
    return Score(_return(counts(world, asked), asked.tools_needed)) if world.done else NOTHING


def _return(counted: Counts, tools_needed: int) -> tuple[tuple[str, float], ...]:
    if not counted.answered:
        return (("answer.missing", UNANSWERED),)
    parts = [("answer.correct", CORRECT * counted.correct)]
    if counted.correct > MOSTLY_CORRECT and counted.faults:
        parts.append(("answer.recovered", RECOVERED))
    ratio = counted.steps / (2 * tools_needed)
    if ratio <= 1.5:
        parts.append(("answer.efficiency", QUICK))
    elif ratio > 3:
        parts.append(("answer.efficiency", -QUICK))
    if counted.repeats:
        parts.append(("discipline.repeat", max(MOST_FOR_REPEATS, REPEAT * counted.repeats)))
    return tuple(parts)


# -- the task score ---------------------------------------------------------------------------------------------------

UNANSWERED_SHARE = 0.35
LOWEST, HIGHEST = 0.001, 0.990
PLACES = 4


def task_score(world: World, asked: Question) -> float:
    """Return the task score; an episode that goes on is scored as if it ended without an answer."""
    return grade(counts(world, asked), world.task)


def grade(counted: Counts, task: Task) -> float:
    """Return the task score of these counts, whatever calls led to them."""
    diversity = min(1.0, counted.tools / task.diversity)
    discipline = min(1.0, max(0.0, 1 - counted.repeats / max(counted.steps - 1, 1)))
    efficiency = _efficiency(counted.steps, task.ideal_steps, task.max_steps)
    recovery = _reached(counted.recoveries, task.recoveries)
    cross = min(1.0, counted.sources / 2)
    verification = _reached(counted.verifications, task.verifications)
    computation = _reached(counted.computations, task.computations)
    if task.name == "task1":
        met = counted.failures or counted.warnings
        resilience = 0.70 * recovery + 0.30 * discipline if met else 0.60 * diversity + 0.40 * discipline
        retrieval = _reached(counted.retrievals, max(task.diversity - 1, 1))
        total = 0.55 * counted.correct + 0.20 * resilience + 0.15 * retrieval + 0.10 * efficiency
    elif task.name == "task2":
        evidence = 0.40 * cross + 0.25 * verification + 0.20 * computation + 0.15 * diversity
        total = 0.55 * counted.correct + 0.30 * evidence + 0.15 * efficiency
    else:
        resilience = (
            0.25 * _failure_recovery(counted, diversity, discipline)
            + 0.25 * recovery
            + 0.20 * verification
            + 0.15 * _reached(counted.artifacts, task.artifacts)
            + 0.15 * discipline
        )
        # These weights add up to 1.1. Nothing is divided by it: what is above the highest score is cut off.
        total = 0.45 * counted.correct + 0.25 * resilience + 0.20 * cross + 0.10 * computation + 0.10 * efficiency
    if not counted.answered:
        total *= UNANSWERED_SHARE
    return round(max(LOWEST, min(HIGHEST, total)), PLACES)


def _reached(actual: int, target: int) -> float:
    return min(1.0, actual / target) if target else 1.0


def _efficiency(steps: int, ideal: int, most: int) -> float:
    return 1.0 if steps <= ideal else max(0.0, 1 - (steps - ideal) / (most - ideal))


def _failure_recovery(counted: Counts, diversity: float, discipline: float) -> float:
    if not counted.answered:
        return 0.0
    if not counted.failures:
        return 0.55 * diversity + 0.45 * discipline
    return 0.45 * counted.correct + 0.30 * diversity + 0.25 * discipline
