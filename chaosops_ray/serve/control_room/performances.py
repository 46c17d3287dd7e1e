"""Performances: scenarios that are played now, from the start or from a turn of an episode on.

Worlds are values: what was played up to a turn is simulated again from its actions, and then goes on with another
action, other players, or both. A seat that is played on by who played it before is played with all that it has read; a
player that is new to a seat begins with what the seat sees at its first turn after the fork.

Baselines play in this process. Models do not: a performance is given its `Model`, which asks a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from chaosops_ray.plain_text import one_line
from chaosops_ray.reports.film import film
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Episode, Policy, Scenario, Step, Style
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.wire import UNTRAINED, Origin

# Far above any world's episode.
MAX_STEPS = 10_000
_SHOWN = 200


class UnavailableError(InputError):
    """A model that cannot be loaded. Nothing is played in its place."""

    def __init__(self, why: str) -> None:
        super().__init__(f"UNAVAILABLE: {why}")


class BrokenOffError(InputError):
    """A performance that ended before its episode was over."""


class Played(NamedTuple):
    """An episode as far as it was played, and who took each of its steps."""

    environment: AnyEnvironment
    episode: AnyEpisode
    policy: str  # the name of who plays the seats that no colleague plays
    colleagues: Mapping[str, str]  # baselines, by role
    players: tuple[str, ...]
    origins: tuple[Origin, ...]
    style: Style
    model: Mapping[str, Any] = MappingProxyType({})

    @property
    def is_over(self) -> bool:
        """True when nobody has a turn left."""
        return self.environment.acting(self.episode.end) is None

    def film(self) -> dict[str, Any]:
        """Return the film of it."""
        return film(self.environment, self.episode, self.policy, self.style, self.players, self.origins, self.model)

    def before(self, step: int) -> Played:
        """Return it as it was before this step; InputError where it has no such step."""
        if not 0 <= step < len(self.episode.steps):
            last = len(self.episode.steps) - 1
            raise InputError(f"step must be 0-{last}, the steps of this episode, got {step}")
        episode = self.episode._replace(steps=self.episode.steps[:step])
        return self._replace(episode=episode, players=self.players[:step], origins=self.origins[:step])


class Model(Protocol):
    """A model that plays seats of one episode; it lives in another process."""

    name: str  # how films call it
    version: int
    digest: str
    described: Mapping[str, Any]
    style: Style

    def follow(self, action: str, completion: str | None) -> None:
        """Take note of an action, as records spell it; `completion` if this model wrote it before this performance."""
        ...

    def act(self, seconds: float) -> tuple[str, Origin]:
        """Return the action of the seat whose turn it is, as records spell it; BrokenOffError if none comes in time."""
        ...


class Actor(Protocol):
    """A player of one or more seats in a performance."""

    def __call__(self, view: Any, seconds: float, /) -> tuple[Any, Origin]:
        """Choose the action on this view."""
        ...


def beginning(
    environment: AnyEnvironment,
    scenario: Scenario,
    rules: str,
    policy: str,
    colleagues: Mapping[str, str],
    style: Style,
) -> Played:
    """Return the episode of which nothing was played yet."""
    rules = environment.rules(rules)
    episode: AnyEpisode = Episode(scenario, rules, environment.start(scenario, rules), ())
    return Played(environment, episode, policy, seats.checked(environment, colleagues), (), (), style)


class Performance:
    """An episode that goes on from what was played before, turn by turn, until it is over or `cancel` is called.

    `model` plays the seats that no colleague plays; without one, the baseline that `policy` names does.
    """

    def __init__(
        self,
        before: Played,
        policy: str,
        colleagues: Mapping[str, str],
        model: Model | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        environment, episode = before.environment, before.episode
        self._environment = environment
        self._steps: list[Step[Any, Any, Any]] = list(episode.steps)
        self._players, self._origins = list(before.players), list(before.origins)
        self._world = episode.end
        self._model = model
        self._clock = clock
        self._is_cancelled = False
        name = policy if model is None else model.name
        colleagues = seats.checked(environment, colleagues)
        self._before = before._replace(
            policy=name,
            colleagues=colleagues,
            style=before.style if model is None else model.style,
            model={} if model is None else model.described,
        )
        self._actors = self._cast(name, colleagues)
        acted = {step.role for step in episode.steps}
        knows = {step.role for number, step in enumerate(episode.steps) if self._took(number)}
        # Who plays these seats does not know what was read there before.
        self.fresh = tuple([role for role in environment.roles if role in acted - knows])

    def _took(self, number: int) -> bool:
        """Tell if who plays this step's seat now took the step."""
        role = self._before.episode.steps[number].role
        if self._model is not None and role not in self._before.colleagues:
            stamp = (self._model.version, self._model.digest)
            return bool(self._model.digest) and self._origins[number][:2] == stamp
        return self._players[number] == self._before.colleagues.get(role, self._before.policy)

    def _cast(self, name: str, colleagues: Mapping[str, str]) -> dict[str, Actor]:
        """Build the player of each role, with what those remember who played before."""
        environment, episode = self._environment, self._before.episode
        scenario, rules = episode.scenario, episode.rules
        policies = {role: _built(environment, named, scenario, rules) for role, named in colleagues.items()}
        if self._model is None:
            policy = _built(environment, name, scenario, rules)
            policies |= dict.fromkeys(seats.left(environment, colleagues), policy)
        for number, step in enumerate(episode.steps):
            took = self._took(number)
            if self._model is not None:
                completion = self._origins[number].completion if took and step.role not in colleagues else None
                self._model.follow(environment.dump_action(step.action), completion)
            if took and step.role in policies:
                policies[step.role](step.view)  # a baseline may draw, or remember, at each of its turns
        actors: dict[str, Actor] = {role: _Baseline(policy) for role, policy in policies.items()}
        if self._model is not None:
            actors |= dict.fromkeys(seats.left(environment, colleagues), _Asked(environment, self._model))
        return actors

    @property
    def played(self) -> Played:
        """What was played so far."""
        episode = self._before.episode._replace(steps=tuple(self._steps))
        return self._before._replace(episode=episode, players=tuple(self._players), origins=tuple(self._origins))

    def cancel(self) -> None:
        """End it after the turn that is being taken."""
        self._is_cancelled = True

    def steps(self, seconds: float, action: Any = None) -> Iterator[int]:
        """Play it to its end, at most for so long; yield the number of steps after each one.

        `action` is taken on the first turn, whoever's it is.
        """
        environment = self._environment
        until = self._clock() + seconds
        while (role := environment.acting(self._world)) is not None:
            left = until - self._clock()
            if self._is_cancelled:
                raise BrokenOffError("it was stopped before the episode was over")
            if left <= 0 or len(self._steps) >= MAX_STEPS:
                raise BrokenOffError(f"the episode was not over after {seconds:g} seconds; it was stopped")
            view = environment.view(self._world, role)
            player, origin = FORKED, UNTRAINED
            if action is None:
                player = self._before.colleagues.get(role, self._before.policy)
                chosen, origin = self._actors[role](view, left)
            else:
                chosen, action = action, None
            self._world, taken, outcome, score = environment.step(self._world, chosen)
            self._steps.append(Step(role, view, taken, outcome, score, self._world))
            self._players.append(player)
            self._origins.append(origin)
            if self._model is not None:
                self._model.follow(environment.dump_action(taken), None)
            yield len(self._steps)


