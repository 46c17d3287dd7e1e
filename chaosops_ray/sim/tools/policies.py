"""The baselines, from one that answers at random to one that knows the faults.

All but the oracle see views alone: they read what tools have shown, as a careful person would, and have no access to
the true state.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from chaosops_ray.sim.contract import PolicyFactory, Scenario
from chaosops_ray.sim.tools import physics, scenarios
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.families import Family, understood
from chaosops_ray.sim.tools.model import Action, Call, Question, Storage, World, call, parse_rules
from chaosops_ray.sim.tools.moves import Said, Wanted, asking, extras, opening_call, spelt, submit, worked_out
from chaosops_ray.sim.tools.reading import readings, source_of
from chaosops_ray.sim.tools.sources import slug
from chaosops_ray.sim.tools.views import Seen, View

Seat = Callable[[View], Action]

UNKNOWN = "unknown"


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
        opening = opening_call(family, slots, view.results)
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
    opening = opening_call(family, slots, ())
    if opening is not None:
        plan.add([opening])
    wanted = [Wanted(one.name, one.field, one.source) for one in question.inputs]
    values = {(one.name, one.field): one.value for one in question.inputs if not one.is_search}
    # What is due beside sources comes before a second source for the last of many values.
    due = extras(question.text, family, question.facts, values, document=" ")
    while not plan.is_grounded(len(due)):
        open_ones = plan.lacking(wanted)
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
        return not self.lacking(wanted) or (left <= due and all(self._told.get(one) for one in wanted))

    def lacking(self, wanted: list[Wanted]) -> list[Wanted]:
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
        """Make the option that tells most, or else one that comes through the next time; return False at the end."""
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
            if wanted not in self.lacking([wanted]):
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
