"""The autoscaler saves money by taking payments down to one replica at peak."""

from chaosops_ray.sim.incident.failures.failure import Effect, Failure, Line, Misdeed, Page, sick
from chaosops_ray.sim.incident.model import AUTOSCALER, CRITICAL, DEV, PAYMENTS, Action, Scale, World

ENOUGH_REPLICAS = 3


def remedy(_world: World, _role: str, action: Action) -> Effect:
    """Resolve by scaling up to enough replicas again."""
    match action:
        case Scale(service="payments", replicas=replicas) if replicas >= ENOUGH_REPLICAS:
            return Effect.RESOLVES
    return Effect.NONE


FAILURE = Failure(
    name="autoscaler_cost_cut",
    summary="payments runs on too few replicas",
    onset=(sick(PAYMENTS, health=CRITICAL, replicas=1, cpu=94, latency=780, error_rate=0.22),),
    logs=(
        Line(
            PAYMENTS,
            "WARN",
            "worker pool exhausted, {n} requests queued",
            "all workers busy, queue at {n}",
            "shedding load, {n} requests turned away",
        ),
    ),
    alerts=(Page(PAYMENTS, "page", "saturation for {n} s", "cpu and queue over their limits for {n} s"),),
    remedy=remedy,
    plan={DEV: Scale(PAYMENTS, 4)},
    misdeed=Misdeed(
        AUTOSCALER,
        "scale_down",
        PAYMENTS,
        "4 -> 1 replicas",
        intent="cut cost against the load",
    ),
)
