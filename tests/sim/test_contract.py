"""Every world meets the contract."""

import pytest

from chaosops_ray.sim import ENVIRONMENTS, InputError, environment_named, environment_of
from tests.support.contract_check import check_environment


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_world_meets_the_contract(name: str) -> None:
    """One scenario of every group on every tier, taken from both evaluation sets."""
    environment = ENVIRONMENTS[name]
    chosen = {}
    for selection in environment.selections:
        for scenario in environment.scenarios(selection):
            chosen.setdefault((scenario.tier, scenario.group), scenario)
    check_environment(environment, list(chosen.values()))


def test_unknown_worlds_are_named_with_the_known_ones() -> None:
    """The error says what there is."""
    with pytest.raises(InputError, match=r"unknown world 'nowhere'; valid: incident, tools"):
        environment_named("nowhere")
    for identity in ("nowhere/x/y/1", "incident", "", "/"):
        with pytest.raises(InputError, match="incident"):
            environment_of(identity)
