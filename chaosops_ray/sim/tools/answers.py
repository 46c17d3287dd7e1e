"""What an answer states, under strict rules: one value for each thing asked. No language model is asked."""

from __future__ import annotations

import re
from typing import NamedTuple

from chaosops_ray.sim.tools.model import Fact, Question

_UNITS = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9}
# A number stands by itself: digits within a word, such as Q3 or km2, are none. A unit is a whole word, by all letters.
_NUMBER = re.compile(
    r"(?<![\w.^])(?P<sign>[-+]?)(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?P<rest>(?:\.\d+)?(?:e[-+]?\d{1,2}(?!\w))?)"
    r"(?: ?(?P<unit>thousand|million|billion|bn|[kmb])(?!(?u:\w)))?",
    re.IGNORECASE | re.ASCII,
)
_LONGEST = 40  # digits; whatever is longer is no number that was asked for
# Two spellings of one number, such as 83,187,345 and 83.2 million, differ by rounding at the most.
_SAME = 1e-3
_ROUNDED = 5e-3
_THOUSAND = 1e3
# A bare number that is as large as this is written in full, also where the question asks for billions.
_IN_FULL = 1e6
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_STARTS = [name[:3] for name in _MONTHS]
_ISO = re.compile(r"(?<![\w-])\d{4}-\d{2}-\d{2}(?![\w-])", re.ASCII)
_MONTH = f"({'|'.join([f'{name[:3]}(?:{name[3:]})?' for name in _MONTHS])})"
_DAY = r"\b(\d{1,2})(?:st|nd|rd|th)?"
_LONG_DATE = re.compile(
    rf"{_MONTH} {_DAY},? (\d{{4}})\b|{_DAY} (?:of )?{_MONTH},? (\d{{4}})\b", re.ASCII | re.IGNORECASE
)
_AS_OF = re.compile(r"\b(?:as of|today(?: is|,|:)?) \(?\d{4}-\d{2}-\d{2}(?![\w-])", re.ASCII | re.IGNORECASE)
_QUARTER = re.compile(r"\bQ[1-4][ -]?\d{4}\b|\b\d{4}[ -]?Q[1-4]\b", re.ASCII)
_ADDRESS = re.compile(r"[a-z]+://[^\s,;<>()\[\]\"'`]+")
_HASH = re.compile(r"\b(?=[0-9]*[a-f])[0-9a-f]{12,64}\b", re.ASCII)
_OUT_OF = re.compile(r"(?<=\d )of (?:the )?\d\b(?![.,]\d)", re.ASCII)  # as in "2 of the 3"
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

_NO = frozenset(("false", "no", "inaccurate", "incorrect", "overstated", "understated", "wrong", "disagree"))
_YES = frozenset(("true", "yes", "accurate", "correct", "match", "matches", "verified", "agree"))
_NOT = frozenset(("not", "never", "isn", "isnt", "doesn", "doesnt", "don", "dont", "cannot", "wasn", "wasnt"))
_NOT_REACHES = 3
# Where an answer has one of the words that the question asks for, other words are about something else, as in
# "inaccurate, the correct figure is".
_ASKED = (frozenset(("accurate", "inaccurate")), frozenset(("yes", "no")))


class Number(NamedTuple):
    """A number in a text, and the unit that follows it, 0 for none."""

    value: float
    unit: float

    def at(self, scale: float) -> float:
        """Return what it stands for where a bare number counts in this scale."""
        return self.value * (self.unit or (scale if abs(self.value) < _IN_FULL else 1.0))


