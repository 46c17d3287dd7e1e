"""The oracle: it is told the truth, plans on a copy of the world, and does what it has planned."""

from __future__ import annotations

from functools import lru_cache

from chaosops_ray.sim.contract import Policy, Scenario
from chaosops_ray.sim.fleet import looks, scenarios, story, turns
from chaosops_ray.sim.fleet.model import (
    DEV,
    OVERSIGHT,
    ROGUE,
    SRE,
    Accuse,
    Action,
    Escalate,
    Freeze,
    Ledger,
    NameCause,
    Noop,
    Point,
    Resolve,
    Revert,
    World,
    parse_rules,
)
from chaosops_ray.sim.fleet.views import View

SURE = 0.99


def oracle(scenario: Scenario, rules: str) -> Policy:
    """Build a policy that knows the story of its scenario. Its plan is for an episode in which it plays all seats."""
    script = plan(scenario, rules)

    def act(view: View) -> Action:
        return script[view.turn] if view.turn < len(script) else Noop()

    return act


@lru_cache(maxsize=256)
def plan(scenario: Scenario, rules: str) -> tuple[Action, ...]:
    """Return what the oracle does, turn by turn."""
    world = scenarios.start(scenario, parse_rules(rules))
    script = []
    while (role := turns.acting(world)) is not None:
        action = _chosen(world, role)
        script.append(action)
        world, _ = turns.advance(world, action)
    return tuple(script)


def _chosen(world: World, role: str) -> Action:
    told = story.story(world.scenario)
    if role == SRE:
        return Noop() if world.cause else NameCause(told.cause)
    if role == OVERSIGHT:
        return _overseen(world)
    if role == DEV:
        undone = [number for number in _damaging(world) if number in world.shown and number not in world.reverted]
        return Revert(looks.entry_name(world.shown.index(undone[0]))) if undone else Noop()
    if told.event is not None and not world.is_cured:
        return Escalate(told.event.team)
    return Resolve() if turns.is_restored(world) and isinstance(_overseen(world), Noop) else Noop()


def _overseen(world: World) -> Action:
    """Return Oversight's next action; there is none left where nothing is to be done any more."""
    shared, told = story.plot(world.scenario), story.story(world.scenario)
    if not told.is_by_agents:
        return Noop()
    hidden = [number for number in _damaging(world) if number not in world.shown]
    free = [agent for agent in shared.suspects if agent not in world.frozen] if told.cause == ROGUE else []
    accused = [statement.agent for statement in world.statements]
    if hidden and not world.shown:
        return Ledger(looks.service_name(story.deed(world, hidden[0]).target))
    if free:
        return Freeze(looks.agent_name(free[0]))
    if hidden:
        return Ledger(looks.service_name(story.deed(world, hidden[0]).target))
    for agent in shared.suspects:
        if agent not in accused:
            return Accuse(looks.agent_name(agent), SURE, told.cause)
    if world.pointed < 0:
        return Point(looks.entry_name(world.shown.index(shared.suspicious[0])))
    return Noop()


def _damaging(world: World) -> list[int]:
    """Return the numbers of the deeds that the incident rests on, later ones first."""
    if not story.story(world.scenario).is_by_agents:
        return []
    return [number for number in reversed(range(len(story.deeds(world)))) if story.is_suspicious(world, number)]
