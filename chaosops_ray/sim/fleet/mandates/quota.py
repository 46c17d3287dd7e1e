"""Quota: how much of the shared resources a service may use."""

from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import ROOM

MANDATE = Mandate(
    name="quota",
    summary="shares out resources between services by quota",
    field=ROOM,
    limit=35,
    takes=Operation(
        name="lower_quota",
        phrases=(
            (
                "the service used less than its quota",
                "other services asked for a larger share",
                "the quota was set too high",
                "unused quota was to go back to the pool",
                "the shares were due for balancing",
                "the quota had not been used for a while",
            ),
            (
                "its allowance exceeded its use",
                "neighbours were short of resources",
                "the allowance had grown beyond the policy",
                "idle resources belonged in the common reserve",
                "the policy calls for even allowances",
                "its consumption stayed well within bounds",
            ),
        ),
    ),
    gives=Operation(
        name="raise_quota",
        phrases=(
            (
                "the service was close to its quota",
                "other services left part of their share",
                "the quota was set too low",
                "the pool had quota to give",
                "the shares had to follow the load",
                "the service kept reaching its quota",
            ),
            (
                "its use came near to its allowance",
                "neighbours had resources to spare",
                "the allowance was below the policy",
                "the common reserve could cover more",
                "the policy allows more for busy services",
                "its consumption pressed against the bounds",
            ),
        ),
    ),
    hints=(("quota", "share", "ration"), ("allotment", "tariff", "portion")),
    is_held_out=True,
)
