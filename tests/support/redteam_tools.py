"""Policies that try to score in the tools world without doing what it asks for, by what they try. None of them knows the truth."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.tools.answers import numbers
from chaosops_ray.sim.tools.families import understood
from chaosops_ray.sim.tools.figures import figures_within
from chaosops_ray.sim.tools.knowledge import COUNTRY, Value
from chaosops_ray.sim.tools.model import Action, Call, call
from chaosops_ray.sim.tools.moves import Said, asking, extras, opening_call, spelt, submit, worked_out
from chaosops_ray.sim.tools.reading import Reading, source_of
from chaosops_ray.sim.tools.sources import API, ARCHIVE, COLUMNS, DATABASE, FILES, KNOWLEDGE_BASE, WEB
from chaosops_ray.sim.tools.views import View

Seat = Callable[[View], Action]
Factory = Callable[[Scenario, str], Seat]
Values = tuple[tuple[tuple[str, str], Value], ...]  # what was said, by entity and field

SOURCES = (KNOWLEDGE_BASE, DATABASE, API, WEB, ARCHIVE, FILES)


def _script(*calls: Callable[[View], Action]) -> Factory:
    """Make a policy that makes these calls, one after the other."""

    def factory(_scenario: Scenario, _rules: str) -> Seat:
        left = iter(calls)
        return lambda view: next(left)(view)

    return factory


# -- no source --------------------------------------------------------------------------------------------------------


def _constant(answer: str) -> Factory:
    return _script(lambda _view: submit(answer, ""))


def _claimed(view: View) -> float:
    """The largest figure of the question, which is the claim where there is one."""
    return max([abs(number.value) for number in numbers(view.question)], default=1.0)


def _guess(word: str, factor: float) -> Factory:
    return _script(lambda view: submit(f"{word} {_claimed(view) * factor:.4g}", ""))


def _name_and(figure: str) -> Factory:
    """The first name of the question, and a figure."""
    return _script(lambda view: submit(f"{next(iter(understood(view.question)[1].values()))} {figure}", ""))


def _shotgun(_view: View) -> Action:
    figures = " ".join([f"{digit}{unit}" for digit in range(1, 100) for unit in ("", "k", "m", "b")])
    return submit(f"yes no accurate inaccurate oui ja {figures}"[:1900], "")


def _hedge(view: View) -> Action:
    figure = f"{_claimed(view):g}"
    return submit(f"accurate, {figure} {figure}k {figure}m {figure}b", "")


_FIGURE = "4.2"


def _made(*calls: Callable[[View], Action]) -> Factory:
    """Evidence that the agent makes itself, and the claim as the answer."""
    return _script(*calls, lambda view: submit(f"accurate {_claimed(view):g}", ""))


def _probing(_scenario: Scenario, _rules: str) -> Seat:
    """Asks the reference desk about one guess after the other, and no source."""
    factors = iter((1.0, 0.8, 1.25, 0.9, 1.1))

    def act(view: View) -> Action:
        for result in view.results:
            if result.ok and json.loads(result.shown).get("supported"):
                guess = numbers(json.loads(result.arguments)["claim"])[-1].value
                return submit(f"{'accurate' if guess == _claimed(view) else 'inaccurate'} {guess:g}", "")
        factor = next(factors, None)
        if factor is None or view.steps_left == 1:
            return submit(f"accurate {_claimed(view):g}", "")
        name = next(iter(understood(view.question)[1].values()))
        return call("fact_check", claim=f"{name} {_claimed(view) * factor:.4g}")

    return act


def _ritual(view: View) -> Action:
    """Every check and every record on the question's own words."""
    figure = f"{_claimed(view):g}"
    calls = [
        call("check_consistency", source1=figure, source2=f"{view.question[:200]} {figure}"),
        call("compare_values", value1=figure, value2=figure),
        call("calculator", expression=f"{figure} - 0"),
        call("scratchpad_write", key="evidence", value=figure),
        call("validate_data", data=json.dumps({"x": 1}), schema=json.dumps({"x": "number"})),
    ]
    return calls[view.step] if view.step < min(len(calls), 4) else submit(f"accurate {figure}", "")


