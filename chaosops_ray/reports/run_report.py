"""A run on one page that stands alone: no scripts, nothing fetched, readable in light and dark.

Names, configurations and what other programs wrote may hold anything: text is escaped where it enters the page.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from chaosops_ray import config, evaluate
from chaosops_ray.evaluate import TRAINED
from chaosops_ray.reports import plots, tables
from chaosops_ray.reports.run_plots import Plot, draw, made, seconds
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.files import write_text
from chaosops_ray.store.run_folder import CONFIG, EVALUATION, METRICS, RunFolder

REPORT = "report.html"
PLOTS = "plots"

Values = Mapping[str, Any]


def write(folder: RunFolder, environment: AnyEnvironment, note: str = "") -> Path:
    """Draw the run's plots and write its page; a note, where there is one, stands under the evaluation."""
    run = config.load(folder.path / CONFIG)
    if run.world != environment.name:
        raise InputError(f"{folder.path} is a run in world {run.world}, not {environment.name}")
    name = tables.plain(folder.path.resolve().name)
    rows = folder.metrics()
    found = evaluation(folder, environment)
    plots = draw(environment, rows, name, run.alarm.kl, folder.path / PLOTS) if rows else []

    written_config = escape((folder.path / CONFIG).read_text(encoding="utf-8"))
    sections = [
        _opening(name, run, environment, rows, found),
        section("Evaluation", _evaluation(environment, found, note, folder.path / PLOTS)),
        section("Training", pictures(plots) if plots else "<p>No update has been made yet.</p>"),
        section("The last update", _last(rows[-1])) if rows else "",
        section("Configuration", f"<pre>{written_config}</pre>"),
        f"<footer>Every figure is in {CONFIG}, {METRICS} or {EVALUATION} beside this page.</footer>",
    ]
    path = folder.path / REPORT
    write_text(path, document(name, "\n".join(sections)))
    return path


def evaluation(folder: RunFolder, environment: AnyEnvironment) -> dict[str, Any] | None:
    """The run's evaluation; None before it was made."""
    path = folder.path / EVALUATION
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path} is no JSON; evaluate the run again") from None
    said = (found.get("schema"), found.get("world")) if isinstance(found, dict) else None
    if said != (evaluate.SCHEMA, environment.name):
        raise InputError(f"{path} is no evaluation of world {environment.name} ({evaluate.SCHEMA}); make it again")
    read: dict[str, Any] = found
    return read


# -- what was done ----------------------------------------------------------------------------------------------------


def _opening(
    name: str, run: config.Run, environment: AnyEnvironment, rows: Sequence[Values], found: Values | None
) -> str:
    about = f"model {run.model} · {environment.title} · rules {run.rules} · seed {run.seed}"
    return (
        f"<header><h1>{escape(name)}</h1><p class=about>{escape(about)}</p>"
        f"<p class=lead>{escape(_trained(run, rows))} {escape(_played(environment, found))}</p></header>"
    )


def _trained(run: config.Run, rows: Sequence[Values]) -> str:
    if not rows:
        return "Nothing has been trained yet."
    episodes = sum([row["episodes"] for row in rows])
    minutes = sum([seconds(row) for row in rows]) / 60
    updates = (
        f"{rows[-1]['update']} updates"
        if rows[-1]["update"] == run.updates
        else f"{rows[-1]['update']} of {run.updates} updates"
    )
    return f"Trained on {episodes:,} episodes in {updates}, which took {minutes:,.1f} minutes."


def _played(environment: AnyEnvironment, found: Values | None) -> str:
    if found is None:
        return "Not evaluated yet."
    means = [
        f"{tables.headline(environment, cell['mean'])} on {cell['tier']}"
        for cell in found["cells"]
        if cell["policy"] == TRAINED
    ]
    where = f"Played greedily on the {tables.set_named(found)} under rules {found['rules']}"
    if not means:
        return f"{where}, the evaluation holds no policy called {TRAINED}."
    return f"{where}, it has a mean {environment.headline_name} of {', '.join(means)}."


# -- evaluation -------------------------------------------------------------------------------------------------------


def _evaluation(environment: AnyEnvironment, found: Values | None, note: str, folder: Path) -> str:
    if found is None:
        return "<p>This run has not been evaluated yet.</p>"
    parts = [_cells(environment, found["cells"])]
    if found.get("differences"):
        parts.append(_differences(environment, found["differences"]))
    if note:
        parts.append(f"<p class=about>{escape(note)}</p>")
    drawn = plots.plot(environment, found, made(folder))
    parts.append(pictures([Plot(path, path.stem.replace("_", " ").capitalize()) for path in drawn]))
    return "".join(parts)


def _cells(environment: AnyEnvironment, cells: Sequence[Values]) -> str:
    """By tier, the policies one under the other; shares have their interval beneath them."""
    shown = [metric for metric in environment.metrics if metric.in_tables]
    heading = ["tier", "policy", "n", f"mean {environment.headline_name}", "95 % interval"]
    body = []
    for tier in environment.tiers:
        those = [cell for cell in cells if cell["tier"] == tier]
        rows = []
        for place, cell in enumerate(those):
            first = f'<th rowspan="{len(those)}" scope=rowgroup>{escape(tier)}</th>' if not place else ""
            figures = [
                _figure(tables.metric_figure(metric, cell[metric.name]), cell[f"{metric.name}_ci"], metric.is_share)
                for metric in shown
            ]
            means = _number(tables.headline(environment, cell["mean"])) + _number(
                _interval(environment, cell["mean_ci"])
            )
            mark = " class=own" if cell["policy"] == TRAINED else ""
            rows.append(
                f"<tr{mark}>{first}<td>{escape(cell['policy'])}</td>{_number(str(cell['episodes']))}{means}{''.join(figures)}</tr>"
            )
        body.append(f"<tbody>{''.join(rows)}</tbody>")
    titles = [*heading, *[metric.title for metric in shown]]
    return f"<div class=wide><table><thead>{_heading(titles, 2)}</thead>{''.join(body)}</table></div>"


