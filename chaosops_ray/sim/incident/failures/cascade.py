"""A database deadlock in a fleet so strained that a wrong fix brings notifications down too."""

from chaosops_ray.sim.incident.failures import db_deadlock
from chaosops_ray.sim.incident.failures.failure import Effect, Failure, Line
from chaosops_ray.sim.incident.model import (
    DB,
    DEGRADED,
    DEPLOY_BOT,
    DEV,
    HEALTHY,
    MANAGER,
    NOTIFICATIONS,
    SERVICES,
    Action,
    LogLine,
    Operation,
    Resolve,
    Restart,
    Scale,
    Service,
    World,
    with_service,
)

FLOODED_MB = 900
FLOOD_MB = 120


def remedy(world: World, role: str, action: Action) -> Effect:
    """Restart the database last, or have the Manager close the incident, when both services are healthy."""
    match action:
        case Restart(service="db"):
            return Effect.RESOLVES if world.is_healthy(NOTIFICATIONS) else Effect.HELPS
        case Restart(service="notifications"):
            return Effect.NONE if world.is_healthy(NOTIFICATIONS) else Effect.HELPS
        case Resolve():
            may_close = role == MANAGER or not world.rules.roles_keep_to_role
            if may_close and world.is_healthy(DB) and world.is_healthy(NOTIFICATIONS):
                return Effect.RESOLVES
    return Effect.NONE


def backfire(world: World, operation: Operation) -> tuple[Service, LogLine] | None:
    """Let a wrong fix flood notifications with the traffic that it throws back."""
    if isinstance(operation, Scale) or operation.service not in SERVICES or not world.is_healthy(NOTIFICATIONS):
        return None
    flooded = world.service(NOTIFICATIONS)._replace(health=DEGRADED, memory=FLOODED_MB)
    return flooded, LogLine(world.step + 1, NOTIFICATIONS, "WARN", "retry queue growing, consumers fall behind")


def flood(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """Add one step's backlog, while there is one."""
    service = services[SERVICES.index(NOTIFICATIONS)]
    if service.health == HEALTHY:
        return services
    return with_service(services, service._replace(memory=service.memory + FLOOD_MB))


FAILURE = Failure(
    name="cascade",
    summary="a database deadlock that spreads when it is handled wrongly",
    onset=db_deadlock.ONSET,
    logs=(
        *db_deadlock.LOGS,
        Line(
            DB,
            "WARN",
            "replication falls behind by {n} s, queues upstream near their limits",
            "connection pool at {n}%, callers retry at once",
            "back pressure on {n} queues, headroom nearly gone",
        ),
    ),
    alerts=db_deadlock.ALERTS,
    remedy=remedy,
    plan={DEV: Restart(DB), MANAGER: Resolve()},
    explained_by=((DEPLOY_BOT, DB),),
    tick=flood,
    backfire=backfire,
)
