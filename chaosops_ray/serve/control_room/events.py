"""Server-sent events: a page is told that there is something new, and fetches it itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from chaosops_ray.serve.control_room.room import BusyError, Room
from chaosops_ray.sim.errors import InputError

POLL_SECONDS = 1.0
# A stream that says nothing for so long sends a comment, so that a connection that is dead is noticed.
_SILENT_POLLS = 15
# A stream ends after so many polls, and the browser opens another.
_POLLS = 1800
MAX_STREAMS = 64
_RETRY = "retry: 2000\n\n"
CHANGED = "event: changed\ndata: {}\n\n"

Look = Callable[[], Any]
Pause = Callable[[], Awaitable[None]]


async def _pause() -> None:
    await asyncio.sleep(POLL_SECONDS)


async def changes(room: Room, look: Look, seen: Any, pause: Pause = _pause, polls: int = _POLLS) -> AsyncIterator[str]:
    """Yield an event whenever what `look` sees has become another; `seen` is what it saw before."""
    yield _RETRY
    silent = 0
    for _ in range(polls):
        if room.is_closing:
            return
        await pause()
        try:
            now = await room.run(look)
        except (InputError, TimeoutError, BusyError):
            continue  # gone, or slow: the page itself says so in words
        silent += 1
        if now != seen:
            seen, silent = now, 0
            yield CHANGED
        elif silent >= _SILENT_POLLS:
            silent = 0
            yield ": still here\n\n"


def routes(room: Room) -> list[BaseRoute]:
    """Return the streams of the list and of a run."""
    streams = 0

    async def stream(look: Look) -> Response:
        nonlocal streams
        if streams >= MAX_STREAMS:
            return room.json({"detail": f"{MAX_STREAMS} pages are live already; close one"}, 429)
        seen = await room.run(look)  # its errors are answered as such, before the stream begins

        async def events() -> AsyncIterator[str]:
            nonlocal streams
            streams += 1
            try:
                async for event in changes(room, look, seen):
                    yield event
            finally:
                streams -= 1

        return StreamingResponse(events(), media_type="text/event-stream")

    async def everything(_: Request) -> Response:
        return await stream(partial(of_all, room))

    async def one(request: Request) -> Response:
        return await stream(partial(room.runs.token, request.path_params["run"]))

    return [Route("/api/events", everything), Route("/api/runs/{run}/events", one)]


def of_all(room: Room) -> Any:
    """Return what the list shows, without what changes by itself."""
    found = room.runs.listing()
    runs = [*found.runs, *[trial for sweep in found.sweeps for trial in sweep.trials]]
    return [one._replace(quiet=None) for one in runs], [sweep.state for sweep in found.sweeps], found.is_cut