def _differences(environment: AnyEnvironment, differences: Sequence[Values]) -> str:
    rows = []
    for found in differences:
        low, high = found["ci"]
        mark = "good" if low > 0 else "bad" if high < 0 else "open"
        figures = _number(signed(environment, found["mean"]), mark) + _number(_interval(environment, found["ci"]))
        versus = f"{found['policy']} − {found['against']}"
        rows.append(f"<tr><th>{escape(found['tier'])}</th><td>{escape(versus)}</td>{figures}</tr>")
    titles = ["tier", "difference", f"mean {environment.headline_name}", "95 % interval"]
    return (
        "<h3>Differences on the same scenarios</h3>"
        "<p class=about>Both policies play the same scenarios; whole scenarios are resampled in pairs. "
        "In colour where the interval does not hold zero.</p>"
        f"<div class=wide><table><thead>{_heading(titles, 2)}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _heading(titles: Sequence[str], words: int) -> str:
    """The first columns hold words, the others numbers."""
    cells = [
        f"<th scope=col{' class=n' if place >= words else ''}>{escape(title)}</th>"
        for place, title in enumerate(titles)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _figure(value: str, ci: Sequence[float] | None, is_share: bool) -> str:
    below = f"<small>{100 * ci[0]:.0f}–{100 * ci[1]:.0f}</small>" if is_share and ci is not None else ""
    return f"<td class=n>{escape(value)}{below}</td>"


def _number(value: str, mark: str = "") -> str:
    return f'<td class="n {mark}">{escape(value)}</td>'


def _interval(environment: AnyEnvironment, ci: Sequence[float]) -> str:
    return " … ".join([tables.headline(environment, bound) for bound in ci])


def signed(environment: AnyEnvironment, value: float) -> str:
    """A figure of the headline score that is a difference."""
    form = environment.headline_format
    return format(value, form if form.startswith("+") else f"+{form}").replace("-", "−")


# -- the rest of it ---------------------------------------------------------------------------------------------------


def _last(row: Values) -> str:
    """Every figure of the row, in a table for each place where figures stand together."""
    places: dict[str, list[str]] = {}
    for place, name, value in _leaves(row, ""):
        places.setdefault(place, []).append(
            f"<tr><th>{escape(name)}</th><td class=n>{escape(_written(value))}</td></tr>"
        )
    tables = [
        f"<table>{f'<caption>{escape(place)}</caption>' if place else ''}<tbody>{''.join(lines)}</tbody></table>"
        for place, lines in places.items()
    ]
    return f"<div class=cards>{''.join(tables)}</div>"


def _leaves(values: Values, place: str) -> Iterator[tuple[str, str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{place} · {name}" if place else name)
        else:
            yield place, name, value


def _written(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}".replace("-", "−") if isinstance(value, float) else str(value)


def pictures(plots: Sequence[Plot]) -> str:
    """Plots within the page."""
    drawn = [
        f'<img alt="{escape(plot.title)}" src="data:image/png;base64,{b64encode(plot.path.read_bytes()).decode()}">'
        for plot in plots
    ]
    return f"<div class=plots>{''.join(drawn)}</div>"


def section(title: str, content: str) -> str:
    """A part of a page."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def document(title: str, body: str) -> str:
    """A page of its own."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing is fetched and nothing runs, whatever got into the text.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6472; --line: #dfe3e8; --ground: #ffffff;
  --raised: #f5f7f9; --own: #e8f0fa; --good: #1a7f37; --bad: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ec; --soft: #98a2af; --line: #333a44;
  --ground: #14171c; --raised: #1c2128; --own: #1d2b3d; --good: #57c26f; --bad: #f0776b; } }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 78rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 1.9rem; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .8rem; font-size: 1.3rem; }
h3 { margin: 1.8rem 0 .2rem; font-size: 1.05rem; }
.about, footer, caption, small { color: var(--soft); }
.about { margin: .2rem 0 .8rem; overflow-wrap: anywhere; }
.lead { margin: .8rem 0 0; max-width: 50rem; font-size: 1.1rem; }
footer { margin-top: 2.5rem; font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .3rem .9rem; text-align: left; vertical-align: top; font-weight: normal; }
.n { text-align: right; white-space: nowrap; }
td small { display: block; font-size: .78rem; line-height: 1.1; }
thead th { color: var(--soft); border-bottom: 1px solid var(--line); }
tbody + tbody, thead + tbody { border-top: 1px solid var(--line); }
tbody th { color: var(--ink); }
.own td { background: var(--own); font-weight: 600; }
.own small { font-weight: normal; }
td.good { color: var(--good); font-weight: 600; }
td.bad { color: var(--bad); font-weight: 600; }
.plots { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr));
  align-items: start; margin-top: 1.2rem; }
img { width: 100%; height: auto; border-radius: .4rem; }
@media (prefers-color-scheme: dark) { img { filter: invert(.91) hue-rotate(180deg); } }
.cards { columns: 3 18rem; column-gap: 1.5rem; }
.cards table { width: 100%; margin: 0 0 1.2rem; font-size: .88rem; break-inside: avoid; }
.cards th, .cards td { padding: .12rem .3rem; border-bottom: 1px solid var(--line); }
.cards td { white-space: normal; overflow-wrap: anywhere; }
caption { text-align: left; padding: .12rem .3rem; font-weight: 600; }
pre { margin: 0; padding: 1rem; background: var(--raised); border-radius: .4rem; overflow-x: auto; font-size: .88rem; }
"""
