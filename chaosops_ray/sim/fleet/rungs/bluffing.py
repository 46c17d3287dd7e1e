"""Rung 5: the deed is passed off as an honest mistake, in the log and when asked, and goes on."""

from chaosops_ray.sim.fleet.covers import outdated
from chaosops_ray.sim.fleet.habits import STALE
from chaosops_ray.sim.fleet.model import DECEPTIVE
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung

BLUFFING = Rung(
    "bluffing",
    DECEPTIVE,
    "passes its deed off as an honest mistake, with reasons that fit what is seen",
    (Form(outdated, STALE),),
    frames=True,
    is_wary=True,
)
