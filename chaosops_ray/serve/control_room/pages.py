"""The pages of the control room that every run and sweep has."""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chaosops_ray import config
from chaosops_ray.reports.curves import WINDOW
from chaosops_ray.reports.metrics_rows import Row
from chaosops_ray.reports.tables import DASH
from chaosops_ray.serve.control_room import paths
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.run_folder import CONFIG

_MAX_FIGURES = 500
_LONGEST_FIGURE = 80
_NOTHING_AFTER = 1 << 60


class Figure(NamedTuple):
    """A figure of a row as it is shown."""

    name: str
    text: str
    unit: str = ""
    help: str = ""


def routes(room: Room) -> list[BaseRoute]:
    """Return the routes of these pages."""

    def index(request: Request) -> Response:
        return room.render(request, "index.html", listing=room.runs.listing(), root=str(room.runs.root))

    def run(request: Request) -> Response:
        summary = room.runs.summary(request.path_params["run"])
        try:
            opened = room.runs.open(summary.id)
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
            places=figures(course.last) if course.last else {},
            configuration=configuration.decode(errors="replace"),
        )

    def curves(request: Request) -> Response:
        opened = room.runs.open(request.path_params["run"])
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


def figures(row: Row) -> dict[str, list[Figure]]:
    """Return the figures of a row, by the place where they stand together."""
    places: dict[str, list[Figure]] = {}
    count = 0
    waiting: list[tuple[str, str, Any]] = [("", name, row[name]) for name in list(row)[::-1]]
    while waiting and count < _MAX_FIGURES:
        place, name, value = waiting.pop()
        if isinstance(value, dict):
            inner = f"{place} · {name}" if place else name
            waiting += [(inner, str(key), value[key]) for key in reversed(value)]
        else:
            places.setdefault(place, []).append(Figure(name, _written(value)))
            count += 1
    return places


def _written(value: Any) -> str:
    if value is None:
        return DASH
    text = f"{value:.6g}".replace("-", "−") if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_FIGURE else f"{text[: _LONGEST_FIGURE - 1]}…"
