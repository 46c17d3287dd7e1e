"""One seat of a world for a learner, where baselines play the other seats and a seed chooses the scenario.

Libraries that train one model on one conversation take the worlds in this form. A seed names nothing of the
scenario that it draws, so it can stand in a data set that a model may see.

>>> seat = seat_spec("incident", "oversight", colleagues="heuristic", tiers=["easy"])
>>> session = seat.session(seat.scenario(7))
>>> session.role
'oversight'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from chaosops_ray.agents.session import Session
from chaosops_ray.sim import environment_named, seats
from chaosops_ray.sim.cases import cases, drawn
from chaosops_ray.sim.contract import AnyEnvironment, Scenario, Style
from chaosops_ray.sim.episode import RunningEpisode
from chaosops_ray.sim.errors import InputError

# Neither reports nor this project's own training draw seeds from here to 100,000.
FIRST_SEED = 50_000
# How many seeds are tried for each one that is asked for, where colleagues may end an episode before the seat's turn.
_TRIED = 100


class SeatSpec(NamedTuple):
    """A role of a world: the rules, the baselines that play the other roles, and the cases that it meets."""

    environment: AnyEnvironment
    role: str
    rules: str
    colleagues: Mapping[str, str]
    cases: tuple[Scenario, ...]
    style: Style

    def scenario(self, seed: int) -> Scenario:
        """Return the scenario that this seed draws."""
        return drawn(self.environment, self.cases, seed)

    def session(self, scenario: Scenario) -> Session:
        """Begin an episode; the caller plays this seat."""
        policies = seats.built(self.environment, self.colleagues, scenario, self.rules)
        return Session(self.environment, scenario, self.rules, policies, style=self.style)

    def seeds(self, count: int, first: int = FIRST_SEED) -> list[int]:
        """Return the first seeds, from `first` on, whose scenarios leave this seat a turn."""
        tried = range(first, first + count * _TRIED)
        found = list(islice((seed for seed in tried if self._has_a_turn(self.scenario(seed))), count))
        if len(found) < count:
            raise InputError(
                f"{self.role} has a turn in {len(found)} of {len(tried)} scenarios; choose other tiers or colleagues"
            )
        return found

    def _has_a_turn(self, scenario: Scenario) -> bool:
        policies = seats.built(self.environment, self.colleagues, scenario, self.rules)
        return RunningEpisode(self.environment, scenario, self.rules, policies).acting is not None


def seat_spec(
    world: str | AnyEnvironment,
    role: str = "",
    *,
    rules: str = "",
    colleagues: str = "",
    tiers: Sequence[str] = (),
    selection: str = "",
    style: Style = "full",
) -> SeatSpec:
    """Describe a seat; a world with one role needs not name it.

    `colleagues` is the baseline that plays every other seat, or one for each, such as `sre=oracle,dev=heuristic,…`.
    Without `colleagues`, `rules`, `tiers` or `selection`, these are the world's usual baseline, its default rules, all
    tiers, and the set that runs train on.
    """
    environment = environment_named(world) if isinstance(world, str) else world
    if not role and len(environment.roles) == 1:
        role = environment.roles[0]
    colleagues = colleagues or environment.usual
    beside = seats.around(environment, role, seats.parse(environment, colleagues) if "=" in colleagues else colleagues)
    met = cases(environment, selection or environment.trained_on, tiers)
    return SeatSpec(environment, role, environment.rules(rules or environment.rule_sets[0]), beside, met, style)


def leave(session: Session) -> None:
    """End an episode that its caller no longer plays: the seats that it played say nothing until it is over."""
    while not session.is_over:
        session.say("")
