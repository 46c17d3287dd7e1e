"""One step of the unreliable-tools world: a call, and the fault that it meets. Pure, and never raises."""

from __future__ import annotations

import json
from typing import Any

from chaosops_ray.sim.contract import AFTER_END, Outcome
from chaosops_ray.sim.speech import Unparsed, clean
from chaosops_ray.sim.tools import faults
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import Desk, checked
from chaosops_ray.sim.tools.knowledge import knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import (
    AGENT,
    MAX_ANSWER,
    MAX_SHOWN,
    SUBMIT,
    Action,
    Call,
    Event,
    Made,
    Storage,
    World,
    admit,
)

_MESSAGES = {faults.TIMEOUT: "the tool did not answer in time", faults.RATE_LIMIT: "too many calls, try later"}


def acting(world: World) -> str | None:
    """Return the agent, and None when the episode is over."""
    return None if world.done else AGENT


def advance(world: World, given: object) -> tuple[World, Action, Outcome]:
    """Make the agent's call, and go on by one step."""
    action = admit(given)
    if world.done:
        return world, action, AFTER_END
    if isinstance(action, Unparsed):
        made = _failed("", "", "not_a_call", action.reason)
        return _after(world, made, world.storage), action, frozenset({Event.ERROR, Event.UNPARSED})
    made, storage = _make(world, action)
    after = _after(world, made, storage)
    events = {f"fault_{made.fault}"} if made.fault else set()
    if not made.ok:
        events.add(Event.ERROR)
    if any((action.tool, action.arguments) == (before.tool, before.arguments) for before in world.made):
        events.add(Event.REPEATED)
    if made.ok and action.tool == SUBMIT:
        answer = clean(str(json.loads(action.arguments)["answer"]), MAX_ANSWER)
        return after._replace(answer=answer), action, frozenset(events | {Event.ANSWERED})
    return after, action, frozenset(events)


def _after(world: World, made: Made, storage: Storage) -> World:
    return world._replace(step=world.step + 1, made=(*world.made, made), storage=storage)


def _make(world: World, call: Call) -> tuple[Made, Storage]:
    """Carry out a call; what it came to, and the storage after it."""
    tool = TOOLS.get(call.tool)
    if tool is None:
        named = f"there is no tool {call.tool!r}"
        return _failed(call.tool, call.arguments, "unknown_tool", named), world.storage
    scenario = world.scenario
    fault = faults.drawn(scenario.seed, world.step, tool.name, scenario.tier)
    if fault in faults.ANNOUNCED:
        return _failed(tool.name, call.arguments, fault, _MESSAGES[fault], fault), world.storage
    known = knowledge(scenario.setting, scenario.seed)
    desk = Desk(known, world.storage)
    blamed = ""
    try:
        arguments = checked(tool, json.loads(call.arguments))
        result = tool.run(desk, **arguments)
        truth = shown = _spelt(result)
        # From here on the call would have succeeded: an error is the fault's, as of a sum that is too large with the
        # figures of a corrupt source.
        blamed = fault or ""
        if fault in (faults.SILENT_DROP, faults.TRUNCATION):
            shown = _spelt(faults.distorted(fault, result, scenario.seed, world.step))
        elif fault is not None:
            source = faults.misinformed(fault, known, scenario.seed, world.step)
            said = tool.run(Desk(source, world.storage), **arguments)
            shown = _spelt(faults.contradicted(said) if fault == faults.CORRUPTION else said)
    except ToolError as error:
        return _failed(tool.name, call.arguments, "error", str(error), blamed), world.storage
    # A fault that changed nothing did not happen: there was nothing in the result that it could distort.
    met = fault if fault and shown != truth else ""
    return Made(tool.name, call.arguments, ok=True, shown=shown, truth=truth, fault=met), desk.storage


def _spelt(result: Any) -> str:
    try:
        spelling = json.dumps(result, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise ToolError("the result holds a number that is not finite or too long to write") from None
    if len(spelling) > MAX_SHOWN:
        raise ToolError(f"the result is longer than {MAX_SHOWN} characters")
    return spelling


def _failed(tool: str, arguments: str, kind: str, message: str, fault: str = "") -> Made:
    shown = json.dumps({"error": kind, "message": clean(message, 300)})
    return Made(tool, arguments, ok=False, shown=shown, truth=shown, fault=fault)
