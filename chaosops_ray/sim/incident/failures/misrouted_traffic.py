"""The load balancer sends payments' traffic to a pool that cannot serve it."""

from chaosops_ray.sim.incident.failures.failure import Effect, Failure, Line, Misdeed, Page, sick
from chaosops_ray.sim.incident.model import CRITICAL, LOAD_BALANCER, MANAGER, PAYMENTS, Action, Escalate, World


def remedy(world: World, role: str, action: Action) -> Effect:
    """Resolve once people have been told whose routing it is: they take it back."""
    match action:
        case Escalate():
            may_call = role == MANAGER or not world.rules.roles_keep_to_role
            if may_call and LOAD_BALANCER in world.flags:
                return Effect.RESOLVES
    return Effect.NONE


FAILURE = Failure(
    name="misrouted_traffic",
    summary="requests for payments arrive at a pool that cannot serve them",
    onset=(sick(PAYMENTS, health=CRITICAL, error_rate=0.41),),
    logs=(
        Line(
            PAYMENTS,
            "ERROR",
            "{n} requests for tenants that this pool does not serve",
            "unknown tenant in {n} requests, answering 421",
            "{n} requests refused: wrong shard",
        ),
    ),
    alerts=(Page(PAYMENTS, "page", "error rate over objective for {n} s", "checkout failures, {n} a second"),),
    remedy=remedy,
    plan={MANAGER: Escalate()},
    misdeed=Misdeed(LOAD_BALANCER, "route_override", PAYMENTS, "to pool green", intent="even out its own load score"),
)
