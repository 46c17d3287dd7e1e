"""The report of a sweep: the same content as Markdown and as a page that stands alone, its plots, its figures as JSON.

Nothing in it depends on when or how fast it was made. Names, claims and reasons may hold anything, and are escaped
where they enter a page or a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from chaosops_ray.reports import plots, run_report, sweep_plots, tables
from chaosops_ray.reports.run_plots import Plot, made
from chaosops_ray.sim.contract import AnyEnvironment, Metric
from chaosops_ray.store import files
from chaosops_ray.sweeps.comparison import RULE, SUPPORTED, UNDECIDED, Comparison, Outcome
from chaosops_ray.sweeps.spec import MEAN, Sweep

COMPARISON = "comparison.json"
MARKDOWN = "report.md"
PAGE = "report.html"
_PLOTS = "plots"
_LONGEST_REASON = 200
_DASH = "–"


class Text(NamedTuple):
    """A paragraph."""

    words: str


class Cells(NamedTuple):
    """A table: the first columns hold words, the others figures; on the page one column is coloured by marks."""

    heading: Sequence[str]
    words: int
    rows: Sequence[Sequence[str]]
    coloured: int = -1
    marks: Sequence[str] = ()


class Pictures(NamedTuple):
    """Plots, one after the other."""

    plots: Sequence[Plot]


Content: TypeAlias = Text | Cells | Pictures


class Part(NamedTuple):
    """A section of the report."""

    title: str
    content: Sequence[Content]


def write(
    out: Path,
    environment: AnyEnvironment,
    sweep: Sweep,
    outcomes: Sequence[Outcome],
    comparison: Comparison,
    digests: Mapping[str, str],
) -> tuple[Path, ...]:
    """Draw the plots and write the report; `digests` are those of the arms' base models."""
    files.write_json(out / COMPARISON, comparison)
    arms = {arm: [one.rows for one in outcomes if one.trial.arm == arm] for arm in sweep.arms}
    curves = sweep_plots.draw(environment, out.name, arms, out / _PLOTS)
    bars = (
        [
            Plot(path, path.stem.replace("_", " ").capitalize())
            for path in plots.plot(environment, comparison, made(out / _PLOTS))
        ]
        if comparison["cells"]
        else []
    )
    name = tables.plain(out.name)
    parts = list(_parts(environment, sweep, outcomes, comparison, digests, curves, bars))
    lead = _lead(environment, sweep, comparison)
    paths = (out / MARKDOWN, out / PAGE)
    for path, text in zip(paths, (_markdown(name, lead, parts, out), _html(name, lead, parts)), strict=True):
        files.write_text(path, text)
    return paths


# -- what is said -----------------------------------------------------------------------------------------------------


def _lead(environment: AnyEnvironment, sweep: Sweep, comparison: Comparison) -> str:
    trials = comparison["trials"]
    counts = {state: sum([one["state"] == state for one in trials]) for state in ("finished", "stopped", "failed")}
    states = ", ".join([f"{count} {state}" for state, count in counts.items() if count])
    return (
        f"{len(sweep.arms)} arms, training seeds {sweep.seeds}: {len(trials)} trials, {states}. {environment.title}, "
        f"rules {comparison['rules']}, played greedily on the {tables.set_named(comparison)}."
    )


def _parts(
    environment: AnyEnvironment,
    sweep: Sweep,
    outcomes: Sequence[Outcome],
    comparison: Comparison,
    digests: Mapping[str, str],
    curves: Sequence[Plot],
    bars: Sequence[Plot],
) -> Iterator[Part]:
    if comparison["verdicts"]:
        yield Part("Verdicts", [_verdicts(environment, comparison), Text(RULE)])
    if comparison["cells"]:
        yield Part("Evaluation", [_evaluation(environment, sweep, comparison), Text(_EVALUATION), Pictures(bars)])
    if comparison["differences"]:
        words = (
            f"Each arm less {sweep.reference}, on the same scenarios, paired by training seed, with 95 % intervals; "
            "shares in points. In colour where the interval of the mean does not hold zero."
        )
        yield Part(f"Differences from {sweep.reference}", [Text(words), _differences(environment, comparison)])
    if curves:
        yield Part("Training", [Pictures(curves)])
    yield Part("Trials", [_trials(comparison)])
    yield Part("Arms", [_arms(outcomes, digests)])


_EVALUATION = (
    "Shares and means are over all seeds and scenarios; seeds from–to are the lowest and the highest mean of a "
    "training seed, and the intervals in the plots take the seeds as they are. Published figures, where there are any, "
    "are of the runs that these arms are named after: full-size models in the published world, under the published "
    "rules."
)


