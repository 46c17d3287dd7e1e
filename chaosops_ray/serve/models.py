"""The messages between a served world and its callers: OpenEnv's action, observation and state, the same in each world.

An action is whatever JSON object the world reads as one: `{"action": "restart", "service": "db"}`,
`{"action_type": "restart", "target": "db"}`, `{"tool": "calculator", "arguments": {"expression": "2 * 3"}}` or
`{"type": "submit_answer", "answer": "…"}`. It may also be `{"completion": "…"}`, the text that a language model wrote.
What the world cannot read as an action is a step like any other, and costs what the world's rules say.
"""

from __future__ import annotations

import json
from typing import Any

from openenv.core.env_server.types import Action, Observation, State
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from chaosops_ray.sim.speech import MAX_COMPLETION, is_shallow

MAX_FIELDS = 32
MAX_NESTING = 16


class SeatAction(Action):
    """What a caller does on its turn: the fields of one action, as the world writes them, or a completion."""

    model_config = ConfigDict(extra="allow", validate_assignment=False)

    completion: str | None = Field(
        default=None,
        max_length=MAX_COMPLETION,
        description="the text of a language model, in which the world looks for the action; no other field then",
    )

    @property
    def fields(self) -> dict[str, Any]:
        """The action's JSON object."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _is_bounded(self) -> SeatAction:
        # Errors of this type can be sent as JSON, which plain ValueErrors cannot.
        if self.completion is not None and self.model_extra:
            raise PydanticCustomError("both_forms", "an action is either a completion or fields, not both")
        if len(self.model_extra or {}) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", f"an action has at most {MAX_FIELDS} fields")
        for part in (self.fields, self.metadata):
            if not is_shallow(part, MAX_NESTING):
                raise PydanticCustomError("too_deep", f"an action is nested at most {MAX_NESTING} deep")
            if len(json.dumps(part, default=str)) > MAX_COMPLETION:
                raise PydanticCustomError("too_long", f"an action has at most {MAX_COMPLETION} characters")
        return self


class Example(BaseModel):
    """What a seat could be asked, and a valid answer to it as text."""

    asked: str
    answer: str


class SeatObservation(Observation):
    """What the seat whose turn it is may see, and what its caller has earned since the observation before.

    `system_prompt`, `examples`, `tools` and `metadata["guidance"]` are in the first observation of each seat only.
    """

    role: str | None = Field(default=None, description="the seat whose turn it is; none when the episode is over")
    text: str = Field(default="", description="what this seat is told: all of its view at first, then what is new")
    view: dict[str, Any] | None = Field(
        default=None, description="what the seat sees; at the end, what the last one sees"
    )
    system_prompt: str | None = Field(default=None, description="who the seat is, what it may do and how to say it")
    examples: list[Example] | None = Field(
        default=None,
        description="what follows the system prompt in a model's conversation: messages of the user, each with an "
        "answer; none in compact style, and not for a model that acts by calls of the tools",
    )
    tools: list[dict[str, Any]] | None = Field(
        default=None, description="the seat's actions as functions with JSON Schemas, in the form of OpenAI's API"
    )
    rubrics: dict[str, float] = Field(
        default_factory=dict, description="the parts of the reward by name; the reward is their sum"
    )
    action: dict[str, Any] | None = Field(default=None, description="the caller's latest action, as the world read it")
    error: str | None = Field(default=None, description="why that action came to nothing; none where it did not")
    score: float | None = Field(
        default=None, ge=0, le=1, description="how well the episode went, from 0 to 1; none before it is over"
    )
    success: bool | None = Field(default=None, description="whether the episode reached its goal; none before its end")


class SeatState(State):
    """Where an episode stands, without anything of the world's truth."""

    model_config = ConfigDict(extra="forbid")

    world: str | None = Field(default=None, description="the name of the world")
    task_id: str | None = Field(default=None, description="the opaque id of the task that is played")
    difficulty: str | None = Field(default=None, description="the task's tier")
    rules: str | None = Field(default=None, description="the rule set that the server plays")
    role: str | None = Field(default=None, description="the seat whose turn it is")
    seats: dict[str, str] = Field(default_factory=dict, description="who plays each seat: caller, or a policy's name")
    done: bool = Field(default=False, description="whether the episode is over")
