"""What an episode's sources have said, and what of it the answer can rest on.

A value is evidence if the source would have said another one had the world been another. A query of the database can
say anything: what the question says, what the agent inserted, a number in the query itself if a condition holds. So it
is carried out again in worlds that are as far from the true one as wrong sources are. It has told a value if it gives
the value of one of them there, and in none of them the true one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Any, TypeVar

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.tools.answers import near
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import STORAGE, Desk, checked
from chaosops_ray.sim.tools.figures import figures_within
from chaosops_ray.sim.tools.knowledge import Knowledge, counterfactuals, facts_of, knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import Fact, Input, Made, Question, Storage, World
from chaosops_ray.sim.tools.reading import source_of, values_of
from chaosops_ray.sim.tools.scenarios import facts_in
from chaosops_ray.sim.tools.sources import DATABASE

T = TypeVar("T")

# A query that can say nothing but what stands in columns, under their own names.
_PLAIN = re.compile(
    r"select (?:\*|\w+(?:, ?\w+)*) from \w+(?: where (?:(?!\b(?:select|union|values)\b).)*)?", re.IGNORECASE
)
_SAME = 0.002  # how close a figure must be to the true one to be the same
_UNITS = (1.0, 1e3, 1e6, 1e9, 1e-3)  # in which a query may give a figure


class Result:
    """What a call came to."""

    def __init__(self, value: Any) -> None:
        """`value` is None where the call failed."""
        self.value = value

    @cached_property
    def text(self) -> str:
        """All of it as text."""
        return json.dumps(self.value)

    @cached_property
    def figures(self) -> frozenset[float]:
        """The figures in it, in every unit."""
        return frozenset([figure * unit for figure in figures_within(self.value) for unit in _UNITS])

    def has(self, value: str | float) -> bool:
        """Tell if it has this text or number anywhere in it."""
        if isinstance(value, str):
            return value in self.text
        return any(near(value, figure, _SAME) for figure in self.figures)


class Said:
    """A source's answer to one call. What it would have said in other worlds is found out when asked for."""

    def __init__(self, step: int, source: str, made: Made, storage: Storage, scenario: Scenario) -> None:
        """`storage` is what the episode had stored when the call was made."""
        self.step = step
        self.source = source
        self._made = made
        self._storage = storage
        self._scenario = scenario

    @cached_property
    def shown(self) -> Result:
        """The result."""
        return Result(json.loads(self._made.shown))

    @cached_property
    def elsewhere(self) -> tuple[tuple[Knowledge, Result], ...]:
        """The other worlds, each with what the call would have come to."""
        tool, arguments = TOOLS[self._made.tool], json.loads(self._made.arguments)
        found = []
        for known in counterfactuals(knowledge(self._scenario.setting, self._scenario.seed)):
            try:
                result = tool.run(Desk(known, self._storage), **checked(tool, arguments))
            except ToolError:
                result = None
            found.append((known, Result(result)))
        return tuple(found)

    def holds(self, text: str) -> bool:
        """Tell if the result has this text in it."""
        return json.dumps(text)[1:-1] in self._made.shown

    @cached_property
    def _is_the_source_s_own(self) -> bool:
        """True if nothing of the agent's can stand in the result: of queries, for those of plain columns."""
        if self.source != DATABASE:
            return True
        return not self._storage.rows and _PLAIN.fullmatch(json.loads(self._made.arguments)["sql"]) is not None

    def tells(self, wanted: Input) -> bool:
        """Tell if the source said this value, and said it because it is so."""
        # Most results have the value in no spelling; to read them takes long.
        is_spelt = any(spelling in self._made.shown for spelling in _spellings(wanted.value))
        is_own = self._is_the_source_s_own
        if is_spelt and is_own and wanted.value in values_of(self.shown.value, wanted.name, wanted.field):
            return True
        if wanted.is_search and self.follows(wanted.name, partial(_owner, wanted), Result.has):
            return True
        return self.source == DATABASE and (is_spelt or not is_own) and self._tells_of_cell(wanted)

    def _tells_of_cell(self, wanted: Input) -> bool:
        def there(known: Knowledge) -> str | float:
            return facts_of(known, wanted.name)[wanted.field]

        def has_cell(result: Result, value: str | float) -> bool:
            return value in values_of(result.value, wanted.name, wanted.field)

        # A query may give the value under a name of its own, or without a name.
        return self.follows(wanted.value, there, has_cell if has_cell(self.shown, wanted.value) else Result.has)

    def follows(self, here: T, there: Callable[[Knowledge], T], says: Callable[[Result, T], bool]) -> bool:
        """Tell if the result gives the value that holds here, and elsewhere would give the one that holds there."""
        if not says(self.shown, here):
            return False
        other = [(result, value) for known, result in self.elsewhere for value in [there(known)] if value != here]
        return any(says(result, value) for result, value in other) and not any(
            says(result, here) for result, _ in other
        )


