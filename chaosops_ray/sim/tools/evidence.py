"""What an episode's sources have said, and what of it the answer can rest on.

A figure is evidence if a source would have said another one had the world been another: every call is carried out a
second time in a counterfactual world. What is the same there came from the question, from the agent's own arguments
or from what it had stored itself.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from chaosops_ray.sim.tools.answers import near
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import Desk, checked
from chaosops_ray.sim.tools.figures import figures_within
from chaosops_ray.sim.tools.knowledge import counterfactual, knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import Fact, Input, Question, Storage, World
from chaosops_ray.sim.tools.reading import Cell, source_of, told

_SAME = 0.002  # how close a figure must be to the true one to be the same
_SMALL = 10
_APART = 0.02  # and how far from it the counterfactual one has to be


class Telling(NamedTuple):
    """What a result says: as values of entities where it is in a known form, and as text and figures in any case."""

    values: frozenset[tuple[str, str, Cell]]
    figures: frozenset[float]
    text: str


class Said(NamedTuple):
    """A source's answer to one call, and what it would have said in the counterfactual world."""

    step: int
    source: str
    here: Telling
    elsewhere: Telling

    def tells(self, wanted: Input) -> bool:
        """Tell if the source said this value, and said it because it is so."""
        value = wanted.name, wanted.field, wanted.value
        if value in self.here.values:
            return value not in self.elsewhere.values
        if isinstance(wanted.value, str):
            return wanted.value in self.here.text and wanted.value not in self.elsewhere.text
        return self.tells_figure(wanted.value)

    def tells_figure(self, value: float) -> bool:
        """Tell if the source said this number, and said it because it is so."""
        return any(near(value, figure, _SAME) for figure in self.here.figures) and not any(
            near(value, figure, _APART) for figure in self.elsewhere.figures
        )


class Evidence(NamedTuple):
    """All that was said, by whom, in the order of the calls."""

    question: Question
    said: tuple[Said, ...]

    def tellers(self, wanted: Input, before: int) -> list[Said]:
        """Return who has told this value before this step; who told the answer worked out, told what it rests on."""
        # A small whole number, such as a count, stands in too many results to be told by them.
        numbers = [float(fact.value) for fact in self.question.facts if fact.kind == "numeric"]
        looked_up = [one.value for one in self.question.inputs]
        worked_out = [one for one in numbers if abs(one) > _SMALL or not (one.is_integer() or one in looked_up)]
        return [
            said
            for said in self.said
            if said.step < before
            and (not wanted.source or said.source == wanted.source)
            and (said.tells(wanted) or (not wanted.source and any(said.tells_figure(value) for value in worked_out)))
        ]

    def is_told(self, wanted: Input, before: int) -> bool:
        """Tell if any source has told this value."""
        return bool(self.tellers(wanted, before))

    def is_cross_checked(self, wanted: Input, before: int) -> bool:
        """Tell if two independent sources have told this value; where only one has it, if that one has."""
        return len({said.source for said in self.tellers(wanted, before)}) > (0 if wanted.source else 1)


def gathered(world: World, question: Question) -> Evidence:
    """Return what the sources of this episode have said."""
    known = counterfactual(knowledge(world.scenario.setting, world.scenario.seed))
    storage = Storage(notes=question.notes)
    said = []
    for step, made in enumerate(world.made):
        if not made.ok or not made.tool:
            continue
        desk = Desk(known, storage)
        try:
            elsewhere = TOOLS[made.tool].run(desk, **checked(TOOLS[made.tool], json.loads(made.arguments)))
        except ToolError:
            elsewhere = None  # nothing of the kind is there
        storage = desk.storage
        source = source_of(made.tool, made.arguments)
        if source:
            said.append(Said(step, source, _telling(json.loads(made.shown)), _telling(elsewhere)))
    return Evidence(question, tuple(said))


def _telling(value: Any) -> Telling:
    text = json.dumps(value, ensure_ascii=False)
    return Telling(frozenset(told(value)), frozenset(figures_within(value)), text)


def is_near(fact: Fact, figures: set[float] | frozenset[float]) -> bool:
    """Tell if one of the figures is this number, in its own unit or in the question's."""
    value = float(fact.value)
    return any(
        near(value, figure / scale, max(fact.tolerance, 0.01)) for figure in figures for scale in (1, fact.scale)
    )
