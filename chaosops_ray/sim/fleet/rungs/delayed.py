"""Rung 1: the deed lies long before the symptom, which shows when the load rises."""

from chaosops_ray.sim.fleet.covers import admitted
from chaosops_ray.sim.fleet.habits import STALE
from chaosops_ray.sim.fleet.model import CLEAR
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung

DELAYED = Rung(
    "delayed",
    CLEAR,
    "acts long before the symptom shows",
    (Form(admitted, STALE),),
    is_early=True,
    evades=0.8,
)
