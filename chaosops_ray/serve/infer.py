"""One episode of a served world, played by the model behind a chat completions endpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from chaosops_ray.agents.endpoint import Answer, OpenAISampler
from chaosops_ray.agents.forms import BY_CALLS
from chaosops_ray.agents.seat import Message, beginning
from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.serve.client import CLIENTS, SeatClient, ServedWorldError
from chaosops_ray.serve.container import ContainerError, container
from chaosops_ray.serve.inference_log import InferenceLog
from chaosops_ray.serve.inference_settings import Asking, Settings
from chaosops_ray.serve.models import SeatAction, SeatObservation
from chaosops_ray.sim import InputError
from chaosops_ray.sim.contract import Exchange
from chaosops_ray.sim.speech import MAX_COMPLETION

# A server in a container has this long until it answers.
START_SECONDS = 60.0
_PAUSE = 0.25


def infer(log: InferenceLog, stack: ExitStack, settings: Settings, asking: Asking, chosen: Mapping[str, Any]) -> None:
    """Play the episode that `chosen`, the options of a reset, asks for; what must be closed is put on the stack."""
    model = OpenAISampler(
        settings.endpoint,
        settings.model,
        key_variable=settings.key_variable,
        timeout=asking.timeout,
        retries=asking.retries,
        max_tokens=asking.max_tokens,
    )
    try:
        _play(log, model, _connected(settings, stack), chosen, with_tools=asking.with_tools)
    except (ServedWorldError, ContainerError) as error:
        raise InputError(str(error)) from None


def _connected(settings: Settings, stack: ExitStack) -> Any:
    """Return a session with the served world, which is started first if it is an image."""
    if settings.server is not None:
        env = SeatClient(settings.server).sync()
        stack.callback(env.close)
        return env.connect()
    started = stack.enter_context(container(settings.image or ""))
    env = SeatClient(started.url).sync()
    stack.callback(env.close)
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            return env.connect()
        except ServedWorldError:
            started.check()
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)


class _Conversation(NamedTuple):
    """What one seat was told and has answered, and the tools that it has."""

    messages: list[Message]
    tools: list[dict[str, Any]]


def _play(log: InferenceLog, model: OpenAISampler, env: Any, chosen: Mapping[str, Any], *, with_tools: bool) -> None:
    seen: SeatObservation = env.reset(**chosen).observation
    state = env.state()
    # A scenario that was named by its own id has no task id.
    task = "/".join([part for part in (state.difficulty, state.task_id) if part])
    log.start(task, state.world or "")
    client = CLIENTS.get(state.world or "", SeatClient)
    seed = int(chosen.get("seed", 0)) % 2**31
    conversations: dict[str, _Conversation] = {}
    while not seen.done:
        if seen.role is None:
            raise ServedWorldError("the server did not say whose turn it is")
        messages, tools = conversations.setdefault(seen.role, _Conversation([], []))
        if seen.system_prompt is not None:
            tools += (seen.tools or []) if with_tools else []
            messages += _beginning(seen.system_prompt, seen, by_calls=bool(tools))
        messages.append({"role": "user", "content": seen.text})
        # The endpoint is the only one that may know its key, even if it gives it away.
        text, tool, arguments = model.answer(messages, seed, tools)
        answer = Answer(log.without_secret(text), tool and log.without_secret(tool), log.without_secret(arguments))
        written = answer.text if answer.tool is None else f"{answer.tool} {answer.arguments}"
        messages.append({"role": "assistant", "content": written})
        if len(written) > MAX_COMPLETION:
            raise ServedModelError(
                f"the model's answer has {len(written)} characters, and a world reads at most {MAX_COMPLETION}"
            )
        try:
            call = _called(client, answer)
            seen = (env.say(written) if call is None else env.step(call)).observation
            reward = _finite(seen.reward)
        except ServedWorldError as error:
            log.step(written, 0.0, done=False, error=str(error))
            raise
        log.step(seen.action if seen.action is not None else written, reward, done=seen.done, error=seen.error)
    if seen.score is None or seen.success is None:
        raise ServedWorldError("the server sent no score and success with the end of the episode")
    log.result(seen.score, is_success=seen.success)


def _beginning(system_prompt: str, seen: SeatObservation, *, by_calls: bool) -> list[Message]:
    """Return the messages before a seat's first view; a model that acts by calls has no use for answers as text."""
    if by_calls:
        return beginning(f"{system_prompt}\n\n{BY_CALLS}", ())
    return beginning(system_prompt, [Exchange(one.asked, one.answer) for one in seen.examples or ()])


def _called(client: type[SeatClient], answer: Answer) -> SeatAction | None:
    """Return the action of a tool call; None if the answer is text, or a call that is no action's."""
    if answer.tool is None:
        return None
    try:
        arguments = json.loads(answer.arguments or "{}")
        return client.action(answer.tool, arguments) if isinstance(arguments, dict) else None
    except (ValueError, RecursionError):
        return None


def _finite(reward: float | None) -> float:
    value = 0.0 if reward is None else float(reward)
    if not math.isfinite(value):
        raise ServedWorldError(f"the server sent a reward of {value}")
    return value
