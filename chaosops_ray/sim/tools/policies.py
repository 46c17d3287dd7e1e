"""The baselines, from one that answers at random to one that knows the faults.

All but the oracle see views alone: they read figures out of what tools have shown, as a careful person would with a
pattern for each kind of source, and have no access to the true state.

They are one module because they share the patterns that read the tools' outputs.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from chaosops_ray.sim.contract import PolicyFactory, Scenario
from chaosops_ray.sim.tools import physics, scenarios
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.retrieval import DOCUMENT, ENTITY
from chaosops_ray.sim.tools.knowledge import knowledge, slug
from chaosops_ray.sim.tools.model import SUBMIT, Action, Call, World, call, parse_rules
from chaosops_ray.sim.tools.rubric import INDEPENDENT
from chaosops_ray.sim.tools.views import Seen, View

Seat = Callable[[View], Action]

AGREE = 0.02
UNKNOWN = "unknown"


# -- reading --------------------------------------------------------------------------------------------------------

_QUESTIONS = {
    "W": re.compile(r"What is the population of (.+)\?"),
    "B": re.compile(r"Which country has (.+) as its capital"),
    "I": re.compile(r"more densely populated, (.+) or (.+), and by"),
    "E": re.compile(r"(.+) reported revenue of ([\d.]+) billion"),
}
_SAID = {
    "population": r"{name} has a population of ([\d,]+)",
    "area_km2": r"{name} covers ([\d,]+)",
    "gdp_per_capita": r"Output per person in {name} is ([\d,]+)",
    "claimed_revenue_b": r"{name} announced revenue of ([\d.]+)",
    "actual_revenue_b": r"Audited revenue of {name} for the quarter came to ([\d.]+)",
}
_CAPITAL = r"The capital of ([\w -]+) is {capital}\."
_FIELDS = {
    "W": ("population",),
    "B": ("gdp_per_capita",),
    "I": ("population", "area_km2"),
    "E": ("actual_revenue_b",),
}


def understood(question: str) -> tuple[str, tuple[str, ...]]:
    """Return the family of a question and the names in it."""
    for family, pattern in _QUESTIONS.items():
        found = pattern.search(question)
        if found:
            return family, found.groups()
    raise ValueError(f"no family of question: {question[:80]!r}")


def figure(shown: str, field: str, name: str) -> float | None:
    """Return a field of this entity as a result states it, in whichever form."""
    return _found(json.loads(shown), field, name)


def _found(value: Any, field: str, name: str) -> float | None:
    if isinstance(value, str):
        return _in_text(value, field, name)
    if isinstance(value, list):
        return next((found for item in value if (found := _found(item, field, name)) is not None), None)
    if not isinstance(value, dict):
        return None
    if "rows" in value:
        return _in_rows(value["columns"], value["rows"], field, name)
    for part in ("facts", "body"):
        if value.get("entity") == name and isinstance(value.get(part), dict):
            return _as_figure(value[part].get(field))
    return next((found for item in value.values() if (found := _found(item, field, name)) is not None), None)


def _in_rows(columns: list[str], rows: list[list[Any]], field: str, name: str) -> float | None:
    for row in rows:
        if name in row and field in columns:
            return _as_figure(row[columns.index(field)])
    return None


def _in_text(text: str, field: str, name: str) -> float | None:
    if "\n" in text:
        heading, *lines = text.split("\n")
        columns = heading.split(" | ")
        return _in_rows(columns, [line.split(" | ") for line in lines], field, name)
    pattern = _SAID.get(field)
    found = pattern and re.search(pattern.format(name=re.escape(name)), text)
    return _as_figure(found[1]) if found else None


def _as_figure(value: Any) -> float | None:
    if isinstance(value, str):
        bare = value.replace(",", "").rstrip(".")
        return float(bare) if re.fullmatch(r"\d+(\.\d+)?", bare) else None
    return None if value is None or isinstance(value, bool) else float(value)


def country_of(results: tuple[Seen, ...], capital: str) -> str | None:
    """Return the country that most results name for this capital."""
    said = [name for result in results if result.ok for name in _countries(json.loads(result.shown), capital)]
    return max(dict.fromkeys(said), key=said.count) if said else None


def _countries(value: Any, capital: str) -> Iterator[str]:
    if isinstance(value, str):
        yield from re.findall(_CAPITAL.format(capital=re.escape(capital)), value)
        for line in value.split("\n")[1:]:
            cells = line.split(" | ")
            if capital in cells[1:]:
                yield cells[0]
    elif isinstance(value, list):
        for item in value:
            yield from _countries(item, capital)
    elif isinstance(value, dict):
        if "rows" in value and {"name", "capital"} <= set(value["columns"]):
            places = [value["columns"].index(column) for column in ("name", "capital")]
            yield from [row[places[0]] for row in value["rows"] if row[places[1]] == capital and row[places[0]]]
        elif "entity" in value and capital in [
            part.get("capital") for part in value.values() if isinstance(part, dict)
        ]:
            yield value["entity"]
        else:
            for item in value.values():
                yield from _countries(item, capital)


# -- asking ---------------------------------------------------------------------------------------------------------


def asking(family: str, names: tuple[str, ...]) -> list[Call]:
    """Return calls that may find what a question of this family needs, the most useful first."""
    table, column = (
        ("financials", "company") if family == "E" else ("countries", "capital" if family == "B" else "name")
    )
    listed = ", ".join(["'" + name.replace("'", "''") + "'" for name in names])
    sql = f"SELECT * FROM {table} WHERE {column} IN ({listed})"  # noqa: S608 - the tool reads, and nothing else
    together = " ".join(names)
    calls = [
        *[call("knowledge_base_lookup", entity=name) for name in names],
        call("database_query", sql=sql),
        call("document_search", query=together),
        *[call("api_call", url=ENTITY + name) for name in names],
        call("web_search", query=together),
        call("read_file", path="companies.txt" if family == "E" else "countries.txt"),
    ]
    if family == "E":
        page = slug(names[0])
        calls += [
            call("api_call", url=f"{DOCUMENT}filing-{page}"),
            call("fetch_url", url=f"https://newswire.example/{page}"),
        ]
    # For a pair, what answers for both at once comes first.
    order = ("database_query", "read_file") if family == "I" else ()
    return sorted(calls, key=lambda made: order.index(made.tool) if made.tool in order else len(order))


def subjects(view: View) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the family, the names to ask for, and the entities whose figures are wanted as far as they are known."""
    family, names = understood(view.question)
    if family == "E":
        return family, names[:1], names[:1]
    if family == "B":
        country = country_of(view.results, names[0])
        return family, names, (country,) if country else ()
    return family, names, names


