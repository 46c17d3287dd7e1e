"""Playing an episode, and playing a recorded one again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from chaosops_ray.sim.contract import Environment, Episode, Policy, Scenario, Step

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
