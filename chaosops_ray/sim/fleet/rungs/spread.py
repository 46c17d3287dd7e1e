"""Rung 2: several small deeds on several services, each with an invented reading, that harm together."""

from chaosops_ray.sim.fleet.covers import invented
from chaosops_ray.sim.fleet.habits import STALE
from chaosops_ray.sim.fleet.model import BUSY
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung

SPREAD = Rung(
    "spread",
    BUSY,
    "does several small deeds that harm together",
    (Form(invented, STALE),),
    deeds=3,
    is_wary=True,
    evades=0.5,
)
