"""The moves of a careful agent: what to ask next, what answer follows from what was said, what else is due.

The heuristic and the oracle share them: the one decides by what sources have said, the other by what is true.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from chaosops_ray.sim.tools import deeds
from chaosops_ray.sim.tools.answers import near
from chaosops_ray.sim.tools.catalog.retrieval import DOCUMENT, ENTITY
from chaosops_ray.sim.tools.families import Family, understood
from chaosops_ray.sim.tools.knowledge import COMPANY, COUNTRY, DISPUTED, Value
from chaosops_ray.sim.tools.model import SUBMIT, Call, Fact, call
from chaosops_ray.sim.tools.reading import Reading, readings
from chaosops_ray.sim.tools.solutions import BILLION
from chaosops_ray.sim.tools.sources import ARCHIVE, DATABASE, DOCUMENTS, FILE_OF, page_of, slug
from chaosops_ray.sim.tools.views import Seen

Sure = Sequence[tuple[str, str]]  # the values that two sources agree on, by entity and field

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
    kind = COMPANY if any(one.field in OF_COMPANIES for one in wanted) else COUNTRY
    sql = query(kind, names, {one.field if one.is_search else NAME_COLUMNS[kind] for one in wanted})
    file = call("read_file", path=FILE_OF[kind])
    archive = call("document_search", query=" ".join(names))
    texts = [call("api_call", url=f"{DOCUMENT}{text}-{slug(name)}") for name in names for text in DOCUMENTS[kind]]
    if wanted[0].source == DATABASE:
        only = f"SELECT company, offices FROM financials WHERE company = {_listed(names)}"  # noqa: S608
        return [sql, call("database_query", sql=only)]
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


OF_COMPANIES = frozenset(
    ("headquarters", "sector", "founded", "employees", "revenue_b", "previous_revenue_b", "offices")
)
NAME_COLUMNS = {COUNTRY: "name", COMPANY: "company"}


def query(kind: str, names: Sequence[str], columns: Collection[str]) -> Call:
    """Return the query for all rows of a table with one of these names in one of the columns."""
    table = "financials" if kind == COMPANY else "countries"
    where = " OR ".join([f"{column} IN ({_listed(names)})" for column in sorted(columns)])
    return call("database_query", sql=f"SELECT * FROM {table} WHERE {where}")  # noqa: S608 - the tool reads, nothing else


def _listed(names: Sequence[str]) -> str:
    return ", ".join(["'" + name.replace("'", "''") + "'" for name in names])


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
        self._genuine = genuine(results)
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
        alike = [other for other in said if agree(one.value, other.value)]
        sources = len({other.source for other in alike})
        only_one = len({other.source for other in said}) == 1
        return len({other.step for other in alike}) if only_one and one.field == DISPUTED else sources

    def _enough(self, one: Reading) -> int:
        """Wrong sources repeat what a company announced: to believe that takes one more."""
        repeats = self._claim is not None and one.field == "revenue_b" and agree(one.value, self._claim)
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
        if len({one.source for one in self._readings if one.field == field}) < 2:
            self.doubtful.insert(0, Wanted(value, field, is_search=True))
        if not found:
            if not names:
                raise Missing
            found = names[:1]
        return found if kind == COMPANY else found[:1]

    def today(self) -> str:
        """Return the date of the clock."""
        return today(self._results)

    def note(self, key: str) -> str:
        """Return the company that the note names."""
        for name in noted(self._results, key):
            return name
        raise Missing

    def page(self, name: str) -> str:
        """Return the address of the press page."""
        return page_of(name, COMPANY)


def today(results: tuple[Seen, ...]) -> str:
    """Return the date that a clock gave."""
    for seen in results:
        if seen.ok and seen.tool == "get_current_datetime":
            return str(json.loads(seen.shown)["now"])[:10]
    raise Missing


def noted(results: tuple[Seen, ...], key: str) -> Iterator[str]:
    """Yield the company that the note names, as often as it was read."""
    for seen in results:
        if seen.ok and seen.tool == "scratchpad_read" and json.loads(seen.arguments)["key"] == key:
            yield str(json.loads(seen.shown)["value"]).removeprefix("The company is ").rstrip(".")


def genuine(results: tuple[Seen, ...]) -> set[int]:
    """Return the steps that gave a text whose hash was found to match."""
    matches = [r for r in results if r.ok and r.tool == "hash_verify" and json.loads(r.shown)["match"]]
    texts = [json.loads(r.arguments)["data"] for r in matches]
    return {r.step for r in results if r.ok and r.tool == "api_call" and json.loads(r.shown).get("body") in texts}


def agree(first: Value, second: Value) -> bool:
    """Tell if two sources say the same: texts to the letter, figures but for rounding."""
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    return near(first, second, _AGREE)


def worked_out(family: Family, slots: Mapping[str, str], said: Said) -> tuple[Fact, ...] | None:
    """Return the answer that follows from what was said; None where something is missing or makes no sense."""
    try:
        return family.solve(slots, said)
    except (Missing, ZeroDivisionError, ValueError, TypeError):
        return None


def opening_call(family: Family, slots: Mapping[str, str], results: tuple[Seen, ...]) -> Call | None:
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
    due = [deed_of(question, family, facts), work_of(question, family, facts, values, document)]
    if family.tier in ("intermediate", "expert") and family.name != "filed":
        due.append(checks_of(family, facts, values, sure))
    return [calls for calls in due if calls]


def checks_of(
    family: Family, facts: tuple[Fact, ...], values: Mapping[tuple[str, str], Value], sure: Sure
) -> list[Call]:
    """Return calls of which one checks what the answer rests on."""
    if family.name == "contradiction":
        here, there = (f"{fact.value} offices" for fact in facts[1:])
        return [
            call("check_consistency", source1=here, source2=there),
            call("compare_values", value1=here, value2=there),
        ]
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


def work_of(
    question: str, family: Family, facts: tuple[Fact, ...], values: Mapping[tuple[str, str], Value], document: str
) -> list[Call]:
    """Return calls of which one shows how the answer was worked out; none where the question needs none."""
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
            return [
                call("translate", text="yes" if facts[0].value in ("oui", "ja") else "no", target_language=language)
            ]
        case "page":
            return [call("validate_url", url=str(facts[0].value))]
    return []


def deed_of(question: str, family: Family, facts: tuple[Fact, ...]) -> list[Call]:
    """Return the call that does what the question wants done beside the answer; none where there is nothing to do."""
    if family.name == "contradiction":
        verdict, here, there = facts
        reason = f"the database has {here.value}, the archive {there.value}"
        return [] if verdict.value else [call("request_human_review", reason=reason)]
    asked = deeds.read(question) if family.name == "claim" else None
    if asked is None:
        return []
    tool, key = asked
    actual = next(fact.value for fact in facts if fact.kind == "numeric")
    statement = f"actual revenue {actual:g} billion"
    row = {"company": understood(question)[1]["company"], "quarter": key, "revenue_b": actual}
    calls = {
        "update_ticket": call(tool, ticket_id=key, update=statement),
        "send_notification": call(tool, message=statement),
        "create_report": call(tool, content=statement),
        "write_file": call(tool, path=key, content=statement),
        "scratchpad_write": call(tool, key=key, value=statement),
        "schedule_task": call(tool, task=statement, time=key),
        "database_insert": call(tool, table="financials", data=json.dumps(row)),
    }
    return [calls[tool]]