# Who took the step at which an episode was forked.
FORKED = "you"


class _Baseline:
    """A policy of this process."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def __call__(self, view: Any, _seconds: float, /) -> tuple[Any, Origin]:
        return self._policy(view), UNTRAINED


class _Asked:
    """A model of another process."""

    def __init__(self, environment: AnyEnvironment, model: Model) -> None:
        self._environment = environment
        self._model = model

    def __call__(self, _view: Any, seconds: float, /) -> tuple[Any, Origin]:
        action, origin = self._model.act(seconds)
        return self._environment.load_action(action), origin


def _built(environment: AnyEnvironment, name: str, scenario: Scenario, rules: str) -> Policy:
    if name not in environment.policies:
        listed = ", ".join(environment.policies)
        raise InputError(f"world {environment.name} has no baseline {name[:_SHOWN]!r}; it has {listed}")
    return environment.policies[name](scenario, rules)


def action_of(environment: AnyEnvironment, given: Any) -> Any:
    """Return the action that a person wrote, as compact text or as JSON; InputError where it cannot be read as one."""
    action = environment.parse_action(given) if isinstance(given, str) else environment.action_of(given)
    if isinstance(action, Unparsed):
        shown = one_line(str(given), 80)
        raise InputError(f"{shown!r} cannot be read as an action of world {environment.name}: {action.reason}")
    return action


def permitted(played: Played, step: int) -> dict[str, Any]:
    """Return what the role that acts at this step may do, in compact spelling and kind by kind; null where unknown."""
    environment = played.environment
    played.before(step)  # or an error that says which steps there are
    at = played.episode.steps[step]
    kinds = environment.permitted(at.view)
    return {
        "step": step,
        "role": at.role,
        "taken": environment.format_action(at.action, "compact"),
        "kinds": None
        if kinds is None
        else [[environment.format_action(action, "compact") for action in kind] for kind in kinds],
    }
