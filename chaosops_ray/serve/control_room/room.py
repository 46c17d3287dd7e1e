"""What every page of the control room is made with: the runs, the templates, and bounded endpoints."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.runs import Runs
from chaosops_ray.serve.control_room.stage import Stage

# Of one request; a file system that hangs must not hang the page.
DEADLINE = 20.0
_THREADS = 8
# Requests that may wait for a thread or have one.
_WAITING = 64

_Value = TypeVar("_Value")
Page = Callable[[Request], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


class BusyError(Exception):
    """Too many requests at once."""


class Room:
    """The runs, and how pages of them are made."""

    def __init__(self, runs: Runs | None, deadline: float = DEADLINE, stage: Stage | None = None) -> None:
        self._runs = runs
        self.stage = Stage(runs) if stage is None else stage
        self._deadline = deadline
        self.is_closing = False  # streams end then
        self._threads = ThreadPoolExecutor(_THREADS, "control-room")
        self._places = threading.BoundedSemaphore(_WAITING)
        self._templates = Environment(
            loader=PackageLoader("chaosops_ray.serve.control_room"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"asset": asset, "run_url": run_url, "sweep_url": sweep_url, "api": api}

    @property
    def runs(self) -> Runs:
        """The runs that are shown; NotFoundError where none are."""
        if self._runs is None:
            raise NotFoundError("this server shows no runs")
        return self._runs

    def page(self, make: Page) -> Endpoint:
        """Make an endpoint of a function that reads files: it runs in a thread, and has a deadline."""

        async def endpoint(request: Request) -> Response:
            return await self.run(partial(make, request))

        return endpoint

    async def run(self, work: Callable[[], _Value]) -> _Value:
        """Run something in a thread; BusyError if too much waits, TimeoutError after the deadline."""
        # A thread cannot be ended: what is late keeps its place until it is done, so that late ones cannot pile up.
        if not self._places.acquire(blocking=False):
            raise BusyError
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._deadline)

    def render(self, _: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a page."""
        text = self._templates.get_template(template).render(values)
        return HTMLResponse(text, status)

    def json(self, values: Mapping[str, Any], status: int = 200) -> Response:
        """Answer with JSON."""
        return Response(json.dumps(values, allow_nan=False, ensure_ascii=False), status, media_type="application/json")

    def end(self) -> None:
        """End the streams and what is played, so that the server need not wait for them."""
        self.is_closing = True
        self.stage.end()

    def close(self) -> None:
        """End it all, and wait for no thread any more."""
        self.end()
        self._threads.shutdown(wait=False, cancel_futures=True)


def asset(name: str) -> str:
    """Return the address of a file of reports/web."""
    return f"/assets/{name}"


def api(address: str) -> str:
    """Return the address of the data of a page."""
    return f"/api{address}"


def run_url(run: str, *parts: str | int) -> str:
    """Return the address of a run, or of something in it."""
    return _url("runs", run, *parts)


def sweep_url(sweep: str, *parts: str | int) -> str:
    """Return the address of a sweep, or of something in it."""
    return _url("sweeps", sweep, *parts)


def _url(*parts: str | int) -> str:
    return "".join([f"/{quote(str(part), safe=':~')}" for part in parts])
