"""The actors that play: shards, which host episodes, and sampler hosts, which hold an engine each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import ray

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.store.versions import check_base
from chaosops_ray.wire import Decoding, Group, Ids, Layout, PolicyVersion, Sample, SampleRequest, Task
from chaosops_ray.workers.rollout import play_group
from chaosops_ray.workers.samplers import build
from chaosops_ray.workers.samplers.sampler import ImpossibleError, Sampler, check_samples

# A cohort's name and its requests.
Batch: TypeAlias = tuple[str, Sequence[SampleRequest]]


class SamplerHost:
    """An engine in a process of its own; the methods are those of `Sampler`."""

    def __init__(self, engine: str, settings: dict[str, Any]) -> None:
        check_base(Path(settings["model"]))  # before the libraries, which take a while
        self._sampler: Sampler = build.build(engine, settings)

    async def adopt(self, version: PolicyVersion) -> int:
        """Load a version; return how many modules it is bound to."""
        return await self._sampler.adopt(version)

    async def retire(self, number: int) -> None:
        """Forget a version."""
        await self._sampler.retire(number)

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """Return the log-probability of every token but the first."""
        return await self._sampler.score(texts, number)

    async def sample_batches(self, batches: Sequence[Batch], decoding: Decoding, number: int) -> list[list[Sample]]:
        """Return completions for several cohorts. Cohorts that share a message never share a batch of the engine."""
        asked = [self._sampler.sample(cohort, requests, decoding, number) for cohort, requests in batches]
        return list(await asyncio.gather(*asked))

    async def release(self) -> None:
        """Give memory back until the next `adopt`."""
        await self._sampler.release()

    async def busy_seconds(self) -> float:
        """Return how long the engine has worked."""
        return self._sampler.busy_seconds()

    async def ping(self) -> None:
        """Let the engine compute something: it may be dead within a living actor."""
        await self._sampler.score([(0, 1)], None)


class Shard:
    """Host of episodes. It has no randomness and no state that outlives a task: any shard may play any task."""

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
        self._vocabulary = _vocabulary(model)
        self._decoding = decoding
        self._structured = structured
        # By sampler, version and decoding: the batches of the next message, and the answer to all of them.
        self._leaving: dict[tuple[str, int, Decoding], tuple[list[Batch], asyncio.Task[list[list[Sample]]]]] = {}

    async def play(self, task: Task, name: str, host: Any, version: PolicyVersion) -> Group:
        """Play all episodes of the task by this version, on the sampler host of this name.

        Nothing that the sampler answers is taken on trust.
        """
        decoding = self._decoding._replace(temperature=0.0) if task.greedy else self._decoding
        key = (name, version.number, decoding)

        async def send() -> list[list[Sample]]:
            # Groups in step ask within one turn of the event loop, and share the message.
            await asyncio.sleep(0)
            batches, _ = self._leaving.pop(key)
            found: list[list[Sample]] = await host.sample_batches.remote(batches, decoding, version.number)
            if not isinstance(found, list) or len(found) != len(batches):
                raise ImpossibleError(f"{name} answered {len(batches)} batches with something else")
            return found

        async def ask(cohort: str, requests: Sequence[SampleRequest], /) -> list[Sample]:
            if key not in self._leaving:
                self._leaving[key] = [], asyncio.create_task(send())
            batches, answer = self._leaving[key]
            place = len(batches)
            batches.append((cohort, requests))
            samples = (await asyncio.shield(answer))[place]
            try:
                check_samples(requests, samples, decoding, version, self._vocabulary)
            except ImpossibleError as error:
                raise ImpossibleError(f"{name} answered with {error}") from None
            return samples

        return await play_group(self._environment, self._codec, self._style, task, ask, structured=self._structured)

    async def ping(self) -> None:
        """Answer, as a sign of life."""


def _vocabulary(model: Path) -> int:
    """Return how many tokens the model has, which may be more than its tokenizer knows."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    size: int = config.get("text_config", config)["vocab_size"]
    return size


SamplerActor: Any = ray.remote(SamplerHost)
ShardActor: Any = ray.remote(Shard)
