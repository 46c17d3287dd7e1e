"""The contract that every world meets, and the values that cross it.

A world is a frozen value. `step` takes one and gives the next, so a snapshot is the value itself, a fork is using it
twice, and nothing that a caller holds can change under it. What a world needs beyond its value (a rule set, a scenario)
it carries inside.

`Environment` has a core that every world gives, and parts with defaults: a world replaces the parts that it can do
better. The checker in tests/support/contract_check.py runs any world through all of it.

The module is long because `Environment` is one interface: its core, its defaults and the values that they exchange are
read together by an author of a world, and nothing else is here.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, get_args

from chaosops_ray.sim.actions import ActionForms, Form
from chaosops_ray.sim.board import Cell, Chart, Panel
from chaosops_ray.sim.curriculum import Promotion
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.rule_sets import present, recorded
from chaosops_ray.sim.snapshot import Snapshot
from chaosops_ray.sim.speech import Unparsed, load_record, read_action
from chaosops_ray.sim.symbols import symbols_of
from chaosops_ray.sim.typed import as_json, changes

W = TypeVar("W")  # the world: truth
V = TypeVar("V")  # what one role may see of it
A = TypeVar("A")  # what a role does

Style = Literal["full", "compact"]
STYLES: tuple[Style, ...] = get_args(Style)
Outcome: TypeAlias = frozenset[str]
# The actions of a seat, kind by kind.
Kinds: TypeAlias = tuple[tuple[A, ...], ...]

AFTER_END: Outcome = frozenset({"after_end"})


def checked(style: Style) -> Style:
    """Return the style; InputError where there is no such style."""
    if style not in STYLES:
        raise unknown("style", style, STYLES)
    return style


class Scenario(NamedTuple):
    """Frozen initial conditions and a seed, named by one string.

    Cases with the same `pair` belong together: of one setting and seed they are drawn into the same update, and an
    interval resamples them together.
    """

    world: str
    case: str
    setting: str
    seed: int
    tier: str
    group: str
    pair: str = ""

    @property
    def identity(self) -> str:
        """The scenario's id, for example incident/autoscaler_cost_cut/hard/17."""
        return f"{self.world}/{self.case}/{self.setting}/{self.seed}"

    @property
    def cluster(self) -> str:
        """The name that all scenarios of a pair share; a scenario without a partner has its own."""
        return f"pair {self.world}/{self.pair}/{self.setting}/{self.seed}" if self.pair else self.identity


class Score(NamedTuple):
    """The worth of one step as named components; the reward is their sum and nothing else."""

    components: tuple[tuple[str, float], ...]

    @property
    def total(self) -> float:
        """The reward."""
        return sum([value for _, value in self.components])


NOTHING = Score(())

MAX_SEED = 2**63 - 1
_SEED = re.compile(r"0|[1-9][0-9]{0,18}")
_PARTS = 4


def parse_seed(text: str) -> int:
    """Read the seed that a scenario id ends in; each seed has one spelling."""
    if not _SEED.fullmatch(text) or int(text) > MAX_SEED:
        raise InputError(f"seed {text[:40]!r} is not a whole number from 0 to {MAX_SEED}")
    return int(text)


def parse_identity(identity: str, world: str, form: str) -> tuple[str, str, str]:
    """Split a scenario id of this world into case, setting and seed; `form` tells in errors how an id is written."""
    parts = identity.split("/")
    if len(parts) != _PARTS or parts[0] != world:
        raise InputError(f"{identity[:80]!r} is no scenario; write {form}")
    _, case, setting, seed = parts
    return case, setting, seed


class Transition(NamedTuple, Generic[W, A]):
    """The result of a step: the next world, the action as it was taken, what happened, what it was worth."""

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
    """A replayable record of what happened: a start, and the steps from there."""

    scenario: Scenario
    rules: str
    start: W
    steps: tuple[Step[W, V, A], ...]

    @property
    def total(self) -> float:
        """The return: every step's reward, each counted once."""
        return sum([step.score.total for step in self.steps])

    @property
    def end(self) -> W:
        """The world after the last step."""
        return self.steps[-1].world if self.steps else self.start

    def saw(self, event: str) -> bool:
        """Tell if any step's outcome holds the event."""
        return any(event in step.outcome for step in self.steps)


