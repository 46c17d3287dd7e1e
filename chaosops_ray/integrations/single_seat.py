"""A Gymnasium environment of one seat; baselines play the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from chaosops_ray.integrations import symbolic
from chaosops_ray.integrations.game import Game
from chaosops_ray.integrations.spaces import of_features, of_text
from chaosops_ray.sim import environment_named, seats
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import unknown

Observation: TypeAlias = NDArray[np.float32] | str
OBSERVATIONS = ("symbols", "text")
_MOST_EPISODES = 2**62


class SingleSeat(gymnasium.Env[Observation, np.int64]):
    """One role of a world: the view as a vector or as text, and an action that is a number of its vocabulary.

    `info["action_mask"]` tells which actions are permitted now. Each reset draws a scenario with a seed that no report
    uses; `options={"scenario": ID}` begins the one of that id.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        world: str | AnyEnvironment = "incident",
        role: str | None = None,
        *,
        colleagues: str | Mapping[str, str] = "",
        rules: str | None = None,
        selection: str | None = None,
        tiers: Sequence[str] = (),
        pay: str = "return",
        observation: Literal["symbols", "text"] = "symbols",
        size: int = symbolic.SIZE,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment of a role, by default the first.

        `colleagues` is one baseline, by default the world's usual one, or one for each role.
        """
        environment = environment_named(world) if isinstance(world, str) else world
        self.role = environment.roles[0] if role is None else role
        beside = seats.around(environment, self.role, colleagues or environment.usual)
        if observation not in OBSERVATIONS:
            raise unknown("observation", observation, OBSERVATIONS)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise unknown("render_mode", str(render_mode), self.metadata["render_modes"])
        self.game = Game(
            environment, colleagues=beside, rules=rules, selection=selection, tiers=tiers, pay=pay, size=size
        )
        self._is_text = observation == "text"
        self.render_mode = render_mode
        self.observation_space = of_text() if self._is_text else of_features(size)
        self.action_space = spaces.Discrete(len(self.game.vocabularies[self.role]))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; its seed decides which, and the resets after it follow from the same seed."""
        super().reset(seed=seed)
        number = int(self.np_random.integers(_MOST_EPISODES))
        self.game.begin(number, (options or {}).get("scenario"))
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take an action; the others play on until it is this seat's turn again, or the episode is over."""
        earned = self.game.act(action)
        reward = self.game.paid(self.role, earned)
        info = self._info() | {"components": dict(earned.components)}
        return self._observation(), reward, self.game.session.is_over, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are permitted now, as the maskable algorithms of SB3-contrib ask for them."""
        return self.game.mask(self.role).astype(np.bool_)

    def render(self) -> str | None:  # type: ignore[override]
        """Return all that the seat sees now, as text."""
        if self.render_mode is None:
            return None
        session = self.game.session
        return self.game.environment.render(self.game.environment.view(session.running.world, self.role), None, "full")

    def _observation(self) -> Observation:
        return self.game.session.text if self._is_text else self.game.features(self.role)

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.game.mask(self.role)}


# For `gymnasium.make(SPEC, role=…)`; no name is registered when this module is imported.
SPEC = EnvSpec("chaosops/SingleSeat-v0", entry_point=f"{__name__}:{SingleSeat.__name__}")
