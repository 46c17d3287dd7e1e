"""The types of an ASGI application, and requests and answers that need no framework."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

# The code of a WebSocket's closure after a rule was broken.
POLICY = 1008
_UNAUTHORIZED = 401


def values(scope: Message, name: bytes) -> list[str]:
    """Return what the headers of this name say."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def whole_body(receive: Receive, most: int) -> bytes | None:
    """Return the whole body; None if it is too long. ConnectionResetError if the client left before its end."""
    parts: list[bytes] = []
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > most:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def delivered(body: bytes, receive: Receive) -> Receive:
    """Return what delivers a body that was read already, and then what comes after it."""
    is_delivered = False

    async def receive_whole() -> Message:
        nonlocal is_delivered
        if is_delivered:
            return await receive()
        is_delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_whole


async def refuse(scope: Message, receive: Receive, send: Send, status: int, words: str) -> None:
    """Answer a request, or refuse the handshake of a WebSocket, with this status."""
    if scope["type"] == "http":
        await answer(send, status, words)
        return
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await answer(send, status, words, "websocket.http.response")
        await asyncio.sleep(0)  # until uvicorn has seen the connection end; it logs a refusal as an error before that
    else:
        await send({"type": "websocket.close", "code": POLICY, "reason": words[:100]})


async def answer(send: Send, status: int, words: str, kind: str = "http.response") -> None:
    """Send a whole answer: an object with these words as its detail."""
    body = json.dumps({"detail": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == _UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    else:
        headers.append((b"connection", b"close"))  # what is left of the request is not read
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
