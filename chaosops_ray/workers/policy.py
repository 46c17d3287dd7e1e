"""Models as the evaluation sees any policy: a view goes in, an action comes out. They play greedily."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from chaosops_ray.agents.tokens import Codec, Transcript
from chaosops_ray.sim.contract import AnyEnvironment, Policy, Scenario, Style
from chaosops_ray.wire import Decoding, PolicyVersion, SampleRequest
from chaosops_ray.workers.rollout import permitted
from chaosops_ray.workers.samplers.sampler import Sampler


class Completes(Protocol):
    """A served model: a conversation in, its answer out."""

    def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> str:
        """The answer."""
        ...


class ServedPolicy:
    """Any model behind a chat endpoint, in whatever words a person would read."""

    def __init__(self, environment: AnyEnvironment, model: Completes) -> None:
        self._environment = environment
        self._model = model

    def __call__(self, scenario: Scenario, rules: str) -> Policy:
        """The seats of one episode; each holds its own conversation."""
        conversations: dict[str, list[dict[str, str]]] = {}
        seen: dict[str, Any] = {}

        def act(view: Any, /) -> Any:
            role: str = view.role
            if role not in conversations:
                brief = self._environment.system_prompt(role, rules, "full")
                conversations[role] = [{"role": "system", "content": brief}]
            text = self._environment.render(view, seen.get(role), "full")
            seen[role] = view
            conversations[role].append({"role": "user", "content": text})
            answer = self._model.complete(conversations[role], scenario.seed % 2**31)
            conversations[role].append({"role": "assistant", "content": answer})
            return self._environment.parse_action(answer)

        return act


class TrainedPolicy:
    """Builds the policy anew for every scenario, on one sampler that holds the version."""

    def __init__(
        self,
        environment: AnyEnvironment,
        codec: Codec,
        style: Style,
        sampler: Sampler,
        version: PolicyVersion,
        max_tokens: int,
        *,
        structured: bool,
    ) -> None:
        self._environment = environment
        self._codec = codec
        self._style: Style = style
        self._sampler = sampler
        self.version = version
        self._decoding = Decoding(0.0, max_tokens, codec.layout.stop)
        self._structured = structured

    def __call__(self, scenario: Scenario, rules: str) -> Policy:
        """The seats of one episode; each keeps its own transcript."""
        transcripts: dict[str, Transcript] = {}
        seen: dict[str, Any] = {}

        def act(view: Any, /) -> Any:
            role: str = view.role
            if role not in transcripts:
                transcripts[role] = Transcript(self._codec, self._environment.system_prompt(role, rules, self._style))
            prompt = transcripts[role].observe(self._environment.render(view, seen.get(role), self._style))
            seen[role] = view
            choices = permitted(self._environment, self._codec, view, self._style) if self._structured else None
            request = SampleRequest(0, prompt, 0, choices)
            cohort = f"{scenario.identity}/{role}"
            (sample,) = asyncio.run(self._sampler.sample(cohort, [request], self._decoding, self.version.number))
            return self._environment.parse_action(transcripts[role].complete(sample, choices))

        return act
