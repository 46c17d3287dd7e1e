"""The display of a question: the calls as the agent knows them, and the truth behind what they showed apart."""

from __future__ import annotations

import re
from collections.abc import Iterable

from chaosops_ray.sim.board import Cell, Panel, Row, Tone
from chaosops_ray.sim.contract import Episode
from chaosops_ray.sim.tools.model import AGENT, Action, World
from chaosops_ray.sim.tools.rubric import asked, counts_of, task_score
from chaosops_ray.sim.tools.views import Seen, View
from chaosops_ray.sim.tools.views import view as view_of
from chaosops_ray.sim.weather import ANNOUNCED

_ROWS_SHOWN = 16
_SENTENCE = re.compile(r"(?<=[.?]) ")


def board(episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
    """Return what a spectator sees who does not know the truth: the question, and the calls so far."""
    world = episode.end
    if world.answer is not None:
        state = Cell(f"answered at step {world.step}: {world.answer}", "accent")
    elif world.done:
        state = Cell(f"no answer after {world.step} steps", "bad")
    else:
        state = Cell(f"step {world.step + 1} of {world.task.max_steps}", "accent")
    rules = (Cell(f"rules {episode.rules}", "muted"),)
    rows = (*_sentences(asked(world).text), (state,), rules)
    return Panel("question", (), rows, "accent", is_wide=True), _calls(view_of(world, AGENT).results)


def truth(episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
    """Return the answer, the faults with what silent ones have distorted, and what the score counts."""
    world = episode.end
    key = ", ".join([f"{fact.name} = {fact.value}" for fact in asked(world).facts])
    rows: list[Row] = [
        (Cell("scenario"), Cell(episode.scenario.identity)),
        (Cell("the answer"), Cell(key, "accent")),
    ]
    for number, made in enumerate(world.made, start=1):
        if made.fault:
            rows.append((Cell(f"call {number}", "muted"), Cell(made.fault.replace("_", " "), "bad")))
        if made.fault and made.fault not in ANNOUNCED:
            rows.append((Cell("really", "muted"), Cell(made.truth)))
    counted: list[Row] = [
        (Cell(name.replace("_", " ")), Cell(f"{value:.2f}" if isinstance(value, float) else str(value)))
        for name, value in counts_of(world)._asdict().items()
    ]
    counted.append((Cell("task score", "accent"), Cell(f"{task_score(world):.3f}", "accent")))
    return Panel("truth", (), tuple(rows), "warn", is_wide=True), Panel("tally", (), tuple(counted))


def seen(view: View) -> tuple[Panel, ...]:
    """Return the agent's view: the question, how to answer it, and what its calls have shown."""
    rows = (*_sentences(view.question), *_sentences(view.guidance), (Cell(f"{view.steps_left} steps left", "muted"),))
    return Panel("question", (), rows, is_wide=True), _calls(view.results)


def _sentences(text: str) -> tuple[Row, ...]:
    return tuple([(Cell(sentence),) for sentence in _SENTENCE.split(text)])


def _calls(results: Iterable[Seen]) -> Panel:
    rows: list[Row] = []
    for number, result in enumerate(results, start=1):
        tone: Tone = "plain" if result.ok else "warn"
        rows.append((Cell(f"{number:>2}", "muted"), Cell(result.tool or "(no call)", "accent"), Cell(result.arguments)))
        rows.append((Cell(""), Cell("ok" if result.ok else "error", tone), Cell(result.shown, tone)))
    empty = ((Cell("nothing was called", "muted"),),)
    return Panel("calls", (), tuple(rows) or empty, is_wide=True, last=_ROWS_SHOWN)
