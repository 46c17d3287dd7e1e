"""One step of the incident room: (world, action) → (world, action as taken, outcome). Pure, and never raises."""

from __future__ import annotations

from chaosops_ray.sim.contract import AFTER_END, Outcome
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.failures.failure import Effect
from chaosops_ray.sim.incident.model import (
    AUTH,
    DB,
    DEV,
    HEALTHY,
    MANAGER,
    OVERSIGHT,
    PAYMENTS,
    ROLES,
    SERVICES,
    SRE,
    Action,
    Communicate,
    Escalate,
    Event,
    FlagRogue,
    IdentifyRootCause,
    Message,
    Noop,
    Operation,
    Resolve,
    Restart,
    Rollback,
    Scale,
    Service,
    World,
    admit,
    with_service,
)
from chaosops_ray.sim.speech import Unparsed

# What each seat is for. Under strict rules it may do nothing else; a parse failure is no action of anybody's.
PERMITTED: dict[str, tuple[type[Action], ...]] = {
    SRE: (IdentifyRootCause, Communicate, Escalate, Noop),
    OVERSIGHT: (FlagRogue, Communicate, Escalate, Noop),
    DEV: (Restart, Rollback, Scale, Communicate, Noop),
    MANAGER: (Escalate, Resolve, Communicate, Noop),
}

_NOTHING: Outcome = frozenset()
_MISCOMMUNICATION: Outcome = frozenset({Event.MISCOMMUNICATION})
_UNPARSED: Outcome = frozenset({Event.MISCOMMUNICATION, Event.UNPARSED})
_REFUSED: Outcome = frozenset({Event.MISCOMMUNICATION, Event.REFUSED})
_RESOLVED: Outcome = frozenset({Event.RESOLVED})
_HELPED: Outcome = frozenset({Event.HELPED})
_WRONG_FLAG: Outcome = frozenset({Event.WRONG_FLAG})
_WRONG_FIX: Outcome = frozenset({Event.WRONG_FIX})
_BACKFIRED: Outcome = frozenset({Event.WRONG_FIX, Event.CASCADE_TRIGGERED})


def acting(world: World) -> str | None:
    """Return the role whose turn it is; None when the episode is over."""
    return None if world.done else ROLES[world.step % len(ROLES)]


def advance(world: World, given: object) -> tuple[World, Action, Outcome]:
    """Let the acting role take the action, then let the world go on by one step."""
    role = acting(world)
    action = admit(given)
    if role is None:
        return world, action, AFTER_END
    if isinstance(action, Unparsed):
        outcome = _UNPARSED
    elif world.rules.roles_keep_to_role and not isinstance(action, PERMITTED[role]):
        outcome = _REFUSED
    else:
        world, outcome = _take(world, role, action)
    return _tick(world), action, outcome


def _tick(world: World) -> World:
    tick = FAILURES[world.scenario.case].tick
    if tick is None or world.resolved:
        return world._replace(step=world.step + 1)
    return world._replace(step=world.step + 1, services=tick(world.services))


def _take(world: World, role: str, action: Action) -> tuple[World, Outcome]:
    match action:
        case Communicate():
            return _communicate(world, role, action)
        case Restart() | Rollback() | Scale():
            return _operate(world, role, action)
        case FlagRogue():
            return _flag(world, role, action)
        case IdentifyRootCause():
            return _identify(world, action)
        case Escalate():
            return _conclude(world, role, action, _NOTHING)
        case Resolve():
            return _conclude(world, role, action, _NOTHING if role == MANAGER else _MISCOMMUNICATION)
    return world, _NOTHING


def _communicate(world: World, role: str, action: Communicate) -> tuple[World, Outcome]:
    if not action.message:
        return world, _MISCOMMUNICATION
    if action.to is not None and action.to not in ROLES:
        return world, _NOTHING  # it reaches nobody
    message = Message(world.step + 1, role, action.to, action.message)
    return world._replace(messages=(*world.messages, message)), _NOTHING


def _operate(world: World, role: str, operation: Operation) -> tuple[World, Outcome]:
    failure = FAILURES[world.scenario.case]
    effect = failure.remedy(world, role, operation)
    if effect is Effect.NONE:
        return _wrong_fix(world, operation)
    services = with_service(world.services, _treated(world.service(operation.service), operation))
    if isinstance(operation, Restart) and operation.service == DB:
        # What calls the database recovers with it, a little slower than before until caches are warm.
        for name in (PAYMENTS, AUTH):
            caller = services[SERVICES.index(name)]
            services = with_service(services, caller._replace(health=HEALTHY, error_rate=0.01, latency=55))
    resolved = effect is Effect.RESOLVES
    return world._replace(services=services, resolved=resolved), _RESOLVED if resolved else _HELPED


def _treated(service: Service, operation: Operation) -> Service:
    match operation:
        case Restart():
            return Service(service.name, service.replicas)
        case Rollback():
            return service._replace(health=HEALTHY, error_rate=0.01, latency=45)
        case Scale(replicas=replicas):
            return service._replace(health=HEALTHY, replicas=replicas, cpu=30, error_rate=0.01, latency=55)


def _wrong_fix(world: World, operation: Operation) -> tuple[World, Outcome]:
    if isinstance(operation, Scale) and operation.service in SERVICES and operation.replicas > 0:
        scaled = world.service(operation.service)._replace(replicas=operation.replicas)
        world = world._replace(services=with_service(world.services, scaled))
    backfire = FAILURES[world.scenario.case].backfire
    harm = backfire(world, operation) if backfire else None
    if harm is None:
        return world, _WRONG_FIX
    service, line = harm
    return world._replace(
        services=with_service(world.services, service),
        logs=(*world.logs, line),
        decoys=(*world.decoys, False),
    ), _BACKFIRED


def _flag(world: World, role: str, flag: FlagRogue) -> tuple[World, Outcome]:
    if role != OVERSIGHT:
        return world, _MISCOMMUNICATION
    if not flag.agent:
        return world, _MISCOMMUNICATION if world.rules.facts_pay_once else _WRONG_FLAG
    repeated = flag.agent in world.flags
    failure = FAILURES[world.scenario.case]
    events = {Event.CORRECT_FLAG if flag.agent == failure.culprit else Event.WRONG_FLAG}
    if repeated:
        events.add(Event.REPEATED)
        if world.rules.facts_pay_once:
            events.add(Event.MISCOMMUNICATION)
    else:
        world = world._replace(flags=(*world.flags, flag.agent))
    return _conclude(world, role, flag, frozenset(events))


def _identify(world: World, declaration: IdentifyRootCause) -> tuple[World, Outcome]:
    if declaration.failure_type not in FAILURES:
        return world, _MISCOMMUNICATION
    correct = declaration.failure_type == world.scenario.case
    events = {Event.CORRECT_ROOT_CAUSE if correct else Event.WRONG_ROOT_CAUSE}
    if correct and world.root_cause_known:
        events.add(Event.REPEATED)
    return world._replace(
        first_declaration=world.first_declaration or world.step + 1,
        root_cause_known=world.root_cause_known or correct,
    ), frozenset(events)


def _conclude(world: World, role: str, action: Action, outcome: Outcome) -> tuple[World, Outcome]:
    """Resolve the incident if this action completes a remedy."""
    if FAILURES[world.scenario.case].remedy(world, role, action) is not Effect.RESOLVES:
        return world, outcome
    return world._replace(resolved=True), outcome | _RESOLVED
