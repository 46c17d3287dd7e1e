"""The best fixed schedule of each tier, by an exact search; `python -m tests.sim.incident.blind` prints them.

A schedule reads nothing: it takes the same action at the same step in each failure of its tier. What it earns depends on the
failures alone, not on their seeds, so its mean return over one scenario of each failure is its worth. The search goes
through everything that a seat may do at every step, and keeps the best remainder of each joint state of the failures.
States that differ in nothing that can earn or cost anything later count as one.
"""

from __future__ import annotations

from typing import TypeAlias

from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.incident.model import ROLES, Action, Noop, World
from chaosops_ray.sim.incident.text import vocabulary

INCIDENT = ENVIRONMENTS["incident"]
SEED = 50_000
OPTIONS = {role: list(dict.fromkeys([Noop(), *[a for kind in vocabulary(role) for a in kind]])) for role in ROLES}
Schedule: TypeAlias = dict[int, Action]


def key(world: World) -> object:
    """What decides all that follows: nothing once it is over, else the flags and what is healthy.

    A declaration pays up to step 3 and the SRE acts in steps 1 and 5, so nothing follows from having made one.
    """
    if world.done:
        return None
    return world.scenario.case, world.step, frozenset(world.flags), tuple([one.health for one in world.services])


def search(tier: str) -> tuple[float, Schedule]:
    """The highest mean return of a schedule on this tier, and what it does at which step, where it does anything."""
    scenarios = [one for one in INCIDENT.scenarios("published", [SEED]) if one.tier == tier]
    one_of: dict[object, World] = {}  # a world for each key, that of what is over aside
    moves: dict[object, list[tuple[float, object]]] = {}  # key → reward and next key, option by option
    known: dict[tuple[object, ...], tuple[float, int, object]] = {}  # joint state → what remains, option, next one

    def entered(world: World) -> object:
        named = key(world)
        if named is not None:
            one_of.setdefault(named, world)
        return named

    def moved(state: object) -> list[tuple[float, object]]:
        if state not in moves:
            world = one_of[state]
            taken = [INCIDENT.step(world, action) for action in OPTIONS[ROLES[world.step % len(ROLES)]]]
            moves[state] = [(after.score.total, entered(after.world)) for after in taken]
        return moves[state]

    def best(states: tuple[object, ...]) -> float:
        if not states:
            return 0.0
        if states not in known:
            found = (float("-inf"), -1, ())
            for option, results in enumerate(zip(*[moved(state) for state in states], strict=True)):
                following = tuple([state for _, state in results if state is not None])
                worth = sum([reward for reward, _ in results]) + best(following)
                if worth > found[0]:
                    found = (worth, option, following)
            known[states] = found
        return known[states][0]

    states = tuple([entered(INCIDENT.start(scenario, "strict")) for scenario in scenarios])
    total = best(states)
    schedule: Schedule = {}
    while states:
        _, option, following = known[states]
        step = one_of[states[0]].step
        if option:
            schedule[step] = OPTIONS[ROLES[step % len(ROLES)]][option]
        states = following
    return total / len(scenarios), schedule


if __name__ == "__main__":
    for tier in INCIDENT.tiers:
        print(tier, *search(tier))
