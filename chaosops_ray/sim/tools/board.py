"""The display of a question for a spectator: the calls, and the truth behind what they showed."""

from __future__ import annotations

import re

from chaosops_ray.sim.board import Cell, Panel, Row, Tone, reward_panel
from chaosops_ray.sim.contract import Episode
from chaosops_ray.sim.tools.faults import ANNOUNCED
from chaosops_ray.sim.tools.model import Action, World
from chaosops_ray.sim.tools.rubric import asked, counts_of, task_score
from chaosops_ray.sim.tools.views import View

_CALLS_SHOWN = 8
_SENTENCE = re.compile(r"(?<=[.?]) ")


def board(episode: Episode[World, View, Action]) -> tuple[Panel, ...]:
    """Return the panels, from the question to the score."""
    world = episode.steps[-1].world if episode.steps else episode.start
    return (
        _status(episode, world),
        _calls(world),
        _virtues(world),
        reward_panel("reward", [part for step in episode.steps for part in step.score.components]),
    )


def _status(episode: Episode[World, View, Action], world: World) -> Panel:
    key = ", ".join([f"{fact.name} = {fact.value}" for fact in asked(world).facts])
    if world.answer is not None:
        state = Cell(f"answered at step {world.step}: {world.answer}", "accent")
    elif world.done:
        state = Cell(f"no answer after {world.step} steps", "bad")
    else:
        state = Cell(f"step {world.step + 1} of {world.task.max_steps}", "accent")
    sentences = [(Cell(sentence),) for sentence in _SENTENCE.split(asked(world).text)]
    rules = (Cell(f"the answer is {key} · rules {episode.rules}", "muted"),)
    return Panel(episode.scenario.identity, (), (*sentences, rules, (state,)), "accent", is_wide=True)


def _calls(world: World) -> Panel:
    rows: list[Row] = []
    for number, made in list(enumerate(world.made, start=1))[-_CALLS_SHOWN:]:
        tone: Tone = "bad" if made.fault else "plain" if made.ok else "warn"
        fate = made.fault.replace("_", " ") or ("ok" if made.ok else "error")
        rows.append((Cell(f"{number:>2}", "muted"), Cell(made.tool or "(no call)", "accent"), Cell(made.arguments)))
        rows.append((Cell(""), Cell(fate, tone), Cell(made.shown, tone)))
        if made.fault and made.fault not in ANNOUNCED:
            rows.append((Cell(""), Cell("truth", "muted"), Cell(made.truth, "muted")))
    return Panel("calls", (), tuple(rows) or ((Cell("nothing was called", "muted"),),), is_wide=True)


def _virtues(world: World) -> Panel:
    rows: list[Row] = [
        (Cell(name.replace("_", " ")), Cell(f"{value:.2f}" if isinstance(value, float) else str(value)))
        for name, value in counts_of(world)._asdict().items()
    ]
    rows.append((Cell("task score", "accent"), Cell(f"{task_score(world):.3f}", "accent")))
    return Panel("tally", (), tuple(rows))
