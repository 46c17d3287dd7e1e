"""A sampler that says what a function says: for tests of whatever stands around an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from chaosops_ray.choice_tree import is_whole
from chaosops_ray.wire import Decoding, Ids, PolicyVersion, Sample, SampleRequest
from chaosops_ray.workers.samplers.sampler import BASE, SamplerError


class Call(NamedTuple):
    """What the sampler was asked, in the order it was asked."""

    method: str
    number: int | None = None
    cohort: str = ""
    requests: tuple[SampleRequest, ...] = ()
    texts: tuple[Ids, ...] = ()


class ScriptedSampler:
    """Completions from `script`, cut off as an engine would: at the first stop token, or at the limit.

    Every token has the same log-probability, and so has a choice of several tokens, unless `log_probs` gives those of a completion and `scores` those of a
    text by a version (None is the base model). Adapters are not looked at; each is said to bind `modules`.
    """

    def __init__(
        self,
        script: Callable[[SampleRequest], Ids],
        modules: int = 0,
        *,
        log_prob: float = -1.0,
        log_probs: Callable[[SampleRequest, Ids], tuple[float, ...]] | None = None,
        scores: Callable[[Ids, int | None], tuple[float, ...]] | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self.loaded: dict[int | None, PolicyVersion] = {}
        self._script = script
        self._modules = modules
        self._log_probs = log_probs or (lambda asked, made: (log_prob,) * (1 if is_whole(asked.choices) else len(made)))
        self._scores = scores or (lambda text, _: (log_prob,) * (len(text) - 1))

    async def adopt(self, version: PolicyVersion) -> int:
        """Keep the version's digest; how many modules it is said to bind."""
        self.calls.append(Call("adopt", version.number))
        self.loaded[version.number] = version
        return self._modules

    async def adopt_base(self, digest: str) -> None:
        """Permit sampling of the base model."""
        self.calls.append(Call("adopt_base"))
        self.loaded[None] = PolicyVersion(BASE, digest, "")

    async def close(self) -> None:
        """Forget everything."""
        self.calls.append(Call("close"))
        self.loaded.clear()

    async def retire(self, number: int) -> None:
        """Forget a version."""
        self.calls.append(Call("retire", number))
        self.loaded.pop(number, None)

    async def score(self, texts: Sequence[Ids], number: int | None) -> tuple[tuple[float, ...], ...]:
        """The scripted log-probability of every token but the first."""
        self.calls.append(Call("score", number, texts=tuple(texts)))
        if number is not None:
            self._version(number)
        return tuple([self._scores(text, number) for text in texts])

    async def sample(
        self, cohort: str, requests: Sequence[SampleRequest], decoding: Decoding, number: int | None
    ) -> list[Sample]:
        """The scripted completion of each request."""
        self.calls.append(Call("sample", number, cohort, tuple(requests)))
        version = self._version(number)
        return [self._answer(request, decoding, version) for request in requests]

    async def release(self) -> None:
        """Forget every version."""
        self.calls.append(Call("release"))
        self.loaded.clear()

    def _version(self, number: int | None) -> PolicyVersion:
        if number not in self.loaded:
            raise SamplerError(f"policy-v{number} is not loaded here (loaded: {list(self.loaded) or 'none'})")
        return self.loaded[number]

    def _answer(self, request: SampleRequest, decoding: Decoding, version: PolicyVersion) -> Sample:
        tokens = self._script(request)[: decoding.max_tokens]
        end = next((place + 1 for place, token in enumerate(tokens) if token in decoding.stop), len(tokens))
        tokens = tokens[:end]
        if not tokens:
            raise SamplerError("the script says nothing, which no engine does")
        if request.choices is not None and tokens not in request.choices:
            raise SamplerError(f"the script says {tokens}, which is none of the request's choices")
        stopped = tokens[-1] in decoding.stop
        return Sample(tokens, self._log_probs(request, tokens), version.number, version.digest, stopped)
