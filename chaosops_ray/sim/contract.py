"""The environment protocol that every world meets, and the values that cross it.

A world is a frozen value. `step` takes one and gives the next, so a snapshot is the value itself, a fork is using it
twice, and nothing that a caller holds can change under it. What a world needs beyond its value (a rule set, a scenario)
it carries inside. The checker in tests/contract_check.py runs any implementation through all of this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, get_args

from chaosops_ray.sim.board import Panel
from chaosops_ray.sim.curriculum import Promotion
from chaosops_ray.sim.errors import InputError, unknown

W = TypeVar("W")  # the world: truth
V = TypeVar("V")  # what one role may see of it
A = TypeVar("A")  # what a role does

Style = Literal["full", "compact"]
STYLES: tuple[Style, ...] = get_args(Style)
Outcome: TypeAlias = frozenset[str]

AFTER_END: Outcome = frozenset({"after_end"})


def checked(style: Style) -> Style:
    """The style, if it is one: a misspelt one must not silently be another."""
    if style not in STYLES:
        raise unknown("style", style, STYLES)
    return style


class Scenario(NamedTuple):
    """Frozen initial conditions and a seed; its identity is one string and says it all."""

    world: str
    case: str
    setting: str
    seed: int
    tier: str
    group: str

    @property
    def identity(self) -> str:
        """For example incident/autoscaler_cost_cut/hard/17."""
        return f"{self.world}/{self.case}/{self.setting}/{self.seed}"


class Score(NamedTuple):
    """What one step was worth: named components; the reward is their sum and nothing else."""

    components: tuple[tuple[str, float], ...]

    @property
    def total(self) -> float:
        """The reward."""
        return sum([value for _, value in self.components])


NOTHING = Score(())

MAX_SEED = 2**63 - 1
_SEED = re.compile(r"0|[1-9][0-9]{0,18}")


def parse_seed(text: str) -> int:
    """The seed that a scenario id ends in; each has one spelling."""
    if not _SEED.fullmatch(text) or int(text) > MAX_SEED:
        raise InputError(f"seed {text[:40]!r} is not a whole number from 0 to {MAX_SEED}")
    return int(text)


class Transition(NamedTuple, Generic[W, A]):
    """What `step` gives: the next world, the action as it was taken, what happened, what it was worth."""

    world: W
    action: A
    outcome: Outcome
    score: Score


class Step(NamedTuple, Generic[W, V, A]):
    """One turn of an episode: who saw what, did what, and what came of it. `world` is the truth afterwards."""

    role: str
    view: V
    action: A
    outcome: Outcome
    score: Score
    world: W


class Episode(NamedTuple, Generic[W, V, A]):
    """What happened, replayable: a start, and the steps from there."""

    scenario: Scenario
    rules: str
    start: W
    steps: tuple[Step[W, V, A], ...]

    @property
    def total(self) -> float:
        """The return: every step's reward, each counted once."""
        return sum([step.score.total for step in self.steps])

    def saw(self, event: str) -> bool:
        """Whether any step's outcome holds the event."""
        return any(event in step.outcome for step in self.steps)


class Policy(Protocol):
    """Anything that turns a view into an action."""

    def __call__(self, view: Any, /) -> Any:
        """The action to take on this view."""
        ...


PolicyFactory: TypeAlias = Callable[[Scenario, str], Policy]


class Metric(NamedTuple):
    """A column of the evaluation: the mean of a figure over the episodes for which it is defined."""

    name: str
    title: str
    of: Callable[[Episode[Any, Any, Any]], float | None]
    is_share: bool
    in_tables: bool = True


