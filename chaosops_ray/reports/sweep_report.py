"""The report of a sweep: the same content as Markdown and as a page that stands alone, its plots, its figures as JSON.

Nothing in it depends on when or how fast it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.config import Run, Schedule
from chaosops_ray.reports import plots, suspicion_tables, sweep_plots, sweep_tables, tables
from chaosops_ray.reports.drawing import Plot
from chaosops_ray.reports.metrics_rows import Row
from chaosops_ray.reports.rendering import document, page
from chaosops_ray.reports.table import Table
from chaosops_ray.reports.tables import DASH
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.store import files

COMPARISON = "comparison.json"
MARKDOWN = "report.md"
PAGE = "report.html"
_PLOTS = "plots"
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
        yield Part("Verdicts", sweep_tables.verdicts(environment, comparison["verdicts"]), facts.rule)
    if comparison["cells"]:
        seats = [f" Seats: {line}." for line in tables.seats_lines(environment, comparison.get("colleagues", {}))]
        yield Part(
            "Evaluation",
            sweep_tables.evaluation(environment, comparison["cells"], facts.published),
            "".join([_EVALUATION, *seats]),
            bars,
        )
        for table in suspicion_tables.suspicion_tables(environment, comparison):
            yield Part(f"Suspicion by {table.heading[1]}", table, suspicion_tables.HELP)
    if comparison["differences"]:
        note = (
            f"Each arm minus {facts.reference}, on the same scenarios, paired by training seed, with 95 % intervals; "
            "shares in points. In colour where the interval of the mean does not contain zero."
        )
        table = sweep_tables.differences(environment, comparison["differences"])
        yield Part(f"Differences from {facts.reference}", table, note)
    if curves:
        yield Part("Training", plots=curves)
    yield Part("Trials", sweep_tables.trials(comparison["trials"]))
    yield Part("Arms", _arms(facts.arms))


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
