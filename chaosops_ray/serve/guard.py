"""The gate in front of a server: who may enter, and what is let through.

Everything but /health needs the token if there is one. A message or body must be a JSON object within the limits, and
travels on as plain ASCII JSON without NaN, infinities, lone surrogates, fields that stand twice or deep nesting, which
are what libraries further in trip over. Connections beyond the number of sessions are told so, and idle ones are ended.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any

from chaosops_ray.serve.asgi import POLICY, App, Message, Receive, Send, answer, delivered, refuse, whole_body
from chaosops_ray.serve.limits import Limits
from chaosops_ray.sim.speech import decode

OPEN_PATH = "/health"
RPC_PATH = "/mcp"
SESSION_PATHS = ("/ws", RPC_PATH)
# Codes of WebSocket closures: the server is full; the server ends an idle connection.
FULL, IDLE = 1013, 1001
_RPC_CODES = {"INVALID_JSON": -32700, "VALIDATION_ERROR": -32600}
_RPC_ERROR = -32000


class Guard:
    """An ASGI application that stands before another one."""

    def __init__(self, app: App, limits: Limits, token: str | None = None) -> None:
        self._app = app
        self._limits = limits
        self._header = None if token is None else f"Bearer {token}".encode()
        self._sockets = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif not self._may_enter(scope):
            await refuse(scope, receive, send, 401, "a valid token is needed: Authorization: Bearer TOKEN")
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["path"] not in SESSION_PATHS:
            await self._app(scope, receive, send)
        elif self._sockets >= self._limits.sessions:
            await receive()
            await send({"type": "websocket.accept"})
            words = f"all {self._limits.sessions} sessions are in use; try again later"
            await send({"type": "websocket.send", "text": _error(scope, "CAPACITY_REACHED", words)})
            await send({"type": "websocket.close", "code": FULL, "reason": words})
        else:
            self._sockets += 1
            try:
                await _Socket(scope, receive, send, self._limits).run(self._app)
            finally:
                self._sockets -= 1

    def _may_enter(self, scope: Message) -> bool:
        if self._header is None or (scope["type"] == "http" and scope["path"] == OPEN_PATH):
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._header)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
            # A body in chunks of one byte takes seconds to parse.
            await answer(send, 411, "a body needs a Content-Length; it cannot come in chunks")
            return
        try:
            async with asyncio.timeout(self._limits.request):
                body = await whole_body(receive, self._limits.message)
        except TimeoutError:
            await answer(send, 408, f"the request did not arrive within {self._limits.request:g} s")
            return
        except ConnectionResetError:
            return  # nobody is there to be answered
        if body is None:
            await answer(send, 413, f"a body has at most {self._limits.message} bytes")
            return
        if body:
            try:
                body = checked_json(body.decode())
            except ValueError as error:
                await answer(send, 400, f"the body is not a JSON object: {error}")
                return
            if scope["path"] == RPC_PATH and not _names_session(json.loads(body)):
                await answer(send, 400, "session_id must be text")
                return
        await self._app(scope, delivered(body, receive), send)


class _Socket:
    """A WebSocket whose messages are checked before the application sees them."""

    def __init__(self, scope: Message, receive: Receive, send: Send, limits: Limits) -> None:
        self._scope = scope
        self._inner_receive = receive
        self._inner_send = send
        self._limits = limits
        self._refused = 0
        self._is_closed = False

    async def run(self, app: App) -> None:
        await app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        while True:
            try:
                async with asyncio.timeout(self._limits.idle):
                    message = await self._inner_receive()
            except TimeoutError:
                return await self._end("SESSION_ERROR", IDLE, f"no message within {self._limits.idle:g} s")
            if message["type"] != "websocket.receive":
                return message
            try:
                return {"type": "websocket.receive", "text": self._checked(message).decode()}
            except ValueError as error:
                words = f"the message is not a JSON object: {error}"
            self._refused += 1
            if self._refused >= self._limits.refusals:
                return await self._end("INVALID_JSON", POLICY, words)
            await self._send({"type": "websocket.send", "text": _error(self._scope, "INVALID_JSON", words)})

    def _checked(self, message: Message) -> bytes:
        text = message.get("text")
        if text is None:
            raise ValueError("it is binary")
        if len(text) > self._limits.message:
            raise ValueError(f"it has more than {self._limits.message} characters")
        return checked_json(text)

    async def _end(self, code: str, closure: int, words: str) -> Message:
        """Close the connection; return what tells the application so."""
        await self._send({"type": "websocket.send", "text": _error(self._scope, code, words)})
        await self._send({"type": "websocket.close", "code": closure, "reason": words[:100]})
        self._is_closed = True
        return {"type": "websocket.disconnect", "code": closure, "reason": ""}

    async def _send(self, message: Message) -> None:
        if self._is_closed:
            return
        try:
            await self._inner_send(message)
        except OSError:
            self._is_closed = True  # the client is gone, and the next thing that is received says so


def checked_json(text: str) -> bytes:
    """Return the JSON object in its plainest spelling; ValueError if it is no object, or holds what is no JSON."""
    found = decode(text)
    if not isinstance(found, dict):
        raise ValueError("it is another JSON value")
    # A number such as 1e999 is read as infinity, which `allow_nan` refuses here.
    plain = json.dumps(found, ensure_ascii=False, allow_nan=False)
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    return json.dumps(found).encode()


def _names_session(request: dict[str, Any]) -> bool:
    """Tell if the session of a JSON-RPC request, if it names one, is named by text."""
    parameters = request.get("params")
    return not isinstance(parameters, dict) or isinstance(parameters.get("session_id", ""), str | None)


def _error(scope: Message, code: str, words: str) -> str:
    """Write an error as the clients of this path expect it."""
    if scope["path"] == RPC_PATH:
        error = {"code": _RPC_CODES.get(code, _RPC_ERROR), "message": words}
        return json.dumps({"jsonrpc": "2.0", "error": error, "id": None})
    return json.dumps({"type": "error", "data": {"message": words, "code": code}})
