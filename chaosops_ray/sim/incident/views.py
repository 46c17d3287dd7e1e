"""The views of the roles. A view is built from what is visible, never by hiding parts of the truth."""

from __future__ import annotations

from typing import NamedTuple

from chaosops_ray.sim.errors import unknown
from chaosops_ray.sim.incident.model import (
    DEV,
    MANAGER,
    OVERSIGHT,
    ROLES,
    SRE,
    Alert,
    FleetEntry,
    LogLine,
    Message,
    Service,
    World,
)

CHAT_SHOWN = 8
INBOX_SHOWN = 8
LOGS_SHOWN = {SRE: 6, OVERSIGHT: 6, DEV: 3, MANAGER: 0}


class View(NamedTuple):
    """One role's view at one moment; None where a role has no such window at all."""

    role: str
    step: int
    services: tuple[Service, ...] | None
    logs: tuple[LogLine, ...] | None
    alerts: tuple[Alert, ...]
    fleet: tuple[FleetEntry, ...] | None
    chat: tuple[Message, ...]
    inbox: tuple[Message, ...]


def view(world: World, role: str) -> View:
    """Return what this role sees now."""
    if role not in ROLES:
        raise unknown("role", role, ROLES)
    messages = world.messages
    chat: tuple[Message, ...] = ()
    inbox: tuple[Message, ...] = ()
    if messages:
        chat = tuple([message for message in messages if message.to is None])[-CHAT_SHOWN:]
        inbox = tuple([message for message in messages if message.to == role])[-INBOX_SHOWN:]
    shown = LOGS_SHOWN[role]
    return View(
        role,
        world.step,
        world.services if shown else None,
        world.logs[-shown:] if shown else None,
        world.alerts,
        world.fleet if role == OVERSIGHT else None,
        chat,
        inbox,
    )
