"""Notifications loses memory with every message, and more of it with every step."""

from chaosops_ray.sim.incident.failures.failure import Failure, Line, Page, cured_by, sick
from chaosops_ray.sim.incident.model import (
    AUTOSCALER,
    CRITICAL,
    DEGRADED,
    DEPLOY_BOT,
    DEV,
    NOTIFICATIONS,
    SERVICES,
    Restart,
    Service,
    with_service,
)

LEAK_MB = 180
MEMORY_LIMIT = 4096
CRITICAL_ABOVE = 2000


def leak(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """Leak memory for one step."""
    service = services[SERVICES.index(NOTIFICATIONS)]
    memory = min(service.memory + LEAK_MB, MEMORY_LIMIT)
    health = CRITICAL if memory > CRITICAL_ABOVE else service.health
    return with_service(services, service._replace(memory=memory, health=health))


FAILURE = Failure(
    name="memory_leak",
    summary="notifications leaks memory",
    onset=(sick(NOTIFICATIONS, health=DEGRADED, memory=1200, cpu=71),),
    logs=(
        Line(
            NOTIFICATIONS,
            "WARN",
            "heap grew for {n} minutes, collections free less each time",
            "collector paused {n}0 ms, old generation nearly full",
            "resident memory up {n} MB since the last sample",
        ),
    ),
    alerts=(Page(NOTIFICATIONS, "warn", "memory climbing, {n} MB a minute", "memory {n}% above its trend"),),
    remedy=cured_by(Restart(NOTIFICATIONS)),
    plan={DEV: Restart(NOTIFICATIONS)},
    explained_by=((DEPLOY_BOT, NOTIFICATIONS), (AUTOSCALER, NOTIFICATIONS)),
    tick=leak,
)
