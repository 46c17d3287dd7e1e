"""The learner's actor. Its libraries are loaded in the actor's own process, and not where it is called from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import ray

from chaosops_ray.config import Run
from chaosops_ray.learner.checkpointing import Estimate
from chaosops_ray.process_environment import set_for_a_gpu
from chaosops_ray.spans import Recorder, Span, Work
from chaosops_ray.telemetry.machine import Usage, usage
from chaosops_ray.transfer import BaseSource, as_buffers
from chaosops_ray.wire import Files, Group, Ids, Probe

if TYPE_CHECKING:
    from chaosops_ray.learner.learner import Learner

T = TypeVar("T")
Spans: TypeAlias = tuple[Span, ...]


class LearnerHost:
    """A learner in a process of its own; chaosops_ray.learner.learner describes the methods.

    All of its work is done by one thread, in the order in which it was asked for, so that the actor answers pings
    while it works.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        base: BaseSource,
        weights: Mapping[str, Mapping[str, float]],
        estimate: Estimate | None = None,
    ) -> None:
        model = base.folder()  # before the libraries, which take a while
        if run.resources.learner_gpus:
            set_for_a_gpu(deterministic=run.resources.deterministic)
        self._one = ThreadPoolExecutor(1)
        self._recorder = Recorder()

        def made() -> Learner:
            module = import_module("chaosops_ray.learner.learner")
            learner: Learner = module.Learner(run, name, model, base.digest, weights, estimate)
            return learner

        # The thread that made it also works with it: torch keeps some of its settings by thread.
        self._learner = self._one.submit(made).result()

    async def ping(self) -> None:
        """Answer, as a sign of life."""

    async def usage(self) -> Usage:
        """Return what this process takes of its machine."""
        return await asyncio.to_thread(usage, ray.get_gpu_ids())

    async def _work(self, name: str, method: Callable[..., T], *given: Any) -> T:
        """Let the thread do this; the name is that of its span."""
        return (await self._told(name, method, *given))[0]

    async def _told(self, name: str, method: Callable[..., T], *given: Any, tell: bool = False) -> tuple[T, Spans]:
        """Let the thread do this, and with `tell` return all spans up to then as well."""

        def work() -> tuple[T, Spans]:
            with self._recorder.during(name):
                found = method(*given)
            return found, self._recorder.take() if tell else ()

        return await asyncio.get_running_loop().run_in_executor(self._one, work)

    async def prepare(self) -> None:
        """Load what only updates need."""
        await self._work("prepare", self._learner.prepare)

    async def chosen(self) -> dict[str, str]:
        """Return what the learner decided about its way of computing, and why."""
        return self._learner.chosen()

    async def update(self, groups: Sequence[Group], done: int) -> dict[str, float]:
        """Learn from the groups."""
        return await self._work("update", self._learner.update, groups, done)

    async def adapter(self) -> Files:
        """Return the files of the current policy's adapter, as buffers that Ray does not copy again on their way."""
        return as_buffers(await self._work("export", self._learner.adapter))

    async def probe(self, texts: Sequence[Ids]) -> tuple[Probe, Work]:
        """Score the texts with the current policy; return also what the learner did since the last call."""
        taken = time.monotonic()
        found, spans = await self._told("probe", self._learner.probe, texts, tell=True)
        return found, Work(spans, taken, time.monotonic())

    async def save(self, done: int) -> Files:
        """Return all that the next update depends on."""
        return await self._work("save", self._learner.save, done)

    async def restore(self, saved: Files) -> None:
        """Go back to a saved state."""
        await self._work("restore", self._learner.restore, saved)


LearnerActor: Any = ray.remote(LearnerHost)
