"""Calls in the tools world that come to what a test wants, whatever the seed would make of them."""

from __future__ import annotations

import json
from typing import Any

from chaosops_ray.sim.tools import TOOLS as ENVIRONMENT
from chaosops_ray.sim.tools import faults, scenarios
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import Desk, checked
from chaosops_ray.sim.tools.knowledge import Knowledge, knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import SUBMIT, Call, Made, Question, World, call
from chaosops_ray.sim.weather import CORRUPTION


def begin(identity: str, rules: str = "strict") -> World:
    """Start a scenario."""
    world: World = ENVIRONMENT.start(ENVIRONMENT.scenario(identity), rules)
    return world


def asked(world: World) -> Question:
    """Return the world's question."""
    return scenarios.question(world.scenario.case, world.scenario.setting, world.scenario.seed)


def known(world: World) -> Knowledge:
    """Return what is true in the world."""
    return knowledge(world.scenario.setting, world.scenario.seed)


def clean(world: World, *calls: Call) -> World:
    """Make calls that meet no fault; one that the tool refuses fails."""
    for made in calls:
        world = _made(world, made, known(world), "")
    return world


def misled(world: World, made: Call, kind: str = CORRUPTION) -> World:
    """Make a call of a source that is wrong, as the fault of this kind makes it."""
    scenario = world.scenario
    weather = faults.Call(
        scenario.seed, made.tool, world.step, scenario.tier, scenario.setting, world.rules.are_published
    )
    return _made(world, made, faults.misinformed(kind, known(world), weather), kind)


def answered(world: World, answer: str) -> World:
    """Submit an answer."""
    end = clean(world, call(SUBMIT, answer=answer, reasoning=""))
    return end._replace(answer=answer)


def _made(world: World, given: Call, believed: Knowledge, fault: str) -> World:
    tool, desk = TOOLS[given.tool], Desk(believed, world.storage)
    try:
        result: Any = tool.run(desk, **checked(tool, json.loads(given.arguments)))
        ok = True
    except ToolError as error:
        result, ok = {"error": "error", "message": str(error)}, False
    shown = json.dumps(result)
    made = Made(given.tool, given.arguments, ok=ok, shown=shown, truth=shown, fault=fault if ok else "")
    return world._replace(step=world.step + 1, made=(*world.made, made), storage=desk.storage)
