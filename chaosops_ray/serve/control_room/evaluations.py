"""The evaluation of a run that is over: by tier and by group, each cell a door to its episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chaosops_ray.reports import evaluation, suspicion_tables, tables, verdict
from chaosops_ray.reports.tables import EvaluationTable, PolicyRow
from chaosops_ray.serve.control_room import paths
from chaosops_ray.serve.control_room.last_row import OWN
from chaosops_ray.serve.control_room.metrics_file import MAX_BYTES
from chaosops_ray.serve.control_room.recorded import EVALUATED
from chaosops_ray.serve.control_room.room import Room, run_url
from chaosops_ray.serve.control_room.runs import MAX_EVALUATION, OpenRun
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.run_folder import EVALUATION, EVALUATION_EPISODES, METRICS, RESULTS, RunFolder


class Cell(NamedTuple):
    """What one policy reached on one tier or group."""

    row: PolicyRow
    solved: str
    address: str  # of its episodes; empty where they were not kept


class Cells(NamedTuple):
    """A table of such cells: a line for each tier or group, a column for each policy."""

    key: str
    policies: Sequence[str]
    rows: Mapping[str, Sequence[Cell | None]]


def routes(room: Room) -> list[BaseRoute]:
    """Return the route of this page."""

    def page(request: Request) -> Response:
        summary = room.runs.summary(request.path_params["run"])
        values: dict[str, Any] = {"run": summary, "tab": "Evaluation", "found": None}
        try:
            opened = room.runs.run(summary.id)
            found = read(room, opened)
        except InputError as error:
            values["run"] = summary._replace(error=str(error))
            return room.render(request, "run_damaged.html", **values)
        if found is not None:
            values |= _shown(opened, found)
        return room.render(request, "evaluation.html", **values)

    return [Route("/runs/{run}/evaluation", room.page(page), name="evaluation")]


def read(room: Room, opened: OpenRun) -> dict[str, Any] | None:
    """Return the evaluation of a run, checked with all that it stands on; None before it is made."""
    if paths.file_inside(room.runs.root, opened.path / EVALUATION, MAX_EVALUATION) is None:
        return None
    for name in (METRICS, RESULTS):
        paths.file_inside(room.runs.root, opened.path / name, MAX_BYTES)
    return evaluation.read(RunFolder(opened.path), opened.environment)


def _shown(opened: OpenRun, found: Mapping[str, Any]) -> dict[str, Any]:
    environment = opened.environment
    grouping = environment.grouping
    by_tier = tables.evaluation_table(environment, found["cells"], "tier")
    by_group = tables.evaluation_table(environment, found[f"by_{grouping}"], grouping)
    is_kept = (opened.path / EVALUATION_EPISODES).is_file()
    return {
        "found": found,
        "where": f"the {tables.set_named(found)}, under rules {tables.plain(found['rules'])}",
        "seats": tables.seats_lines(environment, found.get("colleagues", {})),
        "models": tables.models_lines(found.get("policies", {})),
        "verdict": verdict.verdict(environment, found),
        "parts": [_cells(opened, table, is_kept=is_kept) for table in (by_tier, by_group)],
        "tables": [by_tier, by_group],
        "suspicion": suspicion_tables.suspicion_tables(environment, found),
        "suspicion_help": suspicion_tables.HELP,
        "differences": _differences(environment, found.get("differences", [])),
        "is_kept": is_kept,
        "headline": environment.headline_name,
        "legend": [(metric.title, OWN[metric.name][0]) for metric in by_tier.metrics if metric.name in OWN],
    }


def _cells(opened: OpenRun, table: EvaluationTable, *, is_kept: bool) -> Cells:
    policies = list(dict.fromkeys([row.policy for row in table.rows]))
    solved = next(place for place, metric in enumerate(table.metrics) if metric.is_share)
    rows: dict[str, Sequence[Cell | None]] = {}
    for group, those in table.by_group().items():
        by_policy = {row.policy: row for row in those}
        cells: list[Cell | None] = []
        for policy in policies:
            row = by_policy.get(policy)
            address = _episodes(opened.id, policy, table.key, group) if is_kept else ""
            cells.append(None if row is None else Cell(row, row.metrics[solved].text, address))
        rows[group] = cells
    return Cells(table.key, policies, rows)


def _episodes(run: str, policy: str, key: str, group: str) -> str:
    """Return the address of the list of these episodes."""
    wanted = {"file": EVALUATED, "policy": policy, "tier" if key == "tier" else "group": group}
    return f"{run_url(run, 'episodes')}?{urlencode(wanted)}"


def _differences(
    environment: AnyEnvironment, those: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, str, str, str]]:
    """Return tier, the two policies, the mean difference, its interval and its mark, of each difference."""
    return [
        (
            found["tier"],
            f"{found['policy']} − {found['against']}",
            tables.signed(environment, found["mean"]),
            " … ".join([tables.headline(environment, bound) for bound in found["ci"]]),
            tables.mark(found["ci"]),
        )
        for found in those
    ]
