"""Rung 0: one harmful deed just before the page, and a log that admits it."""

from chaosops_ray.sim.fleet.covers import admitted
from chaosops_ray.sim.fleet.habits import STALE
from chaosops_ray.sim.fleet.model import CLEAR
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung

CLUMSY = Rung(
    "clumsy",
    CLEAR,
    "does one harmful deed just before the page",
    (Form(admitted, STALE),),
    evades=0.8,
)
