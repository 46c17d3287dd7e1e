"""The actors that play: shards, which host episodes, and sampler hosts, which hold an engine each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.wire import Decoding, Group, Ids, Layout, PolicyVersion, Sample, SampleRequest, Task
from chaosops_ray.workers.rollout import play_group
from chaosops_ray.workers.samplers import build
from chaosops_ray.workers.samplers.sampler import Sampler


class SamplerHost:
    """An engine in a process of its own."""

    def __init__(self, engine: str, settings: dict[str, Any]) -> None:
        self._sampler: Sampler = build.build(engine, settings)

    async def adopt(self, version: PolicyVersion) -> int:
        """As the protocol says."""
        return await self._sampler.adopt(version)

    async def retire(self, number: int) -> None:
        """As the protocol says."""
        await self._sampler.retire(number)

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """As the protocol says."""
        return await self._sampler.score(texts, number)

    async def sample(
        self, batches: Sequence[tuple[str, Sequence[SampleRequest]]], decoding: Decoding, number: int
    ) -> list[list[Sample]]:
        """Completions for several cohorts. Each is computed by itself: what shares a message never shares a batch."""
        asked = [self._sampler.sample(cohort, requests, decoding, number) for cohort, requests in batches]
        return list(await asyncio.gather(*asked))

    async def release(self) -> None:
        """As the protocol says."""
        await self._sampler.release()

    async def busy_seconds(self) -> float:
        """As the protocol says."""
        return self._sampler.busy_seconds()

    async def ping(self) -> None:
        """A sign of life from the engine itself, which may be dead within a living actor."""
        await self._sampler.score([(0, 1)], None)


class Message(NamedTuple):
    """Requests of several cohorts that travel together, and the answer to all of them."""

    batches: list[tuple[str, Sequence[SampleRequest]]]
    answer: asyncio.Task[list[list[Sample]]]


class Remote:
    """A sampler host, spoken to as if the engine were here."""

    def __init__(self, host: Any) -> None:
        self.host = host

    async def adopt(self, version: PolicyVersion) -> int:
        """As the protocol says."""
        return int(await self.host.adopt.remote(version))

    async def retire(self, number: int) -> None:
        """As the protocol says."""
        await self.host.retire.remote(number)

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """As the protocol says."""
        scores: tuple[tuple[float, ...], ...] = await self.host.score.remote(texts, number)
        return scores

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int
    ) -> list[Sample]:
        """As the protocol says."""
        (samples,) = await self.host.sample.remote([(cohort, requests)], decoding, number)
        return list(samples)

    async def release(self) -> None:
        """As the protocol says."""
        await self.host.release.remote()

    def busy_seconds(self) -> float:
        """As the protocol says."""
        return float(ray.get(self.host.busy_seconds.remote()))


class Shard:
    """Hosts episodes. It owns no randomness and no state that outlives a task: who plays a task does not matter."""

    def __init__(
        self,
        environment: AnyEnvironment,
        style: Style,
        model: Path,
        layout: Layout,
        decoding: Decoding,
        *,
        structured: bool,
    ) -> None:
        self._environment = environment
        self._style = style
        self._codec = Codec(model, layout)
        self._decoding = decoding
        self._structured = structured
        self._leaving: dict[tuple[str, int, Decoding], Message] = {}

    async def play(self, task: Task, name: str, host: Any, version: int) -> Group:
        """All episodes of the task, spoken for by this version on the host of this name."""
        decoding = self._decoding._replace(temperature=0.0) if task.greedy else self._decoding
        key = (name, version, decoding)

        async def ask(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
            message = self._leaving.get(key)
            if message is None:
                message = self._leaving[key] = Message([], self._send(key, host))
            place = len(message.batches)
            message.batches.append((cohort, requests))
            found = await asyncio.shield(message.answer)
            return found[place]

        return await play_group(self._environment, self._codec, self._style, task, ask, structured=self._structured)

    def _send(self, key: tuple[str, int, Decoding], host: Any) -> asyncio.Task[list[list[Sample]]]:
        """Ask for whatever comes up in this turn of the event loop: groups in step share a message."""

        async def send() -> list[list[Sample]]:
            await asyncio.sleep(0)
            batches = self._leaving.pop(key).batches
            _, version, decoding = key
            found: list[list[Sample]] = await host.sample.remote(batches, decoding, version)
            return found

        return asyncio.get_running_loop().create_task(send())

    async def ping(self) -> bool:
        """A sign of life."""
        return True


SamplerActor: Any = ray.remote(SamplerHost)
ShardActor: Any = ray.remote(Shard)
