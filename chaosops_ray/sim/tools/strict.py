"""The score of an episode under strict rules, which is also its return.

Everything is multiplied by how correct the answer is and how far sources ground it. There is no credit for meeting a
failure, for any number of calls, or for a check of something against itself.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from chaosops_ray.sim.tools.answers import correctness, says, stated
from chaosops_ray.sim.tools.evidence import Evidence, gathered, is_near
from chaosops_ray.sim.tools.figures import figures_within
from chaosops_ray.sim.tools.model import Deed, Made, Question, World

DEED_SHARE = 0.2
_CHECKS = frozenset(("fact_check", "check_consistency", "compare_values"))


class Weights(NamedTuple):
    """What a correct, grounded answer is worth by itself, and what else adds to it; together 1."""

    answer: float
    cross_check: float
    check: float
    work: float
    efficiency: float


WEIGHTS = {
    "warmup": Weights(0.85, 0.0, 0.0, 0.0, 0.15),
    "beginner": Weights(0.60, 0.20, 0.0, 0.05, 0.15),
    "intermediate": Weights(0.30, 0.45, 0.10, 0.05, 0.10),
    "expert": Weights(0.30, 0.45, 0.10, 0.05, 0.10),
}


class Marks(NamedTuple):
    """Shares from 0 to 1: how much of each thing that counts was achieved."""

    correct: float
    grounded: float
    deed: float
    cross_check: float
    check: float
    work: float
    efficiency: float


def marks(world: World, question: Question) -> Marks:
    """Judge an episode; all is 0 without an answer."""
    if world.answer is None:
        return Marks(0, 0, 0, 0, 0, 0, 0)
    task = world.task
    efficiency = min(1.0, max(0.0, (task.max_steps - world.step) / (task.max_steps - task.ideal_steps)))
    correct = correctness(world.answer, question)
    if not correct:
        return Marks(0, 0, 0, 0, 0, 0, efficiency)
    evidence = gathered(world, question)
    end = world.step
    inputs = question.inputs
    verified = _is_verified(world, evidence)
    told = [evidence.is_told(wanted, end) for wanted in inputs]
    # A document that no second source has is checked by its hash alone.
    crossed = [
        evidence.is_cross_checked(wanted, end) or (verified and is_told)
        for wanted, is_told in zip(inputs, told, strict=True)
    ]
    return Marks(
        correct,
        _share(told),
        _done(world, question),
        _share(crossed),
        float(verified or any(_is_check(made, step, evidence) for step, made in enumerate(world.made))),
        float(not question.work or any(_is_work(made, step, evidence) for step, made in enumerate(world.made))),
        efficiency,
    )


def _share(flags: list[bool]) -> float:
    return sum(flags) / len(flags) if flags else 1.0


def components(world: World, question: Question) -> list[tuple[str, float]]:
    """Return the parts of the score; they add up to it."""
    found = marks(world, question)
    weights = WEIGHTS[world.scenario.tier]
    deed = 1.0 if question.deed is None else 1 - DEED_SHARE + DEED_SHARE * found.deed
    worth = found.correct * found.grounded * deed
    parts = [
        ("answer.grounded", weights.answer),
        ("evidence.cross_checked", weights.cross_check * found.cross_check),
        ("evidence.check", weights.check * found.check),
        ("evidence.work", weights.work * found.work),
        ("answer.efficiency", weights.efficiency * found.efficiency),
    ]
    return [(name, worth * part) for name, part in parts if worth * part]


# -- checks -----------------------------------------------------------------------------------------------------------


def _is_check(made: Made, step: int, evidence: Evidence) -> bool:
    """Tell if a call compared what independent sources had said of a value that the answer rests on, and found it true.

    The two texts may be the same word for word: what counts is that two sources had said it.
    """
    if not made.ok or made.fault or made.tool not in _CHECKS:
        return False
    arguments, verdict = json.loads(made.arguments), json.loads(made.shown)
    if made.tool == "fact_check":
        # The reference desk is the second source.
        return bool(verdict["supported"]) and any(
            _holds(arguments["claim"], wanted.value) and evidence.is_told(wanted, step)
            for wanted in evidence.question.inputs
        )
    first, second = [arguments[name] for name in sorted(arguments) if name != "tolerance"]
    inputs = evidence.question.inputs
    if len({wanted.source for wanted in inputs}) > 1:
        # The question is whether two sources agree.
        here, there = inputs
        agree = bool(verdict.get("consistent", verdict.get("equal")))
        holds = _holds(first, here.value) and _holds(second, there.value)
        return holds and agree == (here.value == there.value) and all(evidence.is_told(one, step) for one in inputs)
    return bool(verdict.get("consistent", verdict.get("equal"))) and any(
        _holds(first, wanted.value) and _holds(second, wanted.value) and evidence.is_cross_checked(wanted, step)
        for wanted in inputs
    )


def _holds(argument: Any, value: str | float) -> bool:
    if isinstance(value, str):
        return says(str(argument), value)
    return any(abs(figure - value) <= 0.002 * abs(value) for figure in figures_within(argument))


def _is_verified(world: World, evidence: Evidence) -> bool:
    """Tell if a text that a source gave has the hash that the question gives, and holds what the answer rests on."""
    for step, made in enumerate(world.made):
        if made.ok and not made.fault and made.tool == "hash_verify" and json.loads(made.shown)["match"]:
            arguments = json.loads(made.arguments)
            text = arguments["data"]
            # Any text has the hash that is worked out from it.
            is_asked = arguments["expected_hash"].lower() in evidence.question.text
            is_given = any(said.step < step and said.holds(text) for said in evidence.said)
            if is_asked and is_given and all(_holds(text, wanted.value) for wanted in evidence.question.inputs):
                return True
    return False


def _is_work(made: Made, step: int, evidence: Evidence) -> bool:
    """Tell if a call shows how the answer came about: from values that sources had told, or by the tool it takes."""
    question = evidence.question
    if not made.ok or made.fault or made.tool not in question.work:
        return False
    arguments, result = json.loads(made.arguments), json.loads(made.shown)
    if made.tool in ("calculator", "python_execute", "data_transform"):
        numbers = [wanted for wanted in question.inputs if not isinstance(wanted.value, str)]
        dates = [wanted for wanted in question.inputs if wanted.field == "founded"]
        used = [wanted for wanted in numbers if _holds(arguments, wanted.value) and evidence.is_told(wanted, step)]
        comes_out = any(is_near(fact, figures_within(result)) for fact in question.facts if fact.kind == "numeric")
        return comes_out and (2 * len(used) >= len(numbers) if numbers else bool(dates))
    if made.tool == "translate":
        return any(says(str(result["text"]), str(fact.value)) for fact in question.facts if fact.kind == "text")
    if made.tool == "validate_url":
        return bool(result["reachable"]) and arguments["url"] in [fact.value for fact in question.facts]
    if made.tool in ("json_query", "text_extract"):
        return any(_holds(result, wanted.value) and evidence.is_told(wanted, step) for wanted in question.inputs)
    if made.tool == "validate_data":
        (wanted,) = question.inputs
        return bool(result["valid"]) and _holds(arguments["data"], wanted.value) and evidence.is_told(wanted, step)
    return True


# -- deeds ------------------------------------------------------------------------------------------------------------

_KEYS = {"update_ticket": "ticket_id", "write_file": "path", "scratchpad_write": "key", "schedule_task": "time"}
_TEXTS = {
    "update_ticket": "update",
    "write_file": "content",
    "scratchpad_write": "value",
    "schedule_task": "task",
    "send_notification": "message",
    "create_report": "content",
    "request_human_review": "reason",
}


def _done(world: World, question: Question) -> float:
    """Return 1 if what was to be done beside the answer was done, by the last call that did it."""
    deed = question.deed
    if deed is None:
        return 1.0
    calls = [json.loads(made.arguments) for made in world.made if made.ok and made.tool == deed.tool]
    if deed.tool == "request_human_review":
        agree = next(fact.value for fact in question.facts if fact.kind == "boolean")
        if agree:
            return float(not calls)
    calls = [one for one in calls if deed.tool not in _KEYS or one[_KEYS[deed.tool]] == deed.key]
    return float(bool(calls) and _states(calls[-1], deed, question))


def _states(arguments: dict[str, Any], deed: Deed, question: Question) -> bool:
    facts = [fact for fact in question.facts if fact.name in deed.facts]
    if deed.tool == "database_insert":
        row = json.loads(arguments["data"])
        (wanted,) = question.inputs
        return (
            row.get("company") == wanted.name
            and row.get("quarter") == deed.key
            and isinstance(row.get("revenue_b"), int | float)
            and is_near(facts[0], {float(row["revenue_b"])})
        )
    text = str(arguments[_TEXTS[deed.tool]])
    return all(stated(text, fact, facts, question.given) == 1.0 for fact in facts)
