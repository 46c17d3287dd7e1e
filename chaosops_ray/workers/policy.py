"""A trained version as the evaluation sees any policy: a view goes in, an action comes out. It plays greedily."""

from __future__ import annotations

import asyncio
from typing import Any

from chaosops_ray.agents.seat import TokenSeat
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim.contract import AnyEnvironment, Policy, Scenario, Style
from chaosops_ray.wire import Decoding, PolicyVersion
from chaosops_ray.workers.samplers.sampler import Sampler


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
        seats: dict[str, TokenSeat] = {}

        def act(view: Any, /) -> Any:
            role: str = view.role
            if role not in seats:
                seats[role] = TokenSeat(
                    self._environment, role, rules, self._style, self._codec, structured=self._structured
                )
            cohort = f"{scenario.identity}/{role}"
            requests = [seats[role].request(view)]
            (sample,) = asyncio.run(self._sampler.sample(cohort, requests, self._decoding, self.version.number))
            return seats[role].answer(sample)

        return act