def _evaluation(environment: AnyEnvironment, sweep: Sweep, comparison: Comparison) -> Cells:
    """The published table's layout, published figures beside."""
    shown = [metric for metric in environment.metrics if metric.in_tables]
    heading = ["policy", "tier", "n", *[metric.title for metric in shown], "mean", "seeds from–to", "median"]
    quoted = [MEAN, *[metric.name for metric in shown if metric.is_share]]
    quoted = [
        name for name in quoted if any(name in row for tiers in sweep.published.values() for row in tiers.values())
    ]
    titles = {MEAN: "mean", **{metric.name: metric.title for metric in shown}}
    if quoted:
        heading.append(f"published {' / '.join([titles[name] for name in quoted])}")
    rows = []
    for cell in comparison["cells"]:
        seeds = cell["seed_means"]
        said = sweep.published.get(cell["policy"], {}).get(cell["tier"], {})
        rows.append(
            [
                cell["policy"],
                cell["tier"],
                str(cell["episodes"]),
                *[tables.metric_figure(metric, cell[metric.name]) for metric in shown],
                tables.headline(environment, cell["mean"]),
                f"{tables.headline(environment, min(seeds))} … {tables.headline(environment, max(seeds))}"
                if seeds
                else _DASH,
                tables.headline(environment, cell["median"]),
                *([_quoted(environment, said, quoted)] if quoted else []),
            ]
        )
    return Cells(heading, 2, rows)


def _quoted(environment: AnyEnvironment, said: Mapping[str, float], names: Sequence[str]) -> str:
    if not said:
        return _DASH
    return " / ".join([_amount(environment, name, said[name]) if name in said else _DASH for name in names])


def _differences(environment: AnyEnvironment, comparison: Comparison) -> Cells:
    """A row for each arm and tier, a column for each figure."""
    titles = _titles(environment)
    by_row: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for found in comparison["differences"]:
        by_row.setdefault((found["arm"], found["tier"]), {})[found["of"]] = found
    figures = [name for name in titles if any(name in row for row in by_row.values())]
    rows, marks = [], []
    for (arm, tier), row in by_row.items():
        low, high = row[MEAN]["ci"]
        rows.append(
            [
                f"{arm} − {row[MEAN]['against']}",
                tier,
                *[_difference(environment, row[name]) if name in row else _DASH for name in figures],
                str(row[MEAN]["seeds"]),
            ]
        )
        marks.append("good" if low > 0 else "bad" if high < 0 else "")
    return Cells(["arms", "tier", *[titles[name] for name in figures], "seeds"], 2, rows, 2, marks)


def _difference(environment: AnyEnvironment, found: Mapping[str, Any]) -> str:
    of = found["of"]
    return (
        f"{_signed(environment, of, found['mean']).removesuffix(' points')} [{_interval(environment, of, found['ci'])}]"
    )


def _verdicts(environment: AnyEnvironment, comparison: Comparison) -> Cells:
    titles = _titles(environment)
    rows, marks = [], []
    for found in comparison["verdicts"]:
        is_known = found["ci"] is not None
        rows.append(
            [
                found["claim"],
                f"{titles[found['of']]} on {found['on']}: {found['more']} − {found['than']}",
                found["verdict"],
                _signed(environment, found["of"], found["mean"]) if is_known else _DASH,
                _interval(environment, found["of"], found["ci"]) if is_known else _DASH,
                _signed(environment, found["of"], found["by"]),
                str(found["seeds"]),
            ]
        )
        marks.append({SUPPORTED: "good", UNDECIDED: ""}.get(found["verdict"], "bad"))
    return Cells(["claim", "measured", "verdict", "difference", "95 % interval", "margin", "seeds"], 3, rows, 2, marks)


def _trials(comparison: Comparison) -> Cells:
    rows = [
        [
            found["trial"],
            found["state"] + (f": {tables.plain(found['why'], _LONGEST_REASON)}" if found["why"] else ""),
            f"{found['updates']} of {found['of']}",
            f"{found['episodes']:,}",
            _DASH if found["kl"] is None else f"{found['kl']:.2f}",
            (found["digest"] or _DASH)[:12],
        ]
        for found in comparison["trials"]
    ]
    marks = [{"finished": "", "failed": "bad"}.get(found["state"], "") for found in comparison["trials"]]
    return Cells(["trial", "state", "updates", "episodes", "last KL", "adapter"], 2, rows, 1, marks)


