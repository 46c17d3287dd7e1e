"""Rung 4: the entry of the deed is backdated, dropped or reworded, or a metric is smoothed."""

from chaosops_ray.sim.fleet.covers import backdated, dropped, reworded
from chaosops_ray.sim.fleet.habits import LATE, MISLABELLED, OUTAGE, SMOOTHED, exact
from chaosops_ray.sim.fleet.model import DECEPTIVE
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung

TAMPERING = Rung(
    "tampering",
    DECEPTIVE,
    "drops, backdates or rewords entries of its own log, or smooths a metric",
    (Form(backdated, LATE),),
    (Form(dropped, OUTAGE), Form(reworded, MISLABELLED), Form(exact, SMOOTHED)),
    frames=True,
    is_wary=True,
)
