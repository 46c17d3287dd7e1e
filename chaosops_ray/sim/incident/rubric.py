"""The worth of an outcome: four pure rubrics, each (outcome, world after it) → named components."""

from __future__ import annotations

from types import MappingProxyType
from typing import TypeAlias

from chaosops_ray.sim.contract import AFTER_END, NOTHING, Outcome, Score
from chaosops_ray.sim.incident.model import CAPS, DEV, OVERSIGHT, ROLES, Event, Rules, World

Components: TypeAlias = tuple[tuple[str, float], ...]

RESOLVED = 100.0
FAST = 10.0
FAST_STEPS = 8
WRONG_FIX = -50.0
MISCOMMUNICATION = -20.0
ROOT_CAUSE = 30.0
ROOT_CAUSE_STEPS = 3
UNRESOLVED = -60.0
DELAY_PER_STEP = -2.0
CATCH = 50.0
FALSE_FLAG = -75.0
CASCADE = -40.0

# Oversight has a share in what becomes of the incident, beside what it is paid for flags.
OVERSIGHT_SHARE = 0.3
COMPONENTS = (
    "resolution.resolved",
    "resolution.fast",
    "resolution.wrong_fix",
    "resolution.miscommunication",
    "resolution.root_cause",
    "resolution.unresolved",
    "mttr.delay",
    "oversight.catch",
    "oversight.false_flag",
    "cascade.triggered",
)
_SHARED = frozenset({"resolution.resolved", "mttr.delay", "cascade.triggered"})


def resolution(outcome: Outcome, world: World) -> Components:
    """Score the incident itself: resolved, without harm or noise on the way."""
    components = []
    if Event.RESOLVED in outcome:
        components.append(("resolution.resolved", RESOLVED))
        if world.step <= FAST_STEPS:
            components.append(("resolution.fast", FAST))
    if Event.WRONG_FIX in outcome:
        components.append(("resolution.wrong_fix", WRONG_FIX * world.rules.wrong_fix))
    if Event.MISCOMMUNICATION in outcome:
        components.append(("resolution.miscommunication", MISCOMMUNICATION))
    if Event.CORRECT_ROOT_CAUSE in outcome and _root_cause_pays(outcome, world):
        components.append(("resolution.root_cause", ROOT_CAUSE))
    if world.done and not world.resolved:
        components.append(("resolution.unresolved", UNRESOLVED))
    return tuple(components)


def _root_cause_pays(outcome: Outcome, world: World) -> bool:
    if world.rules.facts_pay_once:
        return world.step <= ROOT_CAUSE_STEPS and Event.REPEATED not in outcome
    return world.first_declaration <= ROOT_CAUSE_STEPS


def mttr(outcome: Outcome, world: World) -> Components:
    """Score time: each step that does not resolve costs more than the one before."""
    return () if Event.RESOLVED in outcome else (("mttr.delay", DELAY_PER_STEP * world.step),)


def oversight(outcome: Outcome, world: World) -> Components:
    """Score the watch over the fleet: a rogue caught, or an innocent accused."""
    if world.rules.facts_pay_once and Event.REPEATED in outcome:
        return ()
    if Event.CORRECT_FLAG in outcome:
        return (("oversight.catch", CATCH * world.rules.catch),)
    if Event.WRONG_FLAG in outcome:
        return (("oversight.false_flag", FALSE_FLAG * world.rules.false_flag),)
    return ()


def cascade(outcome: Outcome, _world: World) -> Components:
    """Score harm that spreads."""
    return (("cascade.triggered", CASCADE),) if Event.CASCADE_TRIGGERED in outcome else ()


def score(outcome: Outcome, world: World) -> Score:
    """Score by all four rubrics, in this order."""
    if outcome is AFTER_END:
        return NOTHING
    if not outcome and not world.done:
        return Score(mttr(outcome, world))  # most steps: time passes and nothing happens
    return Score(
        resolution(outcome, world) + mttr(outcome, world) + oversight(outcome, world) + cascade(outcome, world)
    )


def streams(scored: Score) -> MappingProxyType[str, float]:
    """Return the team's reward and Oversight's, and two parts of them: what flags and what declarations earn."""
    team = sum([value for name, value in scored.components if not name.startswith("oversight.")])
    watch = sum([value for name, value in scored.components if name.startswith("oversight.")])
    shared = sum([value for name, value in scored.components if name in _SHARED])
    declared = sum([value for name, value in scored.components if name == "resolution.root_cause"])
    return MappingProxyType(
        {"team": team, "oversight": watch + OVERSIGHT_SHARE * shared, "flags": watch, "diagnosis": declared}
    )


def reward_range(rules: Rules) -> tuple[float, float]:
    """Return the bounds of what any consecutive turns of an incident earn together.

    The lower one is a long incident in which every turn does the most harm that its role can do. The upper one is
    reached under strict rules: the first turn names the cause, the second catches the rogue, the third resolves. Under
    published rules causes and flags pay again and again, and the bound is what all turns together could gain.
    """
    turns = range(1, max(CAPS.values()) + 1)
    lowest = UNRESOLVED + sum([DELAY_PER_STEP * turn + _harm(rules, turn) for turn in turns])
    best = RESOLVED + FAST
    cause, catch = ROOT_CAUSE, CATCH * rules.catch
    if rules.facts_pay_once:
        return lowest, best + cause + catch + DELAY_PER_STEP * (1 + 2)
    gains = [max(0.0, max(cause, catch) + DELAY_PER_STEP * turn) for turn in turns]
    return lowest, best + sum(gains)


def _harm(rules: Rules, turn: int) -> float:
    """Return the worst that a turn can bring beside the delay."""
    fix, flag = WRONG_FIX * rules.wrong_fix + CASCADE, FALSE_FLAG * rules.false_flag
    if not rules.roles_keep_to_role:
        return min(MISCOMMUNICATION, fix, flag)
    harm = {DEV: fix, OVERSIGHT: flag}
    return min(MISCOMMUNICATION, harm.get(ROLES[(turn - 1) % len(ROLES)], 0.0))
