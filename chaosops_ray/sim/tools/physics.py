"""One step of the unreliable-tools world: a call, and the fault that it meets. Pure, and never raises."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from chaosops_ray.sim.contract import AFTER_END, Outcome
from chaosops_ray.sim.speech import Unparsed, clean
from chaosops_ray.sim.tools import faults
from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.catalog.tool import MAX_TEXT, Desk, Tool, checked
from chaosops_ray.sim.tools.knowledge import knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import (
    AGENT,
    MAX_ANSWER,
    MAX_ARGUMENTS,
    MAX_SHOWN,
    SUBMIT,
    Call,
    Event,
    Made,
    Storage,
    Taken,
    World,
    admitted,
)
from chaosops_ray.sim.weather import ANNOUNCED, CORRUPTION, RATE_LIMIT, STALE, TIMEOUT

_SHOWN = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_MESSAGES = {TIMEOUT: "the tool did not answer in time", RATE_LIMIT: "too many calls, try later"}


def acting(world: World) -> str | None:
    """Return the agent, and None when the episode is over."""
    return None if world.done else AGENT


def advance(world: World, given: object) -> tuple[World, Taken, Outcome]:
    """Make the agent's call, and go on by one step."""
    action, arguments = admitted(given)
    if world.done:
        return world, action, AFTER_END
    if isinstance(action, Unparsed):
        made = _failed("", "", "not_a_call", action.reason)
        return _after(world, made, world.storage), action, frozenset({Event.ERROR, Event.UNPARSED})
    made, storage = _make(world, action, arguments)
    after = _after(world, made, storage)
    events = {f"fault_{made.fault}"} if made.fault else set()
    if not made.ok:
        events.add(Event.ERROR)
    if (action.tool, action.arguments) in [(before.tool, before.arguments) for before in world.made]:
        events.add(Event.REPEATED)
    if made.ok and action.tool == SUBMIT:
        answer = str(arguments["answer"])
        kept = _in_one_line(answer) if world.rules.are_published else clean(answer, MAX_ANSWER)
        return after._replace(answer=kept), action, frozenset(events | {Event.ANSWERED})
    return after, action, frozenset(events)


def _in_one_line(text: str) -> str:
    """Return a text as one printable line of the same length, in which a grader finds the same words and numbers."""
    return "".join([c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text])


def _after(world: World, made: Made, storage: Storage) -> World:
    return world._replace(step=world.step + 1, made=(*world.made, made), storage=storage)


def _make(world: World, call: Call, given: dict[str, Any]) -> tuple[Made, Storage]:
    """Carry out a call; what it came to, and the storage after it."""
    tool = TOOLS.get(call.tool)
    if tool is None:
        named = f"there is no tool {call.tool!r}"
        return _failed(call.tool, call.arguments, "unknown_tool", named), world.storage
    weather = _weather(world, tool.name)
    fault = faults.drawn(weather)
    if fault in ANNOUNCED:
        return _failed(tool.name, call.arguments, fault, _MESSAGES[fault], fault), world.storage
    # A published answer is as long as all arguments together may be.
    longest = MAX_ARGUMENTS if tool.name == SUBMIT and world.rules.are_published else MAX_TEXT
    try:
        arguments = checked(tool, given, longest)
    except ToolError as error:
        return _failed(tool.name, call.arguments, "error", str(error)), world.storage
    known = knowledge(world.scenario.setting, world.scenario.seed)
    desk = Desk(known, world.storage)
    true = told = _carried_out(tool, desk, arguments)
    if fault in (STALE, CORRUPTION):
        # Whether the call fails is up to the wrong figures, too, or a query that fails on some would find out the true.
        told = _carried_out(tool, Desk(faults.misinformed(fault, known, weather), world.storage), arguments)
        if told.ok and fault == CORRUPTION:
            told = told._replace(shown=_spelt(faults.contradicted(told.value)))
    elif fault is not None and true.ok:
        told = true._replace(shown=_spelt(faults.distorted(fault, true.value, weather)))
    # A fault that changed nothing did not happen: there was nothing in the result that it could distort.
    met = fault if fault and told.shown != true.shown else ""
    made = Made(tool.name, call.arguments, ok=told.ok, shown=told.shown, truth=true.shown, fault=met)
    return made, desk.storage if told.ok else world.storage


class _Result(NamedTuple):
    """What a call came to, and how it is shown."""

    ok: bool
    value: Any
    shown: str


def _carried_out(tool: Tool, desk: Desk, arguments: dict[str, Any]) -> _Result:
    try:
        result = tool.run(desk, **arguments)
        return _Result(ok=True, value=result, shown=_spelt(result))
    except ToolError as error:
        return _Result(ok=False, value=None, shown=_error("error", str(error)))


def _weather(world: World, tool: str) -> faults.Call:
    scenario, are_published = world.scenario, world.rules.are_published
    # Under strict rules a call changes the weather of no other tool: waiting is no way to a better answer.
    number = world.step if are_published else sum([made.tool == tool for made in world.made])
    return faults.Call(scenario.seed, tool, number, scenario.tier, scenario.setting, are_published)


def _spelt(result: Any) -> str:
    try:
        spelling = _SHOWN.encode(result)
    except ValueError:
        raise ToolError("the result holds a number that is not finite or too long to write") from None
    if len(spelling) > MAX_SHOWN:
        raise ToolError(f"the result is longer than {MAX_SHOWN} characters")
    return spelling


def _failed(tool: str, arguments: str, kind: str, message: str, fault: str = "") -> Made:
    shown = _error(kind, message)
    return Made(tool, arguments, ok=False, shown=shown, truth=shown, fault=fault)


def _error(kind: str, message: str) -> str:
    return json.dumps({"error": kind, "message": clean(message, 300)})
