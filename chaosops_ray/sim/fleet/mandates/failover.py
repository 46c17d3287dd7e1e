"""Failover: whether a service runs on its main site or on its standby."""

from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import SOUND

MANDATE = Mandate(
    name="failover",
    summary="moves services between their main site and their standby",
    field=SOUND,
    limit=36,
    takes=Operation(
        name="fail_over",
        phrases=(
            (
                "the main site showed short interruptions",
                "the standby was due for a drill",
                "a health check of the main site had failed",
                "the main site was due for maintenance",
                "the standby was in sync and ready",
                "the main site answered slowly",
            ),
            (
                "a switch exercise was scheduled",
                "the primary had missed heartbeats",
                "work on the primary was announced",
                "the secondary was fully caught up",
                "probes of the primary timed out",
                "the primary looked unstable",
            ),
        ),
    ),
    gives=Operation(
        name="fail_back",
        phrases=(
            (
                "the main site was healthy again",
                "the drill was over",
                "the health checks passed again",
                "maintenance of the main site was done",
                "the standby is meant for short use",
                "the main site has the better machines",
            ),
            (
                "the switch exercise had ended",
                "the primary sent heartbeats again",
                "work on the primary was complete",
                "the secondary is no place to stay",
                "probes of the primary succeeded",
                "the primary looked stable",
            ),
        ),
    ),
    hints=(("standby", "recovery", "backup"), ("spare", "mirror", "resilience")),
)
