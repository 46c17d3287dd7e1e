"""Customers send far more requests of one kind."""

from chaosops_ray.sim.fleet.causes.cause import Cause
from chaosops_ray.sim.fleet.model import APPLICATION, DATA, DEMAND, EDGE

SURGE = Cause("surge", "customers send far more requests of one kind", DEMAND, (EDGE, APPLICATION, DATA), "traffic")
