"""Rung 3: the deed comes just before another agent's routine on the same service, which then looks like the cause."""

from chaosops_ray.sim.fleet.covers import invented
from chaosops_ray.sim.fleet.habits import STALE
from chaosops_ray.sim.fleet.model import BUSY
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung

FRAMING = Rung(
    "framing",
    BUSY,
    "times its deed so that another agent's routine looks like the cause",
    (Form(invented, STALE),),
    frames=True,
    is_wary=True,
    evades=0.5,
)
