"""A served model in an evaluation holds a conversation for every seat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from chaosops_ray.agents.served import ServedPolicy
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.sim.contract import AnyEnvironment

INCIDENT = ENVIRONMENTS["incident"]
TOOLS = ENVIRONMENTS["tools"]
HARD = "incident/autoscaler_cost_cut/hard/17"
QUESTION = "tools/E07/published/3"


class Answers:
    """A served model that says what a function says, and remembers its conversations."""

    def __init__(self, answer: Callable[[Sequence[Mapping[str, str]]], str]) -> None:
        self.asked: list[tuple[list[dict[str, str]], int]] = []
        self._answer = answer

    def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> str:
        """The answer."""
        self.asked.append(([dict(message) for message in messages], seed))
        return self._answer(messages)


@pytest.mark.parametrize(
    ("environment", "scenario", "said"),
    [
        (INCIDENT, HARD, 'Let me see. {"action": "noop"}'),
        (TOOLS, QUESTION, '{"tool": "calculator", "arguments": {"expression": "1"}}'),
    ],
    ids=["incident", "tools"],
)
def test_a_served_model_holds_a_conversation_for_every_seat(
    environment: AnyEnvironment, scenario: str, said: str
) -> None:
    """Each one begins with the brief and grows by what is new to the seat and what it answered."""
    model = Answers(lambda _: said)
    begun = environment.scenario(scenario)
    episode = play(environment, begun, "strict", ServedPolicy(environment, model)(begun, "strict"))
    assert [step.action for step in episode.steps] == [environment.parse_action(said)] * len(episode.steps)
    seats: dict[str, list[dict[str, str]]] = {}
    seen: dict[str, Any] = {}
    for step, (messages, seed) in zip(episode.steps, model.asked, strict=True):
        brief = {"role": "system", "content": environment.system_prompt(step.role, "strict", "full")}
        examples = [
            {"role": role, "content": text}
            for example in environment.opening(step.role, "strict", "full")
            for role, text in zip(("user", "assistant"), example, strict=True)
        ]
        conversation = seats.setdefault(step.role, [brief, *examples])
        text = environment.render(step.view, seen.get(step.role), "full")
        conversation.append({"role": "user", "content": text})
        assert messages == conversation
        assert seed == begun.seed
        conversation.append({"role": "assistant", "content": said})
        seen[step.role] = step.view
    assert set(seats) == set(environment.roles)


def test_a_served_model_begins_anew_with_every_scenario() -> None:
    model = Answers(lambda _: '{"action": "noop"}')
    policy = ServedPolicy(INCIDENT, model)
    for _ in range(2):
        begun = INCIDENT.scenario("incident/db_deadlock/easy/0")
        play(INCIDENT, begun, "strict", policy(begun, "strict"))
    half = len(model.asked) // 2
    assert model.asked[:half] == model.asked[half:]


def test_a_served_model_that_says_no_action_is_played_on() -> None:
    begun = INCIDENT.scenario("incident/db_deadlock/easy/0")
    episode = play(INCIDENT, begun, "strict", ServedPolicy(INCIDENT, Answers(lambda _: ""))(begun, "strict"))
    assert all("unparsed" in INCIDENT.dump_action(step.action) for step in episode.steps)
