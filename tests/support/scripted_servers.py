"""Scripted servers on loopback: a chat completions endpoint, and a served world in OpenEnv's messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

# -- the endpoint -----------------------------------------------------------------------------------------------------


class Endpoint(ThreadingHTTPServer):
    """An endpoint that answers each conversation with a text, or with a status and a body; it keeps what it is asked."""

    daemon_threads = True
    block_on_close = False
    answer: Callable[[list[dict[str, str]]], str | tuple[int, bytes] | None]
    asked: list[dict[str, Any]]
    keys: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Endpoint)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(body)
        server.keys.append(self.headers.get("Authorization"))
        given = server.answer(body["messages"])
        if given is None:
            return  # the connection closes without an answer
        status, data = given if isinstance(given, tuple) else (200, said(given))
        with suppress(OSError):  # the client may have gone
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def said(text: Any) -> bytes:
    """An endpoint's answer that holds this text."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@contextmanager
def endpoint(answer: Callable[[list[dict[str, str]]], str | tuple[int, bytes] | None]) -> Iterator[Endpoint]:
    with Endpoint(("127.0.0.1", 0), _Handler) as server:
        server.answer, server.asked, server.keys = answer, [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# -- the world --------------------------------------------------------------------------------------------------------

CLOSE = object()


class World:
    """A served world that answers each message by a function: an object, a raw text, or CLOSE; it keeps the messages."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self.answer = answer
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of_type(self, kind: str) -> list[Any]:
        return [message.get("data") for message in self.messages if message["type"] == kind]

    def _talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers.append(dict(connection.request.headers.raw_items()))
        with suppress(ConnectionClosed):
            for text in connection:
                message = json.loads(text)
                self.messages.append(message)
                if message["type"] == "close":
                    return
                answer = self.answer(message)
                if answer is CLOSE:
                    return
                connection.send(answer if isinstance(answer, str | bytes) else json.dumps(answer))


@contextmanager
def world(answer: Callable[[dict[str, Any]], Any]) -> Iterator[World]:
    made = World(answer)
    with serve(made._talk, "127.0.0.1", 0) as server:
        made.port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def observation(*, done: bool = False, reward: Any = None, **fields: Any) -> dict[str, Any]:
    """An observation as it is sent."""
    return {"type": "observation", "data": {"observation": fields, "reward": reward, "done": done}}


def error(message: Any, code: str = "EXECUTION_ERROR") -> dict[str, Any]:
    """An error as it is sent."""
    return {"type": "error", "data": {"message": message, "code": code}}


def state(**fields: Any) -> dict[str, Any]:
    return {"type": "state", "data": {"world": "boxes", "difficulty": "few", "task_id": "7a1c", **fields}}


FIRST = observation(role="opener", text="Two boxes.", system_prompt="You open boxes.", tools=[])
SECOND = observation(role="opener", text="Red is empty.", reward=-0.004, action={"action": "open", "box": "red"})
LAST = observation(
    text="The episode is over.", reward=1.0, done=True, action={"action": "open", "box": "blue"}, score=0.75, success=True
)  # fmt: skip


def scripted(*steps: Any, reset: Any = FIRST, said_state: Any = None) -> Callable[[dict[str, Any]], Any]:
    """A world's answers: to the reset, and to one step after the other."""
    left = list(steps or (SECOND, LAST))

    def answer(message: dict[str, Any]) -> Any:
        if message["type"] == "reset":
            return reset
        if message["type"] == "state":
            return state() if said_state is None else said_state
        return left.pop(0)

    return answer
