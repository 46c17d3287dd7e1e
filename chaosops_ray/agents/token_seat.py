"""The conversation of agents/seat.py in tokens: a completion is never turned into text and tokenised again."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from chaosops_ray.agents.forms import call_schema
from chaosops_ray.agents.seat import Seat
from chaosops_ray.agents.tokens import Codec, Transcript
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.wire import Ids, Sample, SampleRequest, Structured, Turn


def choices(environment: AnyEnvironment, codec: Codec, view: Any, style: Style) -> tuple[Ids, ...] | None:
    """Return every permitted action as a completion; None if there is no finite list of them."""
    kinds = environment.permitted(view)
    return None if kinds is None else codec.choices(environment.format_action, style, kinds)


@lru_cache(maxsize=64)
def schema(environment: AnyEnvironment, role: str, rules: str) -> str:
    """Return the JSON Schema of what this role may write, as text; it is the same on every turn."""
    return json.dumps(call_schema(environment, role, rules))


class TokenSeat(Seat):
    """A seat whose model reads and writes tokens; it keeps the transcript that the learner trains on.

    With `structured` as choices, the engine must choose among the permitted actions wherever there is a finite list of
    them; as schema, it must write an object of the world's schema, which is full style.
    """

    def __init__(
        self,
        environment: AnyEnvironment,
        role: str,
        rules: str,
        style: Style,
        codec: Codec,
        *,
        structured: Structured = "no",
    ) -> None:
        super().__init__(environment, role, rules, style)
        self._codec = codec
        self._structured = structured
        self._transcript = Transcript(codec, self.system_prompt)
        self._choices: tuple[Ids, ...] | None = None
        self._schema: str | None = None
        self._rules = rules
        self.completion = ""  # the latest one

    def observe(self, view: Any) -> Ids:
        """Append the view; return the prompt so far. The completion is free, `structured` or not."""
        self._choices = self._schema = None
        return self._transcript.observe(self.read(view))

    def request(self, view: Any, *, row: int = 0, seed: int = 0) -> SampleRequest:
        """Append the view; return the request to the engine."""
        prompt = self.observe(view)
        if self._structured == "choices":
            self._choices = choices(self.environment, self._codec, view, self.style)
        elif self._structured == "schema":
            self._schema = schema(self.environment, self.role, self._rules)
        return SampleRequest(row, prompt, seed, self._choices, self._schema)

    def answer(self, sample: Sample) -> Any:
        """Append the completion that answers the latest request; return its action."""
        self.completion = self._transcript.complete(sample, self._choices, self._schema)
        return self.action(self.completion)

    def earned(self, rewards: dict[str, float]) -> None:
        """Add rewards, by stream, to the latest turn."""
        self._transcript.earned(rewards)

    @property
    def tokens(self) -> Ids:
        """The tokens up to the end of the last completion, which a learner needs."""
        return self._transcript.written

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The completions so far, each with its place in `tokens`."""
        return tuple(self._transcript.turns)
