"""One conversation between one role of one episode and a language model.

It opens with the system prompt and, in full style, with examples of answers; each turn adds the view as text, all
of it the first time and then only what is new; each completion becomes an action. `ChatSeat` keeps messages, for models
behind a chat API; `TokenSeat`, in agents/token_seat.py, keeps tokens, for engines that are sampled and trained. In each
turn, one call takes the view (`read`, `ask` or `request`) and one turns the completion into an action (`action` or
`answer`).

>>> from chaosops_ray.sim import environment_named
>>> incident = environment_named("incident")
>>> world = incident.start(incident.scenario("incident/db_deadlock/easy/0"), "strict")
>>> role = incident.acting(world)
>>> seat = ChatSeat(incident, role, "strict")
>>> [message["role"] for message in seat.ask(incident.view(world, role))]
['system', 'user', 'assistant', 'user', 'assistant', 'user']
>>> action = seat.answer('The page is new. {"action": "noop"}')
>>> action
Noop()
>>> world = incident.step(world, action).world

An episode has a seat for each role that acts; a seat serves one episode only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from chaosops_ray.sim.contract import AnyEnvironment, Exchange, Style

Message: TypeAlias = dict[str, str]


def beginning(system_prompt: str, opening: Iterable[Exchange]) -> list[Message]:
    """Return the messages that stand before the first view: the system prompt, and the examples of answers."""
    messages: list[Message] = [{"role": "system", "content": system_prompt}]
    for example in opening:
        messages.append({"role": "user", "content": example.asked})
        messages.append({"role": "assistant", "content": example.answer})
    return messages


class Seat:
    """One role of one episode, in text: it reads views and acts by completions."""

    def __init__(self, environment: AnyEnvironment, role: str, rules: str, style: Style) -> None:
        self.environment = environment
        self.role = role
        self.style: Style = style
        self.system_prompt = environment.system_prompt(role, rules, style)
        self.opening = environment.opening(role, rules, style)
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
        self.messages = beginning(self.system_prompt, self.opening)

    def ask(self, view: Any) -> Sequence[Message]:
        """Append the view; return the conversation to send."""
        self.messages.append({"role": "user", "content": self.read(view)})
        return self.messages

    def answer(self, text: str) -> Any:
        """Append the model's answer; return its action."""
        self.messages.append({"role": "assistant", "content": text})
        return self.action(text)
