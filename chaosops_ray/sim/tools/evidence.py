"""What an episode's sources have said, and what of it the answer can rest on.

A value is evidence if the source would have said another one had the world been another. A query of the database can
say anything: what the question says, what the agent inserted, a number in the query itself. So it is carried out a second
time in a counterfactual world; what it says there as well, it did not know from the world.
"""

from __future__ import annotations

import json
from functools import cached_property, lru_cache
from typing import Any

from chaosops_ray.sim.tools.answers import near
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import STORAGE, Desk, checked
from chaosops_ray.sim.tools.figures import figures_within
from chaosops_ray.sim.tools.knowledge import Knowledge, counterfactual, knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import Fact, Input, Made, Question, Storage, World
from chaosops_ray.sim.tools.reading import source_of, values_of
from chaosops_ray.sim.tools.sources import DATABASE

_SAME = 0.002  # how close a figure must be to the true one to be the same
_SMALL = 10
_APART = 0.02  # and how far from it the counterfactual one has to be


class Said:
    """A source's answer to one call. What it would have said in the counterfactual world is found out when asked for."""

    def __init__(self, step: int, made: Made, storage: Storage, elsewhere: Knowledge) -> None:
        """`storage` is what the episode had stored when the call was made."""
        self.step = step
        self.source = source_of(made.tool, made.arguments)
        self._made = made
        self._storage = storage
        self._known = elsewhere

    @cached_property
    def shown(self) -> Any:
        """The result."""
        return json.loads(self._made.shown)

    @cached_property
    def elsewhere(self) -> Any:
        """The result in the counterfactual world; None where the call would have failed."""
        tool = TOOLS[self._made.tool]
        try:
            return tool.run(Desk(self._known, self._storage), **checked(tool, json.loads(self._made.arguments)))
        except ToolError:
            return None

    @cached_property
    def figures(self) -> frozenset[float]:
        """The figures of the result."""
        return frozenset(figures_within(self.shown))

    @cached_property
    def figures_elsewhere(self) -> frozenset[float]:
        """The figures of the result in the counterfactual world."""
        return frozenset(figures_within(self.elsewhere))

    def holds(self, text: str) -> bool:
        """Tell if the result has this text in it."""
        return json.dumps(text)[1:-1] in self._made.shown

    def tells(self, wanted: Input) -> bool:
        """Tell if the source said this value, and said it because it is so."""
        value = wanted.value
        # Most results have it in no spelling; to read them would take long.
        if any(spelling in self._made.shown for spelling in _spellings(value)):
            if value in values_of(self.shown, wanted.name, wanted.field):
                # No other source says anything of the agent's.
                return self.source != DATABASE or value not in values_of(self.elsewhere, wanted.name, wanted.field)
            if isinstance(value, str) and not wanted.is_search:
                return value not in json.dumps(self.elsewhere)
        # In another form: the name of what was found, or what only a query works out.
        if wanted.is_search:
            return self.holds(wanted.name) and wanted.name not in json.dumps(self.elsewhere)
        return not isinstance(value, str) and self.tells_figure(value)

    def tells_figure(self, value: float) -> bool:
        """Tell if a query of the database gave this number, and gave it because it is so."""
        if self.source != DATABASE:
            return False
        return any(near(value, figure, _SAME) for figure in self.figures) and not any(
            near(value, figure, _APART) for figure in self.figures_elsewhere
        )


@lru_cache(maxsize=4096)
def _spellings(value: str | float) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else (f"{value:,}", str(value))


class Evidence:
    """All that was said, by whom, in the order of the calls."""

    def __init__(self, question: Question, said: tuple[Said, ...]) -> None:
        self.question = question
        self.said = said
        self._tellers: dict[Input, list[Said]] = {}

    def tellers(self, wanted: Input) -> list[Said]:
        """Return the calls that told this value, or the answer that was worked out of it."""
        if wanted not in self._tellers:
            # A small number, such as a count, stands in too many results to be told by them.
            facts = () if wanted.source else self.question.facts
            worked_out = [float(f.value) for f in facts if f.kind == "numeric" and abs(float(f.value)) > _SMALL]
            self._tellers[wanted] = [
                said
                for said in self.said
                if wanted.source in ("", said.source)
                and (said.tells(wanted) or any(said.tells_figure(value) for value in worked_out))
            ]
        return self._tellers[wanted]

    def is_told(self, wanted: Input, before: int) -> bool:
        """Tell if any source has told this value before this step."""
        return any(said.step < before for said in self.tellers(wanted))

    def is_cross_checked(self, wanted: Input, before: int) -> bool:
        """Tell if two independent sources have told this value.

        Where only one source has it, being told is enough if the question sets another source against it. A document that
        stands alone is checked by its hash and by nothing else.
        """
        sources = {said.source for said in self.tellers(wanted) if said.step < before}
        if not wanted.source:
            return len(sources) > 1
        return bool(sources) and len({one.source for one in self.question.inputs}) > 1


def gathered(world: World, question: Question) -> Evidence:
    """Return what the sources of this episode have said."""
    elsewhere = counterfactual(knowledge(world.scenario.setting, world.scenario.seed))
    storage = Storage(notes=question.notes)
    said = []
    for step, made in enumerate(world.made):
        if not made.ok or not made.tool:
            continue
        if source_of(made.tool, made.arguments):
            said.append(Said(step, made, storage, elsewhere))
        elif TOOLS[made.tool].group == STORAGE:
            desk = Desk(elsewhere, storage)
            TOOLS[made.tool].run(desk, **checked(TOOLS[made.tool], json.loads(made.arguments)))
            storage = desk.storage
    return Evidence(question, tuple(said))


def is_near(fact: Fact, figures: set[float] | frozenset[float]) -> bool:
    """Tell if one of the figures is this number, in its own unit or in the question's."""
    value = float(fact.value)
    return any(near(value, figure / scale, max(fact.tolerance, 0.01)) for figure in figures for scale in (1, fact.scale))
