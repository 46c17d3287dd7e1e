"""Uvicorn's protocols with bounds where it has none.

A client that opens a connection and sends no request is dropped after a while. One that sends without reading is not
read either until it does, whatever it sends, pings among it. One that sends many messages without waiting for answers
is dropped.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SILENCE = 30.0  # seconds until the head of a request must have arrived
PENDING = 64  # messages that may wait for an answer


class BoundedHttp(H11Protocol):
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


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that keeps no more for a client than it reads."""

    def pause_writing(self) -> None:
        """Stop reading as well: pings are answered without asking anybody."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again, unless a message is waiting."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; drop a client that has sent too many."""
        if self.queue.qsize() >= PENDING:
            self.transport.abort()
        elif not self.transport.is_closing():
            super().send_receive_event_to_app()