class Exchange(NamedTuple):
    """An example that a conversation opens with: what a seat is asked, and a valid answer to it."""

    asked: str
    answer: str


class Policy(Protocol):
    """A function from a view to an action."""

    def __call__(self, view: Any, /) -> Any:
        """Choose the action to take on this view."""
        ...


PolicyFactory: TypeAlias = Callable[[Scenario, str], Policy]


class Metric(NamedTuple):
    """A column of the evaluation: the mean of a figure over the episodes for which it is defined."""

    name: str
    title: str
    of: Callable[[Episode[Any, Any, Any]], float | None]
    is_share: bool
    in_tables: bool = True


_SEEDS = range(5)
_UPDATES_PER_TIER = 200
_ONE_STREAM = "reward"
# A view in full style ends with it.
_ASK = "Write your action as one JSON object:"


class Environment(ABC, Generic[W, V, A]):
    """A world's rules as callers need them. Rule sets are named by one string, like scenarios.

    A view has the name of its seat in a field `role`. Instances hold no state: they travel to other processes.
    """

    # -- the core: every world gives these ----------------------------------------------------------------------------

    name: str  # first part of every scenario id
    roles: tuple[str, ...]  # in turn order
    tiers: tuple[str, ...]  # from the easiest on

    @property
    @abstractmethod
    def cases(self) -> tuple[Scenario, ...]:
        """The scenarios of the default evaluation set, with any seed: each case of each setting once."""

    @abstractmethod
    def start(self, scenario: Scenario, rules: str) -> W:
        """Return the world before the first turn."""

    @abstractmethod
    def acting(self, world: W) -> str | None:
        """Return the role whose turn it is; None when the episode is over."""

    @abstractmethod
    def view(self, world: W, role: str) -> V:
        """Return what this role may see now."""

    @abstractmethod
    def step(self, world: W, action: object) -> Transition[W, A]:
        """Take the acting role's action; anything at all may be passed, and none of it raises."""

    # The two types that the default records and texts are made of. A world that replaces `dump` and `load`, or all of
    # the text and `dump_action` and `load_action`, needs not give the one or the other.
    world_type: type[W]  # a named tuple that begins with the scenario and the canonical spelling of the rules
    action_types: tuple[type[A], ...]  # frozen dataclasses; their fields are text, numbers and probabilities

    # -- scenarios and rules ------------------------------------------------------------------------------------------

    @property
    def selections(self) -> tuple[str, ...]:
        """Names of the evaluation sets, the default first."""
        return ("all",)

    @property
    def rule_sets(self) -> tuple[str, ...]:
        """Full names of the rule sets, the default first; every world calls its own rules strict.

        A world raises strict to `strict/2` when its rules change, and so on: see sim/rule_sets.py.
        """
        return ("strict",)

    @property
    def rule_options(self) -> tuple[str, ...]:
        """Options of a rule set that a run may change on a schedule."""
        return ()

    def rules(self, spelling: str) -> str:
        """Return the canonical spelling of a rule set and its options; InputError where there is no such rule set."""
        return present(spelling, self.rule_sets)

    def recorded_rules(self, spelling: str) -> str:
        """Return the rules that a record names; InputError where this program does not play exactly these."""
        canonical = self.rules(recorded(spelling, self.rule_sets))
        if canonical != spelling:
            why = f"records spell them {canonical}; the record was not written by this program"
            raise InputError(f"rules {spelling[:80]!r}: {why}")
        return canonical

    def scenario(self, identity: str) -> Scenario:
        """Return the scenario of this id; InputError where there is none."""
        case, setting, seed = parse_identity(identity, self.name, f"{self.name}/CASE/SETTING/SEED")
        for scenario in self.cases:
            if (scenario.case, scenario.setting) == (case, setting):
                return scenario._replace(seed=parse_seed(seed))
        raise unknown("case", f"{case}/{setting}", [f"{one.case}/{one.setting}" for one in self.cases])

    def scenarios(self, selection: str, seeds: Sequence[int] | None = None) -> tuple[Scenario, ...]:
        """Return an evaluation set, or its cases with each of the seeds."""
        if selection not in self.selections:
            raise unknown("evaluation set", selection, self.selections)
        return tuple([case._replace(seed=seed) for case in self.cases for seed in (_SEEDS if seeds is None else seeds)])

    def partners(self, scenario: Scenario) -> tuple[Scenario, ...]:
        """Return the scenarios that belong together with this one, itself included, in the order of the cases."""
        if not scenario.pair:
            return (scenario,)
        together = [case._replace(seed=scenario.seed) for case in self.cases]
        return tuple([one for one in together if one.cluster == scenario.cluster])

    def public_group(self, scenario: Scenario) -> str:
        """Return the kind of a scenario as it may be told to whoever plays it; a group that names the answer may not.

        By default it is the tier.
        """
        return scenario.tier

    # -- text -----------------------------------------------------------------------------------------------------

    @cached_property
    def _forms(self) -> ActionForms[A]:
        return ActionForms(self.action_types)

    @property
    def title(self) -> str:
        """The world's name for people."""
        return self.name

    def system_prompt(self, role: str, rules: str, style: Style) -> str:  # noqa: ARG002 - the same under all rules
        """Write the opening of a seat's transcript: who it is, what it may do, how to say it."""
        if role not in self.roles:
            raise unknown("role", role, self.roles)
        if checked(style) == "compact":
            return f"{role} may {' '.join(self._forms.names)}"
        forms = "\n".join([f"- {form}" for form in self._forms.described])
        return (
            f"You are {role} in {self.title}. These roles act in this order, again and again: {', '.join(self.roles)}."
            f"\n\nOn your turn, take one of these actions:\n{forms}\n\n"
            f"End your answer with one JSON object alone, such as {self._forms.simplest}."
        )

    def opening(self, role: str, rules: str, style: Style) -> tuple[Exchange, ...]:  # noqa: ARG002 - as above
        """Return examples that follow the system prompt, for a model that does not know yet how to answer.

        They show the form of an answer and must not tell what to do. In compact style there are none.
        """
        if role not in self.roles:
            raise unknown("role", role, self.roles)
        return () if checked(style) == "compact" else (Exchange(_ASK, self._forms.simplest),)

    def render(self, view: V, since: V | None, style: Style, /) -> str:
        """Write the view as text: all of it, or only what changed since this seat's last turn."""
        found = changes(view, since)
        if checked(style) == "full":
            return "\n".join([*[f"{name}: {value}" for name, value in found], _ASK])
        return "\n".join([*[f"{name} {value}" for name, value in found], ">"])

    def parse_action(self, completion: str) -> A:
        """Read the action of a completion; a typed parse failure, never an exception, where there is none."""
        return self.admit(read_action(completion, "action", self._forms.from_fields, self._forms.from_line))  # type: ignore[no-any-return]

    def format_action(self, action: A, style: Style) -> str:
        """Write the completion that stands for this action."""
        return self.dump_action(action) if checked(style) == "full" else self._forms.line(action)

    def admit(self, action: object) -> Any:
        """Return the action if its type is known and its fields are valid, and a typed parse failure otherwise."""
        return self._forms.admit(action)

    def forms(self, role: str, rules: str) -> tuple[Form, ...]:  # noqa: ARG002 - the same under all rules
        """Return what a seat may do, as calls with typed arguments."""
        if role not in self.roles:
            raise unknown("role", role, self.roles)
        return self._forms.forms

    def call_fields(self, form: Form) -> Mapping[str, Any]:
        """Return the JSON object that full style writes for a call of this form, with parameters in place of values.

        Its fields stand in the order in which they are written; each is text, a parameter, or fields again.
        """
        return {"action": form.name, **{parameter.name: parameter for parameter in form.parameters}}

    def call(self, name: str, arguments: object) -> A:
        """Return the action of a call; like `action_of`, it never raises."""
        return self.action_of({**arguments, "action": name} if isinstance(arguments, dict) else arguments)

    def action_of(self, fields: object) -> A:
        """Return the action that a JSON object stands for, in any spelling that this world knows.

        Whatever else is passed becomes a typed parse failure.
        """
        try:
            return self.parse_action(json.dumps(fields, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            return self.parse_action("")

    def permitted(self, view: V, /) -> Kinds[A] | None:  # noqa: ARG002 - by default nothing is known of them
        """Return all that this seat may do now, kind by kind; None where it cannot be written out.

        It is called every turn: a world returns the same tuples again and again. A step takes each of them, and what
        `format_action` writes of it, as the same action.
        """
        return None

    # -- for learners that read no text -------------------------------------------------------------------------------

    def vocabulary(self, role: str) -> tuple[str, ...] | None:  # noqa: ARG002 - by default there is no such list
        """List the compact spellings of all that this role may ever do, each once; None where there is no such list.

        All that is permitted on a view of this role is spelt as one of them: see `permitted`.
        """
        return None

    def symbols(self, view: V, /) -> Mapping[str, float]:
        """Return named numbers that tell what is seen; a world may replace them by better ones."""
        return symbols_of(view)

    # -- records ------------------------------------------------------------------------------------------------------

    @cached_property
    def snapshots(self) -> Snapshot[W]:
        """The format of `dump` and `load`."""
        return Snapshot(self.world_type, f"a world of {self.name}", self.scenario, self.recorded_rules)

    def dump(self, world: W) -> bytes:
        """Write the whole truth as bytes; equal worlds give equal bytes in every process."""
        return self.snapshots.dump(world)

    def load(self, data: bytes) -> W:
        """Read the world that `dump` made these bytes of; InputError where they are not a world's."""
        return self.snapshots.load(data)

    def dump_action(self, action: A) -> str:
        """Write the action as JSON."""
        return self._forms.record(action)

    def load_action(self, text: str) -> A:
        """Read the action that `dump_action` wrote; InputError where it is none."""
        action: Any = load_record(text, lambda fields: self.admit(self._forms.from_fields(fields)))
        return action  # type: ignore[no-any-return]

    def dump_view(self, view: V) -> str:
        """Write the view as JSON, field by field."""
        return as_json(view)

    # -- rewards ------------------------------------------------------------------------------------------------------

    @property
    def pay(self) -> Mapping[str, str]:
        """The stream that pays each role."""
        return dict.fromkeys(self.roles, _ONE_STREAM)

    def streams(self, score: Score, /) -> Mapping[str, float]:
        """Return the reward as each group of seats is paid it, by the stream's name."""
        return {_ONE_STREAM: score.total}

    @property
    def components(self) -> tuple[str, ...]:
        """Names of all parts that a score may have, under any rules; empty where the world does not list them."""
        return ()

    def reward_range(self, rules: str) -> tuple[float, float]:  # noqa: ARG002 - by default nothing is known of it
        """Return bounds of the sum of rewards over any consecutive turns of an episode; infinite where unknown."""
        return -math.inf, math.inf

    @property
    def practice(self) -> str:
        """The evaluation set on whose cases a tiny model is warmed up: the largest, unless a world names another."""
        return max(self.selections, key=lambda name: len(self.scenarios(name, [0])))

    @property
    def practice_share(self) -> float:
        """How many of the usual episodes a tiny model is warmed up on: below 1 where they are long."""
        return 1.0

    @property
    def practice_shows_all(self) -> bool:
        """Tell if so much practice shows all that a seat may ever do; a tiny model is told the vocabulary otherwise."""
        return True

    # -- evaluation ---------------------------------------------------------------------------------------------------

    @property
    def grouping(self) -> str:
        """The name of what a scenario's `group` is here, for instance failure."""
        return "case"

    @property
    def policies(self) -> Mapping[str, PolicyFactory]:
        """The baselines, by name."""
        return MappingProxyType({"random": self.random_policy})

    @property
    def heuristic(self) -> str | None:
        """The baseline of rules of thumb, which a trained policy has to beat; None where the world has none."""
        return "heuristic" if "heuristic" in self.policies else None

    @property
    def usual(self) -> str:
        """The baseline that plays where nobody named one."""
        return self.heuristic or next(iter(self.policies))

    def random_policy(self, scenario: Scenario, rules: str) -> Policy:  # noqa: ARG002 - every factory is given both
        """Build a policy that draws a kind of permitted action, then one of that kind."""
        draw = stream(scenario.seed, "random policy")

        def act(view: Any, /) -> Any:
            kinds = self.permitted(view)
            if kinds is None:
                raise InputError(f"world {self.name} does not list its permitted actions; give it policies of its own")
            return draw.choice(draw.choice(kinds))

        return act

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The figures that `evaluate` reports beside the headline score."""
        return ()

    @property
    def detection(self) -> tuple[str, str] | None:
        """The metrics of a catch and of a false alarm, where the world is about catching something."""
        return None

    def guilty(self, scenario: Scenario) -> bool | None:  # noqa: ARG002 - by default nobody is to be caught
        """Tell if the scenario has a culprit, which is never told to whoever plays; None where a world does not ask.

        Twins are a guilty and an innocent scenario of one pair.
        """
        return None

    @property
    def suspicion(self) -> str | None:
        """The metric of how likely the policy holds it at the end that there is a culprit, where a world asks that.

        It is a probability, defined for every episode: one in which nothing was said has the prior, which is what
        anybody knows who has not looked.
        """
        return None

    def weight(self, scenario: Scenario, rules: str) -> float:  # noqa: ARG002 - by default sets are as the rules say
        """Return how frequent the scenario is under the prior of the rules, as a multiple of its place in a set.

        Pairs are half guilty and half innocent; means over an evaluation set weigh each episode by this. It is
        positive, and the same under all rules where these say nothing of a prior.
        """
        return 1.0

    @property
    def headline_name(self) -> str:
        """The name of the headline score."""
        return "return"

    @property
    def headline_format(self) -> str:
        """The format specification of a headline score."""
        return "+.2f"

    def headline(self, episode: Episode[W, V, A]) -> float:
        """Return the one figure that an episode is judged by."""
        return episode.total

    def grade(self, episode: Episode[W, V, A]) -> float:
        """Return how well the episode went, from 0 to 1: the headline score if a world gives nothing better."""
        return min(1.0, max(0.0, self.headline(episode)))

    def succeeded(self, episode: Episode[W, V, A]) -> bool:
        """Tell if the episode reached its goal: by default, if its grade is more than half."""
        return self.grade(episode) > 0.5

    def error(self, step: Step[W, V, A]) -> str | None:
        """Return why the action came to nothing, in words that its seat may read; None where it did not."""
        return step.action.reason if isinstance(step.action, Unparsed) else None

    # -- training -----------------------------------------------------------------------------------------------------

    @property
    def curriculum(self) -> str:
        """The stages that a run goes through unless it names others: the tiers in their order, equally long."""
        return ",".join([f"{tier}:{_UPDATES_PER_TIER}" for tier in self.tiers])

    @property
    def trained_on(self) -> str:
        """The evaluation set on whose cases a run trains unless it names another: the first."""
        return self.selections[0]

    @property
    def promotions(self) -> tuple[Promotion, ...]:
        """The thresholds of the adaptive curriculum, one for each tier but the last; none where it has no such."""
        return ()

    def progress(self, episode: Episode[W, V, A]) -> float:
        """Return the figure that the adaptive curriculum compares with its thresholds."""
        return self.headline(episode)

    # -- display ------------------------------------------------------------------------------------------------------

    def board(self, episode: Episode[W, V, A]) -> tuple[Panel, ...]:
        """Return panels that show the episode so far to a spectator; nothing in them tells the truth behind it."""
        role = self.acting(episode.end)
        state = (
            Cell("over", "good") if role is None else Cell(f"step {len(episode.steps) + 1}, {role} to act", "accent")
        )
        row = (state, Cell(f"return {episode.total:+.2f}", "accent"))
        return (Panel("episode", (), (row,), "accent", is_wide=True),)

    def truth(self, episode: Episode[W, V, A]) -> tuple[Panel, ...]:
        """Return panels with what those who play are not told."""
        told = [("scenario", episode.scenario.identity), *changes(episode.end, None)[2:]]
        rows = [(Cell(name, "muted"), Cell(value)) for name, value in told]
        return (Panel("truth", (), tuple(rows), "warn", is_wide=True),)

    def charts(self, episode: Episode[W, V, A]) -> tuple[Chart, ...]:  # noqa: ARG002 - by default nothing is drawn
        """Return the figures that are worth a drawing over time; like the board, they tell no truth."""
        return ()

    def seen(self, view: V, /) -> tuple[Panel, ...]:
        """Return panels that show one role's view, and nothing else."""
        rows = [(Cell(name, "muted"), Cell(value)) for name, value in changes(view, None)]
        return (Panel("view", (), tuple(rows), is_wide=True),)


AnyEnvironment: TypeAlias = Environment[Any, Any, Any]
AnyEpisode: TypeAlias = Episode[Any, Any, Any]
