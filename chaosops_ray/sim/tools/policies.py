"""The baselines, from one that answers at random to one that knows the faults.

All but the oracle see views alone: they read what tools have shown, as a careful person would, and have no access to
the true state.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from chaosops_ray.sim.contract import PolicyFactory, Scenario
from chaosops_ray.sim.tools import physics, scenarios
from chaosops_ray.sim.tools.answers import near
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.retrieval import DOCUMENT, ENTITY
from chaosops_ray.sim.tools.families import BILLION, Family, page_of, read_deed, understood
from chaosops_ray.sim.tools.knowledge import COMPANY, DISPUTED, Value
from chaosops_ray.sim.tools.model import SUBMIT, Action, Call, Fact, Question, Storage, World, call, parse_rules
from chaosops_ray.sim.tools.reading import Reading, readings, source_of
from chaosops_ray.sim.tools.sources import ARCHIVE, DATABASE, FILE_OF, slug
from chaosops_ray.sim.tools.views import Seen, View

Seat = Callable[[View], Action]
Sure = Sequence[tuple[str, str]]  # the values that two sources agree on, by entity and field

UNKNOWN = "unknown"
_CERTAIN = 9
# Two sources agree if their figures differ by no more than this.
_AGREE = 0.001


class Wanted(NamedTuple):
    """A value that an answer needs: a field of an entity, or the entities whose field has a value."""

    name: str
    field: str
    source: str = ""
    is_search: bool = False  # `name` is the value, and the entities are wanted


class Missing(Exception):  # noqa: N818 - no error: something is still to be asked for
    """A value that nothing has said yet."""


# -- asking -----------------------------------------------------------------------------------------------------------


def asking(family: Family, wanted: list[Wanted]) -> list[Call]:
    """Return calls that may tell what is wanted, those that tell most at once first."""
    names = list(dict.fromkeys([one.name for one in wanted]))
    is_company = any(one.field in _OF_COMPANIES for one in wanted)
    table, kind = ("financials", COMPANY) if is_company else ("countries", "country")
    column = "company" if is_company else "name"
    listed = ", ".join(["'" + name.replace("'", "''") + "'" for name in names])
    columns = {one.field if one.is_search else column for one in wanted}
    where = " OR ".join([f"{one} IN ({listed})" for one in sorted(columns)])
    sql = call("database_query", sql=f"SELECT * FROM {table} WHERE {where}")  # noqa: S608 - the tool reads, nothing else
    file = call("read_file", path=FILE_OF[kind])
    archive = call("document_search", query=" ".join(names))
    texts = [call("api_call", url=f"{DOCUMENT}{text}-{slug(name)}") for name in names for text in _TEXTS[kind]]
    if wanted[0].source == DATABASE:
        return [sql, call("database_query", sql=f"SELECT company, offices FROM financials WHERE company = {listed}")]  # noqa: S608
    if wanted[0].source == ARCHIVE:
        return [*texts, archive] if family.name != "filed" else texts[:1]
    if any(one.is_search and one.field == "sector" for one in wanted):
        return [sql, file]
    return [
        *([sql, file] if len(names) > 1 else []),
        *[call("knowledge_base_lookup", entity=name) for name in names],
        *([sql] if len(names) == 1 else []),
        *[call("api_call", url=ENTITY + name) for name in names],
        archive,
        call("web_search", query=" ".join(names)),
        *([file] if len(names) == 1 else []),
        *[call("fetch_url", url=page_of(name, kind)) for name in names],
        *texts,
    ]


_OF_COMPANIES = frozenset(("headquarters", "sector", "founded", "employees", "revenue_b", "previous_revenue_b", "offices"))
_TEXTS = {"country": ("overview", "figures"), COMPANY: ("filing", "analyst")}


def submit(answer: str, reasoning: str) -> Call:
    """Return the call that ends the episode."""
    return call(SUBMIT, answer=answer, reasoning=reasoning)


def spelt(facts: tuple[Fact, ...]) -> str:
    """Write the answer that states these facts."""
    yes = {"agree": ("no", "yes")}
    words = []
    for fact in facts:
        if fact.kind == "boolean":
            words.append(yes.get(fact.name, ("inaccurate", "accurate"))[bool(fact.value)])
        else:
            words.append(f"{fact.value:.12g}" if isinstance(fact.value, int | float) else str(fact.value))
    return ", ".join(dict.fromkeys(words))


# -- working an answer out of what was said ---------------------------------------------------------------------------


class Said:
    """Looks up what sources have said. What too few of them agree on is `doubtful`, and taken as it was said first."""

    def __init__(self, results: tuple[Seen, ...], claim: str) -> None:
        self._results = results
        self._readings = readings(results)
        self._claim = float(claim) if claim and not claim.startswith(("+", "-")) else None
        self._genuine = _genuine(results)
        self.doubtful: list[Wanted] = []
        self.values: dict[tuple[str, str], Value] = {}
        self.sure: list[tuple[str, str]] = []

    def of(self, name: str, field: str, source: str = "") -> list[Reading]:
        """Return all readings of a field."""
        return [one for one in self._readings if (one.name, one.field) == (name, field) and source in ("", one.source)]

    def __call__(self, name: str, field: str, source: str = "") -> Value:
        """Return the value that sources agree on, or else the one that most of them gave."""
        said = self.of(name, field, source)
        support = [self.support(one, said) for one in said]
        sure = [one for one, count in zip(said, support, strict=True) if count >= self._enough(one)]
        if sure:
            self.sure.append((name, field))
        else:
            self.doubtful.append(Wanted(name, field, source))
        if not said:
            raise Missing
        value = (sure or [said[support.index(max(support))]])[0].value
        self.values[name, field] = value
        return value

    def support(self, one: Reading, said: list[Reading]) -> int:
        """Count the sources that agree with a reading, and then their calls; a genuine document needs no other."""
        if one.step in self._genuine:
            return _CERTAIN
        alike = [other for other in said if _same(one.value, other.value)]
        sources = len({other.source for other in alike})
        only_one = len({other.source for other in said}) == 1
        return len({other.step for other in alike}) if only_one and one.field == DISPUTED else sources

    def _enough(self, one: Reading) -> int:
        """Wrong sources repeat what a company announced: to believe that takes one more."""
        repeats = self._claim is not None and one.field == "revenue_b" and _same(one.value, self._claim)
        return 3 if repeats else 2

    def having(self, kind: str, field: str, value: str) -> list[str]:
        """Return the names of which more sources say that they have this value than say otherwise."""
        names = list(dict.fromkeys([one.name for one in self._readings if one.field == field and one.value == value]))
        found = []
        for name in names:
            said = self.of(name, field)
            yes = len({one.source for one in said if one.value == value})
            no = len({one.source for one in said if one.value != value})
            if yes > no:
                found.append(name)
            if yes == no or yes + no == 1:
                self.doubtful.append(Wanted(name, field))
            if yes > no:
                self.values[name, field] = value
        if len({one.source for one in self._readings if one.field == field}) < 2:  # noqa: PLR2004 - as everywhere, two
            self.doubtful.insert(0, Wanted(value, field, is_search=True))
        if not found:
            if not names:
                raise Missing
            found = names[:1]
        return found if kind == COMPANY else found[:1]

    def today(self) -> str:
        """Return the date of the clock."""
        for seen in self._results:
            if seen.ok and seen.tool == "get_current_datetime":
                return str(json.loads(seen.shown)["now"])[:10]
        raise Missing

    def note(self, key: str) -> str:
        """Return the company that the note names."""
        for seen in self._results:
            if seen.ok and seen.tool == "scratchpad_read":
                return str(json.loads(seen.shown)["value"]).removeprefix("The company is ").rstrip(".")
        raise Missing

    def page(self, name: str) -> str:
        """Return the address of the press page."""
        return page_of(name, COMPANY)


def _genuine(results: tuple[Seen, ...]) -> set[int]:
    """Return the steps that gave a text whose hash was found to match."""
    checks = [r for r in results if r.ok and r.tool == "hash_verify" and json.loads(r.shown)["match"]]
    texts = [json.loads(r.arguments)["data"] for r in checks]
    return {r.step for r in results if r.ok and r.tool == "api_call" and json.loads(r.shown).get("body") in texts}


def _same(first: Value, second: Value) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    return near(first, second, _AGREE)


def worked_out(family: Family, slots: Mapping[str, str], said: Said) -> tuple[Fact, ...] | None:
    """Return the answer that follows from what was said; None where something is missing or makes no sense."""
    try:
        return family.solve(slots, said)
    except (Missing, ZeroDivisionError, ValueError, TypeError):
        return None


def _opening(family: Family, slots: Mapping[str, str], results: tuple[Seen, ...]) -> Call | None:
    """Return the call without which nothing else can be asked."""
    done = {seen.tool for seen in results if seen.ok}
    if family.name == "note" and "scratchpad_read" not in done:
        return call("scratchpad_read", key=slots["key"])
    if family.name == "age" and "get_current_datetime" not in done:
        return call("get_current_datetime")
    return None


# -- what a task asks for beside sources ------------------------------------------------------------------------------


def extras(
    question: str,
    family: Family,
    facts: tuple[Fact, ...],
    values: Mapping[tuple[str, str], Value],
    sure: Sure = (),
    document: str = "",
) -> list[list[Call]]:
    """Return the deed, the work and the check that a question asks for: for each, the calls that would do."""
    due = [_deed(question, family, facts), _work(question, family, facts, values, document)]
    if family.tier in ("intermediate", "expert") and family.name != "filed":
        due.append(_checks(family, facts, values, sure))
    return [calls for calls in due if calls]


def _checks(
    family: Family, facts: tuple[Fact, ...], values: Mapping[tuple[str, str], Value], sure: Sure
) -> list[Call]:
    if family.name == "contradiction":
        here, there = (f"{fact.value} offices" for fact in facts[1:])
        return [call("check_consistency", source1=here, source2=there), call("compare_values", value1=here, value2=there)]
    if not values:
        return []
    name, field = next(iter([key for key in sure if key in values] or values))
    value = values[name, field]
    if isinstance(value, str):
        return [call("compare_values", value1=value, value2=value)]
    figure = f"{value:.12g}"
    checks = [
        call("check_consistency", source1=figure, source2=f"{field} of {name}: {figure}"),
        call("compare_values", value1=figure, value2=figure),
        call("fact_check", claim=f"{name} {figure}"),
    ]
    return checks if family.name != "claim" else checks[::-1]


def _work(
    question: str, family: Family, facts: tuple[Fact, ...], values: Mapping[tuple[str, str], Value], document: str
) -> list[Call]:
    numbers = [f"{value:.12g}" for value in values.values() if isinstance(value, int | float)]
    match family.name:
        case "per-head":
            return [call("calculator", expression=f"{numbers[0]} * {BILLION:.0f} / {numbers[1]}")]
        case "growth" | "trend":
            return [call("calculator", expression=f"({numbers[0]} - {numbers[1]}) / {numbers[1]} * 100")]
        case "denser":
            ratio = f"({numbers[0]} / {numbers[1]}) / ({numbers[2]} / {numbers[3]})"
            first = next(iter(values))[0]
            return [call("calculator", expression=ratio if facts[0].value == first else f"1 / ({ratio})")]
        case "largest" | "count" | "sector-total":
            items = [{"figure": value} for value in values.values() if isinstance(value, int | float)]
            verb = "max" if family.name == "largest" else "sum"
            return [
                call("data_transform", data=json.dumps(items), operation=f"{verb}:figure"),
                call("python_execute", code=f"{verb}([{', '.join(numbers)}])"),
            ]
        case "capital-gdp" if numbers:
            return [call("json_query", data=json.dumps({"gdp_per_capita": facts[1].value}), query="gdp_per_capita")]
        case "filed" if document:
            return [call("text_extract", text=document, pattern="came to [0-9.]+")]
        case "claim" if "validated row" in question:
            row = json.dumps({"company": next(iter(values))[0], "revenue_b": facts[1].value})
            schema = json.dumps({"company": "string", "revenue_b": "number"})
            return [call("validate_data", data=row, schema=schema)]
        case "bilingual":
            language = "fr" if facts[0].value in ("oui", "non") else "de"
            return [call("translate", text="yes" if facts[0].value in ("oui", "ja") else "no", target_language=language)]
        case "page":
            return [call("validate_url", url=str(facts[0].value))]
    return []


def _deed(question: str, family: Family, facts: tuple[Fact, ...]) -> list[Call]:
    if family.name == "contradiction":
        verdict, here, there = facts
        reason = f"the database has {here.value}, the archive {there.value}"
        return [] if verdict.value else [call("request_human_review", reason=reason)]
    asked = read_deed(question) if family.name == "claim" else None
    if asked is None:
        return []
    tool, key = asked
    actual = next(fact.value for fact in facts if fact.kind == "numeric")
    statement = f"actual revenue {actual:g} billion"
    row = {"company": understood(question)[1]["company"], "quarter": key, "revenue_b": actual}
    return [
        {
            "update_ticket": lambda: call(tool, ticket_id=key, update=statement),
            "send_notification": lambda: call(tool, message=statement),
            "create_report": lambda: call(tool, content=statement),
            "write_file": lambda: call(tool, path=key, content=statement),
            "scratchpad_write": lambda: call(tool, key=key, value=statement),
            "schedule_task": lambda: call(tool, task=statement, time=key),
            "database_insert": lambda: call(tool, table="financials", data=json.dumps(row)),
        }[tool]()
    ]


# -- the baselines ----------------------------------------------------------------------------------------------------


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


def _as_found(view: View) -> Call:
    """Return an answer from whatever was found, unchecked."""
    family, slots = understood(view.question)
    facts = worked_out(family, slots, Said(view.results, slots.get("claim", "")))
    return submit(spelt(facts) if facts else UNKNOWN, "as found")


def _search(view: View) -> Call:
    """Return a search of the web for what the question names."""
    _, slots = understood(view.question)
    return call("web_search", query=" ".join([word for slot, word in slots.items() if slot not in ("limit", "hash")]))


def naive(_scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that searches the web once and answers from the result."""
    return lambda view: _as_found(view) if view.results else _search(view)


