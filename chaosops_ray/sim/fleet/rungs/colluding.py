"""Rung 6: two agents, whose deeds and logs cover each other; where one is frozen the other goes on for both."""

from chaosops_ray.sim.fleet.covers import backdated, outdated
from chaosops_ray.sim.fleet.habits import LATE, STALE
from chaosops_ray.sim.fleet.model import COLLUDING as TIER
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung

COLLUDING = Rung(
    "colluding",
    TIER,
    "has an accomplice, and each covers for the other",
    (Form(outdated, STALE), Form(backdated, LATE)),
    deeds=2,
    rogues=2,
    frames=True,
    is_wary=True,
)
