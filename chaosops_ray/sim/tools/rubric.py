"""The worth of an episode: the reward of its steps, and the task score that it is judged by.

Both are made of a tally of the calls. Under `strict` rules, which are here, a virtue has to be earned: a source counts
only if it told something of the subject, a check only if it was made on what such sources had said, and the way to an
answer is worth as much as the answer. The `published` rules are in a module of their own.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from chaosops_ray.sim.contract import NOTHING, Score
from chaosops_ray.sim.tools import published
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import COMPUTATION, RETRIEVAL, STORAGE, VALIDATION
from chaosops_ray.sim.tools.figures import figures_within
from chaosops_ray.sim.tools.grading import correctness
from chaosops_ray.sim.tools.knowledge import Knowledge, knowledge, slug
from chaosops_ray.sim.tools.model import SUBMIT, Made, Question, World
from chaosops_ray.sim.tools.scenarios import question

CORRECT = 0.7
RECOVERED = 0.2
MOSTLY_CORRECT = 0.7
REPEAT = -0.05
REPEATS_CHARGED = 4
UNANSWERED = -0.5
UNANSWERED_SHARE = 0.35
# What the weights of task3 add up to before they are divided by it.
WEIGHTS_OF_TASK3 = 1.1
# Sources that do not copy from each other; two of them make a cross-check.
INDEPENDENT = ("web_search", "knowledge_base_lookup", "database_query", "document_search", "api_call", "read_file")


class Tally(NamedTuple):
    """The counts of an episode's calls."""

    correct: float
    answered: bool
    steps: int
    repeats: int
    errors: int
    faults: int
    recoveries: int
    tools: int
    retrievals: int
    sources: int
    verifications: int
    computations: int
    artifacts: int


def asked(world: World) -> Question:
    """Return the question of this world."""
    return question(world.scenario.case, world.scenario.setting, world.scenario.seed)


def correct_share(world: World) -> float:
    """Return the share of the answer that is right; 0 without an answer."""
    if world.answer is None:
        return 0.0
    if world.rules.are_published:
        return published.correctness(world.answer, asked(world))
    return correctness(world.answer, asked(world), knowledge(world.scenario.setting, world.scenario.seed))


def counts_of(world: World) -> Tally | published.Counts:
    """Return the counts that the world's rules make a score of."""
    return published.counts(world, asked(world)) if world.rules.are_published else tally(world)


def tally(world: World) -> Tally:
    """Count what was done, by strict rules."""
    wanted = asked(world)
    known = knowledge(world.scenario.setting, world.scenario.seed)
    seen: set[tuple[str, str]] = set()
    evidence = _Evidence(wanted.subjects)
    figures = _subject_figures(known, wanted.subjects)
    repeats = errors = faults = recoveries = retrievals = verifications = computations = artifacts = 0
    tools: set[str] = set()
    sources: set[str] = set()
    failed = ""
    for made in world.made:
        if not made.tool:
            continue
        key = (made.tool, made.arguments)
        repeats += key in seen
        seen.add(key)
        faults += bool(made.fault)
        if failed and made.tool not in (failed, SUBMIT):
            recoveries += 1
            failed = ""
        if not made.ok:
            errors += 1
            failed = made.tool
            continue
        if made.tool == SUBMIT:
            continue
        tools.add(made.tool)
        group = TOOLS[made.tool].group
        grounded = evidence.grounds(made.arguments)
        about = False
        if group == RETRIEVAL:
            about = _speaks_of(made, figures)
            retrievals += about
            if about and made.tool in INDEPENDENT:
                sources.add(made.tool)
        verifications += group == VALIDATION and grounded
        computations += group == COMPUTATION and grounded
        artifacts += group == STORAGE and made.tool != "scratchpad_read" and grounded
        # A figure is evidence if a source gave it, or if it was worked out from evidence.
        if about or (group == COMPUTATION and grounded):
            evidence.add(made)
    counts = (recoveries, len(tools), retrievals, len(sources), verifications, computations, artifacts)
    return Tally(correct_share(world), world.answer is not None, world.step, repeats, errors, faults, *counts)


def _subject_figures(known: Knowledge, subjects: tuple[str, ...]) -> set[float]:
    """Return the true figures of what is asked about."""
    entries = [entry for entry in (*known.countries, *known.companies) if entry[0] in subjects]
    return {float(value) for entry in entries for value in entry if isinstance(value, int | float)}


def _speaks_of(made: Made, figures: set[float]) -> bool:
    """Tell if a source's result is about the subject: its truth holds a figure that was not in the arguments."""
    told = figures_within(json.loads(made.truth)) - figures_within(json.loads(made.arguments))
    return not figures.isdisjoint(told)


