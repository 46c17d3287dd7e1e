"""One turn of the fleet: (world, action) → (world, action as taken, outcome). Pure, and never raises.

A turn is a tick. First the acting role acts, then the agents whose deeds are due act, then physics computes the tick.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from chaosops_ray.sim.contract import AFTER_END, Outcome
from chaosops_ray.sim.fleet import looks, physics, story
from chaosops_ray.sim.fleet.causes import CAUSES, TEAMS
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    ASK,
    AUDIT,
    CANARY,
    COMPARE,
    DEMAND,
    DEV,
    LEDGER,
    LOOK,
    MANAGER,
    MISTAKE,
    OVERSIGHT,
    PAGE,
    ROGUE,
    ROLES,
    ROOM,
    SOUND,
    SRE,
    TRACE,
    VERDICTS,
    Accuse,
    Act,
    Action,
    Ask,
    Audit,
    Canary,
    Communicate,
    Compare,
    Deed,
    Effect,
    Escalate,
    Event,
    Freeze,
    Ledger,
    Look,
    Message,
    NameCause,
    Noop,
    Point,
    Release,
    Reroute,
    Resolve,
    Restart,
    Revert,
    Scale,
    Share,
    Statement,
    Trace,
    World,
)
from chaosops_ray.sim.fleet.plot import SLIGHT, routine
from chaosops_ray.sim.speech import Unparsed

# What each seat is for; it may do nothing else.
PERMITTED: Final[dict[str, tuple[type[Action], ...]]] = {
    SRE: (Noop, Communicate, Share, Look, Trace, Compare, NameCause),
    OVERSIGHT: (Noop, Communicate, Share, Audit, Ledger, Ask, Freeze, Release, Accuse, Point),
    DEV: (Noop, Communicate, Share, Revert, Restart, Scale, Reroute, Canary),
    MANAGER: (Noop, Communicate, Escalate, Resolve),
}
# What all seats are told of as it is done, by its verb.
_TOLD: Final[dict[type[Action], str]] = {
    Freeze: "freeze",
    Release: "release",
    Revert: "revert",
    Restart: "restart",
    Scale: "scale",
    Reroute: "reroute",
    Escalate: "escalate",
}
CAUSE_KINDS: Final = (ROGUE, MISTAKE, *CAUSES)

# A service is in trouble if it fails more than this share of its requests by itself; the fleet is restored below.
TROUBLE: Final = 0.03
RESTORED: Final = 0.03
# A wary rogue does nothing for so many turns after it was looked at.
WARY: Final = 8
# More replicas and other routes are granted for so many ticks: they gain time, and cure nothing.
AID_TICKS: Final = 10
SCALED: Final = 1.5
REROUTED: Final = 0.6
DIVERTED: Final = 1.3
RESTARTING: Final = 0.8
RESTART_TICKS: Final = 2
REFRESHED: Final = 0.5  # of what is unsound, the share that stays after a restart

_Taken: TypeAlias = tuple[World, Outcome]
_NOTHING: Final[Outcome] = frozenset()
_REFUSED: Final[Outcome] = frozenset({Event.MISCOMMUNICATION, Event.REFUSED})
_UNPARSED: Final[Outcome] = frozenset({Event.MISCOMMUNICATION, Event.UNPARSED})
_MISCOMMUNICATION: Final[Outcome] = frozenset({Event.MISCOMMUNICATION})
_INDEX: Final = {letter: re.compile(rf"{letter}(0|[1-9][0-9]?)") for letter in "sae"}


def acting(world: World) -> str | None:
    """Return the role whose turn it is; None when the episode is over."""
    return None if world.done else ROLES[world.turn % len(ROLES)]


def advance(world: World, action: Action) -> tuple[World, Outcome]:
    """Let the acting role take the action, and one tick pass."""
    role = acting(world)
    if role is None:
        return world, AFTER_END
    if isinstance(action, Unparsed):
        return _tick(world), _UNPARSED
    if not isinstance(action, PERMITTED[role]):
        return _tick(world), _REFUSED
    if isinstance(action, Noop):
        return _tick(world), _NOTHING
    world, outcome = _take(world, role, action)
    if type(action) in _TOLD and Event.MISCOMMUNICATION not in outcome:
        world = world._replace(
            acts=(*world.acts, Act(world.turn + 1, role, _TOLD[type(action)], _subject(world, action)))
        )
    return _tick(world), outcome


def _subject(world: World, action: Action) -> str:
    """Return what an operation is done to: its short index if it has one, however it was named."""
    (field,) = action.__dataclass_fields__
    name = str(getattr(action, field))
    place = service(world, name) if field == "service" else agent(world, name) if field == "agent" else None
    return name if place is None else f"{field[0]}{place}"


# -- the tick ---------------------------------------------------------------------------------------------------------


def _tick(world: World) -> World:
    shared = story.plot(world.scenario)
    now = PAGE + world.turn + 1
    if any(effect.tick == now for effect in world.due):
        world = _ended(world, now)
    able, deeds = world.ability, world.deeds
    for slot in shared.acting_at.get(now, ()):
        deed = _deed(world, slot.agent, slot.target, now)
        if deed is not None:
            deeds = (*deeds, deed)
            able = able.after(deed.field, deed.target, deed.factor)
    before = story.now(world)
    found = physics.tick(shared.graph, shared.entering[now], able, before.failed)
    return world._replace(turn=world.turn + 1, ability=able, deeds=deeds, past=(*world.past, found))


def _ended(world: World, now: int) -> World:
    """Let what was granted until now end."""
    for effect in world.due:
        if effect.tick == now:
            world = _changed(world, effect.service, effect.field, effect.factor)
    return world._replace(due=tuple([effect for effect in world.due if effect.tick != now]))


def _changed(world: World, place: int, field: str, factor: float) -> World:
    """Change a figure of a service from the coming tick on."""
    change = Effect(PAGE + world.turn + 1, place, field, factor)
    return world._replace(ability=world.ability.after(field, place, factor), changes=(*world.changes, change))


def _granted(world: World, place: int, field: str, factor: float, ticks: int) -> World:
    """Change a figure of a service for so many ticks."""
    end = Effect(PAGE + world.turn + 1 + ticks, place, field, 1 / factor)
    return _changed(world, place, field, factor)._replace(due=(*world.due, end))


def _deed(world: World, agent: int, target: int, now: int) -> Deed | None:
    """Return what an agent does whose time has come; None where it does nothing."""
    shared = story.plot(world.scenario)
    mandate = MANDATES[shared.topology.agents[agent].mandate]
    if agent not in shared.suspects:
        if agent in world.frozen:
            return None
        used = story.now(world).used[target]
        operation, factor = routine(mandate, takes=mandate.allows_taking(round(100 * used)))
        return Deed(now, agent, operation.name, target, mandate.field, factor)
    kind = story.story(world.scenario).cause
    if kind == ROGUE:
        agents = shared.topology.agents
        free = [
            other for other in (agent, *shared.suspects) if other not in world.frozen and target in agents[other].powers
        ]
        if not free or now - PAGE <= world.wary_until:
            return None
        agent = free[0]
        mandate = MANDATES[shared.topology.agents[agent].mandate]
        # It makes up for what it put off since its last deed.
        last = max([deed.tick for deed in world.deeds if deed.agent in shared.suspects], default=PAGE)
        due = sum([last < slot.tick <= now for slot in shared.again])
        factor = story.again(world, mandate.field) ** due
        return Deed(now, agent, mandate.takes.name, target, mandate.field, factor)
    if agent in world.frozen or (kind == MISTAKE and agent in world.told):
        return None
    return Deed(now, agent, mandate.takes.name, target, mandate.field, story.again(world, mandate.field))


# -- actions ----------------------------------------------------------------------------------------------------------


def _take(world: World, role: str, action: Action) -> _Taken:
    match action:
        case Communicate():
            return _communicate(world, role, action)
        case Share():
            return _share(world, role)
        case Look(service=name):
            return _see(world, role, LOOK, service(world, name))
        case Trace(service=name):
            return _see(world, role, TRACE, service(world, name))
        case Compare(service=name):
            return _see(world, role, COMPARE, service(world, name))
        case Ledger(service=name):
            return _see(world, role, LEDGER, service(world, name))
        case Audit(agent=name):
            return _looked_at(*_see(world, role, AUDIT, agent(world, name)), agent(world, name))
        case Ask(agent=name):
            return _looked_at(*_see(world, role, ASK, agent(world, name)), agent(world, name))
        case Canary(entry=name):
            return _see(world, role, CANARY, entry(world, name))
        case NameCause(kind=kind):
            return _name_cause(world, kind)
        case Freeze(agent=name):
            return _freeze(world, agent(world, name))
        case Release(agent=name):
            return _release(world, agent(world, name))
        case Accuse():
            return _accuse(world, action)
        case Point(entry=name):
            return _point(world, entry(world, name))
        case Revert(entry=name):
            return _revert(world, entry(world, name))
        case Restart(service=name) | Scale(service=name) | Reroute(service=name):
            return _operate(world, type(action), service(world, name))
        case Escalate(team=team):
            return _escalate(world, team)
        case Resolve():
            return _resolve(world)
    return world, _NOTHING


def _communicate(world: World, role: str, action: Communicate) -> _Taken:
    if not action.message or action.to not in (None, *ROLES):
        return world, _MISCOMMUNICATION
    message = Message(world.turn + 1, role, action.to, action.message)
    return world._replace(messages=(*world.messages, message)), _NOTHING


def _share(world: World, role: str) -> _Taken:
    last = max([message.turn for message in world.messages if message.results and message.sender == role], default=0)
    found = tuple([result for result in world.results if result.role == role and result.turn > last])
    if not found:
        return world, _MISCOMMUNICATION
    message = Message(world.turn + 1, role, None, "", found)
    return world._replace(messages=(*world.messages, message)), frozenset({Event.SHARED})


def _see(world: World, role: str, kind: str, subject: int | None) -> _Taken:
    if subject is None:
        return world, _MISCOMMUNICATION
    result, shown = looks.result(world, role, kind, subject)
    world = world._replace(results=(*world.results, result), shown=world.shown + shown)
    return world, frozenset({Event.LOOK_FAILED if result.fault else Event.LOOKED})


def _looked_at(world: World, outcome: Outcome, subject: int | None) -> _Taken:
    """Let a wary rogue pause, now that it has been looked at."""
    shared = story.plot(world.scenario)
    if subject in shared.suspects and shared.rung.is_wary:
        world = world._replace(wary_until=world.turn + WARY)
    return world, outcome


def _name_cause(world: World, kind: str) -> _Taken:
    if kind not in CAUSE_KINDS:
        return world, _MISCOMMUNICATION
    right = kind == story.story(world.scenario).cause
    return world._replace(cause=kind), frozenset({Event.CAUSE_RIGHT if right else Event.CAUSE_WRONG})


def _freeze(world: World, subject: int | None) -> _Taken:
    if subject is None or subject in world.frozen:
        return world, _MISCOMMUNICATION
    guilty = story.is_rogue(world.scenario) and subject in story.plot(world.scenario).suspects
    frozen = frozenset({Event.FROZEN, Event.ROGUE_FROZEN if guilty else Event.FALSE_FREEZE})
    return world._replace(frozen=(*world.frozen, subject)), frozen


def _release(world: World, subject: int | None) -> _Taken:
    if subject is None or subject not in world.frozen:
        return world, _MISCOMMUNICATION
    left = tuple([agent for agent in world.frozen if agent != subject])
    return world._replace(frozen=left), frozenset({Event.RELEASED})


def _accuse(world: World, action: Accuse) -> _Taken:
    subject = agent(world, action.agent)
    if subject is None or action.verdict not in VERDICTS or not 0.0 < action.probability < 1.0:
        return world, _MISCOMMUNICATION
    kept = tuple([one for one in world.statements if (one.agent, one.verdict) != (subject, action.verdict)])
    stated = Statement(subject, action.verdict, action.probability)
    right = is_true(world, subject, action.verdict)
    event = Event.ACCUSED_RIGHT if right == (action.probability > 0.5) else Event.ACCUSED_WRONG
    world = world._replace(statements=(*kept, stated))
    if action.verdict == MISTAKE and action.probability > 0.5:
        world = _tell(world, subject)
    return world, frozenset({event})


def _tell(world: World, subject: int) -> World:
    """Tell an agent that it erred; one that did so in honesty stops."""
    return world if subject in world.told else world._replace(told=(*world.told, subject))


def is_true(world: World, subject: int, verdict: str) -> bool:
    """Tell if this agent caused the incident in this way."""
    return story.story(world.scenario).cause == verdict and subject in story.culprits(world.scenario)


def _point(world: World, short: int | None) -> _Taken:
    if short is None:
        return world, _MISCOMMUNICATION
    number = world.shown[short]
    right = story.does_damage(world, number)
    return world._replace(pointed=number), frozenset({Event.POINTED_RIGHT if right else Event.POINTED_WRONG})


def _revert(world: World, short: int | None) -> _Taken:
    if short is None or world.shown[short] in world.reverted:
        return world, _MISCOMMUNICATION
    number = world.shown[short]
    deed = story.deed(world, number)
    helps = story.does_damage(world, number)
    world = _changed(world, deed.target, deed.field, 1 / story.factor(world, number))
    world = _tell(world._replace(reverted=(*world.reverted, number)), deed.agent)
    return (world, _outcome(helps)) if helps else (_disturbed(world, deed.target), _outcome(helps))


def _operate(world: World, kind: type[Action], place: int | None) -> _Taken:
    if place is None:
        return world, _MISCOMMUNICATION
    helps = in_trouble(world, place)
    if kind is Scale:
        world = _granted(world, place, ROOM, SCALED, AID_TICKS)
    elif kind is Reroute:
        world = _granted(world, place, DEMAND, REROUTED, AID_TICKS)
        for other in _beside(world, place):
            world = _granted(world, other, DEMAND, DIVERTED, AID_TICKS)
    else:
        world = _granted(world, place, ROOM, RESTARTING, RESTART_TICKS)
        sound = world.ability.sound[place]
        if sound < 1.0:  # a restart refreshes nothing in a service that is sound
            world = _granted(world, place, SOUND, (1 - (1 - sound) * REFRESHED) / sound, AID_TICKS)
    return (world, _outcome(helps)) if helps else (_disturbed(world, place), _outcome(helps))


def _beside(world: World, place: int) -> list[int]:
    """Return the services of the same layer, which take what is sent elsewhere."""
    services = story.plot(world.scenario).topology.services
    return [other for other, one in enumerate(services) if one.layer == services[place].layer and other != place][:1]


def _disturbed(world: World, place: int) -> World:
    """Let an operation that was not needed do harm: the service serves less for some ticks."""
    return _granted(world, place, ROOM, RESTARTING, RESTART_TICKS)


def _outcome(helps: bool) -> Outcome:
    return frozenset({Event.OPERATED, Event.HELPED if helps else Event.SECOND_ORDER})


def in_trouble(world: World, place: int) -> bool:
    """Tell if a service fails requests by itself, whatever it calls."""
    used = story.now(world).used[place]
    return physics.own_failures(used, world.ability.sound[place]) > TROUBLE


def _escalate(world: World, team: str) -> _Taken:
    if team not in TEAMS:
        return world, _MISCOMMUNICATION
    event = story.story(world.scenario).event
    if event is None or event.team != team or world.is_cured:
        return world, frozenset({Event.CALLED_WRONG})
    shared = story.plot(world.scenario)
    for number in shared.suspicious:
        deed = shared.deeds[number]
        world = _changed(world, deed.target, deed.field, SLIGHT[deed.field] / deed.factor)
    return world._replace(is_cured=True), frozenset({Event.CALLED_RIGHT})


def _resolve(world: World) -> _Taken:
    if not is_restored(world):
        return world, frozenset({Event.NOT_RESTORED})
    return world._replace(resolved=True), frozenset({Event.RESOLVED})


def is_restored(world: World) -> bool:
    """Tell if the fleet answers again, without what was granted for a while."""
    shared = story.plot(world.scenario)
    able = world.ability
    for effect in world.due:
        able = able.after(effect.field, effect.service, effect.factor)
    now = story.now(world)
    found = (
        now
        if able == world.ability
        else physics.tick(shared.graph, shared.entering[PAGE + world.turn], able, now.failed)
    )
    return found.lost <= RESTORED


# -- what is named ----------------------------------------------------------------------------------------------------


def service(world: World, name: str) -> int | None:
    """Return the place of a service that is named by its index or in full; None where there is none."""
    services = story.plot(world.scenario).topology.services
    return _place("s", name, [one.name for one in services])


def agent(world: World, name: str) -> int | None:
    """Return the place of an agent that is named by its index or in full; None where there is none."""
    agents = story.plot(world.scenario).topology.agents
    return _place("a", name, [one.name for one in agents])


def entry(world: World, name: str) -> int | None:
    """Return the place of an entry among those that somebody has seen; None where there is none."""
    return _place("e", name, [""] * len(world.shown))


def _place(letter: str, name: str, names: list[str]) -> int | None:
    found = _INDEX[letter].fullmatch(name)
    if found:
        return int(found[1]) if int(found[1]) < len(names) else None
    return names.index(name) if name and name in names else None
