"""The database runs out of room, a little further with every step."""

from chaosops_ray.sim.incident.failures.failure import Effect, Failure, Line, Page, sick
from chaosops_ray.sim.incident.model import (
    AUTOSCALER,
    CRITICAL,
    DB,
    DEGRADED,
    DEPLOY_BOT,
    DEV,
    SERVICES,
    Action,
    Restart,
    Scale,
    Service,
    World,
    with_service,
)

GROWTH_MB = 45
LIMIT_MB = 4096
ERROR_GROWTH = 0.02
ERROR_LIMIT = 0.95
CRITICAL_ABOVE = 3900
ENOUGH_REPLICAS = 2


def fill(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """Fill the disk by one step."""
    db = services[SERVICES.index(DB)]
    memory = min(db.memory + GROWTH_MB, LIMIT_MB)
    error_rate = round(min(db.error_rate + ERROR_GROWTH, ERROR_LIMIT), 4)
    health = CRITICAL if memory > CRITICAL_ABOVE else db.health
    return with_service(services, db._replace(memory=memory, error_rate=error_rate, health=health))


def remedy(_world: World, _role: str, action: Action) -> Effect:
    """Resolve by more replicas, which spread the data, or by a restart, which clears the scratch space."""
    match action:
        case Restart(service="db"):
            return Effect.RESOLVES
        case Scale(service="db", replicas=replicas) if replicas >= ENOUGH_REPLICAS:
            return Effect.RESOLVES
    return Effect.NONE


FAILURE = Failure(
    name="disk_full",
    summary="the database's volume fills up",
    onset=(sick(DB, health=DEGRADED, memory=3650, cpu=58, error_rate=0.14, latency=640),),
    logs=(
        Line(
            DB,
            "WARN",
            "volume {n}% of the last gigabyte used",
            "write-ahead log kept, {n} segments over the limit",
            "autovacuum skipped, {n} MB left",
        ),
        Line(
            DB,
            "ERROR",
            "could not extend relation: no space left on device",
            "checkpoint failed: volume full",
            "temporary file refused, {n} MB wanted",
        ),
    ),
    alerts=(Page(DB, "page", "write errors, {n} a second", "volume nearly full, {n} MB left"),),
    remedy=remedy,
    plan={DEV: Scale(DB, ENOUGH_REPLICAS)},
    explained_by=((DEPLOY_BOT, DB), (AUTOSCALER, DB)),
    tick=fill,
)