class Environment(Protocol[W, V, A]):
    """A world's rules as a caller needs them. Rule sets are named by one string, like scenarios."""

    @property
    def name(self) -> str:
        """First part of every scenario id."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """In turn order."""
        ...

    @property
    def tiers(self) -> tuple[str, ...]:
        """From the easiest on."""
        ...

    @property
    def grouping(self) -> str:
        """What a scenario's `group` is called here, for instance failure."""
        ...

    @property
    def selections(self) -> tuple[str, ...]:
        """Names of the evaluation sets, the default first."""
        ...

    @property
    def rule_sets(self) -> tuple[str, ...]:
        """Names of the rule sets, the default first."""
        ...

    @property
    def policies(self) -> Mapping[str, PolicyFactory]:
        """The baselines, by name."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What `evaluate` reports beside the headline score."""
        ...

    @property
    def headline_name(self) -> str:
        """What the headline score is called, for instance return."""
        ...

    @property
    def headline_format(self) -> str:
        """How a figure of it is written, as a format specification."""
        ...

    @property
    def detection(self) -> tuple[str, str] | None:
        """The metrics of a catch and of a false alarm, where the world is about catching something."""
        ...

    @property
    def promotions(self) -> tuple[Promotion, ...]:
        """The adaptive curriculum's thresholds, one for each tier but the last."""
        ...

    # -- scenarios and rules ------------------------------------------------------------------------------------------

    def rules(self, spelling: str) -> str:
        """The canonical spelling of a rule set and its options; InputError where there is no such."""
        ...

    def scenario(self, identity: str) -> Scenario:
        """The scenario of this id; InputError where there is none."""
        ...

    def scenarios(self, selection: str, seeds: Sequence[int] | None = None) -> tuple[Scenario, ...]:
        """An evaluation set, or its cases played with each of the seeds."""
        ...

    # -- dynamics -----------------------------------------------------------------------------------------------------

    def start(self, scenario: Scenario, rules: str) -> W:
        """The world before the first turn."""
        ...

    def acting(self, world: W) -> str | None:
        """The role whose turn it is; None when the episode is over."""
        ...

    def view(self, world: W, role: str) -> V:
        """What this role may see now."""
        ...

    def step(self, world: W, action: A) -> Transition[W, A]:
        """The acting role's action; anything at all may be passed, and none of it raises."""
        ...

    def headline(self, episode: Episode[W, V, A]) -> float:
        """The one figure an episode is judged by."""
        ...

    def progress(self, episode: Episode[W, V, A]) -> float:
        """What the adaptive curriculum looks at."""
        ...

    @property
    def pay(self) -> Mapping[str, str]:
        """Which stream pays each role."""
        ...

    def streams(self, score: Score) -> Mapping[str, float]:
        """The reward as each group of seats is paid it, by the group's name."""
        ...

    # -- words --------------------------------------------------------------------------------------------------------

    def system_prompt(self, role: str, rules: str, style: Style) -> str:
        """The opening of a seat's transcript: who it is, what it may do, how to say it."""
        ...

    def render(self, view: V, since: V | None, style: Style) -> str:
        """The view in words: all of it, or only what is new since this seat's last turn."""
        ...

    def parse_action(self, completion: str) -> A:
        """The action a completion spells; a typed parse failure, never an exception, where it spells none."""
        ...

    def format_action(self, action: A, style: Style) -> str:
        """The completion that spells this action."""
        ...

    def vocabulary(self, role: str) -> tuple[tuple[A, ...], ...] | None:
        """All that this seat may do, kind by kind, where that can be written out; None where it cannot."""
        ...

    # -- records ------------------------------------------------------------------------------------------------------

    def dump(self, world: W) -> bytes:
        """The whole truth as bytes; equal worlds give equal bytes in every process."""
        ...

    def load(self, data: bytes) -> W:
        """The world those bytes were made of; InputError where they are not a world's."""
        ...

    def dump_action(self, action: A) -> str:
        """The action as JSON."""
        ...

    def load_action(self, text: str) -> A:
        """The action of a record; InputError where it is none."""
        ...

    def dump_view(self, view: V) -> str:
        """The view as JSON."""
        ...

    # -- people -------------------------------------------------------------------------------------------------------

    def board(self, episode: Episode[W, V, A]) -> tuple[Panel, ...]:
        """The state of an episode so far, for a spectator who may know the truth."""
        ...


AnyEnvironment: TypeAlias = Environment[Any, Any, Any]
AnyEpisode: TypeAlias = Episode[Any, Any, Any]
