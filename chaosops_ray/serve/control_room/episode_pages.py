"""The list of a run's recorded episodes, filtered, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chaosops_ray.serve.control_room import recorded
from chaosops_ray.serve.control_room.pages import number
from chaosops_ray.serve.control_room.recorded import Listed, Lists
from chaosops_ray.serve.control_room.room import Room, run_url
from chaosops_ray.sim.errors import InputError, unknown

PAGE = 100
_FILTERS = ("policy", "tier", "group")


def routes(room: Room) -> list[BaseRoute]:
    """Return the route of this page."""
    lists = Lists()

    def page(request: Request) -> Response:
        summary = room.runs.summary(request.path_params["run"])
        values: dict[str, Any] = {"run": summary, "tab": "Episodes"}
        try:
            opened = room.runs.run(summary.id)
            files = recorded.files(room.runs.root, opened)
            chosen = request.query_params.get("file") or (files[0] if files else "")
            order = request.query_params.get("order") or "recorded"
            if order not in recorded.ORDERS:
                raise unknown("order", order, recorded.ORDERS)
            start = number(request, "page", 1)
            found = lists.of(recorded.file(room.runs.root, opened, chosen), opened.environment) if chosen else []
        except InputError as error:
            values["run"] = summary._replace(error=str(error))
            return room.render(request, "run_damaged.html", **values)
        wanted = {name: request.query_params.get(name, "") for name in _FILTERS}
        choices = {name: _choices(found, name) for name in _FILTERS}
        shown = [
            one for one in found if all(not value or getattr(one, name) == value for name, value in wanted.items())
        ]
        shown.sort(key=recorded.ORDERS[order][1])
        pages = max(1, -(-len(shown) // PAGE))
        start = min(max(1, start), pages)
        query = {"file": chosen, **wanted, "order": order}
        return room.render(
            request,
            "episodes.html",
            **values,
            grouping=opened.environment.grouping,
            files=files,
            chosen=chosen,
            wanted=wanted,
            choices=choices,
            order=order,
            orders={name: words for name, (words, _) in recorded.ORDERS.items()},
            total=len(found),
            count=len(shown),
            first=(start - 1) * PAGE,
            shown=shown[(start - 1) * PAGE : start * PAGE],
            page=start,
            pages=pages,
            turn=lambda to: f"{run_url(summary.id, 'episodes')}?{urlencode({**query, 'page': to})}",
        )

    return [Route("/runs/{run}/episodes", room.page(page), name="episodes")]


def _choices(found: Sequence[Listed], name: str) -> list[str]:
    return list(dict.fromkeys([getattr(one, name) for one in found]))
