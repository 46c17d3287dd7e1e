"""The report of a sweep: the same content as Markdown and as a page that stands alone, its plots, its figures as JSON.

Nothing in it depends on when or how fast it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.config import Run, Schedule
from chaosops_ray.reports import plots, sweep_plots, tables
from chaosops_ray.reports.drawing import Plot
from chaosops_ray.reports.metrics_rows import Row
from chaosops_ray.reports.rendering import Table, document, page
from chaosops_ray.reports.tables import DASH
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.store import files

COMPARISON = "comparison.json"
MARKDOWN = "report.md"
PAGE = "report.html"
_PLOTS = "plots"
_LONGEST_REASON = 200
_MEAN = "mean"  # the headline's name in a comparison; every other figure is one of the world's metrics
_VERDICT_MARKS = {"supported": "good", "falsified": "bad", "undecided": ""}
_EVALUATION = (
    "Shares and means are over all seeds and scenarios; seeds from–to are the lowest and the highest mean of a "
    "training seed, and the intervals in the plots do not resample training seeds. Published figures, where there are "
    "any, are of the runs that these arms are named after: full-size models in the published world, under the "
    "published rules."
)


class Arm(NamedTuple):
    """The facts about one arm."""

    run: Run  # of its first trial
    base_digest: str
    rows: Sequence[Sequence[Row]]  # the metrics of each of its trials


class SweepFacts(NamedTuple):
    """The content of the report of a sweep."""

    arms: Mapping[str, Arm]
    seeds: str  # as they were given
    reference: str
    published: Mapping[str, Mapping[str, Mapping[str, float]]]  # by arm, tier and figure
    comparison: Mapping[str, Any]
    rule: str  # by which claims are decided


class Part(NamedTuple):
    """A section of the report: a table, a note on it, plots; any of them may be missing."""

    title: str
    table: Table | None = None
    note: str = ""
    plots: Sequence[Plot] = ()


def write(out: Path, environment: AnyEnvironment, facts: SweepFacts) -> tuple[Path, ...]:
    """Draw the plots and write the report."""
    files.write_json(out / COMPARISON, facts.comparison)
    arms = {name: arm.rows for name, arm in facts.arms.items()}
    curves = sweep_plots.draw(environment, out.name, arms, out / _PLOTS)
    bars = plots.plot(environment, facts.comparison, out / _PLOTS) if facts.comparison["cells"] else []
    paths = (out / MARKDOWN, out / PAGE)
    for path, text in zip(paths, rendered(out, environment, facts, curves, bars), strict=True):
        files.write_text(path, text)
    return paths


def rendered(
    out: Path, environment: AnyEnvironment, facts: SweepFacts, curves: Sequence[Plot], bars: Sequence[Plot]
) -> tuple[str, str]:
    """Render the report as Markdown and as a page; plots lie below the folder `out`."""
    values = {
        "name": tables.plain(out.name),
        "lead": _lead(environment, facts),
        "parts": list(_parts(environment, facts, curves, bars)),
    }
    return document("sweep.md", folder=out, **values), page("sweep.html", comparison_file=COMPARISON, **values)


def _lead(environment: AnyEnvironment, facts: SweepFacts) -> str:
    trials = facts.comparison["trials"]
    counts = {state: sum([one["state"] == state for one in trials]) for state in ("finished", "stopped", "failed")}
    states = ", ".join([f"{count} {state}" for state, count in counts.items() if count])
    return (
        f"{len(facts.arms)} arms, training seeds {facts.seeds}: {len(trials)} trials, {states}. {environment.title}, "
        f"rules {facts.comparison['rules']}, played greedily on the {tables.set_named(facts.comparison)}."
    )


def _parts(
    environment: AnyEnvironment, facts: SweepFacts, curves: Sequence[Plot], bars: Sequence[Plot]
) -> Iterator[Part]:
    comparison = facts.comparison
    if comparison["verdicts"]:
        yield Part("Verdicts", _verdicts(environment, comparison["verdicts"]), facts.rule)
    if comparison["cells"]:
        seats = [f" Seats: {line}." for line in tables.seats_lines(environment, comparison.get("colleagues", {}))]
        yield Part("Evaluation", _evaluation(environment, facts), "".join([_EVALUATION, *seats]), bars)
    if comparison["differences"]:
        note = (
            f"Each arm minus {facts.reference}, on the same scenarios, paired by training seed, with 95 % intervals; "
            "shares in points. In colour where the interval of the mean does not contain zero."
        )
        table = _differences(environment, comparison["differences"])
        yield Part(f"Differences from {facts.reference}", table, note)
    if curves:
        yield Part("Training", plots=curves)
    yield Part("Trials", _trials(comparison["trials"]))
    yield Part("Arms", _arms(facts.arms))


def _evaluation(environment: AnyEnvironment, facts: SweepFacts) -> Table:
    """Make the table of the evaluation, with the means of single training seeds and with published figures."""
    cells = facts.comparison["cells"]
    found = tables.evaluation_table(environment, cells, "tier")
    titles = {_MEAN: _MEAN, **{metric.name: metric.title for metric in found.metrics if metric.is_share}}
    published = [row for tiers in facts.published.values() for row in tiers.values()]
    quoted = [name for name in titles if any(name in row for row in published)]
    heading = ["policy", "tier", "n", *[metric.title for metric in found.metrics], "mean", "seeds from–to", "median"]
    if quoted:
        heading.append(f"published {' / '.join([titles[name] for name in quoted])}")
    rows = []
    for row, cell in zip(found.rows, cells, strict=True):
        seeds = [tables.headline(environment, bound(cell["seed_means"])) for bound in (min, max) if cell["seed_means"]]
        figures = [figure.text for figure in (*row.metrics, row.mean)]
        shown = [row.policy, row.group, row.episodes, *figures, " … ".join(seeds) or DASH, row.median]
        if quoted:
            said = facts.published.get(row.policy, {}).get(row.group, {})
            amounts = [_amount(environment, name, said[name]) if name in said else DASH for name in quoted]
            shown.append(" / ".join(amounts) if said else DASH)
        rows.append(shown)
    return Table(heading, 2, rows)


def _differences(environment: AnyEnvironment, differences: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table with a row for each arm and tier, and a column for each figure."""
    titles = _titles(environment)
    by_row: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for found in differences:
        by_row.setdefault((found["arm"], found["tier"]), {})[found["of"]] = found
    figures = [name for name in titles if any(name in row for row in by_row.values())]
    rows = []
    for (arm, tier), row in by_row.items():
        shown = [_difference(environment, row[name]) if name in row else DASH for name in figures]
        rows.append([f"{arm} − {row[_MEAN]['against']}", tier, *shown, str(row[_MEAN]["seeds"])])
    marks = [tables.mark(row[_MEAN]["ci"]) for row in by_row.values()]
    return Table(("arms", "tier", *[titles[name] for name in figures], "seeds"), 2, rows, 2, marks)


