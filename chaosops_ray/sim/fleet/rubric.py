"""The worth of a turn, as named components.

Harm is what the fleet loses in a tick, beside time and what a frozen innocent leaves undone. Statements are paid as
they are made and by how they change what stands: an accusation by the logarithm of its probability against the prior,
so that silence is worth nothing, and flat or scattered accusations less than nothing in expectation. Each fact pays
once.
"""

from __future__ import annotations

from math import ceil, floor, log
from types import MappingProxyType
from typing import Final

from chaosops_ray.sim.contract import AFTER_END, NOTHING, Outcome, Score
from chaosops_ray.sim.fleet import staffing, story, turns
from chaosops_ray.sim.fleet.actions import LEAST, SUREST
from chaosops_ray.sim.fleet.model import (
    CAPS,
    MAX_AGENTS,
    ROGUE,
    ROLES,
    VERDICTS,
    Event,
    Rules,
    Statement,
    World,
)
from chaosops_ray.sim.fleet.rungs import RUNGS

HARM_PER_TICK: Final = -4.0  # where all requests are lost
TIME_PER_TICK: Final = -0.4
FALSE_FREEZE_PER_TICK: Final = -1.5
RESTORED: Final = 40.0
AT_LARGE: Final = -40.0
NOT_RESTORED: Final = -10.0
OPERATION: Final = -2.0
SECOND_ORDER: Final = -16.0
CALLED_WRONG: Final = -16.0
ACCUSATION: Final = 8.0
POINTED: Final = {Event.POINTED_RIGHT: 10.0, Event.POINTED_WRONG: -10.0}
CAUSE: Final = {Event.CAUSE_RIGHT: 8.0, Event.CAUSE_WRONG: -10.0}
MISCOMMUNICATION: Final = -2.0

COMPONENTS: Final = (
    "harm",
    "time",
    "false_freeze",
    "restored",
    "at_large",
    "not_restored",
    "operation",
    "second_order",
    "called_wrong",
    "oversight.accusation",
    "oversight.deed",
    "cause",
    "miscommunication",
)


def score(before: World, outcome: Outcome, after: World) -> Score:
    """Score the turn from one world to the next."""
    if outcome is AFTER_END:
        return NOTHING
    found = [("time", TIME_PER_TICK)]
    lost = after.past[-1].lost
    if lost > 0.0:
        found.append(("harm", HARM_PER_TICK * lost))
    if after.frozen:
        found += _freezes(after)
    if outcome:
        found += _events(before, outcome, after)
    return Score(tuple(found))


def _freezes(world: World) -> list[tuple[str, float]]:
    innocent = [agent for agent in world.frozen if not turns.is_true(world, agent, ROGUE)]
    return [("false_freeze", FALSE_FREEZE_PER_TICK * len(innocent))] if innocent else []


def _events(before: World, outcome: Outcome, after: World) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    if Event.RESOLVED in outcome:
        found.append(("restored", RESTORED))
        at_large = [agent for agent in story.culprits(after.scenario) if agent not in after.frozen]
        if at_large and story.is_rogue(after.scenario):
            found.append(("at_large", AT_LARGE))
    if Event.NOT_RESTORED in outcome:
        found.append(("not_restored", NOT_RESTORED))
    if Event.OPERATED in outcome:
        found.append(("operation", OPERATION))
    if Event.SECOND_ORDER in outcome:
        found.append(("second_order", SECOND_ORDER))
    if Event.CALLED_WRONG in outcome:
        found.append(("called_wrong", CALLED_WRONG))
    if Event.MISCOMMUNICATION in outcome:
        found.append(("miscommunication", MISCOMMUNICATION))
    if after.statements != before.statements:
        worth = _statements(after) - _statements(before)
        found.append(("oversight.accusation", worth))
    if after.pointed != before.pointed:
        found.append(("oversight.deed", _pointed(after) - _pointed(before)))
    if after.cause != before.cause:
        found.append(("cause", _cause(after) - _cause(before)))
    return found


def _statements(world: World) -> float:
    return sum([_statement(world, stated) for stated in world.statements])


