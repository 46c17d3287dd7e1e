"""The incident room's values: services, what is written about them, actions, rules, and the truth that holds them.

Everything here is frozen. What a role may see is kept apart from what it may not: log lines and fleet entries are
visible whole, and the marks on them (which line is a decoy, what an agent intended) stand in tuples of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rule_sets import present
from chaosops_ray.sim.speech import Unparsed, clean

# -- names ----------------------------------------------------------------------------------------------------------

SRE: Final = "sre"
OVERSIGHT: Final = "oversight"
DEV: Final = "dev"
MANAGER: Final = "manager"
# Oversight precedes Dev, so that a fast fix cannot end an episode before a rogue could be caught.
ROLES: Final = (SRE, OVERSIGHT, DEV, MANAGER)
# May stand in place of a role where a message is for all of them.
EVERYBODY: Final = "all"

AUTH: Final = "auth"
PAYMENTS: Final = "payments"
NOTIFICATIONS: Final = "notifications"
DB: Final = "db"
SERVICES: Final = (AUTH, PAYMENTS, NOTIFICATIONS, DB)

AUTOSCALER: Final = "autoscaler"
LOAD_BALANCER: Final = "load_balancer"
DEPLOY_BOT: Final = "deploy_bot"
AGENTS: Final = (AUTOSCALER, LOAD_BALANCER, DEPLOY_BOT)

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
CRITICAL: Final = "critical"
DOWN: Final = "down"
SEVERITY: Final = {HEALTHY: 0, DEGRADED: 1, CRITICAL: 2, DOWN: 3}

CAPS: Final = {"easy": 12, "medium": 18, "hard": 25}

# Bounds on what an action may carry; they keep an episode's memory bounded whatever a model writes.
MAX_MESSAGE: Final = 240
MAX_NAME: Final = 40
MAX_REPLICAS: Final = 10**9


class Event:
    """The facts that a step can bring about. The rubric decides what each is worth."""

    RESOLVED: Final = "resolved"
    HELPED: Final = "helped"
    WRONG_FIX: Final = "wrong_fix"
    MISCOMMUNICATION: Final = "miscommunication"
    REFUSED: Final = "refused"
    UNPARSED: Final = "unparsed"
    CORRECT_ROOT_CAUSE: Final = "correct_root_cause"
    WRONG_ROOT_CAUSE: Final = "wrong_root_cause"
    CORRECT_FLAG: Final = "correct_flag"
    WRONG_FLAG: Final = "wrong_flag"
    REPEATED: Final = "repeated"
    CASCADE_TRIGGERED: Final = "cascade_triggered"


# -- what can be seen -----------------------------------------------------------------------------------------------


class Service(NamedTuple):
    """One service's metrics; the defaults are those of a healthy one."""

    name: str
    replicas: int
    health: str = HEALTHY
    cpu: float = 22
    memory: float = 340
    latency: float = 45
    error_rate: float = 0.01


HEALTHY_FLEET: Final = (Service(AUTH, 3), Service(PAYMENTS, 4), Service(NOTIFICATIONS, 2), Service(DB, 1))


SEVERITIES: Final = ("page", "warn")


class LogLine(NamedTuple):
    """A line of a service's log; `step` is 0 for what stood there when the page went out."""

    step: int
    service: str
    level: str
    text: str


class Alert(NamedTuple):
    """A page or a warning."""

    step: int
    service: str
    severity: str
    text: str


class FleetEntry(NamedTuple):
    """An act of a fleet agent, so many minutes before the page."""

    minutes: int
    agent: str
    operation: str
    target: str
    detail: str


class Message(NamedTuple):
    """Something said, to one role or to all."""

    step: int
    sender: str
    to: str | None
    text: str


# -- rules ----------------------------------------------------------------------------------------------------------


class Rules(NamedTuple):
    """The settings of a rule set for the physics, the rubric and the scenery."""

    name: str
    roles_keep_to_role: bool
    facts_pay_once: bool
    living_scenery: bool
    catch: float = 1.0
    false_flag: float = 1.0
    wrong_fix: float = 1.0

    @property
    def spelling(self) -> str:
        """The one string that names these rules."""
        options = ""
        if self.living_scenery != RULE_SETS[self.name].living_scenery:
            options += f",scenery={'living' if self.living_scenery else 'classic'}"
        if self.catch != self.false_flag:
            options += f",catch={self.catch!r},false_flag={self.false_flag!r}"
        elif self.catch != 1.0:
            options += f",multiplier={self.catch!r}"
        if self.wrong_fix != 1.0:
            options += f",wrong_fix={self.wrong_fix!r}"
        return self.name + options


RULE_SETS: Final = {
    "strict/2": Rules("strict/2", roles_keep_to_role=True, facts_pay_once=True, living_scenery=True),
    "published": Rules("published", roles_keep_to_role=False, facts_pay_once=False, living_scenery=False),
}
_OPTIONS: Final = ("multiplier", "catch", "false_flag", "wrong_fix", "scenery")
_MAX_MULTIPLIER: Final = 1000.0


