"""An episode after another of one world, played by numbers: what the environments of other libraries have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chaosops_ray.agents.session import Earned, NoTurnError, Session
from chaosops_ray.integrations import symbolic
from chaosops_ray.integrations.scenarios import Scenarios
from chaosops_ray.sim import environment_named, seats
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import stream

# What a seat is paid: all that the episode earns, or the stream of reward that its world pays it.
PAYS = ("return", "stream")
_MOST_DRAWS = 100


class Game:
    """The seats of one episode that have no colleague, which the caller plays."""

    def __init__(
        self,
        world: str | AnyEnvironment,
        *,
        colleagues: Mapping[str, str] | None = None,
        rules: str | None = None,
        selection: str | None = None,
        tiers: Sequence[str] = (),
        pay: str = "return",
        size: int = symbolic.SIZE,
    ) -> None:
        if pay not in PAYS:
            raise unknown("pay", pay, PAYS)
        self.environment = environment_named(world) if isinstance(world, str) else world
        self.rules = self.environment.rules(self.environment.rule_sets[0] if rules is None else rules)
        self.colleagues = seats.checked(self.environment, colleagues or {})
        self.roles = seats.left(self.environment, self.colleagues)
        self.vocabularies = {role: symbolic.vocabulary(self.environment, role) for role in self.roles}
        self.size = size
        self._scenarios = Scenarios(self.environment, selection, tiers)
        self._pay = pay
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The episode that is played now."""
        if self._session is None:
            raise InputError("no episode has begun; call reset first")
        return self._session

    def begin(self, number: int, scenario: str | None = None) -> None:
        """Begin the episode of this number, or of a scenario that is named; of those drawn, one with a turn to take."""
        if scenario is not None:
            self._session = self._opened(self.environment.scenario(scenario))
            return
        draw = stream(number, "integrations/game")
        for _ in range(_MOST_DRAWS):
            try:
                self._session = self._opened(self._scenarios.drawn(draw))
            except NoTurnError:
                continue  # colleagues may end an episode before its last role has a turn
            return
        raise InputError(f"colleagues leave no turn to {', '.join(self.roles)} in {_MOST_DRAWS} scenarios; name others")

    def _opened(self, scenario: Scenario) -> Session:
        colleagues = seats.built(self.environment, self.colleagues, scenario, self.rules)
        return Session(self.environment, scenario, self.rules, colleagues)

    def features(self, role: str) -> NDArray[np.float32]:
        """Return what a role sees now."""
        return symbolic.features(self.environment, self._view(role), self.size)

    def mask(self, role: str) -> NDArray[np.int8]:
        """Return which actions of a role are permitted now; none when the episode is over."""
        if self.session.is_over:
            return np.zeros(len(self.vocabularies[role]), np.int8)
        return symbolic.mask(self.environment, self._view(role))

    def act(self, number: Any) -> Earned:
        """Take an action in the seat whose turn it is."""
        if self.session.role is None:
            raise InputError("the episode is over; call reset first")
        return self.session.act(symbolic.action(self.environment, self.session.role, number))

    def paid(self, role: str, earned: Earned) -> float:
        """Return what a role is paid of what the episode has earned."""
        return float(earned.reward if self._pay == "return" else earned.streams[self.environment.pay[role]])

    def _view(self, role: str) -> Any:
        return self.environment.view(self.session.running.world, role)
