"""An RLlib environment of all roles that take turns, on the new API stack: views as vectors beside masks of actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from chaosops_ray.agents.session import Earned
from chaosops_ray.integrations.game import Game
from chaosops_ray.integrations.spaces import of_features, of_mask
from chaosops_ray.sim.rng import stream

OBSERVATIONS, ACTION_MASK = "observations", "action_mask"
_ALL = "__all__"


class Table(MultiAgentEnv):
    """The roles of a world that have no colleague, each an agent by its own name.

    The settings are those of `integrations.game.Game`, and: `world`; `scale`, by which rewards are multiplied; and
    `weights`, by role the weights of its streams of reward, for roles whose pay is another than their world's.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Make the environment."""
        super().__init__()
        # RLlib seeds the environments of a process one after the other, and the next process begins one seed further.
        self._process = int(getattr(settings, "worker_index", 0))
        given = dict(settings)
        self._scale = float(given.pop("scale", 1.0))
        self._weights: Mapping[str, Mapping[str, float]] = given.pop("weights", {})
        self.game = Game(given.pop("world", "incident"), **given)
        self.agents = self.possible_agents = list(self.game.roles)
        features = of_features(self.game.size)
        self.observation_spaces = {
            role: spaces.Dict({OBSERVATIONS: features, ACTION_MASK: of_mask(len(listed))})
            for role, listed in self.game.vocabularies.items()
        }
        self.action_spaces: dict[str, spaces.Discrete[Any]] = {
            role: spaces.Discrete(len(listed)) for role, listed in self.game.vocabularies.items()
        }
        self._seed = 0
        self._resets = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; `options={"scenario": ID}` begins the one of that id."""
        super().reset(seed=seed)
        if seed is not None:
            self._seed, self._resets = seed, 0
        number = stream(self._seed, f"integrations/reset/{self._process}", self._resets).bits()
        self._resets += 1
        self.game.begin(number, (options or {}).get("scenario"))
        return self._observed(), {}

    def step(
        self, action_dict: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Take the action of the role whose turn it is."""
        earned = self.game.act(action_dict[str(self.game.session.role)])
        rewards = {one: self._scale * self._paid(one, earned) for one in self.game.roles}
        return self._observed(), rewards, {_ALL: self.game.session.is_over}, {_ALL: False}, {}

    def _paid(self, role: str, earned: Earned) -> float:
        weights = self._weights.get(role)
        if weights is None:
            return self.game.paid(role, earned)
        return sum([weight * earned.streams[name] for name, weight in weights.items()])

    def _observed(self) -> dict[str, Any]:
        """Return what the role whose turn it is sees, or at the end every role, which RLlib needs then."""
        acting = self.game.session.role
        return {
            role: {OBSERVATIONS: self.game.features(role), ACTION_MASK: self.game.mask(role)}
            for role in (self.game.roles if acting is None else (acting,))
        }
