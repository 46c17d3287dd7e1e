"""The record of a tool: its parameters and its function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from chaosops_ray.sim.tools.knowledge import Knowledge
from chaosops_ray.sim.tools.limits import ToolError
from chaosops_ray.sim.tools.model import Storage

RETRIEVAL = "retrieval"
COMPUTATION = "computation"
STORAGE = "storage"
VALIDATION = "validation"
ACTION = "action"
GROUPS = (RETRIEVAL, COMPUTATION, STORAGE, VALIDATION, ACTION)

MAX_TEXT = 4_000


class Desk:
    """A tool's state during one call: the world's facts, and the episode's storage, which it may replace."""

    __slots__ = ("known", "storage")

    def __init__(self, known: Knowledge, storage: Storage) -> None:
        self.known = known
        self.storage = storage


class Parameter(NamedTuple):
    """An argument; a default makes it optional."""

    name: str
    kind: Literal["text", "number", "scalar"]  # a scalar is either
    default: Any = None


class Tool(NamedTuple):
    """One tool: its name, what it is for, what it takes, what it does."""

    name: str
    group: str
    purpose: str
    parameters: tuple[Parameter, ...]
    run: Callable[..., Any]


def text(name: str, default: str | None = None) -> Parameter:
    """Make a parameter that takes text."""
    return Parameter(name, "text", default)


def number(name: str, default: float | None = None) -> Parameter:
    """Make a parameter that takes a number."""
    return Parameter(name, "number", default)


def scalar(name: str) -> Parameter:
    """Make a parameter that takes either."""
    return Parameter(name, "scalar")


def checked(tool: Tool, given: dict[str, Any], longest: int = MAX_TEXT) -> dict[str, Any]:
    """Return the arguments with defaults filled in; ToolError where a name, a type or a length is wrong."""
    names = [parameter.name for parameter in tool.parameters]
    for name in given:
        if name not in names:
            raise ToolError(f"{tool.name} has no argument {name[:40]!r}; it takes {', '.join(names) or 'none'}")
    arguments = {}
    for parameter in tool.parameters:
        if parameter.name not in given:
            if parameter.default is None:
                raise ToolError(f"{tool.name} needs {parameter.name}")
            arguments[parameter.name] = parameter.default
            continue
        value = given[parameter.name]
        if not _fits(value, parameter.kind):
            raise ToolError(f"{parameter.name} must be {parameter.kind}")
        if isinstance(value, str) and len(value) > longest:
            raise ToolError(f"{parameter.name} is longer than {longest} characters")
        arguments[parameter.name] = value
    return arguments


def _fits(value: Any, kind: str) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not (abs(value) < 1e18 and math.isfinite(value)):
        return False
    return isinstance(value, str) if kind == "text" else is_number or (kind == "scalar" and isinstance(value, str))
