"""The `published` grading worked out a second time, plainly, from its rules and not from the code that it checks.

It is slow and literal on purpose, counts everything again from the list of steps, and calculates with fractions, so that
nothing depends on the order in which floats are added. Nothing of the project is imported.
"""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

TOOLS = [
    "web_search",
    "fetch_url",
    "knowledge_base_lookup",
    "database_query",
    "document_search",
    "get_current_datetime",
    "read_file",
    "api_call",
    "calculator",
    "python_execute",
    "text_extract",
    "data_transform",
    "compare_values",
    "json_query",
    "translate",
    "scratchpad_write",
    "scratchpad_read",
    "write_file",
    "database_insert",
    "create_report",
    "validate_url",
    "validate_data",
    "check_consistency",
    "fact_check",
    "hash_verify",
    "send_notification",
    "schedule_task",
    "update_ticket",
    "request_human_review",
    "submit_answer",
]

# The published grader handles the answer apart: it is a step, and no call of a tool.
SUBMITTING_IS_A_CALL = False

RETRIEVAL = [
    "web_search",
    "fetch_url",
    "knowledge_base_lookup",
    "database_query",
    "document_search",
    "api_call",
    "read_file",
]
VERIFICATION = [
    "fact_check",
    "check_consistency",
    "compare_values",
    "validate_data",
    "validate_url",
    "hash_verify",
    "json_query",
    "text_extract",
]
COMPUTE = ["calculator", "python_execute", "data_transform"]
ARTIFACT = [
    "scratchpad_write",
    "write_file",
    "database_insert",
    "create_report",
    "send_notification",
    "schedule_task",
    "update_ticket",
    "request_human_review",
]

# Sources that do not depend on one another, by the family of the scenario.
INDEPENDENT = {
    "W": ["knowledge_base_lookup", "web_search", "database_query"],
    "B": ["knowledge_base_lookup", "database_query"],
    "I": ["knowledge_base_lookup", "database_query"],
    "E": ["web_search", "database_query", "document_search", "fetch_url"],
}


class Target(NamedTuple):
    """The limit of steps of a task, the ideal number, and how much of each thing it asks for."""

    max_steps: int
    ideal_steps: int
    diversity: int
    recovery: int
    verification: int
    compute: int
    artifact: int


TARGETS = {
    "task1": Target(6, 4, 2, 1, 0, 0, 0),
    "task2": Target(8, 6, 3, 1, 1, 1, 0),
    "task3": Target(10, 7, 4, 2, 2, 1, 1),
}


class Fact(NamedTuple):
    """A part of the right answer."""

    name: str
    kind: str
    value: str | int | float | bool
    tolerance: float
    weight: float


class Step(NamedTuple):
    """One step of an episode: a tool's name as the agent wrote it, and how the call ended."""

    tool: str
    arguments: dict[str, Any]
    ok: bool
    fault: str
    is_known: bool
    is_call: bool


class Counters(NamedTuple):
    """The counts that the score is made of."""

    steps: int
    tools_called: tuple[str, ...]
    repeats: int
    retrievals: int
    verifications: int
    computations: int
    artifacts: int
    recoveries: int
    failures: int
    warnings: int
    faults_met: int
    sources_crossed: int


class Grade(NamedTuple):
    """The result: counters, correctness, task score and return."""

    counters: Counters
    correctness: Fraction
    exact_score: Fraction
    score: float
    total: Fraction


def grade(
    task: str,
    family: str,
    facts: tuple[Fact, ...],
    tools_needed: int,
    steps: list[Step],
    answer: str | None,
) -> Grade:
    """Grade an episode."""
    counters = count(family, steps)
    correctness = Fraction(0) if answer is None else correct_share(facts, answer)
    exact = task_score(task, counters, correctness, answer is not None)
    return Grade(
        counters,
        correctness,
        exact,
        float(round(exact, 4)),
        episode_return(counters, tools_needed, correctness, answer is not None),
    )


# -- counting -------------------------------------------------------------------------------------------------------