class _Evidence:
    """The figures and words that this episode's tools have said."""

    def __init__(self, subjects: tuple[str, ...]) -> None:
        self.figures: set[float] = set()
        self.texts: list[str] = []
        self.names = [name for subject in subjects for name in (subject.casefold(), slug(subject))]

    def add(self, made: Made) -> None:
        self.texts.append(made.shown)
        self.figures |= figures_within(json.loads(made.shown))

    def grounds(self, arguments: str) -> bool:
        """Tell if the arguments' figures come from there; without figures, they must hold a text about a subject."""
        given = json.loads(arguments)
        figures = figures_within(given)
        if figures:
            # A tolerance, a digit count or an exponent may be the caller's own; one figure in three at the most.
            return 3 * len(figures & self.figures) >= 2 * len(figures)
        pieces = [value for value in given.values() if isinstance(value, str) and len(value) > 3]
        about = [piece for piece in pieces if any(name in piece.casefold() for name in self.names)]
        return any(piece in text for piece in about for text in self.texts)


# -- the reward of a step -------------------------------------------------------------------------------------------


def score(world: World, repeated: bool) -> Score:
    """Score the step that led to this world."""
    if world.rules.are_published:
        return published.score(world, asked(world))
    components = []
    if repeated and _repeats(world) <= REPEATS_CHARGED:
        components.append(("discipline.repeat", REPEAT))
    if world.done:
        components += _conclusion(world)
    return Score(tuple(components)) if components else NOTHING


def _repeats(world: World) -> int:
    keys = [(made.tool, made.arguments) for made in world.made if made.tool]
    return len(keys) - len(set(keys))


def _conclusion(world: World) -> list[tuple[str, float]]:
    counted = tally(world)
    if not counted.answered:
        return [("answer.missing", UNANSWERED)]
    components = [("answer.correct", CORRECT * counted.correct)]
    if counted.correct > MOSTLY_CORRECT and counted.faults:
        components.append(("answer.recovered", RECOVERED))
    ratio = counted.steps / (2 * asked(world).tools_needed)
    if ratio > 3:
        components.append(("answer.efficiency", -0.1))
    elif ratio <= 1.5 and counted.correct > 0:
        components.append(("answer.efficiency", 0.1))
    return components


# -- the score of an episode ----------------------------------------------------------------------------------------


def task_score(world: World) -> float:
    """Return the task score, from 0 to 1; an episode that goes on is scored as if it ended without an answer."""
    if world.rules.are_published:
        return published.task_score(world, asked(world))
    counted = tally(world)
    task = world.task
    earlier = counted.steps - 1 if counted.answered else counted.steps
    discipline = 1 - counted.repeats / earlier if earlier else 1.0
    diversity = min(1.0, counted.tools / task.diversity)
    efficiency = _efficiency(counted.steps, task.ideal_steps, task.max_steps)
    # Where nothing failed there was nothing to recover from.
    recovery = _reached(counted.recoveries, min(task.recoveries, counted.errors))
    cross = min(1.0, counted.sources / 2)
    verification = _reached(counted.verifications, task.verifications)
    computation = _reached(counted.computations, task.computations)
    if task.name == "task1":
        resilience = 0.7 * recovery + 0.3 * discipline if counted.errors else 0.6 * diversity + 0.4 * discipline
        retrieval = _reached(counted.retrievals, max(task.diversity - 1, 1))
        right, way = 0.55 * counted.correct, 0.20 * resilience + 0.15 * retrieval + 0.10 * efficiency
    elif task.name == "task2":
        evidence = 0.40 * cross + 0.25 * verification + 0.20 * computation + 0.15 * diversity
        right, way = 0.55 * counted.correct, 0.30 * evidence + 0.15 * efficiency
    else:
        resilience = (
            0.25 * _failure_recovery(counted, diversity, discipline)
            + 0.25 * recovery
            + 0.20 * verification
            + 0.15 * _reached(counted.artifacts, task.artifacts)
            + 0.15 * discipline
        )
        right = 0.45 * counted.correct / WEIGHTS_OF_TASK3
        way = (0.25 * resilience + 0.20 * cross + 0.10 * computation + 0.10 * efficiency) / WEIGHTS_OF_TASK3
    if not counted.retrievals:
        return 0.0  # an answer without a source is a guess
    # The way to an answer is worth as much as where it led.
    return min(1.0, right + way * counted.correct) if counted.answered else way * UNANSWERED_SHARE


def _reached(actual: int, target: int) -> float:
    return min(1.0, actual / target) if target else 1.0


def _efficiency(steps: int, ideal: int, most: int) -> float:
    return 1.0 if steps <= ideal else max(0.0, 1 - (steps - ideal) / (most - ideal))


def _failure_recovery(counted: Tally, diversity: float, discipline: float) -> float:
    if not counted.answered:
        return 0.0
    if not counted.errors:
        return 0.55 * diversity + 0.45 * discipline
    return 0.45 * counted.correct + 0.30 * diversity + 0.25 * discipline
