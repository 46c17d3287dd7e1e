"""A world as an OpenEnv environment: one episode at a time, in which a caller plays one seat or several.

The others are played by policies that the caller names at reset: baselines, or policies that the server was given. The
rules are the server's. Everything that a caller gets wrong is an `InputError`: one line that says what and the remedy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata

from chaosops_ray import __version__
from chaosops_ray.agents.forms import tool_schema
from chaosops_ray.agents.session import Earned, Session
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.models import SeatAction, SeatObservation, SeatState
from chaosops_ray.serve.rubrics import reward_rubric
from chaosops_ray.serve.tasks import SHOWN, Catalog, Task, checked_seed
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import STYLES, AnyEnvironment, PolicyFactory
from chaosops_ray.sim.errors import InputError, unknown

CALLER = "caller"
_OPTIONS: dict[str, tuple[type, ...]] = {
    "role": (str,),
    "colleagues": (str, dict),
    "task_id": (str,),
    "split": (str,),
    "index": (int,),
    "difficulty": (str,),
    "scenario_id": (str,),
    "style": (str,),
}
_MAX_EPISODE_ID = 255
_SHOWN = 80


class SeatEnvironment(Environment[SeatAction, SeatObservation, SeatState]):
    """One caller's session: episodes of a world, one after another."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(
        self,
        catalog: Catalog,
        rules: str,
        policies: Mapping[str, PolicyFactory],
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        super().__init__(rubric=reward_rubric(catalog.environment.components))
        self._catalog = catalog
        self._world: AnyEnvironment = catalog.environment
        self._rules = rules
        self._policies = policies
        self._limits = limits
        # Two sockets may share a session; their messages take turns.
        self._turn = asyncio.Lock()
        self._is_closed = False
        self._resets = self._steps = 0
        self._session: Session | None = None
        self._state = SeatState(rules=rules)
        self._met: set[str] = set()  # the seats that have had their first observation

    # -- OpenEnv's methods --------------------------------------------------------------------------------------------

    async def reset_async(self, /, seed: Any = None, episode_id: Any = None, **options: Any) -> SeatObservation:
        """Begin an episode, in a thread: a colleague may be a model that takes its time."""
        async with self._turn:
            return await asyncio.to_thread(self.reset, seed, episode_id, **{"options": options})

    async def step_async(self, /, action: SeatAction, timeout_s: Any = None, **options: Any) -> SeatObservation:
        """Act, in a thread."""
        async with self._turn:
            return await asyncio.to_thread(self.step, action, timeout_s, **options)