def _owner(wanted: Input, known: Knowledge) -> str:
    """Return whose this value is."""
    return next(entity.name for entity in known.entities if (wanted.field, wanted.value) in entity.facts)


@lru_cache(maxsize=4096)
def _spellings(value: str | float) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else (f"{value:,}", str(value))


class Evidence:
    """All that was said, by whom, in the order of the calls."""

    def __init__(self, scenario: Scenario, question: Question, said: tuple[Said, ...]) -> None:
        self._scenario = scenario
        self.question = question
        self.said = said
        self._tellers: dict[Input, list[Said]] = {}

    def tellers(self, wanted: Input) -> list[Said]:
        """Return the calls that told this value, or the answer that was worked out of it."""
        if wanted not in self._tellers:
            self._tellers[wanted] = [
                said
                for said in self.said
                if wanted.source in ("", said.source)
                and (said.tells(wanted) or (not wanted.source and said.source == DATABASE and said in self._workers))
            ]
        return self._tellers[wanted]

    @cached_property
    def _workers(self) -> list[Said]:
        """The queries that worked out a number of the answer; no other source works out anything."""
        numbers = [place for place, fact in enumerate(self.question.facts) if fact.kind == "numeric"]
        return [
            said
            for said in self.said
            if said.source == DATABASE and any(said.follows(*self._fact(place)) for place in numbers)
        ]

    def _fact(self, place: int) -> tuple[float, Callable[[Knowledge], float], Callable[[Result, float], bool]]:
        return (
            float(self.question.facts[place].value),
            lambda known: float(facts_in(known, self._scenario)[place].value),
            Result.has,
        )

    def is_told(self, wanted: Input, before: int) -> bool:
        """Tell if any source has told this value before this step."""
        return any(said.step < before for said in self.tellers(wanted))

    def is_cross_checked(self, wanted: Input, before: int) -> bool:
        """Tell if two independent sources have told this value.

        Where only one source has it, being told is enough if the question sets another source against it. A document
        that stands alone is checked by its hash and by nothing else.
        """
        sources = {said.source for said in self.tellers(wanted) if said.step < before}
        if not wanted.source:
            return len(sources) > 1
        return bool(sources) and len({one.source for one in self.question.inputs}) > 1


def gathered(world: World, question: Question) -> Evidence:
    """Return what the sources of this episode have said."""
    scenario = world.scenario
    storage = Storage(notes=question.notes)
    said = []
    for step, made in enumerate(world.made):
        if not made.ok or not made.tool:
            continue
        source = source_of(made.tool, made.arguments)
        if source:
            said.append(Said(step, source, made, storage, scenario))
        elif TOOLS[made.tool].group == STORAGE:
            desk = Desk(knowledge(scenario.setting, scenario.seed), storage)
            TOOLS[made.tool].run(desk, **checked(TOOLS[made.tool], json.loads(made.arguments)))
            storage = desk.storage
    return Evidence(scenario, question, tuple(said))


def is_near(fact: Fact, figures: set[float] | frozenset[float]) -> bool:
    """Tell if one of the figures is this number, in its own unit or in the question's."""
    value = float(fact.value)
    return any(
        near(value, figure / scale, max(fact.tolerance, 0.01)) for figure in figures for scale in (1, fact.scale)
    )
