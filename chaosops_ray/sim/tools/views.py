"""The agent's view: the question, the guidance, its budget, and what its calls have shown."""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.tools.model import ROLES, World
from chaosops_ray.sim.tools.rubric import asked


class Seen(NamedTuple):
    """A call as the agent knows it."""

    step: int
    tool: str
    arguments: str
    ok: bool
    shown: str


class View(NamedTuple):
    """The agent's view at one moment."""

    role: str
    step: int
    question: str
    guidance: str
    steps_left: int
    results: tuple[Seen, ...]


def view(world: World, role: str) -> View:
    """Return what the agent sees now."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    task = world.task
    return View(
        role,
        world.step,
        asked(world).text,
        task.guidance,
        task.max_steps - world.step,
        tuple([Seen(step, made.tool, made.arguments, made.ok, made.shown) for step, made in enumerate(world.made)]),
    )
