"""The report of a run: one page that stands alone, with its curves and some films, readable in light and dark.

It holds its scripts, styles and data, and needs no server. Without scripts, plots stand in the place of the curves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaosops_ray import config
from chaosops_ray.evaluate import TRAINED
from chaosops_ray.reports import chosen_films, evaluation, plots, run_plots, suspicion_tables, tables, timeline_plot
from chaosops_ray.reports.chosen_films import FILMS, Pair
from chaosops_ray.reports.curves import Curves
from chaosops_ray.reports.metrics_rows import Row, held_out, seconds
from chaosops_ray.reports.rendering import page
from chaosops_ray.reports.table import Table
from chaosops_ray.reports.verdict import verdict
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.seats import in_words
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store.files import temporary_folder, write_text
from chaosops_ray.store.run_folder import CONFIG, EVALUATION, EVALUATION_EPISODES, METRICS, RunFolder

REPORT = "report.html"
PLOTS = "plots"
LEARNS = "the policy that learns"
FILMS_HELP = (
    "Of each tier an episode that the trained policy solved and one that it did not, one with a catch and one with a "
    "false alarm, where there is one, beside the heuristic on the same scenario."
)
NO_FILMS = "No film of an episode was asked for."
NO_EPISODES = "The folder of the run holds no episodes of an evaluation."

MAX_FILMS = 100

Values = Mapping[str, Any]


def of(path: Path, out: Path | None = None, films: int = FILMS, episodes: Sequence[int] = ()) -> Path:
    """Write the report of the run in this folder; see `write`."""
    folder = RunFolder(path)
    return write(folder, environment_named(config.load(path / CONFIG).world), out, films, episodes)


def parse_numbers(spelling: str) -> list[int]:
    """Read numbers of episodes, such as 3,17,40."""
    numbers = spelling.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in numbers) or len(numbers) > MAX_FILMS:
        raise InputError(f"episodes {spelling[:40]!r} are no list; write at most {MAX_FILMS} numbers, such as 3,17,40")
    return [int(part) for part in numbers]


def write(
    folder: RunFolder,
    environment: AnyEnvironment,
    out: Path | None = None,
    films: int = FILMS,
    episodes: Sequence[int] = (),
) -> Path:
    """Write the run's report into its folder, with its plots beside it, or with `out` into this file alone.

    It has at most so many films of the evaluation, or those of the episodes with these numbers.
    """
    run = config.load(folder.path / CONFIG)
    if run.world != environment.name:
        raise InputError(f"{folder.path} is a run in world {run.world}, not {environment.name}")
    folder.check_rules(environment, run.rules)
    folder.check()
    name = tables.plain(folder.path.resolve().name)
    rows = folder.metrics()
    found = evaluation.read(folder, environment)
    shown = _films(folder, environment, run.rendering, films, episodes)
    path = folder.path / REPORT if out is None else out
    drawn = folder.path / PLOTS if out is None else temporary_folder()
    text = page(
        "run.html",
        "report_page.js",
        ("uplot/uPlot.css", "film.css"),
        name=name,
        about=f"model {run.model} · {environment.title} · rules {run.rules} · seed {run.seed}",
        trained=_trained(environment, run, rows),
        played=_played(environment, found),
        training_plots=run_plots.draw(environment, rows, name, run.alarm.kl, drawn) if rows else [],
        timeline_plots=timeline_plot.draw(folder.timeline.path, name, drawn) if rows else [],
        curves=_curves(environment, run, rows),
        films=shown,
        films_help=FILMS_HELP if not episodes else "",
        no_films=NO_FILMS if (folder.path / EVALUATION_EPISODES).exists() else NO_EPISODES,
        held_out=_held_out(environment, rows),
        last=_last(rows[-1]) if rows else {},
        configuration=(folder.path / CONFIG).read_text(encoding="utf-8"),
        files=[CONFIG, METRICS, EVALUATION],
        **_evaluation(environment, found, drawn),
    )
    write_text(path, text)
    return path


def _curves(environment: AnyEnvironment, run: config.Run, rows: Sequence[Row]) -> Values | None:
    if not rows:
        return None
    curves = Curves(environment, run)
    for row in rows:
        curves.add(row)
    return curves.document()


def _films(
    folder: RunFolder, environment: AnyEnvironment, style: Style, count: int, numbers: Sequence[int]
) -> list[Pair]:
    path = folder.path / EVALUATION_EPISODES
    if numbers:
        return chosen_films.named(path, environment, style, numbers)
    return chosen_films.chosen(path, environment, style, count) if count and path.exists() else []


def _trained(environment: AnyEnvironment, run: config.Run, rows: Sequence[Row]) -> str:
    if not rows:
        return "Nothing has been trained yet."
    seats = f" Seats in training: {in_words(environment, run.colleagues, LEARNS)}." if run.colleagues else ""
    episodes = sum([row["episodes"] for row in rows])
    minutes = sum([seconds(row) for row in rows]) / 60
    last = rows[-1]["update"]
    of = "" if last == run.updates else f" of {run.updates}"
    return f"Trained on {episodes:,} episodes in {last}{of} updates, which took {minutes:,.1f} minutes.{seats}"


def _played(environment: AnyEnvironment, found: Values | None) -> str:
    if found is None:
        return "Not evaluated yet."
    trained = [cell for cell in found["cells"] if cell["policy"] == TRAINED]
    means = [f"{tables.headline(environment, cell['mean'])} on {cell['tier']}" for cell in trained]
    model = found.get("policies", {}).get(TRAINED)
    which = f" It is {tables.model_in_words(model)}." if model else ""
    where = f"Played greedily on the {tables.set_named(found)} under rules {found['rules']}"
    if not means:
        return f"{where}, the evaluation holds no policy called {TRAINED}."
    return f"{where}, it has a mean {environment.headline_name} of {', '.join(means)}.{which}"


def _evaluation(environment: AnyEnvironment, found: Values | None, folder: Path) -> dict[str, Any]:
    if found is None:
        return {"by_tier": None}
    grouping = environment.grouping
    return {
        "seats": tables.seats_lines(environment, found.get("colleagues", {})),
        "by_tier": tables.evaluation_table(environment, found["cells"], "tier"),
        "suspicion": suspicion_tables.suspicion_tables(environment, found),
        "suspicion_help": suspicion_tables.HELP,
        "verdict": verdict(environment, found),
        "by_group": tables.evaluation_table(environment, found[f"by_{grouping}"], grouping),
        "differences": _differences(environment, found.get("differences", [])),
        "evaluation_plots": plots.plot(environment, found, folder),
    }


def _differences(environment: AnyEnvironment, differences: Sequence[Values]) -> Table | None:
    if not differences:
        return None
    rows = []
    for found in differences:
        interval = " … ".join([tables.headline(environment, bound) for bound in found["ci"]])
        versus = f"{found['policy']} − {found['against']}"
        rows.append((found["tier"], versus, tables.signed(environment, found["mean"]), interval))
    heading = ("tier", "difference", f"mean {environment.headline_name}", "95 % interval")
    return Table(heading, 2, rows, 2, [tables.mark(found["ci"]) for found in differences])


def _held_out(environment: AnyEnvironment, rows: Sequence[Row]) -> Table | None:
    """Make the table of the held-out figures during training, by update and tier."""
    shown = [metric for metric in environment.metrics if metric.in_tables]
    cells = [
        (
            str(found["update"]),
            tier,
            str(figures["episodes"]),
            tables.headline(environment, figures["mean"]),
            tables.headline(environment, found["heuristic"][tier]) if tier in found["heuristic"] else tables.DASH,
            *[tables.metric_figure(metric, figures[metric.name]) for metric in shown],
        )
        for found in held_out(rows)
        for tier, figures in found["tiers"].items()
    ]
    headings = ("update", "tier", "n", f"mean {environment.headline_name}", environment.heuristic or "heuristic")
    heading = (*headings, *[metric.title for metric in shown])
    return Table(heading, 2, cells) if cells else None


def _last(row: Row) -> dict[str, list[tuple[str, str]]]:
    """Return name and value of every figure of a row, by the place where figures stand together."""
    places: dict[str, list[tuple[str, str]]] = {}
    # The held-out figures have a table of their own.
    for place, name, value in _leaves({name: value for name, value in row.items() if name != "evaluation"}, ""):
        places.setdefault(place, []).append((name, _written(value)))
    return places


def _leaves(values: Values, place: str) -> Iterator[tuple[str, str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{place} · {name}" if place else name)
        else:
            yield place, name, value


def _written(value: Any) -> str:
    if value is None:
        return tables.DASH
    return f"{value:.6g}".replace("-", "−") if isinstance(value, float) else str(value)
