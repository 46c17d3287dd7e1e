"""Policies of served models. There is no token engine behind them: they can be evaluated, not trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from chaosops_ray.agents.seat import ChatSeat
from chaosops_ray.sim.contract import AnyEnvironment, Policy, Scenario


class ServedModelError(RuntimeError):
    """The served model cannot be used, or did not answer; the message says why and what to do."""


class ChatModel(Protocol):
    """A served model: a conversation in, its answer out."""

    def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> str:
        """Return the answer, or raise ServedModelError."""
        ...


class ServedPolicy:
    """The policy of a chat model, which reads views in the style for people."""

    def __init__(self, environment: AnyEnvironment, model: ChatModel) -> None:
        self._environment = environment
        self._model = model

    def __call__(self, scenario: Scenario, rules: str) -> Policy:
        """Begin an episode; each of its roles holds its own conversation."""
        seats: dict[str, ChatSeat] = {}

        def act(view: Any, /) -> Any:
            role: str = view.role
            if role not in seats:
                seats[role] = ChatSeat(self._environment, role, rules)
            messages = seats[role].ask(view)
            return seats[role].answer(self._model.complete(messages, scenario.seed % 2**31))

        return act
