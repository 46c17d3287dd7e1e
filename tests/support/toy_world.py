"""A toy world: two seats, some boxes, and perhaps a prize in one of them.

One file is a whole world. It leaves to the contract's defaults whatever they can do, and uses what they make room for:
its cases come in pairs of twins (a prize, or none, behind boxes that look the same), a guess carries a probability, which
is how likely it is that the scenario is "guilty" of a prize, the rules have a prior for that, and what the opener may do
depends on which boxes this scenario has and which are still shut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from chaosops_ray.sim.actions import Probability, brier, probability
from chaosops_ray.sim.contract import (
    AFTER_END,
    NOTHING,
    AnyEpisode,
    Environment,
    Metric,
    Policy,
    PolicyFactory,
    Scenario,
    Score,
    Transition,
)
from chaosops_ray.sim.rng import stream
from chaosops_ray.sim.speech import Unparsed

OPENER, GUESSER = ROLES = ("opener", "guesser")
BOXES = {"few": 2, "many": 4}
COLOURS = ("red", "green", "blue", "white", "black", "grey")
GUESSES = (0.1, 0.5, 0.9)
# By rule set, how often there is a prize.
PRIORS = MappingProxyType({"strict": 0.5, "rare": 0.1})
FULL, EMPTY = "full", "empty"
MAX_STEPS = 8


@dataclass(frozen=True, slots=True)
class Wait:
    """Let the turn pass."""


@dataclass(frozen=True, slots=True)
class Open:
    """Look into a box."""

    box: str


@dataclass(frozen=True, slots=True)
class Guess:
    """Say how likely it is that there is a prize; this ends the episode."""

    prize: Probability


class View(NamedTuple):
    role: str
    shut: tuple[str, ...]
    empty: tuple[str, ...]
    found: str | None


class World(NamedTuple):
    scenario: Scenario
    rules: str
    boxes: tuple[str, ...]
    prize: str | None
    step: int = 0
    opened: tuple[str, ...] = ()
    guessed: float | None = None

    @property
    def is_over(self) -> bool:
        return self.guessed is not None or self.step == MAX_STEPS


def _stated(episode: AnyEpisode) -> float | None:
    found = [stated for step in episode.steps if (stated := probability(step.action)) is not None]
    return found[-1] if found else None


def _suspicion(episode: AnyEpisode) -> float:
    stated = _stated(episode)
    return PRIORS[episode.rules] if stated is None else stated


def _careful(boxes: int) -> Policy:
    """Open so many boxes, then guess: surely if there is the prize, hardly if not."""

    def act(view: View, /) -> Any:
        if view.role == OPENER:
            return Open(view.shut[0]) if len(view.empty) < boxes and view.shut and view.found is None else Wait()
        if view.found is not None:
            return Guess(GUESSES[-1])
        return Guess(GUESSES[0]) if len(view.empty) >= boxes or not view.shut else Wait()

    return act


@cache
def _offered(role: str, shut: tuple[str, ...]) -> tuple[tuple[Any, ...], ...]:
    if role == GUESSER:
        return (Wait(),), tuple([Guess(prize) for prize in GUESSES])
    return ((Wait(),), tuple([Open(box) for box in shut])) if shut else ((Wait(),),)


class Toy(Environment[World, View, Any]):
    """The boxes as an environment."""

    name = "toy"
    roles = ROLES
    tiers = tuple(BOXES)
    cases = tuple([Scenario("toy", case, tier, 0, tier, case, "prize") for tier in BOXES for case in (FULL, EMPTY)])
    rule_sets = tuple(PRIORS)
    world_type = World
    action_types = (Wait, Open, Guess)
    metrics = (
        Metric("guessed", "guessed", lambda episode: float(_stated(episode) is not None), is_share=True),
        Metric("suspicion", "suspicion", _suspicion, is_share=True, in_tables=False),
    )
    suspicion = "suspicion"

    def guilty(self, scenario: Scenario) -> bool:
        return scenario.case == FULL

    def weight(self, scenario: Scenario, rules: str) -> float:
        prior = PRIORS[self.rules(rules)]
        return 2 * (prior if self.guilty(scenario) else 1 - prior)

    @property
    def policies(self) -> Mapping[str, PolicyFactory]:
        return MappingProxyType(
            {
                "random": self.random_policy,
                "silent": lambda _scenario, _rules: lambda _view: Wait(),
                "glance": lambda _scenario, _rules: _careful(1),
                "search": lambda _scenario, _rules: _careful(max(BOXES.values())),
            }
        )

    def start(self, scenario: Scenario, rules: str) -> World:
        draw = stream(scenario.seed, f"toy/{scenario.setting}")
        boxes = draw.shuffled(COLOURS)[: BOXES[scenario.setting]]
        prize = draw.choice(boxes)
        return World(scenario, self.rules(rules), boxes, prize if scenario.case == FULL else None)

    def acting(self, world: World) -> str | None:
        return None if world.is_over else ROLES[world.step % len(ROLES)]

    def view(self, world: World, role: str) -> View:
        shut = tuple([box for box in world.boxes if box not in world.opened])
        empty = tuple([box for box in world.opened if box != world.prize])
        return View(role, shut, empty, world.prize if world.prize in world.opened else None)

    def permitted(self, view: View, /) -> tuple[tuple[Any, ...], ...]:
        return _offered(view.role, view.shut)

    def vocabulary(self, role: str) -> tuple[str, ...]:
        more = [f"guess {stated}" for stated in GUESSES] if role == GUESSER else [f"open {box}" for box in COLOURS]
        return ("wait", *more)

    def step(self, world: World, action: object) -> Transition[World, Any]:
        role, taken = self.acting(world), self.admit(action)
        if role is None:
            return Transition(world, taken, AFTER_END, NOTHING)
        after, outcome, paid = world._replace(step=world.step + 1), "waited", 0.0
        match taken:
            case Open(box) if role == OPENER and box in self.view(world, role).shut:
                after, outcome, paid = after._replace(opened=(*world.opened, box)), "opened", -0.05
            case Guess(prize) if role == GUESSER:
                after, outcome = after._replace(guessed=prize), "guessed"
                paid = 0.25 - brier(prize, happened=world.prize is not None)
            case Unparsed() | Open() | Guess():
                outcome, paid = "refused", -0.2
        return Transition(after, taken, frozenset({outcome}), Score(((outcome, paid),) if paid else ()))


TOY = Toy()
