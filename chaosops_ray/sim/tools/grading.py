"""Correctness of an answer by strict rules, from the answer alone. No language model is asked."""

from __future__ import annotations

import re

from chaosops_ray.sim.tools.knowledge import Knowledge
from chaosops_ray.sim.tools.model import Fact, Question

_UNITS = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9}
# Digits are bounded: an answer is hostile text, and a number of a thousand digits is none that was asked for.
_NUMBER = re.compile(
    # Of the letters of a unit, case is ASCII's alone: to Unicode there is an i without a dot that is an i as well.
    r"[-+]?(?:\d{1,3}(?:,\d{3}){1,6}|\d{1,18})(?:\.\d{1,12})?\s*(?:(?ai:billion|million|thousand|bn|b|m|k)\b)?"
)
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


def correctness(answer: str, question: Question, known: Knowledge) -> float:
    """Return the weighted mean of the facts' scores, from 0 to 1.

    A verdict stands on the figure it is about: a yes or no whose figure is wrong was a guess.
    """
    scores = [_fact_score(answer, fact, question, known) for fact in question.facts]
    figures = [score for fact, score in zip(question.facts, scores, strict=True) if fact.kind == "numeric"]
    backed = not figures or min(figures) > 0
    scores = [
        score if backed or fact.kind != "boolean" else 0.0 for fact, score in zip(question.facts, scores, strict=True)
    ]
    return sum([fact.weight * score for fact, score in zip(question.facts, scores, strict=True)])


def _fact_score(answer: str, fact: Fact, question: Question, known: Knowledge) -> float:
    if _candidates(answer, fact, known) > sum([other.kind == fact.kind for other in question.facts]):
        return 0.0
    if fact.kind == "numeric":
        return _numeric(answer, float(fact.value), fact.tolerance)
    if fact.kind == "boolean":
        yes, no = _verdicts(answer)
        return float(yes if fact.value else no)
    if fact.kind == "date":
        return float(_date(answer, str(fact.value)))
    return _text(answer, str(fact.value))


def _candidates(answer: str, fact: Fact, known: Knowledge) -> int:
    """Count the different values of this fact's kind that the answer states."""
    if fact.kind == "numeric":
        return len({readings[0] for readings in numbers(answer)})
    if fact.kind == "text":
        return sum([_says(answer, country.name) for country in known.countries])
    if fact.kind == "boolean":
        return sum(_verdicts(answer))
    return 1


def numbers(answer: str) -> list[list[float]]:
    """Return the numbers in a text, each as written and, where a unit follows, with it."""
    found = []
    for match in _NUMBER.finditer(answer):
        bare = re.match(r"[-+]?[\d,.]*\d", match[0])
        if bare is None:
            continue
        value = float(bare[0].replace(",", ""))
        unit = match[0][bare.end() :].strip().lower()
        found.append([value, value * _UNITS[unit]] if unit else [value])
    return found


def _numeric(answer: str, expected: float, tolerance: float) -> float:
    readings = [reading for number in numbers(answer) for reading in number]
    if not readings:
        return 0.0
    error = min([abs(reading - expected) / max(abs(expected), 1e-9) for reading in readings])
    return 1.0 if error <= tolerance else 0.5 if error <= 3 * tolerance else 0.0


def _words(text: str) -> list[str]:
    """Split a text into words and figures, whatever stands between them."""
    return re.findall(r"[a-z]+|[0-9]+(?:\.[0-9]+)?", text.lower())


def _says(answer: str, expected: str) -> bool:
    return f" {' '.join(_words(expected))} " in f" {' '.join(_words(answer))} "


def _text(answer: str, expected: str) -> float:
    if _says(answer, expected):
        return 1.0
    wanted, said = set(_words(expected)), set(_words(answer))
    return 0.5 if wanted and 2 * len(wanted & said) >= len(wanted) else 0.0


_NO = frozenset(("false", "no", "inaccurate", "incorrect", "overstated", "understated", "wrong"))
_YES = frozenset(("true", "yes", "accurate", "correct", "match", "matches", "verified"))
_NOT = frozenset(("not", "never", "isn", "isnt", "doesn", "doesnt", "cannot", "wasn", "wasnt"))
_NOT_REACHES = 3


def _verdicts(answer: str) -> tuple[bool, bool]:
    """Return two flags, if the answer says yes and if it says no; a denied yes is a no."""
    words = _words(answer)
    yes = no = False
    for index, word in enumerate(words):
        denied = not _NOT.isdisjoint(words[max(0, index - _NOT_REACHES) : index])
        yes = yes or (word in _YES and not denied)
        no = no or word in _NO or (word in _YES and denied)
    return yes, no


def _date(answer: str, expected: str) -> bool:
    year, month, day = expected.split("-")
    return expected in answer or f"{_MONTHS[int(month) - 1]} {int(day)}, {year}" in answer