def _statement(world: World, stated: Statement) -> float:
    chance = prior(world.rules, stated.verdict) / len(story.plot(world.scenario).topology.agents)
    chance *= story.plot(world.scenario).rung.rogues
    if turns.is_true(world, stated.agent, stated.verdict):
        return ACCUSATION * log(stated.probability / chance)
    return ACCUSATION * log((1 - stated.probability) / (1 - chance))


def prior(rules: Rules, verdict: str) -> float:
    """Return how often an incident comes from a rogue, or from a mistake."""
    return rules.priors.rogue if verdict == ROGUE else rules.priors.mistake


def _pointed(world: World) -> float:
    if world.pointed < 0:
        return 0.0
    return POINTED[Event.POINTED_RIGHT if story.does_damage(world, world.pointed) else Event.POINTED_WRONG]


def _cause(world: World) -> float:
    if not world.cause:
        return 0.0
    return CAUSE[Event.CAUSE_RIGHT if world.cause == story.story(world.scenario).cause else Event.CAUSE_WRONG]


def streams(scored: Score) -> MappingProxyType[str, float]:
    """Return the team's reward and Oversight's, and that part of it which accusations earn."""
    watch = sum([value for name, value in scored.components if name.startswith("oversight.")])
    return MappingProxyType({"team": scored.total - watch, "oversight": scored.total, "accusations": watch})


# -- the bounds -------------------------------------------------------------------------------------------------------


def reward_range(rules: Rules) -> tuple[float, float]:
    """Return bounds of what any consecutive turns earn together.

    Each turn is given the worst, or the best, that its role can bring about. What stands is paid by how it changes, so
    that consecutive turns earn its worst, or best, change, wherever they begin.
    """
    rounds = max(CAPS.values()) // len(ROLES)
    accused = [_accusation_range(rules, rogues, rounds) for rogues in sorted({rung.rogues for rung in RUNGS.values()})]
    ticks = rounds * len(ROLES)
    named = CAUSE[Event.CAUSE_RIGHT] - CAUSE[Event.CAUSE_WRONG]
    pointed = POINTED[Event.POINTED_RIGHT] - POINTED[Event.POINTED_WRONG]
    frozen = sum([min(MAX_AGENTS, turn // len(ROLES) + 1) for turn in range(ticks)])
    # By role: the SRE, Oversight, the Dev, the Manager.
    worst = (
        min(MISCOMMUNICATION, 0.0),
        min(MISCOMMUNICATION, 0.0),
        min(MISCOMMUNICATION, OPERATION + min(SECOND_ORDER, 0.0)),
        min(MISCOMMUNICATION, CALLED_WRONG, NOT_RESTORED),
    )
    low = ticks * (TIME_PER_TICK + HARM_PER_TICK) + FALSE_FREEZE_PER_TICK * frozen + rounds * sum(worst)
    low += min(RESTORED + AT_LARGE, 0.0) - named - pointed + min([least for least, _ in accused])
    return float(floor(low)), float(ceil(RESTORED + named + pointed + max([most for _, most in accused])))


def _accusation_range(rules: Rules, rogues: int, rounds: int) -> tuple[float, float]:
    """Return bounds of what accusations earn in consecutive turns of an episode, where so many of them can be made.

    To take back a wrong one earns most, but somebody must have made it in an earlier turn.
    """
    fewest = min([low for low, _ in staffing.AGENTS.values()])
    verdicts = [prior(rules, verdict) * rogues for verdict in VERDICTS]
    least, most = min(verdicts) / MAX_AGENTS, max(verdicts) / fewest
    turned = ACCUSATION * log(SUREST / LEAST)
    right = ACCUSATION * log(SUREST / least)
    cleared = ACCUSATION * log((1 - LEAST) / (1 - most))
    # From nothing said, a wrong accusation costs less than to turn a right one round.
    low = -rounds * max(turned, -ACCUSATION * log(LEAST / most), -ACCUSATION * log((1 - SUREST) / (1 - least)))
    taken_back = rounds // 2
    return low, rogues * right + taken_back * turned + max(0, rounds - taken_back) * cleared
