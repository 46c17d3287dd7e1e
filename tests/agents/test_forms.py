"""JSON Schema of calls accepts what a world's actions are made of, and little else."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from chaosops_ray.agents.forms import parameters_schema, tool_schema
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.actions import Form, Parameter

FORM = Form(
    "accuse",
    "Accuse an agent.",
    (
        Parameter("agent", "text", ("autoscaler", "deploy_bot")),
        Parameter("sureness", "probability"),
        Parameter("minutes", "whole", is_required=False, default=5),
        Parameter("figure", "scalar", is_required=False),
    ),
)


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ({"agent": "deploy_bot", "sureness": 0.5}, True),
        ({"agent": "deploy_bot", "sureness": 1, "minutes": 3, "figure": "x"}, True),
        ({"agent": "deploy_bot", "sureness": 1, "figure": 2.5}, True),
        ({"agent": "the cat", "sureness": 0.5}, False),
        ({"agent": "deploy_bot", "sureness": 1.5}, False),
        ({"agent": "deploy_bot", "sureness": 0.5, "minutes": 2.5}, False),
        ({"agent": "deploy_bot"}, False),
        ({"agent": "deploy_bot", "sureness": 0.5, "more": 1}, False),
    ],
)
def test_the_schema_accepts_what_the_form_takes(arguments: dict[str, object], fits: bool) -> None:
    schema = parameters_schema(FORM)
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(arguments) is fits
    assert schema["properties"]["minutes"]["default"] == 5


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_form_of_a_world_has_a_valid_schema(name: str) -> None:
    environment = ENVIRONMENTS[name]
    for role in environment.roles:
        for form in environment.forms(role, environment.rule_sets[0]):
            described = tool_schema(form)["function"]
            Draft202012Validator.check_schema(described["parameters"])
            assert described["name"] == form.name
