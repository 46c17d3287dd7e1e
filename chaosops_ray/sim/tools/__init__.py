"""World 2, ChaosAgent: one agent, one question, thirty tools that fail, some of them without saying so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaosops_ray.sim.board import Panel
from chaosops_ray.sim.contract import (
    NOTHING,
    AnyEpisode,
    Episode,
    Metric,
    PolicyFactory,
    Scenario,
    Score,
    Style,
    Transition,
)
from chaosops_ray.sim.curriculum import Promotion
from chaosops_ray.sim.tools import physics, rubric, scenarios, snapshot, text, views
from chaosops_ray.sim.tools.board import board
from chaosops_ray.sim.tools.model import ROLES, RULE_SETS, Action, Event, World, parse_rules
from chaosops_ray.sim.tools.policies import POLICIES
from chaosops_ray.sim.tools.views import View

SOLVED = 0.5


def _end(episode: AnyEpisode) -> World:
    world: World = episode.steps[-1].world if episode.steps else episode.start
    return world


def _correct(episode: AnyEpisode) -> float:
    return rubric.tally(_end(episode)).correct


def _solved(episode: AnyEpisode) -> float:
    return float(_correct(episode) > SOLVED)


def _answered(episode: AnyEpisode) -> float:
    return float(episode.saw(Event.ANSWERED))


def _steps(episode: AnyEpisode) -> float:
    return float(len(episode.steps))


def _faults(episode: AnyEpisode) -> float:
    return float(sum(bool(made.fault) for made in _end(episode).made))


def _repeats(episode: AnyEpisode) -> float:
    return float(sum(Event.REPEATED in step.outcome for step in episode.steps))


def _unparsed(episode: AnyEpisode) -> float:
    return float(sum(Event.UNPARSED in step.outcome for step in episode.steps))


class Tools:
    """The unreliable-tools world as an environment: the contract's methods, each a line into what does it."""

    name = scenarios.NAME
    title = "ChaosAgent, the unreliable tools"
    roles = ROLES
    tiers = scenarios.TIERS
    grouping = "family"
    selections = scenarios.SELECTIONS
    rule_sets = tuple(RULE_SETS)
    policies: Mapping[str, PolicyFactory] = POLICIES
    metrics = (
        Metric("success", "solved", _solved, is_share=True),
        Metric("correctness", "correct", _correct, is_share=True),
        Metric("answered", "answered", _answered, is_share=True),
        Metric("steps", "steps", _steps, is_share=False),
        Metric("faults", "faults", _faults, is_share=False),
        Metric("repeats", "repeats", _repeats, is_share=False, in_tables=False),
        Metric("unparsed", "unparsed", _unparsed, is_share=False, in_tables=False),
    )
    headline_name = "task score"
    headline_format = ".3f"
    detection = None
    promotions = (
        Promotion("warmup", 5, 15, 0.60),
        Promotion("beginner", 8, 15, 0.50),
        Promotion("intermediate", 10, 15, 0.40),
    )

    def rules(self, spelling: str) -> str:
        """The canonical spelling of a rule set."""
        return parse_rules(spelling).name

    def scenario(self, identity: str) -> Scenario:
        """The scenario of this id."""
        return scenarios.parse(identity)

    def scenarios(self, selection: str, seeds: Sequence[int] | None = None) -> tuple[Scenario, ...]:
        """An evaluation set, or its cases played with each of the seeds."""
        return scenarios.select(selection, seeds)

    def start(self, scenario: Scenario, rules: str) -> World:
        """The question, and nothing done yet."""
        return World(scenario, parse_rules(rules))

    def acting(self, world: World) -> str | None:
        """The agent, until it has answered or run out of steps."""
        return physics.acting(world)

    def view(self, world: World, role: str) -> View:
        """What the agent sees now."""
        return views.view(world, role)

    def step(self, world: World, action: object) -> Transition[World, Action]:
        """The agent's call, and what it was worth."""
        after, taken, outcome = physics.advance(world, action)
        if after is world:
            return Transition(after, taken, outcome, NOTHING)
        return Transition(after, taken, outcome, rubric.score(after, Event.REPEATED in outcome))

    def headline(self, episode: Episode[World, View, Action]) -> float:
        """The task score."""
        return rubric.task_score(_end(episode))

    def progress(self, episode: Episode[World, View, Action]) -> float:
        """Whether more than half of the answer was right."""
        return _solved(episode)

    def streams(self, score: Score) -> Mapping[str, float]:
        """There is one seat, and it is paid everything."""
        return {"agent": score.total}

    def brief(self, role: str, rules: str, style: Style) -> str:
        """The opening of the agent's transcript."""
        return text.brief(role, rules, style)

    def observe(self, view: View, since: View | None, style: Style) -> str:
        """What is new to the agent, in words."""
        return text.observe(view, since, style)

    def parse(self, completion: str) -> Action:
        """The call a completion spells."""
        return text.parse(completion)

    def spell(self, action: Action, style: Style) -> str:
        """The completion that spells a call."""
        return text.spell(action, style)

    def dump(self, world: World) -> bytes:
        """The truth as bytes."""
        return snapshot.dump(world)

    def load(self, data: bytes) -> World:
        """The truth from bytes."""
        return snapshot.load(data)

    def dump_action(self, action: Action) -> str:
        """The call as JSON."""
        return text.dump_action(action)

    def load_action(self, recorded: str) -> Action:
        """The call from JSON."""
        return text.load_action(recorded)

    def dump_view(self, view: View) -> str:
        """The view as JSON."""
        return views.dump_view(view)

    def board(self, episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
        """What a spectator sees."""
        return board(episode)


TOOLS = Tools()