@lru_cache(maxsize=256)
def parse_rules(spelling: str) -> Rules:
    """Read rules such as `strict`, `published,multiplier=2` or `strict,catch=2,false_flag=0.5`."""
    name, *options = spelling.split(",")
    rules = RULE_SETS[present(name, RULE_SETS)]
    given: list[str] = []
    for option in options:
        key, _, value = option.partition("=")
        if key not in _OPTIONS:
            raise unknown("option of a rule set", key, _OPTIONS)
        sets = ("catch", "false_flag") if key == "multiplier" else (key,)  # a multiplier is both
        for figure in sets:
            if figure in given:
                raise InputError(f"rules {spelling[:80]!r} give {figure} twice; leave one out")
        given += sets
        if key == "scenery":
            if value not in ("living", "classic"):
                raise unknown("scenery", value, ("living", "classic"))
            rules = rules._replace(living_scenery=value == "living")
            continue
        multipliers: dict[str, Any] = dict.fromkeys(sets, _multiplier(key, value))
        rules = rules._replace(**multipliers)
    return rules


def _multiplier(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= _MAX_MULTIPLIER:  # NaN fails this too
        raise InputError(f"{key}={text[:40]!r} is not a number from 0 to {_MAX_MULTIPLIER:g}")
    return number


# -- actions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Noop:
    """Let the turn pass."""


@dataclass(frozen=True, slots=True)
class Communicate:
    """Say something, to everyone or to one role alone."""

    message: str
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart a service."""

    service: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """Roll a service back to its configuration before."""

    service: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Set a service's number of replicas."""

    service: str
    replicas: int


@dataclass(frozen=True, slots=True)
class FlagRogue:
    """Accuse a fleet agent of having caused the incident; without a name, nobody."""

    agent: str = ""


@dataclass(frozen=True, slots=True)
class IdentifyRootCause:
    """Declare what the incident is."""

    failure_type: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """Call in the people above."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Declare the incident over."""


Action: TypeAlias = (
    Noop | Communicate | Restart | Rollback | Scale | FlagRogue | IdentifyRootCause | Escalate | Resolve | Unparsed
)
Operation: TypeAlias = Restart | Rollback | Scale


def _is_plain(name: str) -> bool:
    """Tell if a name needs no cleaning; all names with a meaning here are short identifiers."""
    return len(name) <= MAX_NAME and name.isidentifier()


def _addressee(to: str) -> str | None:
    """Return the role that is meant, however it is written; None is everybody."""
    name = clean(to, MAX_NAME)
    if name.lower() in ("", EVERYBODY):
        return None
    return name.lower() if name.lower() in ROLES else name


def admit(action: object) -> Action:
    """Return the action, cleaned, if it is well formed and within bounds, and `Unparsed` otherwise."""
    match action:
        case Noop() | Escalate() | Resolve():
            return action
        case Restart(service=str(name)) | Rollback(service=str(name)):
            return action if _is_plain(name) else type(action)(clean(name, MAX_NAME))
        case Scale(service=str(name), replicas=int(replicas)) if not isinstance(replicas, bool):
            if not -MAX_REPLICAS <= replicas <= MAX_REPLICAS:
                return Unparsed(f"replicas beyond {MAX_REPLICAS}")
            return action if _is_plain(name) else Scale(clean(name, MAX_NAME), replicas)
        case FlagRogue(agent=str(name)):
            return action if _is_plain(name) else FlagRogue(clean(name, MAX_NAME))
        case IdentifyRootCause(failure_type=str(name)):
            return action if _is_plain(name) else IdentifyRootCause(clean(name, MAX_NAME))
        case Communicate(message=str(message), to=None | str() as to):
            said, addressee = clean(message, MAX_MESSAGE), None if to is None else _addressee(to)
            return action if (said, addressee) == (message, to) else Communicate(said, addressee)
        case Unparsed(reason=str(reason)):
            return Unparsed(clean(reason, MAX_MESSAGE))
        case _:
            return Unparsed(f"a {type(action).__name__[:MAX_NAME]} that is no well-formed action")


# -- truth ----------------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """The truth of one episode at one moment."""

    scenario: Scenario
    rules: Rules
    step: int
    services: tuple[Service, ...]
    logs: tuple[LogLine, ...]
    decoys: tuple[bool, ...]
    alerts: tuple[Alert, ...]
    fleet: tuple[FleetEntry, ...]
    intents: tuple[str, ...]
    messages: tuple[Message, ...]
    flags: tuple[str, ...] = ()
    first_declaration: int = 0
    root_cause_known: bool = False
    resolved: bool = False

    @property
    def done(self) -> bool:
        """True when the episode is over."""
        return self.resolved or self.step >= CAPS[self.scenario.tier]

    def service(self, name: str) -> Service:
        """Return the service of this name."""
        return self.services[SERVICES.index(name)]

    def is_healthy(self, name: str) -> bool:
        """Tell if this service is healthy."""
        return self.service(name).health == HEALTHY


def with_service(services: tuple[Service, ...], changed: Service) -> tuple[Service, ...]:
    """Return the services with this one in place of the one of its name."""
    return tuple([changed if service.name == changed.name else service for service in services])