def count(family: str, steps: list[Step]) -> Counters:
    """Count everything from the list of steps."""
    # An unknown tool costs a step and does nothing else, and so does a step that is no call: only these calls are
    # looked at below. All of the steps still count as steps, the submitting one among them.
    calls = [step for step in steps if step.is_call and step.is_known]
    if not SUBMITTING_IS_A_CALL:
        calls = [call for call in calls if call.tool != "submit_answer"]

    # Every call of a known tool counts as a tool called, whether it failed or not.
    tools_called: list[str] = []
    for call in calls:
        if call.tool not in tools_called:
            tools_called.append(call.tool)

    # A repeat has the tool and, with the keys sorted, the arguments of an earlier call: from the second such call on.
    # A warning is a call that met any fault, a silent one too, or that is the third such call or a later one.
    repeats = 0
    warnings = 0
    earlier: list[tuple[str, str]] = []
    for call in calls:
        spelling = (call.tool, json.dumps(call.arguments, sort_keys=True))
        same_before = earlier.count(spelling)
        if same_before >= 1:
            repeats += 1
        if call.fault != "" or same_before >= 2:
            warnings += 1
        earlier.append(spelling)

    # A recovery switch is a call of another tool than the one whose call just failed. Only the last call is looked at:
    # where a second try worked, nothing is left to recover from.
    recoveries = 0
    for before, call in pairwise(calls):
        if not before.ok and call.tool != before.tool:
            recoveries += 1

    return Counters(
        steps=len(steps),
        tools_called=tuple(tools_called),
        repeats=repeats,
        # Retrieval and artifacts count where the call ended without an error; checks and computations always.
        retrievals=len([call for call in calls if call.ok and call.tool in RETRIEVAL]),
        verifications=len([call for call in calls if call.tool in VERIFICATION]),
        computations=len([call for call in calls if call.tool in COMPUTE]),
        artifacts=len([call for call in calls if call.ok and call.tool in ARTIFACT]),
        recoveries=recoveries,
        # A failure is a call that ended in an error.
        failures=len([call for call in calls if not call.ok]),
        warnings=warnings,
        faults_met=len([call for call in calls if call.fault != ""]),
        # Tools of the scenario's group count as soon as they are called.
        sources_crossed=len([tool for tool in INDEPENDENT[family] if tool in tools_called]),
    )


def share(actual: int, target: int) -> Fraction:
    """Divide by the target, at most 1; a target of 0 counts as met."""
    if target == 0:
        return Fraction(1)
    return min(Fraction(actual, target), Fraction(1))


def part(weight: str, value: Fraction) -> Fraction:
    """Weigh a value; the weight is written as in the rules."""
    return Fraction(weight) * value


# -- task score -----------------------------------------------------------------------------------------------------


def efficiency_of_steps(steps: int, target: Target) -> Fraction:
    """Return 1 up to the ideal number of steps, and evenly less beyond it, down to 0 at the limit of steps."""
    # The rules give both numbers of a task, and not the line between them: it is straight.
    beyond = Fraction(steps - target.ideal_steps, target.max_steps - target.ideal_steps)
    return 1 - min(max(beyond, Fraction(0)), Fraction(1))