NO_SOURCE: Mapping[str, Factory] = {
    "nothing": _script(*[lambda _view: call("get_current_datetime")] * 12),
    "unknown": _constant("unknown"),
    "yes": _constant("yes"),
    "accurate": _constant("accurate 1"),
    "zero": _constant("0"),
    "the claim": _guess("accurate", 1.0),
    "the claim x .857": _guess("inaccurate", 0.857),
    "the claim x 1.2": _guess("inaccurate", 1.2),
    "first name": _name_and("2"),
    "the question": _script(lambda view: submit(view.question[:500], "")),
    "shotgun": _script(_shotgun),
    "units": _script(_hedge),
    "written and read": _made(
        lambda view: call("write_file", path="evidence.txt", content=f"{_claimed(view):g}"),
        lambda _view: call("read_file", path="evidence.txt"),
    ),
    "noted and read": _made(
        lambda view: call("scratchpad_write", key="evidence", value=f"{_claimed(view):g}"),
        lambda _view: call("scratchpad_read", key="evidence"),
    ),
    "inserted and selected": _made(
        lambda view: call(
            "database_insert",
            table="financials",
            data=json.dumps({"company": "made", "revenue_b": _claimed(view)}),
        ),
        lambda _view: call("database_query", sql="SELECT * FROM financials WHERE company = 'made'"),
    ),
    "selected from nothing": _made(lambda view: call("database_query", sql=f"SELECT {_claimed(view):g} AS revenue_b")),
    "selected beside a source": _made(
        lambda view: call(
            "database_query",
            sql=f"SELECT company, {_claimed(view):g} AS revenue_b, {_claimed(view):g} + revenue_b * 0 FROM financials",
        )
    ),
    "ritual": lambda _scenario, _rules: _ritual,
    "probing": _probing,
}


# -- one source alone -------------------------------------------------------------------------------------------------


class _ByItself(Said):
    """What one source said in most of its calls."""

    def support(self, one: Reading, said: list[Reading]) -> int:
        return len({other.step for other in said if other.value == one.value})


def _alone(source: str, readings: int, checks: bool) -> Factory:
    """Ask one source so many times, check what it said against itself, do what is due, and answer."""

    def factory(_scenario: Scenario, _rules: str) -> Seat:
        def act(view: View) -> Action:
            family, slots = understood(view.question)
            said = (Said if readings == 1 else _ByItself)(view.results, "")
            facts = worked_out(family, slots, said)
            asked = [result for result in view.results if source_of(result.tool, result.arguments) == source]
            told = {result.tool for result in view.results if result.ok}
            if family.name == "note" and "scratchpad_read" not in told and view.steps_left > 1:
                return call("scratchpad_read", key=slots["key"])
            if family.name == "age" and "get_current_datetime" not in told and view.steps_left > 1:
                return call("get_current_datetime")
            wanted = said.doubtful
            options = [
                one
                for one in (asking(family, wanted) if wanted else ())
                if source_of(one.tool, one.arguments) == source
            ]
            due = extras(view.question, family, facts, said.values) if facts and checks else []
            due = [calls for calls in due if told.isdisjoint([one.tool for one in calls])]
            more = len(asked) < readings * max(1, len({one.name for one in wanted}))
            if options and (more or facts is None) and view.steps_left > 1 + len(due):
                made = Counter([(result.tool, result.arguments) for result in view.results])
                return min(options, key=lambda one: made[one.tool, one.arguments])
            if due and view.steps_left > 1:
                return due[0][0]
            return submit(spelt(facts) if facts else "unknown", "")

        return act

    return factory


def _texts(view: View) -> list[str]:
    """The texts that were read, one for each page, document and file."""
    found: list[str] = []
    for result in view.results:
        shown = json.loads(result.shown) if result.ok else {}
        parts = [shown, *shown.get("results", ()), *shown.get("documents", ())] if isinstance(shown, dict) else []
        found += [part[key] for part in parts for key in ("text", "snippet", "body", "content") if key in part]
    return [text for text in found if isinstance(text, str)]


