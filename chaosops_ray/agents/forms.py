"""The actions of a world as JSON Schema, for models and programs that make typed calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaosops_ray.sim.actions import MAX_NUMBER, Form, Kind, Parameter
from chaosops_ray.sim.contract import AnyEnvironment

# For the end of a system prompt where a model acts by calls: prompts and views ask for actions as text. The examples of
# such answers are left out there.
BY_CALLS = (
    "Here, each action is a tool of the same name. To act, call the tool: wherever a text asks you to write a JSON "
    "object, or gives one as an example, the tool call is meant."
)
# The longest text in a call. Worlds cut theirs shorter, or read longer ones too.
MAX_TEXT = 2_000
# Larger figures than these are no argument of any world.
_MAX_SCALAR = 10**15

_TYPES: dict[Kind, dict[str, Any]] = {
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "probability": {"type": "number", "minimum": 0, "maximum": 1},
    "scalar": {"type": ["string", "number"]},
}


def parameters_schema(form: Form) -> dict[str, Any]:
    """Return the JSON Schema of a call's arguments."""
    return {
        "type": "object",
        "properties": {parameter.name: _schema(parameter) for parameter in form.parameters},
        "required": [parameter.name for parameter in form.parameters if parameter.is_required],
        "additionalProperties": False,
    }


def call_schema(environment: AnyEnvironment, role: str, rules: str) -> dict[str, Any]:
    """Return the JSON Schema of the one object that a seat may write on its turn, as the world's full style has it.

    All that fits is an action of the world. Properties stand in their order.
    """
    return {"anyOf": [_written(environment.call_fields(form)) for form in environment.forms(role, rules)]}


def _written(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with these fields."""
    return {
        "type": "object",
        "properties": {name: _value(field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if not isinstance(field, Parameter) or field.is_required],
        "additionalProperties": False,
    }


def _value(field: Any) -> dict[str, Any]:
    if isinstance(field, str):
        return {"const": field}
    if not isinstance(field, Parameter):
        return _written(field)
    if field.valid:
        return {"enum": list(field.valid)}
    limit = _MAX_SCALAR if field.kind == "scalar" else MAX_NUMBER
    bounds = {
        "text": {"maxLength": MAX_TEXT},
        "probability": {},
        "scalar": {"maxLength": MAX_TEXT, "exclusiveMinimum": -limit, "exclusiveMaximum": limit},
    }
    return _TYPES[field.kind] | bounds.get(field.kind, {"exclusiveMinimum": -limit, "exclusiveMaximum": limit})


def tool_schema(form: Form) -> dict[str, Any]:
    """Return the form as chat completion endpoints take tools."""
    described = {"name": form.name, "description": form.purpose, "parameters": parameters_schema(form)}
    return {"type": "function", "function": described}


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema = dict(_TYPES[parameter.kind])
    if parameter.valid:
        schema["enum"] = list(parameter.valid)
    if parameter.default is not None:
        schema["default"] = parameter.default
    return schema
