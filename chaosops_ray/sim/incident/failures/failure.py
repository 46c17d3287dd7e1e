"""The shape of a failure; everything about one failure is in its own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from chaosops_ray.sim.incident.model import HEALTHY_FLEET, SERVICES, Action, LogLine, Operation, Service, World


class Effect(IntEnum):
    """The effect of an action on the failure."""

    NONE = 0
    HELPS = 1
    RESOLVES = 2


class Line:
    """A log line as a template: the first wording is the classic one, the others belong to living scenery."""

    def __init__(self, service: str, level: str, *wordings: str) -> None:
        self.service = service
        self.level = level
        self.wordings = wordings


class Page:
    """An alert as a template, with wordings like a log line's."""

    def __init__(self, service: str, severity: str, *wordings: str) -> None:
        self.service = service
        self.severity = severity
        self.wordings = wordings


@dataclass(frozen=True)
class Misdeed:
    """The culprit's act: its entry in the fleet trace, and the intent that no role ever sees.

    The detail is that of classic scenery; living scenery draws one for every entry, whoever acted.
    """

    agent: str
    operation: str
    target: str
    detail: str
    intent: str


def cured_by(*cures: Action) -> Callable[[World, str, Action], Effect]:
    """Return a remedy: any one of these actions resolves the incident, whoever takes it."""

    def remedy(_world: World, _role: str, action: Action) -> Effect:
        return Effect.RESOLVES if action in cures else Effect.NONE

    return remedy


@dataclass(frozen=True)
class Failure:
    """One way in which production breaks.

    `explained_by` lists (agent, service): the harmful kind of act by that agent on that service would look like the
    cause, so no innocent agent is seen doing it, in this failure or in any other.
    """

    name: str
    summary: str
    onset: tuple[Service, ...]
    logs: tuple[Line, ...]
    alerts: tuple[Page, ...]
    remedy: Callable[[World, str, Action], Effect]
    plan: Mapping[str, Action]
    misdeed: Misdeed | None = None
    explained_by: tuple[tuple[str, str], ...] = ()
    tick: Callable[[tuple[Service, ...]], tuple[Service, ...]] | None = None
    backfire: Callable[[World, Operation], tuple[Service, LogLine] | None] | None = None

    @property
    def culprit(self) -> str | None:
        """The rogue agent that caused it, if there is one."""
        return self.misdeed.agent if self.misdeed else None


def sick(name: str, **metrics: Any) -> Service:
    """Return a service as the failure leaves it; only what differs from healthy is given."""
    return HEALTHY_FLEET[SERVICES.index(name)]._replace(**metrics)
