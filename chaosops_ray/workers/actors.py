"""The actors that play: shards, which host episodes, and sampler hosts, which hold an engine each."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeAlias

import ray

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.config import Run
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.spans import Recorder, Span, Work
from chaosops_ray.store import versions
from chaosops_ray.store.scratch import scratch
from chaosops_ray.telemetry.machine import Usage, usage
from chaosops_ray.transfer import BaseSource
from chaosops_ray.wire import (
    Decoding,
    Files,
    Group,
    Ids,
    Played,
    PolicyVersion,
    Sample,
    SampleRequest,
    Structured,
    Task,
)
from chaosops_ray.workers.rollout import play_group
from chaosops_ray.workers.samplers import build
from chaosops_ray.workers.samplers.sampler import ImpossibleError, Sampler, SamplerError, check_samples

# A cohort's name and its requests.
Batch: TypeAlias = tuple[str, Sequence[SampleRequest]]
# A cohort's completions, and how many seconds before the answer left the engine had begun with them.
Answer: TypeAlias = tuple[list[Sample], float]


class SamplerHost:
    """An engine in a process of its own; the methods are those of `Sampler`."""

    def __init__(self, run: Run, base: BaseSource) -> None:
        model = base.folder()  # before the libraries, which take a while
        self._sampler: Sampler = build.build(run.sampler, build.settings(run, model))
        self._tokens = 0  # written so far
        self._recorder = Recorder()

    async def adopt(self, version: PolicyVersion, files: Files) -> int:
        """Load a version from its files, which the engine checks; return how many modules it is bound to."""
        with ExitStack() as stack:
            stack.enter_context(self._recorder.during("load"))
            try:
                folder = stack.enter_context(scratch())
                here = await asyncio.to_thread(versions.unpacked, version, files, folder)
            except OSError as error:
                remedy = "make room or write permission there, or set TMPDIR on this node"
                raise SamplerError(f"cannot write {version.name} for the engine ({error}); {remedy}") from error
            return await self._sampler.adopt(here)

    async def retire(self, number: int) -> None:
        """Forget a version."""
        await self._sampler.retire(number)

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """Return the log-probability of every token but the first."""
        with self._recorder.during("proof"):
            return await self._sampler.score(texts, number)

    async def sample_batches(self, batches: Sequence[Batch], decoding: Decoding, number: int) -> list[Answer]:
        """Return completions for several cohorts. Cohorts that share a message never share a batch of the engine."""

        async def answer(cohort: str, requests: Sequence[SampleRequest]) -> tuple[list[Sample], float]:
            began = time.monotonic()
            with self._recorder.during("sample"):
                return await self._sampler.sample(cohort, requests, decoding, number), began

        found = await asyncio.gather(*[answer(cohort, requests) for cohort, requests in batches])
        self._tokens += sum([len(sample.tokens) for samples, _ in found for sample in samples])
        now = time.monotonic()
        return [(samples, now - began) for samples, began in found]

    async def release(self) -> None:
        """Give memory back until the next `adopt`."""
        await self._sampler.release()

    async def work(self) -> Work:
        """Return what the sampler did since it was last asked."""
        now = time.monotonic()
        return Work(self._recorder.take(), now, now)

    async def usage(self) -> Usage:
        """Return what the engine takes of its machine, and the tokens that it has written."""
        return await asyncio.to_thread(usage, ray.get_gpu_ids(), self._tokens)

    async def ping(self) -> None:
        """Let the engine compute something: it may be dead within a living actor."""
        await self._sampler.score([(0, 1)], None)


class Shard:
    """Host of episodes. It has no randomness and no state that outlives a task: any shard may play any task."""

    def __init__(
        self,
        environment: AnyEnvironment,
        style: Style,
        codec: Codec,
        vocabulary: int,
        decoding: Decoding,
        *,
        structured: Structured,
    ) -> None:
        self._environment = environment
        self._style = style
        self._codec = codec
        self._vocabulary = vocabulary
        self._decoding = decoding
        self._structured = structured
        # By sampler, version and decoding: the batches of the next message, and the answer to all of them.
        self._leaving: dict[
            tuple[str, int, Decoding], tuple[list[Batch], asyncio.Task[tuple[list[Answer], float]]]
        ] = {}

    async def play(self, task: Task, name: str, host: Any, version: PolicyVersion) -> Group:
        """Play all episodes of the task by this version, on the sampler host of this name.

        Nothing that the sampler answers is taken on trust.
        """
        decoding = self._decoding._replace(temperature=0.0) if task.greedy else self._decoding
        key = (name, version.number, decoding)
        taken = time.monotonic()
        asked = 0  # requests
        waited = 0.0

        async def send() -> tuple[list[Answer], float]:
            # Groups in step ask within one turn of the event loop, and share the message.
            await asyncio.sleep(0)
            batches, _ = self._leaving.pop(key)
            sent = time.monotonic()
            found: list[Answer] = await host.sample_batches.remote(batches, decoding, version.number)
            took = time.monotonic() - sent
            if not isinstance(found, list) or len(found) != len(batches):
                raise ImpossibleError(f"{name} answered {len(batches)} batches with something else")
            return found, took

        async def ask(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
            nonlocal asked, waited
            if key not in self._leaving:
                self._leaving[key] = [], asyncio.create_task(send())
            batches, answer = self._leaving[key]
            place = len(batches)
            batches.append((cohort, requests))
            found, took = await asyncio.shield(answer)
            samples, seconds = checked_answer(name, found[place])
            asked += len(requests)
            waited += len(requests) * max(0.0, took - seconds)
            try:
                check_samples(requests, samples, decoding, version, self._vocabulary)
            except ImpossibleError as error:
                raise ImpossibleError(f"{name} answered with {error}") from None
            return samples

        group = await play_group(self._environment, self._codec, self._style, task, ask, structured=self._structured)
        now = time.monotonic()
        work = Work((Span("play", taken, now, now - taken),), taken, now)
        return replace(group, played=Played(work, asked, waited))

    async def usage(self) -> Usage:
        """Return what this process takes of its machine."""
        return await asyncio.to_thread(usage)

    async def ping(self) -> None:
        """Answer, as a sign of life."""


def checked_answer(name: str, found: Any) -> Answer:
    """Return what was answered to a cohort; raise ImpossibleError unless there is a time with it."""
    if not isinstance(found, tuple) or len(found) != 2 or type(found[1]) is not float or not math.isfinite(found[1]):
        raise ImpossibleError(f"{name} answered a batch without the time that it took")
    return found[0], found[1]


SamplerActor: Any = ray.remote(SamplerHost)
ShardActor: Any = ray.remote(Shard)
