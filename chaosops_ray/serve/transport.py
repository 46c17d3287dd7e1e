"""Uvicorn's protocols with bounds where it has none.

A client that opens a connection and sends no request is dropped after a while. One that sends without reading is not
read either until it does, whatever it sends, pings among it. One that sends many messages without waiting for answers
is dropped, and so is one that sends a message in too many fragments.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SILENCE = 30.0  # seconds until the head of a request must have arrived
PENDING = 64  # messages that may wait for an answer
FRAGMENTS = 1024  # of one message
PIECE = 4096  # bytes that are parsed before other connections have their turn


class _InPieces(asyncio.Protocol):
    """Parses what came piece by piece: a read may hold ten thousands of frames, and nobody else is served meanwhile.

    Nothing more is read until all of it is parsed.
    """

    transport: Any
    loop: asyncio.AbstractEventLoop
    _unparsed = b""
    _parsing: asyncio.Handle | None = None

    def data_received(self, data: bytes) -> None:
        """Parse the first piece."""
        self._unparsed += data
        if self._parsing is None:
            self._parse()
        else:
            self._set_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Parse no more."""
        self._unparsed = b""
        if self._parsing is not None:
            self._parsing.cancel()
        super().connection_lost(exc)

    def _parse(self) -> None:
        self._parsing = None
        piece, self._unparsed = self._unparsed[:PIECE], self._unparsed[PIECE:]
        super().data_received(piece)
        if self.transport.is_closing():
            self._unparsed = b""
        elif self._unparsed:
            self._parsing = self.loop.call_soon(self._parse)
        self._set_reading()

    def _set_reading(self) -> None:
        if self.transport.is_closing():
            return
        if self._unparsed or self._must_wait():
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _must_wait(self) -> bool:
        """Tell if nothing may be read for another reason."""
        raise NotImplementedError


class BoundedHttp(_InPieces, H11Protocol):
    """HTTP whose clients must say something."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read what came; wait for the rest of a request's head."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._stop_watching()

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        super().on_response_complete()
        self._set_reading()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection over; a client sends no more before it is answered."""
        super().handle_websocket_upgrade(event)
        self._unparsed = b""

    def shutdown(self) -> None:
        """End the connection, without waiting for the rest of a request."""
        super().shutdown()
        if self.cycle is not None and self.cycle.more_body:
            self.transport.close()

    def _must_wait(self) -> bool:
        return bool(self.flow.read_paused)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(SILENCE, self._drop)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _drop(self) -> None:
        self._deadline = None
        # A connection that has become a WebSocket has another protocol.
        if self.transport.get_protocol() is self:
            self.transport.close()


class BoundedWebSocket(_InPieces, WebSocketsSansIOProtocol):
    """A WebSocket that keeps no more for a client than it reads."""

    def pause_writing(self) -> None:
        """Stop reading as well: pings are answered without asking anybody."""
        super().pause_writing()
        self._set_reading()

    def resume_writing(self) -> None:
        """Read again."""
        super().resume_writing()
        self._set_reading()

    async def receive(self) -> Any:
        """Return the next message for the application."""
        message = await super().receive()
        self._set_reading()
        return message

    def _must_wait(self) -> bool:
        """Tell if a message waits, or the client does not read."""
        return self.read_paused or not self.writable.is_set()

    def handle_cont(self, event: Any) -> None:
        """Add a fragment to its message; drop a client that sends too many of them, which may be empty."""
        if len(self.frames) >= FRAGMENTS:
            self.transport.abort()
        elif not self.transport.is_closing():
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, unless nobody is there any more."""
        if not self.transport.is_closing():
            super().handle_ping()

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; drop a client that has sent too many."""
        if self.queue.qsize() >= PENDING:
            self.transport.abort()
        elif not self.transport.is_closing():
            super().send_receive_event_to_app()
