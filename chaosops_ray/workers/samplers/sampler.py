"""The protocol that every token engine meets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest

# What samples of the base model carry in place of a version's number.
BASE = -1


class SamplerError(RuntimeError):
    """An engine cannot do what it was asked; it never does something else instead."""


class Sampler(Protocol):
    """An engine that serves versions of one policy.

    `adopt` loads; nothing is served by a version before the caller has let it prove itself (chaosops_ray.proof). A
    version that is not loaded raises `SamplerError` from `sample` and `score`; no method ever answers from another
    version or from the base model instead. Training speaks this protocol alone, which has no way to sample the base.
    """

    async def adopt(self, version: PolicyVersion) -> int:
        """Check the adapter's digest, load it under a name of its own; how many modules it was bound to."""
        ...

    async def retire(self, number: int) -> None:
        """Forget a version, if it is held at all; its samples are not wanted any more."""
        ...

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """The log-probability of every token but the first, at temperature 1; None asks the base model."""
        ...

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int
    ) -> list[Sample]:
        """A completion for each request, in order. `cohort` names a batch whose prompts grow from call to call."""
        ...

    async def release(self) -> None:
        """Give memory back until the next `adopt`; what was loaded must be adopted anew."""
        ...

    def busy_seconds(self) -> float:
        """How long the engine itself has worked so far."""
        ...


class Engine(Sampler, Protocol):
    """A sampler in this process, which may also play its base model if that is asked for explicitly."""

    async def adopt_base(self, digest: str) -> None:
        """Permit `sample` with number None; the samples carry the version BASE and this digest of the base model."""
        ...

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int | None
    ) -> list[Sample]:
        """Sample as a sampler does; None asks the base model, and raises unless `adopt_base` was called."""
        ...

    async def close(self) -> None:
        """End the engine and free its memory; nothing may be asked of it afterwards."""
        ...


@lru_cache(1000)
def check_choices(choices: tuple[Ids, ...], limit: int) -> None:
    """Raise SamplerError unless a completion of at most `limit` tokens can be one of the choices and is known to end.

    No choice may be the beginning of another: otherwise a completion could end there or go on.
    """
    if not choices or not all(choices):
        raise SamplerError("a request has no choices, or an empty one among them")
    longest = max([len(choice) for choice in choices])
    if longest > limit:
        raise SamplerError(f"a choice of {longest} tokens does not fit into max_tokens {limit}")
    for one, other in pairwise(sorted(set(choices))):
        if other[: len(one)] == one:
            raise SamplerError(f"the choice {one} is how the choice {other} begins; end them alike")