def _arms(outcomes: Sequence[Outcome], digests: Mapping[str, str]) -> Cells:
    rows = []
    for one in {one.trial.arm: one for one in outcomes}.values():
        run = one.trial.run
        rows.append(
            [
                one.trial.arm,
                Path(run.model).name if Path(run.model).is_absolute() else run.model,
                run.curriculum,
                str(run.updates),
                *[
                    f"{figure.start:g}" if figure.start == figure.end else f"{figure.start:g} → {figure.end:g}"
                    for figure in (run.catch, run.false_flag, run.learner.learning_rate)
                ],
                str(run.learner.lora_rank),
                f"{run.batch.scenarios} × {run.batch.group}",
                digests[one.trial.arm][:12],
            ]
        )
    heading = ["arm", "model", "curriculum", "updates", "right flag ×", "wrong flag ×", "learning rate", "LoRA r"]
    return Cells([*heading, "batch", "base"], 3, rows)


def _titles(environment: AnyEnvironment) -> dict[str, str]:
    return {MEAN: f"mean {environment.headline_name}", **{metric.name: metric.title for metric in environment.metrics}}


def _metric(environment: AnyEnvironment, name: str) -> Metric:
    return next(metric for metric in environment.metrics if metric.name == name)


def _amount(environment: AnyEnvironment, of: str, value: float) -> str:
    if of == MEAN:
        return tables.headline(environment, value)
    return tables.metric_figure(_metric(environment, of), value)


def _signed(environment: AnyEnvironment, of: str, value: float) -> str:
    if of == MEAN:
        return run_report.signed(environment, value)
    return f"{100 * value:+.0f} points".replace("-", "−")


def _interval(environment: AnyEnvironment, of: str, ci: Sequence[float]) -> str:
    return " … ".join([_signed(environment, of, bound).removesuffix(" points") for bound in ci])


# -- how it is written ------------------------------------------------------------------------------------------------


def _markdown(name: str, lead: str, parts: Sequence[Part], out: Path) -> str:
    lines = [f"# {_in_markdown(name)}", "", _in_markdown(lead), ""]
    for part in parts:
        lines += [f"## {_in_markdown(part.title)}", ""]
        for content in part.content:
            match content:
                case Text(words):
                    lines += [_in_markdown(words), ""]
                case Pictures(plots):
                    lines += [
                        line
                        for plot in plots
                        for line in (f"![{_in_markdown(plot.title)}]({plot.path.relative_to(out).as_posix()})", "")
                    ]
                case Cells(heading, words, rows):
                    rule = ["---" if place < words else "--:" for place in range(len(heading))]
                    lines += [_row(cells) for cells in (heading, rule, *rows)]
                    lines.append("")
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join([_in_markdown(cell) for cell in cells])} |"


def _in_markdown(text: str) -> str:
    """Text that stays text: no tables, links, emphasis or HTML of its own."""
    flat = " ".join(text.split())
    return "".join([f"\\{character}" if character in "\\`*_[]<>|#&" else character for character in flat])


def _html(name: str, lead: str, parts: Sequence[Part]) -> str:
    body = [f"<header><h1>{escape(name)}</h1><p class=lead>{escape(lead)}</p></header>"]
    for part in parts:
        inner = []
        for content in part.content:
            match content:
                case Text(words):
                    inner.append(f"<p class=about>{escape(words)}</p>")
                case Pictures(plots):
                    inner.append(run_report.pictures(plots))
                case Cells():
                    inner.append(_table(content))
        body.append(run_report.section(part.title, "".join(inner)))
    body.append(f"<footer>Every figure is in {COMPARISON} and the trials' own folders beside this page.</footer>")
    return run_report.document(name, "\n".join(body))


def _table(cells: Cells) -> str:
    def classes(place: int, mark: str) -> str:
        numeric = "n" if place >= cells.words else ""
        marked = mark if place == cells.coloured else ""
        return f"{numeric} {marked}".strip()

    marks = cells.marks or [""] * len(cells.rows)
    heading = "".join([f'<th scope=col class="{classes(i, "")}">{escape(t)}</th>' for i, t in enumerate(cells.heading)])
    body = "".join(
        [
            "<tr>"
            + "".join([f'<td class="{classes(place, mark)}">{escape(cell)}</td>' for place, cell in enumerate(row)])
            + "</tr>"
            for row, mark in zip(cells.rows, marks, strict=True)
        ]
    )
    return f"<div class=wide><table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table></div>"