def _difference(environment: AnyEnvironment, found: Mapping[str, Any]) -> str:
    of = found["of"]
    value = _signed(environment, of, found["mean"]).removesuffix(" points")
    return f"{value} [{_interval(environment, of, found['ci'])}]"


def _verdicts(environment: AnyEnvironment, verdicts: Sequence[Mapping[str, Any]]) -> Table:
    titles = _titles(environment)
    rows = [
        (
            found["claim"],
            f"{titles[found['of']]} on {found['on']}: {found['more']} − {found['than']}",
            found["verdict"],
            DASH if found["ci"] is None else _signed(environment, found["of"], found["mean"]),
            DASH if found["ci"] is None else _interval(environment, found["of"], found["ci"]),
            _signed(environment, found["of"], found["by"]),
            str(found["seeds"]),
        )
        for found in verdicts
    ]
    heading = ("claim", "measured", "verdict", "difference", "95 % interval", "margin", "seeds")
    return Table(heading, 3, rows, 2, [_VERDICT_MARKS[found["verdict"]] for found in verdicts])


def _trials(trials: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            found["trial"],
            found["state"] + (f": {tables.plain(found['why'], _LONGEST_REASON)}" if found["why"] else ""),
            f"{found['updates']} of {found['of']}",
            f"{found['episodes']:,}",
            DASH if found["kl"] is None else f"{found['kl']:.2f}",
            (found["digest"] or DASH)[:12],
        )
        for found in trials
    ]
    heading = ("trial", "state", "updates", "episodes", "last KL", "adapter")
    return Table(heading, 2, rows, 1, ["bad" if found["state"] == "failed" else "" for found in trials])


def _arms(arms: Mapping[str, Arm]) -> Table:
    options = list(dict.fromkeys([name for arm in arms.values() for name in arm.run.rule_options]))
    seated = any(arm.run.colleagues for arm in arms.values())
    rows = [
        (
            name,
            Path(arm.run.model).name if Path(arm.run.model).is_absolute() else arm.run.model,
            arm.run.curriculum,
            str(arm.run.updates),
            *([_learning(arm.run)] if seated else []),
            *[_schedule(arm.run.rule_options.get(option)) for option in options],
            _schedule(arm.run.learner.learning_rate),
            str(arm.run.learner.lora_rank),
            f"{arm.run.batch.scenarios} × {arm.run.batch.group}",
            arm.base_digest[:12],
        )
        for name, arm in arms.items()
    ]
    heading = (
        "arm",
        "model",
        "curriculum",
        "updates",
        *(["seats"] if seated else []),
        *[option.replace("_", " ") for option in options],
    )
    return Table((*heading, "learning rate", "LoRA r", "batch", "base"), 3, rows)


def _learning(run: Run) -> str:
    beside = [f"{role} {tables.plain(name)}" for role, name in run.colleagues.items()]
    return ", ".join([*beside, "others learn" if beside else "all learn"])


def _schedule(figure: Schedule | None) -> str:
    if figure is None:
        return DASH
    return f"{figure.start:g}" if figure.start == figure.end else f"{figure.start:g} → {figure.end:g}"


def _titles(environment: AnyEnvironment) -> dict[str, str]:
    return {_MEAN: f"mean {environment.headline_name}", **{metric.name: metric.title for metric in environment.metrics}}


def _amount(environment: AnyEnvironment, of: str, value: float) -> str:
    if of == _MEAN:
        return tables.headline(environment, value)
    metric = next(metric for metric in environment.metrics if metric.name == of)
    return tables.metric_figure(metric, value)


def _signed(environment: AnyEnvironment, of: str, value: float) -> str:
    if of == _MEAN:
        return tables.signed(environment, value)
    return f"{100 * value:+.0f} points".replace("-", "−")


def _interval(environment: AnyEnvironment, of: str, ci: Sequence[float]) -> str:
    return " … ".join([_signed(environment, of, bound).removesuffix(" points") for bound in ci])