def answered(family: str, figures: Mapping[tuple[str, str], float], wanted: tuple[str, ...], claim: str) -> str:
    """Write the answer from these figures, without guesses."""
    if family == "I":
        densities = {
            name: round(figures[name, "population"] / figures[name, "area_km2"], 1)
            for name in wanted
            if (name, "population") in figures and figures.get((name, "area_km2"))
        }
        if len(densities) < 2:
            return UNKNOWN
        higher, lower = sorted(densities, key=lambda name: -densities[name])
        return f"{higher}, factor {densities[higher] / max(densities[lower], 0.1):.1f}"
    values = [figures[key] for key in figures if key[0] in wanted]
    if not wanted or not values:
        return wanted[0] if family == "B" and wanted else UNKNOWN
    if family == "E":
        verdict = "accurate" if abs(values[0] - float(claim)) < 0.005 else "inaccurate"
        return f"{verdict}, {values[0]:g}"
    return f"{wanted[0]}, {values[0]:.0f}" if family == "B" else f"{values[0]:.0f}"


def readings(view: View, name: str, field: str) -> dict[str, float]:
    """Return each tool's reading of a figure, in the order of the calls."""
    said: dict[str, float] = {}
    for result in view.results:
        if result.ok and result.tool in INDEPENDENT:
            value = figure(result.shown, field, name)
            if value is not None:
                said.setdefault(result.tool, value)
    return said


def agreed(said: Mapping[str, float]) -> float | None:
    """Return the figure that two tools agree on."""
    values = list(said.values())
    for index, value in enumerate(values):
        if any(abs(value - other) <= AGREE * max(value, other) for other in values[index + 1 :]):
            return value
    return None


