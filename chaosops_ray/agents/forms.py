"""The actions of a world as JSON Schema, for models and programs that make typed calls."""

from __future__ import annotations

from typing import Any

from chaosops_ray.sim.actions import Form, Kind, Parameter

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