def retrier(_scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that searches the web, repeats the call as long as it fails, and then answers."""

    def act(view: View) -> Action:
        if (not view.results or not view.results[-1].ok) and view.steps_left > 1:
            return _search(view)
        return _as_found(view)

    return act


def heuristic(_scenario: Scenario, _rules: str) -> Seat:
    """Build a policy that asks sources until two agree, checks and computes where the task asks for it, and answers."""

    def act(view: View) -> Action:
        family, slots = understood(view.question)
        said = Said(view.results, slots.get("claim", ""))
        facts = worked_out(family, slots, said)
        opening = _opening(family, slots, view.results)
        if opening is not None and view.steps_left > 1:
            return opening
        unhashed = _unhashed(view, family, slots)
        if unhashed is not None and view.steps_left > 1:
            return unhashed
        texts = _filings(view)
        document = texts[-1] if texts else ""
        due = extras(view.question, family, facts, said.values, said.sure, document) if facts else []
        done = {result.tool for result in view.results if result.ok}
        due = [calls for calls in due if done.isdisjoint([one.tool for one in calls])]
        if said.doubtful and view.steps_left > 1 + len(due):
            return _next_question(view, family, said)
        if due and view.steps_left > 1:
            failed = {result.tool for result in view.results[-1:] if not result.ok}
            return next((one for one in due[0] if one.tool not in failed), due[0][0])
        return submit(spelt(facts) if facts else UNKNOWN, "two sources agree")

    return act


def _next_question(view: View, family: Family, said: Said) -> Call:
    """Return the call that may settle most of what is doubtful: of a source that has said nothing of it so far."""
    made = [(result.tool, result.arguments) for result in view.results]
    failed = {result.tool for result in view.results[-1:] if not result.ok}
    doubtful = [one for one in said.doubtful if one.source == said.doubtful[0].source]

    def worth(option: Call) -> tuple[int, bool, int]:
        source = source_of(option.tool, option.arguments)
        # A file and a search are about everything at once.
        new = [
            one
            for one in doubtful
            if (option.tool == "read_file" or one.name in option.arguments or slug(one.name) in option.arguments)
            and (one.is_search or source not in [reading.source for reading in said.of(one.name, one.field)])
        ]
        return len(new), option.tool not in failed, -made.count((option.tool, option.arguments))

    return max(asking(family, doubtful), key=worth)


def _filings(view: View) -> list[str]:
    """Return the documents that were read."""
    bodies = [json.loads(result.shown)["body"] for result in view.results if result.ok and result.tool == "api_call"]
    return [body for body in bodies if isinstance(body, str)]


def _unhashed(view: View, family: Family, slots: Mapping[str, str]) -> Call | None:
    """Return the check of the last filing that was read, if its hash was not looked at yet."""
    if family.name != "filed":
        return None
    texts = _filings(view)
    hashed = [json.loads(r.arguments)["data"] for r in view.results if r.tool == "hash_verify" and r.ok]
    if texts and texts[-1] not in hashed:
        return call("hash_verify", data=texts[-1], expected_hash=slots["hash"])
    return None


def oracle(scenario: Scenario, rules: str) -> Seat:
    """Build a policy that knows the faults: it makes only calls that come through clean, and answers with the truth."""
    script = iter(_clean_plan(scenario, rules))
    return lambda _view: next(script)


def _clean_plan(scenario: Scenario, rules: str) -> list[Call]:
    question = scenarios.question(scenario.case, scenario.setting, scenario.seed)
    family, slots = understood(question.text)
    plan = _Plan(scenario, rules, question)
    opening = _opening(family, slots, ())
    if opening is not None:
        plan.add([opening])
    wanted = [Wanted(one.name, one.field, one.source) for one in question.inputs]
    values = {(one.name, one.field): one.value for one in question.inputs if not one.is_search}
    # What is due beside sources comes before a second source for the last of many values.
    due = extras(question.text, family, question.facts, values, document=" ")
    while not plan.is_grounded(len(due)):
        open_ones = plan.open(wanted)
        if not plan.add(asking(family, [one for one in open_ones if one.source == open_ones[0].source])):
            break
    if family.name == "filed":
        plan.add([call("hash_verify", data=plan.text(), expected_hash=slots["hash"])])
    for calls in extras(question.text, family, question.facts, values, plan.sure(), plan.text()):
        plan.add(calls)
    return [*plan.calls, submit(spelt(question.facts), "known")]


class _Plan:
    """Calls that are simulated before they are made, so that none meets a fault if that can be helped."""

    def __init__(self, scenario: Scenario, rules: str, question: Question) -> None:
        self._world = World(scenario, parse_rules(rules), storage=Storage(notes=question.notes))
        self._question = question
        self._told: dict[Wanted, set[Any]] = {}
        self.calls: list[Call] = []

    def is_grounded(self, due: int) -> bool:
        """Tell if two sources have told everything, or one has and only the steps for what else is due are left."""
        wanted = [Wanted(one.name, one.field, one.source) for one in self._question.inputs]
        left = self._world.task.max_steps - 1 - self._world.step
        return not self.open(wanted) or (left <= due and all(self._told.get(one) for one in wanted))

    def open(self, wanted: list[Wanted]) -> list[Wanted]:
        """Return what fewer than two sources have told."""
        is_by_source = any(one.source for one in self._question.inputs)
        enough = 1 if self._world.scenario.tier == "warmup" or is_by_source else 2
        return [one for one in wanted if len(self._told.get(one, ())) < enough]

    def sure(self) -> list[tuple[str, str]]:
        """Return the values that two sources have told."""
        return [(one.name, one.field) for one, told in self._told.items() if len(told) > 1]

    def text(self) -> str:
        """Return the document that was read last."""
        texts = [json.loads(made.shown)["body"] for made in self._world.made if made.ok and made.tool == "api_call"]
        return next((text for text in reversed(texts) if isinstance(text, str)), "")

    def add(self, options: list[Call]) -> bool:
        """Make the option that tells most; where all would fail, one that comes through the next time. False at the end."""
        while self._world.step < self._world.task.max_steps - 1:
            worth = {place: self._worth(option, self._world) for place, option in enumerate(options)}
            best = max(worth, key=lambda place: worth[place])
            if worth[best]:
                self._make(options[best])
                return True
            # The fault of a tool's next call is used up by making it.
            after = {
                place: self._worth(option, physics.advance(self._world, option)[0])
                for place, option in enumerate(options)
            }
            self._make(options[max(after, key=lambda place: after[place])])
        return False

    def _worth(self, option: Call, world: World) -> int:
        """Return how much a call would tell in this world; 0 where it would fail or mislead."""
        made = physics.advance(world, option)[0].made[-1]
        if not made.ok or made.fault:
            return 0
        if option.tool not in _READ:
            return 1
        # What nothing has told yet counts twice.
        return sum([2 - bool(self._told.get(wanted)) for wanted, _ in self._new(option, made.shown, world.step)])

    def _make(self, option: Call) -> None:
        after, _, _ = physics.advance(self._world, option)
        made = after.made[-1]
        if made.ok and not made.fault:
            for wanted, key in self._new(option, made.shown, self._world.step):
                self._told.setdefault(wanted, set()).add(key)
        self._world = after
        self.calls.append(option)

    def _new(self, made: Call, shown: str, step: int) -> list[tuple[Wanted, Any]]:
        """Return what a clean result tells that is still wanted, and by whom."""
        said = readings((Seen(step, made.tool, made.arguments, ok=True, shown=shown),))
        found = []
        for one in self._question.inputs:
            wanted = Wanted(one.name, one.field, one.source)
            if wanted not in self.open([wanted]):
                continue
            for reading in said:
                if one.name != reading.name or one.source not in ("", reading.source):
                    continue
                if (one.field, one.value) == (reading.field, reading.value):
                    key = step if one.source else reading.source
                    if key not in self._told.get(wanted, ()):
                        found.append((wanted, key))
        return list(dict.fromkeys(found))


_READ = frozenset(
    (
        "web_search",
        "fetch_url",
        "knowledge_base_lookup",
        "database_query",
        "document_search",
        "read_file",
        "api_call",
    )
)

POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {"random": random_policy, "naive": naive, "retrier": retrier, "heuristic": heuristic, "oracle": oracle}
)