def task_score(task: str, counters: Counters, correctness: Fraction, is_answered: bool) -> Fraction:
    """Return the score before it is rounded."""
    target = TARGETS[task]
    diversity = share(len(counters.tools_called), target.diversity)
    # Repeats are divided by all steps but one (and at least by one); answered or not makes no difference.
    discipline = 1 - Fraction(counters.repeats, max(counters.steps - 1, 1))
    discipline = min(max(discipline, Fraction(0)), Fraction(1))
    recovery = share(counters.recoveries, target.recovery)
    # The target of retrieval is one less than that of diversity, and at least one.
    retrieval = share(counters.retrievals, max(target.diversity - 1, 1))
    verification = share(counters.verifications, target.verification)
    compute = share(counters.computations, target.compute)
    artifact = share(counters.artifacts, target.artifact)
    # Two independent sources are enough.
    cross_validation = share(counters.sources_crossed, 2)
    efficiency = efficiency_of_steps(counters.steps, target)

    # Nothing without an answer; nothing to recover from where no call failed; else mostly correctness.
    if not is_answered:
        failure_recovery = Fraction(0)
    elif counters.failures == 0:
        failure_recovery = part("0.55", diversity) + part("0.45", discipline)
    else:
        failure_recovery = part("0.45", correctness) + part("0.30", diversity) + part("0.25", discipline)

    if task == "task1":
        # Failures and warnings both ask for a recovery.
        if counters.failures > 0 or counters.warnings > 0:
            resilience = part("0.7", recovery) + part("0.3", discipline)
        else:
            resilience = part("0.6", diversity) + part("0.4", discipline)
        score = (
            part("0.55", correctness) + part("0.20", resilience) + part("0.15", retrieval) + part("0.10", efficiency)
        )
    elif task == "task2":
        evidence = (
            part("0.40", cross_validation)
            + part("0.25", verification)
            + part("0.20", compute)
            + part("0.15", diversity)
        )
        score = part("0.55", correctness) + part("0.30", evidence) + part("0.15", efficiency)
    else:
        resilience = (
            part("0.25", failure_recovery)
            + part("0.25", recovery)
            + part("0.20", verification)
            + part("0.15", artifact)
            + part("0.15", discipline)
        )
        # These weights add up to 1.1. The sum is not divided by that; it is clamped below.
        score = (
            part("0.45", correctness)
            + part("0.25", resilience)
            + part("0.20", cross_validation)
            + part("0.10", compute)
            + part("0.10", efficiency)
        )

    if not is_answered:
        score = part("0.35", score)
    return min(max(score, Fraction("0.001")), Fraction("0.990"))


# -- return ---------------------------------------------------------------------------------------------------------


def episode_return(counters: Counters, tools_needed: int, correctness: Fraction, is_answered: bool) -> Fraction:
    """Return the sum of the episode's rewards."""
    # Without an answer there is this and nothing else.
    if not is_answered:
        return Fraction("-0.5")
    total = part("0.7", correctness)
    if correctness > Fraction("0.7") and counters.faults_met > 0:
        total += Fraction("0.2")
    ratio = Fraction(counters.steps, 2 * tools_needed)
    if ratio <= Fraction("1.5"):
        total += Fraction("0.1")
    elif ratio > 3:
        total -= Fraction("0.1")
    total -= min(part("0.05", Fraction(counters.repeats)), Fraction("0.2"))
    return min(max(total, Fraction(-1)), Fraction(1))


# -- correctness ----------------------------------------------------------------------------------------------------


def correct_share(facts: tuple[Fact, ...], answer: str) -> Fraction:
    """Average the facts' scores by their weights; the answer is read whole, however long it is."""
    weights = [Fraction(str(fact.weight)) for fact in facts]
    scores = [fact_score(fact, answer) for fact in facts]
    return sum((w * s for w, s in zip(weights, scores, strict=True)), Fraction(0)) / sum(weights)


def fact_score(fact: Fact, answer: str) -> Fraction:
    """Score one fact: 1, one half or 0."""
    if fact.kind == "numeric":
        return numeric_score(Fraction(str(fact.value)), Fraction(str(fact.tolerance)), answer)
    if fact.kind == "text":
        return text_score(str(fact.value), answer)
    if fact.kind == "boolean":
        return Fraction(1 if boolean(answer) is bool(fact.value) else 0)
    raise ValueError(f"no fact of a question is of the kind {fact.kind}")


def numeric_score(value: Fraction, tolerance: Fraction, answer: str) -> Fraction:
    """Score the nearest of all numbers in the answer: within the tolerance, within three times the tolerance, or not."""
    best = Fraction(0)
    for number in numbers(answer):
        error = abs(number - value) / abs(value)
        if error <= tolerance:
            best = max(best, Fraction(1))
        elif error <= 3 * tolerance:
            best = max(best, Fraction(1, 2))
    return best