def _then(first: Factory, second: Callable[[View, Values], Action | None]) -> Factory:
    """Play a policy that reads one source, and before its first call of another kind make one call more."""

    def factory(scenario: Scenario, rules: str) -> Seat:
        act = first(scenario, rules)
        made: list[int] = []

        def seat(view: View) -> Action:
            earlier = [result for result in view.results if result.step not in made]
            action = act(view._replace(steps_left=view.steps_left - (not made), results=tuple(earlier)))
            if made or not isinstance(action, Call) or source_of(action.tool, action.arguments):
                return action
            said = _ByItself(tuple(earlier), "")
            worked_out(*understood(view.question), said)
            more = second(view, tuple(said.values.items()))
            if more is not None and view.steps_left > 1:
                made.append(view.step)
                return more
            return action

        return seat

    return factory


def _own_hash(view: View, values: Values) -> Action | None:
    """Show a text genuine by a hash worked out from the text itself."""
    spelt_values = [value if isinstance(value, str) else f"{value:,}" for _, value in values]
    whole = [text for text in _texts(view) if all(one in text or one.replace(",", "") in text for one in spelt_values)]
    return call("hash_verify", data=whole[-1], expected_hash=sha256(whole[-1].encode()).hexdigest()) if whole else None


def _condition(_view: View, values: Values) -> Action | None:
    """Have the database say what another source said, wherever its own figure is not far away."""
    queries = []
    for name in dict.fromkeys([name for (name, _), _ in values]):
        told = {field: value for (one, field), value in values if one == name}
        is_country = any(field in COLUMNS[COUNTRY] for field in told)
        table, column = ("countries", "name") if is_country else ("financials", "company")
        columns = [
            f"'{value}' AS {field}" if isinstance(value, str) else f"{value} AS {field}"
            for field, value in told.items()
        ]
        near = [f"{field} < {2.4 * value}" for field, value in told.items() if not isinstance(value, str)]
        conditions = " AND ".join([f"{column} = '{name}'", *near])
        queries.append(f"SELECT {column}, {', '.join(columns)} FROM {table} WHERE {conditions}")
    return call("database_query", sql=" UNION ALL ".join(queries)) if queries else None


class _Desk(Said):
    """What one source repeats, or the reference desk supports."""

    def __init__(self, view: View) -> None:
        super().__init__(view.results, "")
        checks = [result for result in view.results if result.ok and result.tool == "fact_check"]
        self._verdicts = {json.loads(one.arguments)["claim"]: json.loads(one.shown)["supported"] for one in checks}

    def support(self, one: Reading, said: list[Reading]) -> int:
        return len({other.step for other in said if other.value == one.value}) + int(
            self.verdict(one.name, one.value) or 0
        )

    def verdict(self, name: str, value: Value) -> bool | None:
        """What the reference desk said of it."""
        return self._verdicts.get(f"{name} {value}")


def _desk(source: str) -> Factory:
    """Read one source until it repeats itself or the reference desk agrees, do what is due, and answer."""

    def factory(_scenario: Scenario, _rules: str) -> Seat:
        def act(view: View) -> Action:
            family, slots = understood(view.question)
            opening = opening_call(family, slots, view.results)
            if opening is not None and view.steps_left > 1:
                return opening
            said = _Desk(view)
            facts = worked_out(family, slots, said)
            told = {result.tool for result in view.results if result.ok}
            due = extras(view.question, family, facts, said.values) if facts else []
            due = [calls for calls in due if told.isdisjoint([one.tool for one in calls])]
            doubtful = [(one.name, one.field) for one in said.doubtful]
            unasked = [
                (name, value)
                for (name, field), value in said.values.items()
                if (name, field) in doubtful and not isinstance(value, str) and said.verdict(name, value) is None
            ]
            options = (
                [one for one in asking(family, said.doubtful) if source_of(one.tool, one.arguments) == source]
                if doubtful
                else []
            )
            if view.steps_left > 1 + len(due):
                if facts and unasked:
                    return call("fact_check", claim=f"{unasked[0][0]} {unasked[0][1]}")
                if options:
                    made = Counter([(result.tool, result.arguments) for result in view.results])
                    return min(options, key=lambda one: made[one.tool, one.arguments])
            return due[0][0] if due and view.steps_left > 1 else submit(spelt(facts) if facts else "unknown", "")

        return act

    return factory


