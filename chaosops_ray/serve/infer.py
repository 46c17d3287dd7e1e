"""One episode of a served world, played by the model behind a chat completions endpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from chaosops_ray.agents.endpoint import OpenAISampler
from chaosops_ray.agents.seat import Message
from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.serve.client import SeatClient, ServedWorldError
from chaosops_ray.serve.container import ContainerError, container
from chaosops_ray.serve.inference_log import InferenceLog
from chaosops_ray.serve.inference_settings import Asking, Settings
from chaosops_ray.serve.models import SeatObservation
from chaosops_ray.sim import InputError
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
        **asking._asdict(),
    )
    try:
        _play(log, model, _connected(settings, stack), chosen)
    except (ServedWorldError, ContainerError) as error:
        raise InputError(log.without_secret(str(error))) from None


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


def _play(log: InferenceLog, model: OpenAISampler, env: Any, chosen: Mapping[str, Any]) -> None:
    seen: SeatObservation = env.reset(**chosen).observation
    state = env.state()
    # A scenario that was named by its own id has no task id.
    task = "/".join([part for part in (state.difficulty, state.task_id) if part])
    log.start(task, state.world or "")
    conversations: dict[str, list[Message]] = {}
    while not seen.done:
        if seen.role is None:
            raise ServedWorldError("the server did not say whose turn it is")
        messages = conversations.setdefault(seen.role, [])
        if seen.system_prompt is not None:
            messages.append({"role": "system", "content": seen.system_prompt})
        messages.append({"role": "user", "content": seen.text})
        # The endpoint is the only one that may know its key, even if it gives it away.
        completion = log.without_secret(model.complete(messages, int(chosen.get("seed", 0)) % 2**31))
        messages.append({"role": "assistant", "content": completion})
        if len(completion) > MAX_COMPLETION:
            raise ServedModelError(
                f"the model's answer has {len(completion)} characters, and a world reads at most {MAX_COMPLETION}"
            )
        try:
            seen = env.say(completion).observation
            reward = _finite(seen.reward)
        except ServedWorldError as error:
            log.step(completion, 0.0, done=False, error=str(error))
            raise
        log.step(seen.action if seen.action is not None else completion, reward, done=seen.done, error=seen.error)
    if seen.score is None or seen.success is None:
        raise ServedWorldError("the server sent no score and success with the end of the episode")
    log.result(seen.score, is_success=seen.success)


def _finite(reward: float | None) -> float:
    value = 0.0 if reward is None else float(reward)
    if not math.isfinite(value):
        raise ServedWorldError(f"the server sent a reward of {value}")
    return value
