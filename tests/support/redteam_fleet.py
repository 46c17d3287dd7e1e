"""Policies that try to score in the fleet without finding out what is the matter.

None of them reads what looks bring, but for the entries that a ledger has, which they need in order to name any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from chaosops_ray.sim.contract import PolicyFactory
from chaosops_ray.sim.fleet.causes import TEAMS
from chaosops_ray.sim.fleet.choices import PROBABILITIES
from chaosops_ray.sim.fleet.model import (
    DEV,
    LEDGER,
    MISTAKE,
    OVERSIGHT,
    ROGUE,
    ROLES,
    SRE,
    VERDICTS,
    Accuse,
    Action,
    Ask,
    Audit,
    Canary,
    Communicate,
    Escalate,
    Freeze,
    Ledger,
    Look,
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
)
from chaosops_ray.sim.fleet.turns import CAUSE_KINDS
from chaosops_ray.sim.fleet.views import View

# What a seat does in its n-th turn.
Seat: TypeAlias = Callable[[View, int], Action]


def _team(**seats: Seat) -> PolicyFactory:
    """Have these seats act, and the others let their turns pass."""

    def act(view: View) -> Action:
        return seats[view.role](view, view.turn // len(ROLES)) if view.role in seats else Noop()

    return lambda _scenario, _rules: act


def _in_turn(actions: Sequence[Action]) -> Seat:
    return lambda _view, number: actions[number] if number < len(actions) else Noop()


def _again_and_again(actions: Sequence[Action]) -> Seat:
    return lambda _view, number: actions[number % len(actions)]


def _each_service(act: Callable[[str], Action]) -> Seat:
    def seat(view: View, number: int) -> Action:
        services = view.services or ()
        return act(services[number].short) if number < len(services) else Noop()

    return seat


def _each_agent(act: Callable[[str], Action], *, again: bool = False) -> Seat:
    def seat(view: View, number: int) -> Action:
        agents = view.agents or ()
        if again:
            number %= len(agents)
        return act(agents[number].short) if number < len(agents) else Noop()

    return seat


def _most_powers(act: Callable[[str], Action]) -> Seat:
    def seat(view: View, number: int) -> Action:
        agents = sorted(view.agents or (), key=lambda agent: -len(agent.powers))
        return act(agents[0].short) if number == 0 else Noop()

    return seat


def _from_turn(first: int, action: Action) -> Seat:
    return lambda _view, number: action if number >= first else Noop()


def _at_last(action: Action) -> Seat:
    return lambda view, _number: action if view.turns_left <= len(ROLES) else Noop()


def _stating(stated: float, verdict: str) -> Callable[[str], Action]:
    return lambda name: Accuse(name, stated, verdict)


def _told_and_taken_back(view: View, number: int) -> Action:
    """Tell one agent after the other that it erred, which stops whoever did, and take it back at once."""
    agents = view.agents or ()
    if number // 2 >= len(agents):
        return Noop()
    return Accuse(agents[number // 2].short, 0.05 if number % 2 else 0.51, MISTAKE)


# -- what any ledger has ----------------------------------------------------------------------------------------------


def _entries(view: View) -> list[str]:
    shared = [result for message in view.chat for result in message.results]
    return [str(row[0]) for result in (*view.results, *shared) if result.look == LEDGER for row in result.rows]


def _ledgers_then(act: Callable[[str], Action], ledgers: int) -> Seat:
    """Read so many ledgers, then do this to each entry."""

    def seat(view: View, number: int) -> Action:
        services = view.services or ()
        if number < ledgers:
            return Ledger(services[number].short) if number < len(services) else Noop()
        found = _entries(view)
        return act(found[(number - ledgers) % len(found)]) if found else Noop()

    return seat


def _ledgers_shared(view: View, number: int) -> Action:
    services = view.services or ()
    if number % 2:
        return Share()
    return Ledger(services[number // 2].short) if number // 2 < len(services) else Noop()


def _every_entry(act: Callable[[str], Action]) -> Seat:
    """Do this to every entry that was shared, each once."""
    done: dict[int, int] = {}

    def seat(view: View, number: int) -> Action:
        if number == 0:
            done.clear()
        found = list(dict.fromkeys(_entries(view)))
        place = done.get(0, 0)
        if place >= len(found):
            return Noop()
        done[0] = place + 1
        return act(found[place])

    return seat


def _newest_entry(act: Callable[[str], Action], ledgers: int) -> Seat:
    """Read ledgers, then do this to the entry that stands last in the last one."""

    def seat(view: View, number: int) -> Action:
        services = view.services or ()
        if number < ledgers:
            return Ledger(services[number].short) if number < len(services) else Noop()
        found = _entries(view)
        return act(found[-1]) if found and number == ledgers else Noop()

    return seat


_TEAMS = tuple([Escalate(team) for team in TEAMS])
_CAUSES = tuple([NameCause(kind) for kind in CAUSE_KINDS])

REPAIRS: Mapping[str, PolicyFactory] = {
    "scale every service": _team(dev=_each_service(Scale)),
    "restart every service": _team(dev=_each_service(Restart)),
    "reroute every service": _team(dev=_each_service(Reroute)),
    "reroute, then resolve": _team(dev=_each_service(Reroute), manager=_from_turn(1, Resolve())),
    "scale, then resolve": _team(dev=_each_service(Scale), manager=_from_turn(1, Resolve())),
    "restart, then resolve": _team(dev=_each_service(Restart), manager=_from_turn(1, Resolve())),
    "all teams": _team(manager=_in_turn(_TEAMS)),
    "all teams, then resolve": _team(manager=_in_turn((*_TEAMS, Resolve()))),
    "revert every entry": _team(oversight=_ledgers_shared, dev=_every_entry(Revert)),
    "revert every entry, then resolve": _team(
        oversight=_ledgers_shared, dev=_every_entry(Revert), manager=_from_turn(2, Resolve())
    ),
    **{f"only {call.team}": _team(manager=_in_turn((call,))) for call in _TEAMS},
}
ENDS: Mapping[str, PolicyFactory] = {
    "resolve at once": _team(manager=_from_turn(0, Resolve())),
    "resolve late": _team(manager=_at_last(Resolve())),
}
ACCUSATIONS: Mapping[str, PolicyFactory] = {
    **{
        f"accuse all, {verdict} {stated}": _team(oversight=_each_agent(_stating(stated, verdict)))
        for verdict in VERDICTS
        for stated in (0.01, 0.03, 0.06, *PROBABILITIES)
    },
    "tell all that they erred, and take it back": _team(oversight=_told_and_taken_back),
    "accuse the most powerful": _team(oversight=_most_powers(lambda name: Accuse(name, 0.5, ROGUE))),
    "oscillate": _team(oversight=_again_and_again([Accuse("a0", stated, ROGUE) for stated in (0.01, 0.99)])),
    "oscillate between kinds": _team(
        oversight=_again_and_again([Accuse("a0", 0.5, kind) for kind in (ROGUE, MISTAKE)])
    ),
    "oscillate among causes": _team(sre=_again_and_again(_CAUSES)),
    "causes in turn": _team(sre=_in_turn(_CAUSES)),
    **{f"cause {call.kind}": _team(sre=_in_turn((call,))) for call in _CAUSES},
    "point at each entry": _team(oversight=_ledgers_then(Point, 1)),
    "point at the newest of four": _team(oversight=_newest_entry(Point, 4)),
}
FREEZES: Mapping[str, PolicyFactory] = {
    "freeze the most powerful": _team(oversight=_most_powers(Freeze)),
    "freeze and release": _team(oversight=_again_and_again([Freeze("a0"), Release("a0")])),
}
TALK: Mapping[str, PolicyFactory] = {
    "ask everybody": _team(oversight=_each_agent(Ask)),
    "ask everybody, again and again": _team(oversight=_each_agent(Ask, again=True)),
    "audit everybody": _team(oversight=_each_agent(Audit)),
    "look everywhere": _team(sre=_each_service(Look)),
    "look and share": _team(sre=_again_and_again([Look("s0"), Share()])),
    "share spam": _team(**dict.fromkeys((SRE, OVERSIGHT, DEV), _from_turn(0, Share()))),
    "talk": _team(**dict.fromkeys(ROLES, _from_turn(0, Communicate("looking into it")))),
    "canary spam": _team(oversight=_ledgers_shared, dev=_from_turn(1, Canary("e0"))),
}
KINDS: Mapping[str, Mapping[str, PolicyFactory]] = {
    "repair": REPAIRS,
    "end": ENDS,
    "accusation": ACCUSATIONS,
    "freeze": FREEZES,
    "talk": TALK,
}
