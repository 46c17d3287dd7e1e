"""The pages of the control room that every run and sweep has."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chaosops_ray import config
from chaosops_ray.reports.curves import WINDOW
from chaosops_ray.serve.control_room import paths
from chaosops_ray.serve.control_room.last_row import sections
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.run_folder import CONFIG

_NOTHING_AFTER = 1 << 60


def routes(room: Room) -> list[BaseRoute]:
    """Return the routes of these pages."""

    def index(request: Request) -> Response:
        return room.render(request, "index.html", listing=room.runs.listing(), root=str(room.runs.root))

    def run(request: Request) -> Response:
        summary = room.runs.summary(request.path_params["run"])
        try:
            opened = room.runs.run(summary.id)
        except InputError:  # the summary says so in words
            return room.render(request, "run_damaged.html", run=summary, tab="Curves")
        course = room.runs.course(opened, after=_NOTHING_AFTER)
        if course.error:
            summary = summary._replace(error=course.error)
        configuration = paths.read_inside(room.runs.root, opened.path / CONFIG, config.MAX_FILE_BYTES) or b""
        return room.render(
            request,
            "run.html",
            run=summary,
            tab="Curves",
            window=WINDOW,
            sections=sections(course.last) if course.last else [],
            configuration=configuration.decode(errors="replace"),
        )

    def curves(request: Request) -> Response:
        opened = room.runs.run(request.path_params["run"])
        after, times = (number(request, name) for name in ("after", "times"))
        course = room.runs.course(opened, after, times)
        return room.json({**course.curves, "times": course.times, "error": course.error})

    return [
        Route("/", room.page(index), name="index"),
        Route("/runs/{run}", room.page(run), name="run"),
        Route("/api/runs/{run}/curves", room.page(curves), name="curves"),
    ]


def number(request: Request, name: str, default: int = 0) -> int:
    """Return a whole number of the query."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InputError(f"{name} must be a whole number, got {text[:40]!r}")
    return int(text)
