"""The protocol of token engines, and the checks that they share."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

from chaosops_ray.choice_tree import choice_tree, is_whole, log_probabilities
from chaosops_ray.grammar import GrammarError, Writing, grammar
from chaosops_ray.sim.rng import stream
from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest

# The version number of samples of the base model.
BASE = -1
_ROUNDING = 1e-3
# What choices of several tokens may take: they are all computed, by the engine and again by the learner.
LONGEST_CHOICE, MOST_CHOICE_TOKENS = 1024, 4096


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
        that the schema permits. Greedy ones are at temperature 1. Choices of several tokens are drawn as
        wholes, and have one log-probability each.
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
    """Raise SamplerError unless a completion of at most `limit` tokens can be any of the choices."""
    if not choices or not all(choices):
        raise SamplerError("a request's choices are empty, or one of them is; give each at least one token")
    longest, total = max([len(choice) for choice in choices]), sum([len(choice) for choice in choices])
    if longest > limit:
        raise SamplerError(f"a choice of {longest} tokens does not fit into max_tokens {limit}; raise max_tokens")
    if is_whole(choices) and (longest > LONGEST_CHOICE or total > MOST_CHOICE_TOKENS):
        raise SamplerError(
            f"{len(choices)} choices of up to {longest} tokens, {total} together, are too many to score; permitted are "
            f"{LONGEST_CHOICE} in one and {MOST_CHOICE_TOKENS} together: let the completion be free"
        )


def choose(log_probs: Sequence[float], seed: int, temperature: float) -> int:
    """Choose one of a distribution: the likeliest at temperature 0, otherwise its inverse at a number of the seed's."""
    if temperature == 0:
        return max(range(len(log_probs)), key=log_probs.__getitem__)
    heights = list(accumulate([math.exp(one) for one in log_probs]))
    level = stream(seed, "choice", 0).uniform() * heights[-1]
    # Rounding may lift the level to the whole height; what reaches it first is the last one with a probability.
    return min(bisect_right(heights, level), bisect_left(heights, heights[-1]))


def chosen(request: SampleRequest, edges: Sequence[float], decoding: Decoding, version: int, digest: str) -> Sample:
    """Return the sample of a request whose choices are scored as wholes; `edges` are those of their tree."""
    tree = choice_tree(request.choices or ())
    try:
        log_probs = log_probabilities(tree, edges, decoding.choice_score, decoding.temperature or 1.0)
    except ValueError as error:
        raise SamplerError(str(error)) from error
    place = choose(log_probs, request.seed, decoding.temperature)
    tokens = tree.choices[place]
    return Sample(tokens, (log_probs[place],), version, digest, tokens[-1] in decoding.stop)


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
    decisions = 1 if is_whole(request.choices) else len(tokens)
    if not isinstance(log_probs, tuple) or len(log_probs) != decisions:
        return f"{len(tokens)} tokens without {decisions} log-probabilities"
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
