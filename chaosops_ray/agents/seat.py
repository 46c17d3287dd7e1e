"""One conversation between one role of one episode and a language model.

It opens with the system prompt; each turn adds the view as text, all of it the first time and then only what is new;
each completion becomes an action. `ChatSeat` keeps messages, for models behind a chat API. `TokenSeat` keeps tokens,
for engines that are sampled and trained: a completion is never turned into text and tokenised again. In each turn, one
call takes the view (`read`, `ask` or `request`) and one turns the completion into an action (`action` or `answer`).

>>> from chaosops_ray.sim import environment_named
>>> incident = environment_named("incident")
>>> world = incident.start(incident.scenario("incident/db_deadlock/easy/0"), "strict")
>>> role = incident.acting(world)
>>> seat = ChatSeat(incident, role, "strict")
>>> [message["role"] for message in seat.ask(incident.view(world, role))]
['system', 'user']
>>> action = seat.answer('The page is new. {"action": "noop"}')
>>> action
Noop()
>>> world = incident.step(world, action).world

An episode has a seat for each role that acts; a seat serves one episode only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from chaosops_ray.agents.tokens import Codec, Transcript
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.wire import Ids, Sample, SampleRequest, Turn

Message: TypeAlias = dict[str, str]


def choices(environment: AnyEnvironment, codec: Codec, view: Any, style: Style) -> tuple[Ids, ...] | None:
    """Return every permitted action as a completion; None if there is no finite list of them."""
    kinds = environment.permitted(view)
    return None if kinds is None else codec.choices(environment.format_action, style, kinds)


class Seat:
    """One role of one episode, in text: it reads views and acts by completions."""

    def __init__(self, environment: AnyEnvironment, role: str, rules: str, style: Style) -> None:
        self.environment = environment
        self.role = role
        self.style: Style = style
        self.system_prompt = environment.system_prompt(role, rules, style)
        self.view: Any = None  # the latest one it has read

    def read(self, view: Any) -> str:
        """Return the view as text: all of it on the first turn, then what is new since the last one."""
        text = self.environment.render(view, self.view, self.style)
        self.view = view
        return text

    def action(self, completion: str) -> Any:
        """Return the action in the completion; without one, the world's value for an unparsed text."""
        return self.environment.parse_action(completion)


class ChatSeat(Seat):
    """A seat whose model is asked with the whole conversation as chat messages."""

    def __init__(self, environment: AnyEnvironment, role: str, rules: str, style: Style = "full") -> None:
        super().__init__(environment, role, rules, style)
        self.messages: list[Message] = [{"role": "system", "content": self.system_prompt}]

    def ask(self, view: Any) -> Sequence[Message]:
        """Append the view; return the conversation to send."""
        self.messages.append({"role": "user", "content": self.read(view)})
        return self.messages

    def answer(self, text: str) -> Any:
        """Append the model's answer; return its action."""
        self.messages.append({"role": "assistant", "content": text})
        return self.action(text)


class TokenSeat(Seat):
    """A seat whose model reads and writes tokens; it keeps the transcript that the learner trains on.

    With `structured`, the engine must choose among the permitted actions wherever there is a finite list of them.
    """

    def __init__(
        self,
        environment: AnyEnvironment,
        role: str,
        rules: str,
        style: Style,
        codec: Codec,
        *,
        structured: bool = False,
    ) -> None:
        super().__init__(environment, role, rules, style)
        self._codec = codec
        self._structured = structured
        self._transcript = Transcript(codec, self.system_prompt)
        self._choices: tuple[Ids, ...] | None = None

    def observe(self, view: Any) -> Ids:
        """Append the view; return the prompt so far. The completion is free, `structured` or not."""
        self._choices = None
        return self._transcript.observe(self.read(view))

    def request(self, view: Any, *, row: int = 0, seed: int = 0) -> SampleRequest:
        """Append the view; return the request to the engine."""
        prompt = self.observe(view)
        self._choices = choices(self.environment, self._codec, view, self.style) if self._structured else None
        return SampleRequest(row, prompt, seed, self._choices)

    def answer(self, sample: Sample) -> Any:
        """Append the completion that answers the latest request; return its action."""
        return self.action(self._transcript.complete(sample, self._choices))

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
