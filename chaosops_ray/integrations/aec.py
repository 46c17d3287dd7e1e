"""A PettingZoo environment of all roles that take turns, and its parallel form, in which a round is one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv

from chaosops_ray.integrations import symbolic
from chaosops_ray.integrations.game import Game
from chaosops_ray.integrations.spaces import of_features
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import stream


class Turns(AECEnv[str, NDArray[np.float32], int]):
    """All roles of a world that have no colleague, in turn; each has its own list of actions.

    `infos[role]["action_mask"]` tells which actions are permitted now. Each reset draws a scenario with a seed that no
    report uses; a reset without a seed draws the next one, from seed 0 on if there was none before.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "chaosops_v0", "render_modes": ["ansi"], "is_parallelizable": False}

    def __init__(
        self,
        world: str | AnyEnvironment = "incident",
        *,
        colleagues: Mapping[str, str] | None = None,
        rules: str | None = None,
        selection: str | None = None,
        tiers: Sequence[str] = (),
        pay: str = "return",
        size: int = symbolic.SIZE,
        max_cycles: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment; after `max_cycles` turns of each role an episode is cut off."""
        super().__init__()
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise unknown("render_mode", str(render_mode), self.metadata["render_modes"])
        if max_cycles is not None and max_cycles < 1:
            raise InputError(f"max_cycles must be at least 1, got {max_cycles}")
        self.game = Game(
            world, colleagues=colleagues, rules=rules, selection=selection, tiers=tiers, pay=pay, size=size
        )
        self.max_cycles = max_cycles
        self.render_mode = render_mode
        self.possible_agents = list(self.game.roles)
        self.agents: list[str] = []
        self.observation_spaces = {role: of_features(size) for role in self.game.roles}
        # What a space samples without a seed is the same each time, too.
        self.action_spaces: dict[str, spaces.Discrete[Any]] = {
            role: spaces.Discrete(len(listed), seed=0) for role, listed in self.game.vocabularies.items()
        }
        self._seed = 0
        self._resets = 0
        self._taken = dict.fromkeys(self.possible_agents, 0)

    def observation_space(self, agent: str) -> spaces.Box:
        """Return the space of a role's vectors."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete[Any]:
        """Return the space of a role's actions."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode; `options={"scenario": ID}` begins the one of that id."""
        if seed is not None:
            self._seed, self._resets = seed, 0
        number = stream(self._seed, "integrations/reset", self._resets).bits()
        self._resets += 1
        self.game.begin(number, (options or {}).get("scenario"))
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self._taken = dict.fromkeys(self.agents, 0)
        self._look()

    def step(self, action: int | None) -> None:
        """Take the action of the role whose turn it is; None when this role's episode is over."""
        if not self.agents:
            raise InputError("the episode is over; call reset first")
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        earned = self.game.act(action)
        self._taken[agent] += 1
        self.rewards = {role: self.game.paid(role, earned) for role in self.agents}
        if self.game.session.is_over:
            self.terminations = dict.fromkeys(self.agents, True)
        elif self.max_cycles is not None and min(self._taken.values()) >= self.max_cycles:
            self.truncations = dict.fromkeys(self.agents, True)
        self._accumulate_rewards()
        self._look()

    def observe(self, agent: str) -> NDArray[np.float32]:
        """Return what a role sees now, its turn or not."""
        return self.game.features(agent)

    def render(self) -> str | None:
        """Return all that the role whose turn it is sees now, as text."""
        if self.render_mode is None:
            return None
        environment, world = self.game.environment, self.game.session.running.world
        return environment.render(environment.view(world, self.agent_selection), None, "full")

    def close(self) -> None:
        """Do nothing: there is nothing open."""

    def _look(self) -> None:
        """Note whose turn it is, and what each role may do."""
        self.infos = {role: {"action_mask": self.game.mask(role)} for role in self.agents}
        # At the end, each role is told so, in turn order.
        self.agent_selection = self.game.session.role or self.agents[0]


class Rounds(ParallelEnv[str, NDArray[np.float32], int]):
    """The parallel form of `Turns`: all roles choose by what they saw at the start of a round, then act in turn.

    An episode that ends in the middle of a round leaves the actions of the roles after it unused.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "chaosops_v0", "render_modes": ["ansi"]}

    def __init__(self, **settings: Any) -> None:
        """Make the environment with the settings of `Turns`."""
        self._turns = Turns(**settings)
        self.render_mode = self._turns.render_mode
        self.possible_agents = self._turns.possible_agents
        self.agents: list[str] = []
        self.observation_spaces = self._turns.observation_spaces
        self.action_spaces = self._turns.action_spaces

    def observation_space(self, agent: str) -> spaces.Box:
        """Return the space of a role's vectors."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete[Any]:
        """Return the space of a role's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
        """Begin an episode."""
        self._turns.reset(seed, options)
        self.agents = list(self.possible_agents)
        return self._observations(), dict(self._turns.infos)

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, NDArray[np.float32]],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Play a round."""
        turns, paid = self._turns, dict.fromkeys(self.agents, 0.0)
        for _ in self.agents:
            if any(turns.terminations.values()) or any(turns.truncations.values()):
                break
            turns.step(actions[turns.agent_selection])
            paid = {role: before + turns.rewards[role] for role, before in paid.items()}
        observed = self._observations(), paid, dict(turns.terminations), dict(turns.truncations), dict(turns.infos)
        if any(turns.terminations.values()) or any(turns.truncations.values()):
            self.agents = []
        return observed

    def render(self) -> str | None:
        """Return all that the role whose turn it is sees now, as text."""
        return self._turns.render()

    def close(self) -> None:
        """Do nothing: there is nothing open."""

    def _observations(self) -> dict[str, NDArray[np.float32]]:
        return {role: self._turns.observe(role) for role in self.agents}


def env(**settings: Any) -> Turns:
    """Make the environment in which roles take turns, as PettingZoo's modules name it."""
    return Turns(**settings)


def parallel_env(**settings: Any) -> Rounds:
    """Make the environment in which a round is one step, as PettingZoo's modules name it."""
    return Rounds(**settings)
