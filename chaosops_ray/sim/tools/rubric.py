"""The worth of an episode, by the rules that it is played under."""

from __future__ import annotations

from chaosops_ray.sim.contract import NOTHING, Score
from chaosops_ray.sim.tools import answers, published, strict
from chaosops_ray.sim.tools.model import Question, World, parse_rules
from chaosops_ray.sim.tools.scenarios import question

COMPONENTS = (
    "answer.correct",
    "answer.grounded",
    "answer.recovered",
    "answer.missing",
    "answer.efficiency",
    "evidence.cross_checked",
    "evidence.check",
    "evidence.work",
    "discipline.repeat",
)


def asked(world: World) -> Question:
    """Return the question of this world."""
    return question(world.scenario.case, world.scenario.setting, world.scenario.seed)


def correct_share(world: World) -> float:
    """Return the share of the answer that is right; 0 without an answer."""
    if world.answer is None:
        return 0.0
    grade = published.correctness if world.rules.are_published else answers.correctness
    return grade(world.answer, asked(world))


def counts_of(world: World) -> published.Counts | strict.Marks:
    """Return what the score is made of."""
    return published.counts(world, asked(world)) if world.rules.are_published else strict.marks(world, asked(world))


def score(world: World) -> Score:
    """Score the step that led to this world."""
    if world.rules.are_published:
        return published.score(world, asked(world))
    if not world.done:
        return NOTHING
    return Score(tuple(strict.components(world, asked(world)))) or NOTHING


def reward_range(rules: str) -> tuple[float, float]:
    """Return the bounds of what an episode earns; its last step earns all of it."""
    return (published.UNANSWERED, 1.0) if parse_rules(rules).are_published else (0.0, 1.0)


def task_score(world: World) -> float:
    """Return the task score, from 0 to 1; an episode that goes on is scored as if it ended without an answer."""
    if world.rules.are_published:
        return published.task_score(world, asked(world))
    return sum([amount for _, amount in strict.components(world, asked(world))])