def lower(text: str) -> str:
    """Return the text with A to Z in lower case, and every other letter as it is."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def words(text: str) -> list[str]:
    """Split a text into words and figures, whatever stands between them."""
    return re.findall(r"[a-z]+|[0-9]+(?:\.[0-9]+)?", lower(text))


def numbers(text: str) -> list[Number]:
    """Return the numbers in a text, without those of dates, quarters, addresses and hashes."""
    bare = text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    for other in (_ADDRESS, _HASH, _ISO, _LONG_DATE, _QUARTER, _OUT_OF):
        bare = other.sub(" ", bare)
    found = []
    for match in _NUMBER.finditer(bare):
        digits = match["whole"].replace(",", "")
        if len(digits) <= _LONGEST:
            value = float(match["sign"] + digits + (match["rest"] or ""))
            found.append(Number(value, _UNITS[lower(match["unit"])] if match["unit"] else 0.0))
    return found


def says(text: str, name: str) -> bool:
    """Tell if a text states a name, as whole words."""
    return _worded(name) in _worded(text)


def _worded(text: str) -> str:
    return f" {' '.join(words(text))} "


def near(first: float, second: float, tolerance: float) -> bool:
    """Tell if two numbers are the same within a relative tolerance."""
    return abs(first - second) <= tolerance * max(abs(first), abs(second)) + 1e-9


def correctness(answer: str, question: Question) -> float:
    """Return the weighted mean of the facts' scores, from 0 to 1.

    A verdict stands on its figures and the figures on the verdict: with either wrong, the other was a guess.
    """
    scores = {fact.name: _score(answer, fact, question) for fact in question.facts}
    verdicts = [scores[fact.name] for fact in question.facts if fact.kind == "boolean"]
    if verdicts:
        figures = [scores[fact.name] for fact in question.facts if fact.kind == "numeric"]
        return min([*verdicts, *figures])
    return sum([fact.weight * scores[fact.name] for fact in question.facts])


def _score(answer: str, fact: Fact, question: Question) -> float:
    if fact.kind == "numeric":
        facts = [other for other in question.facts if other.kind == "numeric"]
        return stated(answer, fact, facts, question.given)
    if fact.kind == "boolean":
        yes, no = _verdicts(answer, question)
        return float(yes and not no if fact.value else no and not yes)
    if fact.kind == "date":
        return float(_dates(answer) == {fact.value})
    return _name(answer, fact)


def stated(text: str, fact: Fact, facts: list[Fact], given: tuple[float, ...]) -> float:
    """Return 1 if a text states this number, 0.5 if nearly, 0 if it states more numbers than these facts are."""
    found = numbers(text)
    # A figure of the question is no answer, unless there is no other.
    found = [number for number in found if number.unit or number.value not in given] or found
    scale, most = max([other.scale for other in facts]), len({other.value for other in facts})
    different: list[Number] = []
    for number in found:
        if not any(_are_one(number, other, scale) for other in different):
            different.append(number)
            if len(different) > most:
                return 0.0
    expected = float(fact.value) * fact.scale
    error = min([abs(number.at(fact.scale) - expected) for number in found], default=float("inf"))
    allowed = fact.tolerance * abs(expected) + 1e-9 * max(1.0, abs(expected))
    return 1.0 if error <= allowed else 0.5 if error <= 2 * allowed else 0.0


def _are_one(first: Number, second: Number, scale: float) -> bool:
    """Tell if two numbers are spellings of one; of those in thousands or more, one may be rounded to three digits."""
    may_be_rounded = first.unit != second.unit and abs(first.at(scale)) >= _THOUSAND
    return near(first.at(scale), second.at(scale), _ROUNDED if may_be_rounded else _SAME)


def _name(answer: str, fact: Fact) -> float:
    if "://" in str(fact.value):
        return float({address.rstrip(".") for address in _ADDRESS.findall(answer)} == {fact.value})
    said = _worded(answer)
    wanted, rivals = _worded(str(fact.value)), [_worded(name) for name in fact.rivals]
    for name in rivals:
        said = said.replace(f" than{name}", " than ")  # what the one that is stated is compared with
    return float(wanted in said and not any(name in said for name in rivals if name != wanted))


def _verdicts(answer: str, question: Question) -> tuple[bool, bool]:
    """Return two flags, if the answer says yes and if it says no; a denied yes is a no."""
    said = words(answer)
    asked = next((pair for pair in _ASKED if pair <= set(words(question.text))), frozenset())
    counted = asked if not asked.isdisjoint(said) else _YES | _NO
    yes = no = False
    for index, word in enumerate(said):
        if word not in counted:
            continue
        denied = not _NOT.isdisjoint(said[max(0, index - _NOT_REACHES) : index])
        yes = yes or (word in _YES and not denied)
        no = no or word in _NO or (word in _YES and denied)
    return yes, no


def _dates(answer: str) -> set[str]:
    """Return the dates that an answer states, as ISO dates, without the day on which it is given."""
    answer = _AS_OF.sub(" ", answer)
    dates = set(_ISO.findall(answer))
    for month, day, year, other_day, other_month, other_year in _LONG_DATE.findall(answer):
        number = _STARTS.index((month or other_month)[:3].capitalize()) + 1
        dates.add(f"{year or other_year}-{number:02d}-{int(day or other_day):02d}")
    return dates
