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
from chaosops_ray.sim.tools.catalog.retrieval import DOCUMENT
from chaosops_ray.sim.tools.catalog.tool import Desk, checked
from chaosops_ray.sim.tools.figures import figures_within
from chaosops_ray.sim.tools.knowledge import counterfactual, knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import Fact, Input, Made, Question, Storage, World
from chaosops_ray.sim.tools.sources import API, ARCHIVE, DATABASE, FILES, KNOWLEDGE_BASE, TABLES, WEB

_SOURCES = {
    "web_search": WEB,
    "fetch_url": WEB,
    "knowledge_base_lookup": KNOWLEDGE_BASE,
    "database_query": DATABASE,
    "document_search": ARCHIVE,
}
_SAME = 0.002  # how close a figure must be to the true one to be the same
_APART = 0.02  # and how far from it the counterfactual one has to be


def source_of(made: Made) -> str:
    """Return the source that a call asked; empty where it asked none."""
    arguments = json.loads(made.arguments) if made.tool in ("api_call", "read_file") else {}
    if made.tool == "api_call":
        return ARCHIVE if str(arguments.get("url", "")).startswith(DOCUMENT) else API
    if made.tool == "read_file":
        return FILES if arguments.get("path") in TABLES else ""
    return _SOURCES.get(made.tool, "")


class Said(NamedTuple):
    """A source's answer to one call, and what it would have said in the counterfactual world."""

    step: int
    source: str
    shown: str
    figures: frozenset[float]
    elsewhere: str
    figures_elsewhere: frozenset[float]

    def tells(self, value: str | float) -> bool:
        """Tell if the source said this value, and said it because it is so."""
        if isinstance(value, str):
            return value in self.shown and value not in self.elsewhere
        return any(near(value, figure, _SAME) for figure in self.figures) and not any(
            near(value, figure, _APART) for figure in self.figures_elsewhere
        )


class Evidence(NamedTuple):
    """All that was said, by whom, in the order of the calls."""

    question: Question
    said: tuple[Said, ...]

    def tellers(self, wanted: Input, before: int) -> list[Said]:
        """Return who has told this value before this step; who told the answer worked out, told what it rests on."""
        worked_out = [fact for fact in self.question.facts if fact.kind == "numeric" and fact.value != 0]
        return [
            said
            for said in self.said
            if said.step < before
            and (not wanted.source or said.source == wanted.source)
            and (said.tells(wanted.value) or (not wanted.source and any(said.tells(fact.value) for fact in worked_out)))
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
        source = source_of(made)
        if source:
            shown = json.loads(made.shown)
            said.append(
                Said(step, source, _text(shown), frozenset(figures_within(shown)), _text(elsewhere), _figures(elsewhere))
            )
    return Evidence(question, tuple(said))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _figures(value: Any) -> frozenset[float]:
    return frozenset(figures_within(value))


def is_near(fact: Fact, figures: set[float] | frozenset[float]) -> bool:
    """Tell if one of the figures is this number, in its own unit or in the question's."""
    value = float(fact.value)
    return any(near(value, figure / scale, max(fact.tolerance, 0.01)) for figure in figures for scale in (1, fact.scale))
