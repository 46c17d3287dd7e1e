"""The application of the control room: its pages, its errors, the files that pages load, and the gate in front."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files as package_files
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from chaosops_ray.plain_text import one_line
from chaosops_ray.serve.asgi import App
from chaosops_ray.serve.control_room import episode_pages, evaluations, events, films, live, pages, sweep_pages
from chaosops_ray.serve.control_room.gate import FORM, Gate
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.room import BusyError, Room
from chaosops_ray.serve.origin import SameOrigin
from chaosops_ray.sim.errors import InputError

# Each gives the routes of some pages; a new page adds its own here.
PAGES: Sequence[Callable[[Room], list[BaseRoute]]] = (
    *(pages.routes, evaluations.routes, episode_pages.routes, films.routes, sweep_pages.routes),
    *(events.routes, live.routes),
)
WEB = Path(str(package_files("chaosops_ray.reports"))) / "web"
API = "/api/"
_TITLES = {
    401: "A token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    422: "This cannot be shown",
    429: "Too many requests at once",
    503: "It takes too long",
}


def create_app(
    room: Room,
    token: str | None = None,
    address: str = "127.0.0.1",
    names: Sequence[str] = (),
    shown: Sequence[Callable[[Room], list[BaseRoute]]] = PAGES,
    framed_by: str = "",
) -> App:
    """Return the application; `address` is what the server is bound to, and `names` are others that lead to it.

    Without a token it answers to these alone, see `SameOrigin`. Pages of the site `framed_by` may show it in a frame.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        room.close()

    def refused(request: Request, status: int, words: str) -> Response:
        return _refused(room, request, status, words)

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = "there is no such page" if status == 404 else _TITLES.get(status, "this does not work")
        return refused(request, status, words)

    async def missing(request: Request, error: Exception) -> Response:
        return refused(request, 404, str(error))

    async def damaged(request: Request, error: Exception) -> Response:
        return refused(request, 422, one_line(error, 1000))

    async def busy(request: Request, _: Exception) -> Response:
        return refused(request, 429, "the control room has too much to do; try again in a moment")

    async def late(request: Request, _: Exception) -> Response:
        return refused(request, 503, "the files could not be read in time; see whether their disk answers")

    app = Starlette(
        routes=[*[route for routes in shown for route in routes(room)], Mount("/assets", StaticFiles(directory=WEB))],
        exception_handlers={
            HTTPException: http,
            NotFoundError: missing,
            InputError: damaged,
            BusyError: busy,
            TimeoutError: late,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False

    async def ask(scope: object, receive: object, send: object) -> None:
        request = Request(scope, receive)  # type: ignore[arg-type]
        words = "this control room needs its token"
        query = f"?{request.url.query}" if request.url.query else ""
        place = "/" if request.url.path == FORM else f"{request.url.path}{query}"
        answer = (
            room.render(request, "token.html", 401, form=FORM, place=place)
            if _wants_page(request)
            else room.json({"detail": f"{words}: Authorization: Bearer TOKEN"}, 401)
        )
        await answer(scope, receive, send)  # type: ignore[arg-type]

    gate = Gate(app, ask, token, framed_by)
    return SameOrigin(gate, address, names) if token is None else gate


def _refused(room: Room, request: Request, status: int, words: str) -> Response:
    if not _wants_page(request):
        return room.json({"detail": words}, status)
    return room.render(request, "refused.html", status, title=_TITLES.get(status, "This does not work"), words=words)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(API)
