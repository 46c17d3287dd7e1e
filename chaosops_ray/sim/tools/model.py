"""The values of the unreliable-tools world: questions, calls and what came of them, rules, the truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.rule_sets import present
from chaosops_ray.sim.speech import Unparsed, clean, decode, is_shallow

AGENT: Final = "agent"
ROLES: Final = (AGENT,)
SUBMIT: Final = "submit_answer"

MAX_ARGUMENTS: Final = 6_000
MAX_SHOWN: Final = 4_000
MAX_ANSWER: Final = 2_000
MAX_NAME: Final = 40
MAX_DEPTH: Final = 16
MAX_REASON: Final = 200


class Event:
    """The events of a step; faults are events too, named fault_… after their kind, and no agent sees them."""

    ANSWERED: Final = "answered"
    ERROR: Final = "error"
    REPEATED: Final = "repeated"
    UNPARSED: Final = "unparsed"


# -- questions ------------------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """A kind of question, and how much of each virtue it asks for."""

    name: str
    title: str
    max_steps: int
    ideal_steps: int
    diversity: int
    recoveries: int
    verifications: int
    computations: int
    artifacts: int
    guidance: str


TASKS: Final = {
    "task1": Task(
        "task1",
        "single-failure recovery",
        6,
        4,
        2,
        1,
        0,
        0,
        0,
        "One source may fail or be wrong. When a call fails, turn to another tool rather than trying again.",
    ),
    "task2": Task(
        "task2",
        "cross-tool conflict",
        8,
        6,
        3,
        1,
        1,
        1,
        0,
        "Sources may disagree. Ask two independent ones, check them against each other, and compute from what holds.",
    ),
    "task3": Task(
        "task3",
        "cascading failure",
        10,
        7,
        4,
        2,
        2,
        1,
        1,
        "Several tools may fail or mislead. Gather evidence from independent sources, verify it, keep a record of it.",
    ),
}
TASK_OF_TIER: Final = {"warmup": "task1", "beginner": "task1", "intermediate": "task2", "expert": "task3"}


class Fact(NamedTuple):
    """A part of the answer; the weights of a question's facts add up to one."""

    name: str
    kind: str  # numeric, text, boolean or date
    value: str | int | float | bool
    tolerance: float
    weight: float
    scale: float = 1.0  # the unit that the question asks for
    rivals: tuple[str, ...] = ()  # the other names that an answer could state


class Input(NamedTuple):
    """A value that the answer rests on, and the only source that has it, if it is one."""

    name: str
    field: str
    value: str | int | float
    source: str = ""
    is_search: bool = False  # the value is known, and whose it is, is not


class Deed(NamedTuple):
    """Something to be done beside the answer: with this tool, under this key, stating these facts of the answer."""

    tool: str
    key: str
    facts: tuple[str, ...]


class Question(NamedTuple):
    """A question with its answer, and what the answer has to rest on."""

    text: str
    facts: tuple[Fact, ...]
    tools_needed: int
    inputs: tuple[Input, ...] = ()
    work: tuple[str, ...] = ()  # the tools of which one shows how the answer was worked out
    deed: Deed | None = None
    notes: tuple[tuple[str, str], ...] = ()  # what stands in the scratchpad at the start
    given: tuple[float, ...] = ()  # the figures in the text that an answer may repeat


# -- calls ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """A tool and its arguments, as one canonical JSON object."""

    tool: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A call that is offered on a view, under a short name; a step makes the call that the name stands for then."""

    name: str
    call: Call | None = None  # None where only the name was written


Taken: TypeAlias = Call | Unparsed
Action: TypeAlias = Taken | Offer


def call(tool: str, **arguments: Any) -> Call:
    """Make a call from Python values."""
    return Call(tool, canonical(arguments))


def canonical(arguments: dict[str, Any]) -> str:
    """Write arguments in their canonical form."""
    return _CANONICAL.encode(arguments)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def admit(action: object) -> Taken:
    """Return the action if it is well formed and within bounds, and `Unparsed` otherwise."""
    return admitted(action)[0]


def admitted(action: object) -> tuple[Taken, dict[str, Any]]:
    """Return the action as `admit` does, and its arguments as values."""
    if isinstance(action, Call) and isinstance(action.tool, str) and isinstance(action.arguments, str):
        return _admitted_call(action)
    if isinstance(action, Unparsed) and isinstance(action.reason, str):
        return Unparsed(clean(action.reason, MAX_REASON)), {}
    return Unparsed(f"a {type(action).__name__[:MAX_NAME]} that is no well-formed call"), {}


def _admitted_call(given: Call) -> tuple[Taken, dict[str, Any]]:
    tool, arguments = given.tool, given.arguments
    if len(arguments) > MAX_ARGUMENTS:
        return Unparsed(f"arguments longer than {MAX_ARGUMENTS} characters"), {}
    try:
        fields = decode(arguments)
        spelling = canonical(fields)
    except ValueError:
        return Unparsed("arguments are no JSON object"), {}
    if not isinstance(fields, dict) or len(spelling) > MAX_ARGUMENTS:
        return Unparsed("arguments are no JSON object"), {}
    if arguments.count("{") + arguments.count("[") > MAX_DEPTH and not is_shallow(fields, MAX_DEPTH):
        return Unparsed("arguments are no JSON object"), {}
    name = tool if len(tool) <= MAX_NAME and tool.isidentifier() else clean(tool, MAX_NAME)
    return given if (name, spelling) == (tool, arguments) else Call(name, spelling), fields


class Made(NamedTuple):
    """A call that was made, with what the agent was shown and the truth. A step without a call has no tool."""

    tool: str
    arguments: str
    ok: bool
    shown: str
    truth: str
    fault: str


class Storage(NamedTuple):
    """The things that the episode has written, in order; later entries of a name hide earlier ones."""

    notes: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    reports: tuple[str, ...] = ()
    tickets: tuple[tuple[str, str], ...] = ()
    outbox: tuple[str, ...] = ()
    schedule: tuple[tuple[str, str], ...] = ()


# -- rules ----------------------------------------------------------------------------------------------------------


class Rules(NamedTuple):
    """A rule set, by its name."""

    name: str

    @property
    def are_published(self) -> bool:
        """True for the published rules, which have faults and a grader of their own."""
        return self.name == "published"


RULE_SETS: Final = {"strict/2": Rules("strict/2"), "published": Rules("published")}


def parse_rules(spelling: str) -> Rules:
    """Return the rules of this name."""
    return RULE_SETS[present(spelling, RULE_SETS)]


# -- truth ----------------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """The truth of one episode at one moment."""

    scenario: Scenario
    rules: Rules
    step: int = 0
    made: tuple[Made, ...] = ()
    storage: Storage = Storage()
    answer: str | None = None

    @property
    def task(self) -> Task:
        """The kind of question this is."""
        return TASKS[TASK_OF_TIER[self.scenario.tier]]

    @property
    def done(self) -> bool:
        """True when the episode is over."""
        return self.answer is not None or self.step >= self.task.max_steps
