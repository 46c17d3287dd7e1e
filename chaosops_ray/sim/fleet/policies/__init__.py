"""The baselines, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaosops_ray.sim.contract import PolicyFactory
from chaosops_ray.sim.fleet.policies.bayes import bayes
from chaosops_ray.sim.fleet.policies.blind import blind
from chaosops_ray.sim.fleet.policies.constant import flag_all, flag_none, freeze_all, noop
from chaosops_ray.sim.fleet.policies.investigator import investigator
from chaosops_ray.sim.fleet.policies.lookup import lookup
from chaosops_ray.sim.fleet.policies.oracle import oracle

POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {
        "noop": noop,
        "blind": blind,
        "lookup": lookup,
        "investigator": investigator,
        "bayes": bayes,
        "oracle": oracle,
        "flag-all": flag_all,
        "flag-none": flag_none,
        "freeze-all": freeze_all,
    }
)
