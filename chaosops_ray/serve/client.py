"""Clients of a served world: one WebSocket session each, in which a caller plays its seats.

>>> env = ToolsEnv("http://127.0.0.1:8000").sync()           # doctest: +SKIP
>>> with env:                                                # doctest: +SKIP
...     first = env.reset(difficulty="expert", seed=7)
...     then = env.call("web_search", query="Elbonia")
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient
from websockets.exceptions import WebSocketException

from chaosops_ray.plain_text import one_line
from chaosops_ray.serve.access import TOKEN
from chaosops_ray.serve.models import SeatAction, SeatObservation, SeatState

LONGEST_ANSWER = 300.0
_SURROGATE = re.compile("[\ud800-\udfff]")
_SCHEMES = ("http", "https", "ws", "wss")


class ServedWorldError(RuntimeError):
    """The server cannot be reached, refused, or answered with something else; one line says what."""


class SeatClient(EnvClient[SeatAction, SeatObservation, SeatState]):
    """A client of any served world; `token_variable` names the environment variable with the server's token.

    The token is sent to the server's own host only. Where the variable is empty, no token is sent.
    """

    def __init__(self, base_url: str | None = None, *, token_variable: str = TOKEN, **options: Any) -> None:
        # A colleague may be a model that takes its time. The mode is not left to a variable of the environment.
        waits = {"message_timeout_s": LONGEST_ANSWER, "websocket_ping_timeout_s": LONGEST_ANSWER}
        options = {"mode": "simulation", **waits, **options}
        headers = {**_authorization(token_variable), **(options.pop("headers", None) or {})}
        super().__init__(None if base_url is None else _checked(base_url), headers=headers, **options)

    def call(self, name: str, /, **arguments: Any) -> Any:
        """Take an action by its name, as in `env.call("restart", service="db")`."""
        return self.step(self.action(name, arguments))

    def say(self, completion: str) -> Any:
        """Act by what a language model wrote, in which the world looks for the action.

        Halves of a character, which JSON can hold but no message, are replaced.
        """
        return self.step(SeatAction(completion=_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", completion)))

    @staticmethod
    def action(name: str, arguments: Mapping[str, Any]) -> SeatAction:
        """Return the action of this name, as worlds write it by default."""
        action: SeatAction = SeatAction.model_validate({**arguments, "action": name})
        return action

    def _step_payload(self, action: SeatAction) -> dict[str, Any]:
        payload: dict[str, Any] = action.model_dump(exclude_defaults=True)
        return payload

    def _parse_result(self, payload: Any) -> StepResult[SeatObservation]:
        try:
            seen = SeatObservation.model_validate(
                {**payload["observation"], "reward": payload.get("reward"), "done": payload["done"]}
            )
            reward = None if seen.reward is None else float(seen.reward)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise _not_understood(error) from None
        return StepResult(observation=seen, reward=reward, done=seen.done, metadata=seen.metadata)

    def _parse_state(self, payload: Any) -> SeatState:
        try:
            state: SeatState = SeatState.model_validate(payload)
        except ValueError as error:
            raise _not_understood(error) from None
        return state

    async def _connect_async(self) -> SeatClient:
        try:
            await super()._connect_async()
        except ConnectionError as error:
            raise ServedWorldError(one_line(error)) from None
        return self

    async def _send_and_receive(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await super()._send_and_receive(message)
        except ServedWorldError:
            raise
        except TimeoutError:
            raise ServedWorldError(f"the server gave no answer within {self._message_timeout:g} s") from None
        except (OSError, WebSocketException) as error:
            raise ServedWorldError(f"the server ended the session: {one_line(error)}") from None
        except (ValueError, AttributeError, RecursionError) as error:  # no JSON, or no object
            raise _not_understood(error) from None
        except RuntimeError as error:  # its own words for an error that the server sent
            raise ServedWorldError(one_line(error)) from None
        return answer


class IncidentEnv(SeatClient):
    """A client of world 1, the incident room."""


class ToolsEnv(SeatClient):
    """A client of world 2, the unreliable tools."""

    @staticmethod
    def action(name: str, arguments: Mapping[str, Any]) -> SeatAction:
        """Return the call of this tool."""
        action: SeatAction = SeatAction.model_validate({"tool": name, "arguments": dict(arguments)})
        return action


# The client of each world that writes its actions in a way of its own, or has one for its name.
CLIENTS: Mapping[str, type[SeatClient]] = MappingProxyType({"incident": IncidentEnv, "tools": ToolsEnv})


def _checked(url: str) -> str:
    """Return the server's URL; errors never repeat it, because it may hold a password."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port or 0) < 1 << 16
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ServedWorldError("the server's address is not a valid URL; write one such as http://127.0.0.1:8000")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ServedWorldError("the server's URL must have no user and no query; put its token into the environment")
    return f"{parts.scheme}{url[len(parts.scheme) :]}"  # openenv knows schemes in small letters only


def _authorization(variable: str) -> dict[str, str]:
    token = os.environ.get(variable, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise ServedWorldError(f"the environment variable {variable} holds no valid token: only printable ASCII is")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _not_understood(error: Exception) -> ServedWorldError:
    return ServedWorldError(f"the server's answer is not one of a world: {one_line(error)}")
