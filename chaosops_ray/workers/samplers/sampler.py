"""The protocol of token engines, and the checks that they share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest

# The version number of samples of the base model.
BASE = -1


class SamplerError(RuntimeError):
    """An engine cannot do what was asked; it never does something else instead."""


class Sampler(Protocol):
    """An engine that serves versions of one policy.

    `adopt` only loads: the caller must check a version before it serves (`check_adoption`). A version that is not
    loaded raises `SamplerError` from `sample` and `score`; no method ever answers from another version or from the base
    model instead. Training uses this protocol alone, which has no way to sample the base.
    """

    async def adopt(self, version: PolicyVersion) -> int:
        """Check the adapter's digest and load it under its own name; return how many modules it is bound to.

        An adapter that is bound to none is not kept. When this returns, the folder of the version is not needed any
        more.
        """
        ...

    async def retire(self, number: int) -> None:
        """Forget a version, if it is loaded."""
        ...

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """Return the log-probability of every token but the first, at temperature 1; None asks the base model."""
        ...

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int
    ) -> list[Sample]:
        """Return a completion for each request, in order. `cohort` names a batch whose prompts grow from call to call.

        Log-probabilities are those of the distribution drawn from: at the temperature, among the choices. Greedy ones
        are at temperature 1.
        """
        ...

    async def release(self) -> None:
        """Give memory back until the next `adopt`; versions may have to be adopted again."""
        ...

    def busy_seconds(self) -> float:
        """Return how long the engine has worked so far."""
        ...


class Engine(Sampler, Protocol):
    """A sampler in this process, which also plays its base model if that is adopted."""

    async def adopt_base(self, digest: str) -> None:
        """Permit `sample` with number None; the samples carry the version BASE and this digest of the base model."""
        ...

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int | None
    ) -> list[Sample]:
        """Sample as a sampler does; None asks the base model, and raises SamplerError without `adopt_base`."""
        ...

    async def close(self) -> None:
        """End the engine and free its memory."""
        ...


@lru_cache(1000)
def check_choices(choices: tuple[Ids, ...], limit: int) -> None:
    """Raise SamplerError unless a completion of at most `limit` tokens can be one of the choices and is known to end.

    No choice may be the beginning of another: a completion could end there or go on.
    """
    if not choices or not all(choices):
        raise SamplerError("a request's choices are empty, or one of them is; give each at least one token")
    longest = max([len(choice) for choice in choices])
    if longest > limit:
        raise SamplerError(f"a choice of {longest} tokens does not fit into max_tokens {limit}; raise max_tokens")
    for one, other in pairwise(sorted(set(choices))):
        if other[: len(one)] == one:
            raise SamplerError(f"the choice {one} is the beginning of the choice {other}; end all with the same token")