DIGITS = "0123456789"
# The longer words come first, since a letter also counts where it only begins a word.
MULTIPLIERS = (
    ("billion", 10**9),
    ("million", 10**6),
    ("thousand", 10**3),
    ("bn", 10**9),
    ("b", 10**9),
    ("m", 10**6),
    ("k", 10**3),
)
# Letters outside ASCII that Unicode takes for another case of an ASCII letter.
FALSE_CASES = {"ı": "i", "İ": "i", "ſ": "s", "\N{KELVIN SIGN}": "k"}


def numbers(answer: str) -> list[Fraction]:
    """Read all numbers of a text; one that is followed by a multiplier is read with it and without."""
    found = []
    place = 0
    while place < len(answer):
        if answer[place] not in DIGITS:
            place += 1
            continue
        is_negative = place > 0 and answer[place - 1] == "-"
        digits, place = whole_part(answer, place)
        if answer[place : place + 1] == "." and has_digit(answer, place + 1):
            decimals = run_of_digits(answer, place + 1)
            digits += "." + decimals
            place += 1 + len(decimals)
        # Decimal reads any length exactly, which int does not.
        number = Fraction(Decimal(digits))
        if is_negative:
            number = -number
        found.append(number)
        factor = multiplier_at(answer, place)
        if factor is not None:
            found.append(number * factor)
    return found


def has_digit(text: str, place: int) -> bool:
    """Tell if there is a digit at this place."""
    return place < len(text) and text[place] in DIGITS


def run_of_digits(text: str, place: int) -> str:
    """Return the digits from this place on."""
    digits = ""
    while has_digit(text, place):
        digits += text[place]
        place += 1
    return digits


def whole_part(text: str, place: int) -> tuple[str, int]:
    """Read digits with or without thousands commas; the digits, and the place after them."""
    digits = run_of_digits(text, place)
    place += len(digits)
    if len(digits) > 3:
        return digits, place
    # A comma separates thousands where exactly three digits follow it.
    while text[place : place + 1] == "," and len(run_of_digits(text, place + 1)) == 3:
        digits += run_of_digits(text, place + 1)
        place += 4
    return digits, place


def multiplier_at(text: str, place: int) -> int | None:
    """Return the multiplier that follows after any number of spaces."""
    rest = ascii_lower(text[place:].lstrip(" "))
    # Unicode reads "mıllion" as another case of "million"; here it is no multiplier at all.
    looks_like = "".join([FALSE_CASES.get(letter, letter) for letter in rest])
    for word, factor in MULTIPLIERS:
        if rest.startswith(word):
            return factor
        if looks_like.startswith(word):
            return None
    return None


def ascii_lower(text: str) -> str:
    """Make A to Z small, and leave everything else as it is."""
    return "".join([chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in text])


def tokens(text: str) -> list[str]:
    """Split a text into its runs of a to z, 0 to 9 and dots, after making A to Z small."""
    kept = "".join([letter if "a" <= letter <= "z" or letter in DIGITS + "." else " " for letter in ascii_lower(text)])
    return kept.split()


def text_score(value: str, answer: str) -> Fraction:
    """Give 1 where the answer contains the value, one half where it has at least half of the value's tokens."""
    wanted = tokens(value)
    given = tokens(answer)
    if " ".join(wanted) in " ".join(given):
        return Fraction(1)
    present = [token for token in wanted if token in given]
    return Fraction(1, 2) if Fraction(len(present), len(wanted)) >= Fraction(1, 2) else Fraction(0)


def boolean(answer: str) -> bool | None:
    """Read a plain verdict, where a word that denies comes before one that affirms.

    The rules do not say how a verdict is read. None is an answer without any of these words, on which they are silent.
    """
    words = [token.strip(".") for token in tokens(answer)]
    for word in words:
        if word in ("inaccurate", "incorrect", "false", "no", "not"):
            return False
    for word in words:
        if word in ("accurate", "correct", "true", "yes"):
            return True
    return None
