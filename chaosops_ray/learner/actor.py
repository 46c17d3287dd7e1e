"""The learner's actor. Its libraries are loaded in the actor's own process, and not where it is called from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray

from chaosops_ray.config import Run
from chaosops_ray.store.versions import check_base
from chaosops_ray.wire import Group, Ids, PolicyVersion, Probe

if TYPE_CHECKING:
    from chaosops_ray.learner.learner import Learner

T = TypeVar("T")


class LearnerHost:
    """A learner in a process of its own; chaosops_ray.learner.learner describes the methods.

    All of its work is done by one thread, in the order in which it was asked for, so that the actor answers pings
    while it works.
    """

    def __init__(
        self, run: Run, name: str, model: Path, base: str, weights: Mapping[str, Mapping[str, float]], folder: Path
    ) -> None:
        check_base(model)  # before the libraries, which take a while
        self._one = ThreadPoolExecutor(1)

        def made() -> Learner:
            module = import_module("chaosops_ray.learner.learner")
            learner: Learner = module.Learner(run, name, model, base, weights, folder)
            return learner

        # The thread that made it also works with it: torch keeps some of its settings by thread.
        self._learner = self._one.submit(made).result()

    async def ping(self) -> None:
        """Answer, as a sign of life."""

    async def _work(self, method: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._one, method, *given)

    async def prepare(self) -> None:
        """Load what only updates need."""
        await self._work(self._learner.prepare)

    async def update(self, groups: Sequence[Group], done: int) -> dict[str, float]:
        """Learn from the groups."""
        return await self._work(self._learner.update, groups, done)

    async def publish(self, number: int) -> PolicyVersion:
        """Write the current policy as a version."""
        return await self._work(self._learner.publish, number)

    async def prune(self, keep: Collection[int]) -> None:
        """Delete all versions but these."""
        await self._work(self._learner.prune, keep)

    async def probe(self, texts: Sequence[Ids]) -> Probe:
        """Score the texts with the current policy."""
        return await self._work(self._learner.probe, texts)

    async def save(self, folder: Path, done: int) -> None:
        """Write all that the next update depends on."""
        await self._work(self._learner.save, folder, done)

    async def restore(self, folder: Path) -> None:
        """Go back to a saved state."""
        await self._work(self._learner.restore, folder)


LearnerActor: Any = ray.remote(LearnerHost)
