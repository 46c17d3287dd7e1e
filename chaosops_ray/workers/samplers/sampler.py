"""The protocol of token engines, and the checks that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from chaosops_ray.grammar import GrammarError, Writing, grammar
from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest

# The version number of samples of the base model.
BASE = -1
_ROUNDING = 1e-3


class SamplerError(RuntimeError):
    """An engine cannot do what was asked; it never does something else instead."""


class ImpossibleError(SamplerError):
    """An engine answered something that no working engine answers to this request."""


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

        Log-probabilities are those of the distribution drawn from: at the temperature, among the choices or the tokens
        that the schema permits. Greedy ones are at temperature 1.
        """
        ...

    async def release(self) -> None:
        """Give memory back until the next `adopt`; versions may have to be adopted again."""
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


def writing(model: str, request: SampleRequest, decoding: Decoding) -> Writing | None:
    """Return the completion that a request with a schema asks of the model in this folder, before its first token."""
    if request.schema is None:
        return None
    if not decoding.stop:
        raise SamplerError("a completion of a JSON Schema ends with a stop token, and this model has none")
    try:
        return Writing(grammar(model, request.schema), decoding.max_tokens, decoding.stop[0])
    except GrammarError as error:
        raise SamplerError(str(error)) from error


def check_samples(
    requests: Sequence[SampleRequest], found: object, decoding: Decoding, version: PolicyVersion, vocabulary: int
) -> None:
    """Raise ImpossibleError unless these are completions of the requests, by this version, as `Sampler.sample` says."""
    if not isinstance(found, list) or len(found) != len(requests):
        count = len(found) if isinstance(found, list) else "no list of"
        raise ImpossibleError(f"{count} completions for {len(requests)} requests")
    for request, sample in zip(requests, found, strict=True):
        wrong = _wrong(request, sample, decoding, version, vocabulary)
        if wrong is not None:
            raise ImpossibleError(wrong)


def _wrong(
    request: SampleRequest, sample: object, decoding: Decoding, version: PolicyVersion, vocabulary: int
) -> str | None:
    if not isinstance(sample, Sample) or not isinstance(sample.tokens, tuple):
        return f"a {type(sample).__name__} that is no completion"
    tokens, log_probs = sample.tokens, sample.log_probs
    if (sample.version, sample.digest) != (version.number, version.digest):
        return f"a completion by policy-v{sample.version} ({str(sample.digest)[:12]}), asked was {version.name}"
    if not 1 <= len(tokens) <= decoding.max_tokens:
        return f"a completion of {len(tokens)} tokens; permitted are 1 to {decoding.max_tokens}"
    if not isinstance(log_probs, tuple) or len(log_probs) != len(tokens):
        return f"{len(tokens)} tokens without as many log-probabilities"
    if any(type(token) is not int or not 0 <= token < vocabulary for token in tokens):
        return f"a token that the vocabulary of {vocabulary} does not have"
    # Rounding may lift a logarithm of nearly one above zero.
    if any(type(one) is not float or not -math.inf < one <= _ROUNDING for one in log_probs):
        return "a log-probability that is no finite number up to 0"
    if request.choices is not None and tokens not in request.choices:
        return "a completion that is none of the choices"
    ends = [token in decoding.stop for token in tokens]
    if request.schema is not None and not ends[-1]:
        return "a completion that was cut in the middle of its object"
    if sample.stopped != ends[-1] or (request.choices is None and any(ends[:-1])):
        return "a completion that does not end where it says"
    return None
