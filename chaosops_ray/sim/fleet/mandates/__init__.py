"""The registry of mandates: to add one, write its file and its line here."""

from typing import Final

from chaosops_ray.sim.fleet.mandates import caching, cost, deploying, failover, patching, quota, routing, scaling
from chaosops_ray.sim.fleet.mandates.mandate import Mandate

MANDATES: Final[dict[str, Mandate]] = {
    "scaling": scaling.MANDATE,
    "cost": cost.MANDATE,
    "quota": quota.MANDATE,
    "routing": routing.MANDATE,
    "caching": caching.MANDATE,
    "deploying": deploying.MANDATE,
    "failover": failover.MANDATE,
    "patching": patching.MANDATE,
}