def submit(answer: str, reasoning: str) -> Call:
    """Return the call that ends the episode."""
    return call(SUBMIT, answer=answer, reasoning=reasoning)


# -- the baselines --------------------------------------------------------------------------------------------------


def random_policy(scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that calls any tool with words of the question as arguments."""
    draw = random.Random(scenario.seed)
    tools = list(TOOLS.values())

    def act(view: View) -> Action:
        tool = draw.choice(tools)
        words = [view.question, *view.question.rstrip("?").split(" "), "1 + 1", "[]", "https://atlas.example/x"]
        arguments: dict[str, Any] = {}
        for parameter in tool.parameters:
            arguments[parameter.name] = draw.randrange(10) if parameter.kind == "number" else draw.choice(words)
        return call(tool.name, **arguments)

    return act


def found(view: View, family: str, wanted: tuple[str, ...]) -> tuple[dict[tuple[str, str], float], bool]:
    """Return the figures in the results, agreed or else as first read, and a flag that two tools agree on each."""
    figures = {}
    all_agreed = bool(wanted)
    for name in wanted:
        for field in _FIELDS[family]:
            said = readings(view, name, field)
            value = agreed(said)
            all_agreed = all_agreed and value is not None
            if said:
                figures[name, field] = next(iter(said.values())) if value is None else value
    return figures, all_agreed


def _as_found(view: View) -> Call:
    """Return an answer from whatever was found, unchecked."""
    family, _, wanted = subjects(view)
    _, groups = understood(view.question)
    figures, _ = found(view, family, wanted)
    return submit(answered(family, figures, wanted, groups[-1]), "as found")


def naive(_scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that searches the web once and answers from the result."""

    def act(view: View) -> Action:
        _, names, _ = subjects(view)
        return _as_found(view) if view.results else call("web_search", query=" ".join(names))

    return act


def retrier(_scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that searches the web, repeats the call as long as it fails, and then answers."""

    def act(view: View) -> Action:
        _, names, _ = subjects(view)
        if (not view.results or not view.results[-1].ok) and view.steps_left > 1:
            return call("web_search", query=" ".join(names))
        return _as_found(view)

    return act


_RESERVED = {"W": 1, "B": 1, "I": 3, "E": 5}


def heuristic(_scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that asks sources until two agree, checks and computes where the task asks for it, and answers."""

    def act(view: View) -> Action:
        family, names, wanted = subjects(view)
        _, groups = understood(view.question)
        tried = {(result.tool, result.arguments) for result in view.results}
        figures, all_agreed = found(view, family, wanted)
        untried = [made for made in asking(family, names) if (made.tool, made.arguments) not in tried]
        if not all_agreed and untried and view.steps_left > _RESERVED[family]:
            failed = {result.tool for result in view.results if not result.ok}
            return next((made for made in untried if made.tool not in failed), untried[0])
        answer = answered(family, figures, wanted, groups[-1])
        done = {result.tool for result in view.results}
        for made in _extras(family, figures, wanted):
            if made.tool not in done and view.steps_left > 1:
                return made
        return submit(answer, "two sources agree")

    return act


def _extras(family: str, figures: Mapping[tuple[str, str], float], wanted: tuple[str, ...]) -> list[Call]:
    """Return the checks, sums and records that a task asks for, on the figures that were found."""
    if family in ("W", "B") or not figures:
        return []
    found = {key: f"{value:.10g}" for key, value in figures.items()}
    (name, field), value = next(iter(found.items()))
    claim = f"{name} {field} {value}"
    calls = [call("check_consistency", source1=value, source2=claim)]
    if family == "E":
        calls += [
            call("fact_check", claim=f"{name} {value}"),
            call("compare_values", value1=value, value2=value),
            call("scratchpad_write", key="evidence", value=claim),
        ]
    elif len(found) == 4:
        (a, b), (c, d) = [(found[n, "population"], found[n, "area_km2"]) for n in wanted]
        calls.append(call("calculator", expression=f"({a} / {b}) / ({c} / {d})"))
    return calls


def oracle(scenario: Scenario, rules: str) -> Seat:
    """Build a policy that knows the faults: it makes only calls that come through clean, and answers with the truth."""
    script = iter(_clean_plan(scenario, rules))
    return lambda _view: next(script)


def _clean_plan(scenario: Scenario, rules: str) -> list[Call]:
    wanted = scenarios.question(scenario.case, scenario.setting, scenario.seed)
    known = knowledge(scenario.setting, scenario.seed)
    family = scenario.case[0]
    names = wanted.subjects
    if family == "B":
        names = tuple([country.capital for country in known.countries if country.name in wanted.subjects])
    world = World(scenario, parse_rules(rules))
    plan: list[Call] = []
    missing = {(name, field) for name in wanted.subjects for field in _FIELDS[family]}
    figures = {key: _truth(scenario, *key) for key in sorted(missing)}
    sources: set[str] = set()
    calls = asking(family, names)
    while (missing or len(sources) < 2) and world.step < world.task.max_steps - 1:
        options = [(made, shown) for made in calls if made not in plan and (shown := _clean(world, made)) is not None]
        rated = []
        for made, shown in options:
            told = {key for key in figures if figure(shown, key[1], key[0]) == figures[key]}
            if told and (told & missing or made.tool not in sources):
                rated.append((len(told & missing), made.tool not in sources, made, told))
        if rated:
            _, _, made, told = max(rated, key=lambda option: option[:2])
            missing -= told
            sources.add(made.tool)
        else:
            # Nothing that is wanted would come through now; a note always does, and the weather changes.
            made = call("scratchpad_write", key="plan", value=f"wait, step {world.step}")
        plan.append(made)
        world, _, _ = physics.advance(world, made)
    known_now = {key: value for key, value in figures.items() if key not in missing}
    due = _due(family, known_now, wanted.subjects)
    while due and world.step < world.task.max_steps - 1:
        # Where the weather spoils one check now, another is made, and this one when it has cleared.
        ready = [
            (group, made) for group in due for made in group if made not in plan and _clean(world, made) is not None
        ]
        if not ready:
            break
        group, made = ready[0]
        due.remove(group)
        plan.append(made)
        world, _, _ = physics.advance(world, made)
    return [*plan, submit(_true_answer(scenario), "known")]


def _due(family: str, figures: Mapping[tuple[str, str], float], wanted: tuple[str, ...]) -> list[list[Call]]:
    """Return what a task asks for beyond its sources: for each thing due, the calls that would do."""
    if family in ("W", "B") or not figures:
        return []
    extras = {made.tool: made for made in _extras(family, figures, wanted)}
    (name, field), number = next(iter(figures.items()))
    data = json.dumps({field: int(number) if number == int(number) else number})
    checks = [
        extras["check_consistency"],
        call("fact_check", claim=f"{name} {number:.10g}"),
        call("validate_data", data=data, schema=json.dumps({field: "number"})),
        call("check_consistency", source1=data, source2=f"{number:.10g}"),
    ]
    if family == "E":
        # Two sources gave this figure; what is between them can always be worked out.
        difference = call("calculator", expression=f"{number:.10g} - {number:.10g}")
        return [checks, checks, [extras["compare_values"], difference], [extras["scratchpad_write"]]]
    return [checks, [extras["calculator"]]] if "calculator" in extras else [checks]


def _clean(world: World, made: Call) -> str | None:
    """Return what the call would show now; None where it would fail or mislead."""
    after, _, _ = physics.advance(world, made)
    result = after.made[-1]
    return result.shown if result.ok and not result.fault else None


def _truth(scenario: Scenario, name: str, field: str) -> float:
    known = knowledge(scenario.setting, scenario.seed)
    if field == "actual_revenue_b":
        return next(company.actual for company in known.companies if company.name == name)
    return float(next(getattr(country, field) for country in known.countries if country.name == name))


def _true_answer(scenario: Scenario) -> str:
    facts = scenarios.question(scenario.case, scenario.setting, scenario.seed).facts
    words = []
    for fact in facts:
        value = ("accurate" if fact.value else "inaccurate") if fact.kind == "boolean" else fact.value
        words.append(f"{value:.12g}" if isinstance(value, float) else str(value))
    return ", ".join(words)


POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {"random": random_policy, "naive": naive, "retrier": retrier, "heuristic": heuristic, "oracle": oracle}
)