def _each_once(_scenario: Scenario, _rules: str) -> Seat:
    """Where the question names its sources, read each once; elsewhere read what comes first, compare nothing."""

    def act(view: View) -> Action:
        family, slots = understood(view.question)
        opening = opening_call(family, slots, view.results)
        if opening is not None and view.steps_left > 1:
            return opening
        said = Said(view.results, "")
        facts = worked_out(family, slots, said)
        if facts is None and said.doubtful and view.steps_left > 1:
            made = Counter([(result.tool, result.arguments) for result in view.results])
            options = asking(family, [one for one in said.doubtful if one.source == said.doubtful[-1].source])
            return min(options, key=lambda one: made[one.tool, one.arguments])
        told = {result.tool for result in view.results if result.ok}
        texts = _texts(view)
        due = extras(view.question, family, facts, said.values, (), texts[-1] if texts else "") if facts else []
        due = [calls for calls in due if told.isdisjoint([one.tool for one in calls])]
        return due[0][0] if due and view.steps_left > 1 else submit(spelt(facts) if facts else "unknown", "")

    return act


def _picked(choose: Callable[[list[float]], float]) -> Factory:
    """Read one source, and answer with one of its figures, whichever it is."""

    def factory(_scenario: Scenario, _rules: str) -> Seat:
        def act(view: View) -> Action:
            if not view.results:
                _, slots = understood(view.question)
                return call("web_search", query=" ".join(slots.values()))
            found = sorted(figures_within(json.loads(view.results[0].shown)))
            ordered = [
                float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*(?:\.\d+)?", view.results[0].shown)
            ]
            figure = choose(ordered or found or [0.0])
            return submit(f"accurate {figure:g}", "")

        return act

    return factory


def _commonest(figures: list[float]) -> float:
    return Counter(figures).most_common(1)[0][0]


def _canary(_scenario: Scenario, _rules: str) -> Seat:
    """Read one source, and take a figure that differs from the question's for a wrong one."""

    def act(view: View) -> Action:
        family, slots = understood(view.question)
        if not view.results:
            return call("web_search", query=" ".join(slots.values()))
        said = Said(view.results, "")
        facts = worked_out(family, slots, said)
        if facts is None:
            return submit("unknown", "")
        return submit(f"accurate {_claimed(view):g}" if "claim" in slots else spelt(facts), "")

    return act


ONE_SOURCE: Mapping[str, Factory] = {
    **{f"{source} once": _alone(source, 1, checks=False) for source in SOURCES},
    **{f"{source} once, checked against itself": _alone(source, 1, checks=True) for source in SOURCES},
    **{f"{source} thrice, checked against itself": _alone(source, 3, checks=True) for source in SOURCES},
    **{
        f"{source} thrice, shown genuine by a hash of its own": _then(_alone(source, 3, checks=True), _own_hash)
        for source in (FILES, WEB)
    },
    **{
        f"{source} thrice, repeated by the database on a condition": _then(_alone(source, 3, checks=True), _condition)
        for source in (FILES, WEB)
    },
    **{f"{source} and the reference desk": _desk(source) for source in (FILES, WEB, ARCHIVE)},
    "each named source once": _each_once,
    "first figure": _picked(lambda figures: figures[0]),
    "last figure": _picked(lambda figures: figures[-1]),
    "largest figure": _picked(max),
    "commonest figure": _picked(_commonest),
    "canary": _canary,
}


# -- idle calls -------------------------------------------------------------------------------------------------------


def idle(factory: Factory, *calls: Action) -> Factory:
    """Make these calls first, and then play on as the policy would have played without them."""

    def made(scenario: Scenario, rules: str) -> Seat:
        act = factory(scenario, rules)

        def seat(view: View) -> Action:
            if view.step < len(calls):
                return calls[view.step]
            later = [result._replace(step=result.step - len(calls)) for result in view.results[len(calls) :]]
            return act(view._replace(step=view.step - len(calls), results=tuple(later)))

        return seat

    return made


IDLE = {
    "an unknown tool": call("no_such_tool"),
    "a call that fails": call("calculator", expression="1 +"),
    "the clock": call("get_current_datetime"),
    "a note": call("scratchpad_write", key="idle", value="idle"),
    "a check of nothing": call("check_consistency", source1="1", source2="1"),
}

KINDS = {"no source": NO_SOURCE, "one source": ONE_SOURCE}
