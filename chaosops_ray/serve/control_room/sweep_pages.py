"""The page of a sweep: its trials, and when it is over the tables and plots of its report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chaosops_ray import config
from chaosops_ray.reports import suspicion_tables, sweep_tables, tables
from chaosops_ray.serve.control_room import paths
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.serve.control_room.runs import COMPARISON, MAX_EVALUATION, SWEEP
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import ENVIRONMENTS
from chaosops_ray.store.files import parse_object

_PLOTS = "plots"
_PLOT = re.compile(r"[A-Za-z0-9_-]{1,80}\.png")
_MAX_PLOT = 8 << 20
_MAX_PLOTS = 40
_PNG = b"\x89PNG\r\n\x1a\n"


def routes(room: Room) -> list[BaseRoute]:
    """Return the routes of this page and of its plots."""

    def page(request: Request) -> Response:
        summary, path = room.runs.sweep(request.path_params["sweep"])
        error, about = summary.error, ""
        parts: list[dict[str, Any]] = []
        plots: list[str] = []
        try:
            found = _comparison(room.runs.root, path)
            if found is not None:
                about, parts = _shown(found, _published(room.runs.root, path))
                plots = _plots(room.runs.root, path)
        except InputError as why:
            error = str(why)
        return room.render(request, "sweep.html", sweep=summary, error=error, parts=parts, about=about, plots=plots)

    def plot(request: Request) -> Response:
        _, path = room.runs.sweep(request.path_params["sweep"])
        name = request.path_params["plot"]
        content = paths.read_inside(room.runs.root, path / _PLOTS / name, _MAX_PLOT) if _PLOT.fullmatch(name) else None
        if content is None or not content.startswith(_PNG):
            raise NotFoundError("there is no such plot")
        return Response(content, media_type="image/png")

    return [
        Route("/sweeps/{sweep}", room.page(page), name="sweep"),
        Route("/sweeps/{sweep}/plots/{plot}", room.page(plot), name="plot"),
    ]


def _comparison(root: Path, path: Path) -> dict[str, Any] | None:
    content = paths.read_inside(root, path / COMPARISON, MAX_EVALUATION)
    if content is None:
        return None
    found = parse_object(content)
    if found is None:
        raise InputError(f"{COMPARISON} is not JSON; run tune --resume on the sweep, which writes it again")
    return found


def _published(root: Path, path: Path) -> Any:
    found = paths.file_inside(root, path / SWEEP, config.MAX_FILE_BYTES)
    try:
        return {} if found is None else config.read(found).get("published", {})
    except config.ConfigError as error:
        raise InputError(str(error)) from None


def _shown(found: Mapping[str, Any], published: Any) -> tuple[str, list[dict[str, Any]]]:
    """Return what was compared in a line, and the tables of the report."""
    try:
        environment = ENVIRONMENTS[found["world"]]
        about = f"{environment.title} · rules {tables.plain(found['rules'])} · {tables.set_named(found)}"
        return about, _tables(environment, found, published)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise InputError(f"{COMPARISON} is not as this program writes it ({error!r:.80})") from None


def _tables(environment: AnyEnvironment, found: Mapping[str, Any], published: Any) -> list[dict[str, Any]]:
    parts = []
    if found["verdicts"]:
        help_text = (
            "What the sweep was to find out. A claim is supported if the whole interval lies above its margin, "
            "falsified if the whole interval lies below, and undecided otherwise."
        )
        parts.append(_part("Verdicts", help_text, sweep_tables.verdicts(environment, found["verdicts"])))
    if found["cells"]:
        help_text = (
            "How each arm, and each policy beside them, does on scenarios that training never sees, over all training "
            "seeds; seeds from–to are the lowest and the highest mean of a seed."
        )
        table = sweep_tables.evaluation(environment, found["cells"], published)
        parts.append(_part("Evaluation", help_text, table))
        parts += [
            _part(f"Suspicion by {table.heading[1]}", suspicion_tables.HELP, table)
            for table in suspicion_tables.suspicion_tables(environment, found)
        ]
    if found["differences"]:
        help_text = "Each arm minus the reference, on the same scenarios, with 95 % intervals; shares in points."
        parts.append(_part("Differences", help_text, sweep_tables.differences(environment, found["differences"])))
    return parts


def _part(title: str, help_text: str, table: Any) -> dict[str, Any]:
    # The rows are made here, so that what is damaged is found before the page is half written.
    rows = [
        [(str(cell), table.classes(place, column)) for column, cell in enumerate(row)]
        for place, row in enumerate(table.rows)
    ]
    return {"title": title, "help": help_text, "heading": list(table.heading), "words": table.words, "rows": rows}


def _plots(root: Path, path: Path) -> list[str]:
    try:
        folder = paths.inside(root, path / _PLOTS)
        return sorted([one.name for one in folder.iterdir() if _PLOT.fullmatch(one.name)])[:_MAX_PLOTS]
    except (NotFoundError, OSError):
        return []
