"""One episode in which a caller plays one or more seats, and policies play the others.

Every way into the worlds from outside (servers, wrappers for other libraries) is thin code around a session. It deals
with what they share: whose turn it is, what that seat is told, and what its action earned.

>>> from chaosops_ray.sim import environment_named, seats
>>> incident = environment_named("incident")
>>> scenario = incident.scenario("incident/autoscaler_cost_cut/easy/0")
>>> colleagues = seats.built(incident, {"sre": "oracle", "dev": "oracle", "manager": "oracle"}, scenario, "strict")
>>> session = Session(incident, scenario, "strict", colleagues)
>>> session.role
'oversight'
>>> earned = session.act(incident.call("flag_rogue", {"agent": "autoscaler"}))
>>> earned.reward == sum(earned.components.values())
True
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from chaosops_ray.agents.seat import Seat
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode, Exchange, Policy, Scenario, Style
from chaosops_ray.sim.episode import RunningEpisode
from chaosops_ray.sim.errors import InputError

OVER = "The episode is over."


class NoTurnError(InputError):
    """An episode that the colleagues played to its end before the caller had a turn."""


class Earned(NamedTuple):
    """What the episode earned since a caller's turn before: the reward is the sum of its components.

    `streams` is the same reward as the world pays it to its seats, by stream. The turns before a caller's first one
    count into its first reward, so that all rewards of an episode add up to its return.
    """

    reward: float
    components: Mapping[str, float]
    streams: Mapping[str, float]


class Session:
    """An episode in progress. `colleagues` play their seats by themselves; the caller plays those that are left."""

    def __init__(
        self,
        environment: AnyEnvironment,
        scenario: Scenario,
        rules: str,
        colleagues: Mapping[str, Policy] = MappingProxyType({}),
        *,
        style: Style = "full",
    ) -> None:
        self.environment = environment
        self.style: Style = style
        self.running: RunningEpisode[Any, Any, Any] = RunningEpisode(environment, scenario, rules, colleagues)
        self.role: str | None = None  # whose turn it is; None at the end
        self.view: Any = None  # what this seat sees, and at the end what the last one sees
        self.text = ""  # what this seat is told: all of its view on its first turn, then what is new
        self._seats: dict[str, Seat] = {}
        self._counted = 0
        self._observe()
        if self.view is None:
            # A scenario's id names its answer, and callers may be anybody.
            raise NoTurnError(
                "no turn is left to the caller: colleagues played the whole episode; name other colleagues"
            )

    @property
    def is_over(self) -> bool:
        """True when nobody has a turn left."""
        return self.role is None

    @property
    def system_prompt(self) -> str:
        """The system prompt of the seat whose turn it is."""
        return self._seat().system_prompt

    @property
    def opening(self) -> tuple[Exchange, ...]:
        """The examples of answers that follow this system prompt; none in compact style."""
        return self._seat().opening

    @property
    def episode(self) -> AnyEpisode:
        """The episode so far, as it is scored and recorded."""
        return self.running.episode

    def act(self, action: object) -> Earned:
        """Take the action of the seat whose turn it is; then colleagues act, until the caller has a turn again."""
        if self.role is None:
            raise InputError("the episode is over; start another one")
        self.running.take(self.view, action)
        earned = self._earned()
        self._observe()
        return earned

    def say(self, completion: str) -> Earned:
        """Take the action in a completion, as a language model writes it."""
        return self.act(self._seat().action(completion))

    def _observe(self) -> None:
        last, self.role = self.role, self.running.acting
        if self.role is not None:
            self.view = self.environment.view(self.running.world, self.role)
            self.text = self._seat().read(self.view)
        elif last is not None:
            self.view = self.environment.view(self.running.world, last)
            self.text = OVER

    def _seat(self) -> Seat:
        if self.role is None:
            raise InputError("the episode is over; start another one")
        if self.role not in self._seats:
            self._seats[self.role] = Seat(self.environment, self.role, self.running.rules, self.style)
        return self._seats[self.role]

    def _earned(self) -> Earned:
        components: dict[str, float] = {}
        streams: dict[str, float] = {}
        for step in self.running.steps[self._counted :]:
            for name, value in step.score.components:
                components[name] = components.get(name, 0.0) + value
            for name, value in self.environment.streams(step.score).items():
                streams[name] = streams.get(name, 0.0) + value
        self._counted = len(self.running.steps)
        return Earned(sum(components.values()), components, streams)
