"""World 2, ChaosAgent: one agent, one question, thirty tools that fail, some of them without saying so."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaosops_ray.sim.contract import (
    NOTHING,
    AnyEpisode,
    Environment,
    Episode,
    Metric,
    PolicyFactory,
    Scenario,
    Score,
    Step,
    Transition,
)
from chaosops_ray.sim.curriculum import Promotion
from chaosops_ray.sim.tools import board, choices, physics, rubric, scenarios, text, views
from chaosops_ray.sim.tools.model import AGENT, ROLES, RULE_SETS, Action, Event, Storage, World, parse_rules
from chaosops_ray.sim.tools.policies import POLICIES
from chaosops_ray.sim.tools.snapshot import SNAPSHOTS
from chaosops_ray.sim.tools.views import View

SOLVED = 0.5


def _correct(episode: AnyEpisode) -> float:
    return rubric.correct_share(episode.end)


def _solved(episode: AnyEpisode) -> float:
    return float(_correct(episode) > SOLVED)


def _answered(episode: AnyEpisode) -> float:
    return float(episode.saw(Event.ANSWERED))


def _steps(episode: AnyEpisode) -> float:
    return float(len(episode.steps))


def _faults(episode: AnyEpisode) -> float:
    return float(sum(bool(made.fault) for made in episode.end.made))


def _repeats(episode: AnyEpisode) -> float:
    return float(sum(Event.REPEATED in step.outcome for step in episode.steps))


def _unparsed(episode: AnyEpisode) -> float:
    return float(sum(Event.UNPARSED in step.outcome for step in episode.steps))


class Tools(Environment[World, View, Action]):
    """The unreliable tools as an environment; the contract's methods are functions of the modules beside this one."""

    name = scenarios.NAME
    title = "ChaosAgent, the unreliable tools"
    roles = ROLES
    tiers = scenarios.TIERS
    cases = scenarios.select(scenarios.SELECTIONS[0], [0])
    selections = scenarios.SELECTIONS
    practice = scenarios.SELECTIONS[0]  # most families of questions, without those that are held out
    rule_sets = tuple(RULE_SETS)
    grouping = "family"
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
    pay: Mapping[str, str] = MappingProxyType(dict.fromkeys(ROLES, AGENT))
    components = rubric.COMPONENTS
    promotions = (
        Promotion("warmup", 5, 15, 0.60),
        Promotion("beginner", 8, 15, 0.50),
        Promotion("intermediate", 10, 15, 0.40),
    )
    snapshots = SNAPSHOTS

    acting = staticmethod(physics.acting)
    view = staticmethod(views.view)
    system_prompt = staticmethod(text.system_prompt)
    render = staticmethod(text.render)
    parse_action = staticmethod(text.parse_action)
    format_action = staticmethod(text.format_action)
    forms = staticmethod(text.forms)
    call_fields = staticmethod(text.call_fields)
    call = staticmethod(text.call)
    action_of = staticmethod(text.action_of)
    permitted = staticmethod(choices.permitted)
    vocabulary = staticmethod(choices.vocabulary)
    dump_action = staticmethod(text.dump_action)
    load_action = staticmethod(text.load_action)
    truth = staticmethod(board.truth)
    seen = staticmethod(board.seen)
    reward_range = staticmethod(rubric.reward_range)
    scenario = staticmethod(scenarios.parse)
    # Within this class body these names are the methods' from here on; the functions below still mean the modules.
    board = staticmethod(board.board)
    scenarios = staticmethod(scenarios.select)

    def public_group(self, scenario: Scenario) -> str:
        """Return the family of the question, which the question itself shows."""
        return scenario.group

    def rules(self, spelling: str) -> str:
        """Return the canonical spelling of a rule set."""
        return parse_rules(spelling).name

    def start(self, scenario: Scenario, rules: str) -> World:
        """Return the question, and nothing done yet."""
        notes = scenarios.question(scenario.case, scenario.setting, scenario.seed).notes
        return World(scenario, parse_rules(rules), storage=Storage(notes=notes))

    def step(self, world: World, action: object) -> Transition[World, Action]:
        """Make the agent's call, and score it."""
        after, taken, outcome = physics.advance(world, choices.resolved(world, action))
        if after is world:
            return Transition(after, taken, outcome, NOTHING)
        return Transition(after, taken, outcome, rubric.score(after))

    def headline(self, episode: Episode[World, View, Action]) -> float:
        """Return the task score."""
        return rubric.task_score(episode.end)

    def progress(self, episode: Episode[World, View, Action]) -> float:
        """Return 1 if more than half of the answer was right, 0 otherwise."""
        return _solved(episode)

    def succeeded(self, episode: Episode[World, View, Action]) -> bool:
        """Tell if more than half of the answer was right."""
        return bool(_solved(episode))

    def error(self, step: Step[World, View, Action]) -> str | None:
        """Return the result of a call that failed, as the agent was shown it; silent faults are no errors."""
        return step.world.made[-1].shown if Event.ERROR in step.outcome else super().error(step)

    def streams(self, score: Score) -> Mapping[str, float]:
        """Return everything as the one seat's."""
        return {AGENT: score.total}


TOOLS = Tools()
