"""The protocols with bounds, over a transport that only notes what is done to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from chaosops_ray.serve.transport import FRAGMENTS, PENDING, PIECE, BoundedWebSocket

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
BEGIN, EMPTY, END, PING = [bytes([first, 0x80, 0, 0, 0, 0]) for first in (0x01, 0x00, 0x80, 0x89)]


def message(text: bytes) -> bytes:
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


class Line(asyncio.Transport):
    """A connection: whether it is read, what was written to it, and whether it was dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read, self.is_gone, self.written = True, False, 0

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def write(self, data: Any) -> None:
        assert not self.is_gone
        self.written += len(data)

    def is_closing(self) -> bool:
        return self.is_gone

    def close(self) -> None:
        self.is_gone = True

    abort = close


def played(script: Callable[[BoundedWebSocket, Line, list[str]], Any]) -> tuple[Line, list[str]]:
    """Run a script with a connection whose handshake is done, and the texts that its application has heard."""
    line, heard = Line(), list[str]()

    async def app(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (got := await receive())["type"] == "websocket.receive":
            heard.append(got["text"])

    async def run() -> None:
        config = uvicorn.Config(app, ws_per_message_deflate=False, ws_ping_interval=None)
        protocol = BoundedWebSocket(config, ServerState(), {})
        protocol.connection_made(line)
        protocol.data_received(HANDSHAKE)
        await settled()
        await script(protocol, line, heard)
        protocol.connection_lost(None)
        await settled()

    asyncio.run(run())
    return line, heard


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def parsed(line: Line) -> None:
    """Wait until all that came is parsed, and the line is read again or dropped."""
    while not (line.is_read or line.is_gone):
        await asyncio.sleep(0)


def test_a_long_read_is_parsed_in_pieces_and_nothing_more_is_read_meanwhile() -> None:
    pings = 4 * PIECE // len(PING)

    async def script(protocol: BoundedWebSocket, line: Line, heard: list[str]) -> None:
        before = line.written
        protocol.data_received(PING * pings + message(b"last"))
        first = line.written - before
        assert (line.is_read, heard) == (False, [])
        turns = 0
        while not line.is_read:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 4
        assert 0 < first < (line.written - before) / 3
        assert heard == ["last"]

    played(script)


def test_whatever_pieces_a_text_comes_in_it_is_heard_in_order() -> None:
    texts = [json.dumps({"number": number}) for number in range(40)]
    data = b"".join([PING * 30 + message(text.encode()) for text in texts])

    async def script(protocol: BoundedWebSocket, line: Line, _: list[str]) -> None:
        for start in range(0, len(data), 777):
            protocol.data_received(data[start : start + 777])
        await parsed(line)
        assert not line.is_gone

    assert played(script)[1] == texts


def test_a_message_has_so_many_fragments_even_of_no_length() -> None:
    async def script(protocol: BoundedWebSocket, line: Line, _: list[str]) -> None:
        for _ in range(3):
            protocol.data_received(BEGIN + EMPTY * (FRAGMENTS - 2) + END)
            await parsed(line)
        assert not line.is_gone
        protocol.data_received(BEGIN + EMPTY * FRAGMENTS + PING * 1000)
        await parsed(line)
        assert line.is_gone

    assert played(script)[1] == ["", "", ""]


def test_a_client_that_does_not_read_is_not_read_until_it_does() -> None:
    async def script(protocol: BoundedWebSocket, line: Line, heard: list[str]) -> None:
        protocol.pause_writing()
        assert not line.is_read
        protocol.data_received(message(b"one"))
        await settled()
        assert (line.is_read, heard) == (False, ["one"])
        protocol.resume_writing()
        assert line.is_read

    played(script)


def test_messages_that_nobody_fetches_have_a_bound() -> None:
    async def script(protocol: BoundedWebSocket, line: Line, _: list[str]) -> None:
        protocol.data_received(message(b"x") * (PENDING + 2))
        assert line.is_gone

    played(script)
