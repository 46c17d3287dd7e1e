"""Playing an episode: by policies, turn by turn by a caller, and a recorded one again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Generic, TypeVar

from chaosops_ray.sim.contract import Environment, Episode, Policy, Scenario, Step
from chaosops_ray.sim.errors import InputError

W = TypeVar("W")
V = TypeVar("V")
A = TypeVar("A")


def turns(environment: Environment[W, V, A], world: W, choose: Policy) -> Iterator[Step[W, V, A]]:
    """Yield the steps from this world to its end."""
    while (role := environment.acting(world)) is not None:
        view = environment.view(world, role)
        world, action, outcome, score = environment.step(world, choose(view))
        yield Step(role, view, action, outcome, score, world)


def play(
    environment: Environment[W, V, A],
    scenario: Scenario,
    rules: str,
    choose: Policy,
    watch: Callable[[Episode[W, V, A]], None] | None = None,
) -> Episode[W, V, A]:
    """Play the scenario to its end; `watch` is shown the episode before the first step and after each one."""
    rules = environment.rules(rules)
    start = environment.start(scenario, rules)
    steps: list[Step[W, V, A]] = []
    if watch is not None:
        watch(Episode(scenario, rules, start, ()))
    for step in turns(environment, start, choose):
        steps.append(step)
        if watch is not None:
            watch(Episode(scenario, rules, start, tuple(steps)))
    return Episode(scenario, rules, start, tuple(steps))


def replay(environment: Environment[W, V, A], scenario: Scenario, rules: str, actions: Sequence[A]) -> Episode[W, V, A]:
    """Return the episode that these actions make; it ends with them, or earlier if the episode is over."""
    rules = environment.rules(rules)
    start = environment.start(scenario, rules)
    script = iter(actions)
    steps = islice(turns(environment, start, lambda _: next(script)), len(actions))
    return Episode(scenario, rules, start, tuple(steps))


def beginnings(episode: Episode[W, V, A]) -> Iterator[Episode[W, V, A]]:
    """Yield the episode as it was before its first step and after each one."""
    for count in range(len(episode.steps) + 1):
        yield episode._replace(steps=episode.steps[:count])


class RunningEpisode(Generic[W, V, A]):
    """An episode that a caller plays turn by turn. The colleagues, by role, take their turns as soon as they come."""

    def __init__(
        self,
        environment: Environment[W, V, A],
        scenario: Scenario,
        rules: str,
        colleagues: Mapping[str, Policy] = MappingProxyType({}),
    ) -> None:
        self.environment = environment
        self.scenario = scenario
        self.rules = environment.rules(rules)
        self.start = self.world = environment.start(scenario, self.rules)
        self.steps: list[Step[W, V, A]] = []
        self._colleagues = colleagues
        self._play_colleagues()

    @property
    def acting(self) -> str | None:
        """The caller's role whose turn it is; None when the episode is over."""
        return self.environment.acting(self.world)

    def take(self, view: V, action: object) -> None:
        """Take the acting role's action, which it chose on this view; then the colleagues act until its next turn."""
        self._step(view, action)
        self._play_colleagues()

    @property
    def episode(self) -> Episode[W, V, A]:
        """The episode so far."""
        return Episode(self.scenario, self.rules, self.start, tuple(self.steps))

    def _play_colleagues(self) -> None:
        while (role := self.acting) is not None and role in self._colleagues:
            view = self.environment.view(self.world, role)
            self._step(view, self._colleagues[role](view))

    def _step(self, view: V, action: object) -> None:
        role = self.acting
        if role is None:
            raise InputError("the episode is over; start another one")
        self.world, taken, outcome, score = self.environment.step(self.world, action)
        self.steps.append(Step(role, view, taken, outcome, score, self.world))
