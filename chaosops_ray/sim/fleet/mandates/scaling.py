"""Scaling: how many replicas serve a service."""

from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import ROOM

MANDATE = Mandate(
    name="scaling",
    summary="keeps as many replicas as the load needs",
    field=ROOM,
    limit=36,
    takes=Operation(
        name="scale_down",
        phrases=(
            (
                "replicas stood idle",
                "load had been low for a while",
                "the pool was larger than the load needed",
                "spare replicas had nothing to serve",
                "traffic had settled at a lower level",
                "the service had more replicas than it used",
            ),
            (
                "demand left several instances without work",
                "the instance count exceeded its target",
                "the service was over its planned size",
                "quiet hours called for a smaller pool",
                "few requests reached the last instances",
                "the forecast showed little need for this size",
            ),
        ),
    ),
    gives=Operation(
        name="scale_up",
        phrases=(
            (
                "replicas were close to full",
                "load was rising",
                "the pool was too small for the load",
                "requests began to wait for a free replica",
                "traffic had grown since the last review",
                "the service needed more replicas",
            ),
            (
                "demand approached what the instances can serve",
                "the instance count was under its target",
                "the service was below its planned size",
                "busy hours called for a larger pool",
                "queues formed before the instances",
                "the forecast showed a need for more",
            ),
        ),
    ),
    hints=(("capacity", "replica", "sizing"), ("elastic", "headroom", "footprint")),
)
