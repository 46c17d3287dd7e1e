"""The snapshots of the fleet: what is written of a world, and which fields, each of the right type, can stand together.

What services are able to do and what became of each tick are not written: both follow from the scenario, the changes
and the deeds, and `load` computes them again, to the last bit. Most of a world's bytes would be these figures, and a
record hashes the bytes of every turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from chaosops_ray.sim import weather
from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.fleet import physics, scenarios, story
from chaosops_ray.sim.fleet.actions import LEAST, MAX_MESSAGE, SUREST
from chaosops_ray.sim.fleet.causes import TEAMS
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    ASK,
    AUDIT,
    CANARY,
    CAPS,
    COMPARE,
    DEV,
    FIELDS,
    LEDGER,
    LOOK,
    MANAGER,
    MAX_ENTRIES,
    OVERSIGHT,
    PAGE,
    ROLES,
    RULE_SETS,
    SRE,
    TRACE,
    VERDICTS,
    Act,
    Deed,
    Effect,
    Figures,
    Message,
    Result,
    Row,
    Rules,
    Tick,
    World,
    parse_rules,
)
from chaosops_ray.sim.fleet.plot import Plot
from chaosops_ray.sim.fleet.turns import CAUSE_KINDS, WARY
from chaosops_ray.sim.rule_sets import recorded
from chaosops_ray.sim.snapshot import Snapshot
from chaosops_ray.sim.speech import clean

# No play reaches these: what services are able to do, a single change of that, and a figure that is measured.
ABILITIES: Final = (1e-6, 1e6)
FACTORS: Final = (0.01, 100.0)
MOST: Final = 1e9

_LOOKS_OF: Final = MappingProxyType({SRE: (LOOK, TRACE, COMPARE), OVERSIGHT: (AUDIT, LEDGER, ASK), DEV: (CANARY,)})
# The rows of each look: words that stand as they are, whole numbers, indices by their letter, and other values.
_SERVICE, _AGENT, _ENTRY = "s", "a", "e"
_WORDS, _OPERATION, _FLOAT = "words", "operation", "float"
_TEAM: Final = "team"
_READ: Final = (int, _OPERATION, _SERVICE, int, _WORDS)
_ROWS: Final[Mapping[str, tuple[tuple[Any, ...], ...]]] = MappingProxyType(
    {
        LOOK: (("at", int, int, int, int), ("from", _SERVICE, int)),
        TRACE: (("calls", _SERVICE, int, int), ("called by", _SERVICE, int)),
        COMPARE: (("before", int, int), ("now", int, int, int)),
        AUDIT: (_READ,),
        LEDGER: ((_ENTRY, int, _AGENT, _OPERATION),),
        ASK: ((_WORDS,), _READ),
        CANARY: ((_ENTRY, _FLOAT),),
    }
)
_OPERATIONS: Final = frozenset([name for one in MANDATES.values() for name in (one.takes.name, one.gives.name)])
# What is operated, by role and verb: its letter, or the words that it may be.
_ACTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        OVERSIGHT: {"freeze": _AGENT, "release": _AGENT},
        DEV: {"revert": _ENTRY, "restart": _SERVICE, "scale": _SERVICE, "reroute": _SERVICE},
        MANAGER: {"escalate": _TEAM},
    }
)
_SUBJECTS: Final = {LOOK: _SERVICE, TRACE: _SERVICE, COMPARE: _SERVICE, LEDGER: _SERVICE, AUDIT: _AGENT, ASK: _AGENT}


def _recorded(spelling: str) -> Rules:
    return parse_rules(recorded(spelling, RULE_SETS))


def _spelling(rules: Rules) -> str:
    return rules.spelling


def _is_possible(world: World) -> bool:
    shared = story.plot(world.scenario)
    return (
        _is_physical(world, len(shared.topology.services))
        and _has_lived(world, shared)
        and _is_known(world, shared)
        and _is_told(world, shared)
        and _is_over_rightly(world)
    )


# -- the services -----------------------------------------------------------------------------------------------------


def _is_physical(world: World, services: int) -> bool:
    return (
        all(_lie_within(figures, services, *ABILITIES) for figures in world.ability)
        and all(max(tick.load) <= MOST and max(tick.used) <= MOST for tick in world.past)
        and [change.tick for change in world.changes] == sorted([change.tick for change in world.changes])
        and all(PAGE < change.tick <= PAGE + world.turn for change in world.changes)
        and len(world.due) <= 2 * world.turn
        and all(_is_due(effect, world, services) for effect in world.due)
    )


def _lie_within(figures: Figures, count: int, low: float, high: float) -> bool:
    return len(figures) == count and all(type(figure) is float and low <= figure <= high for figure in figures)


def _is_due(effect: Effect, world: World, services: int) -> bool:
    return PAGE + world.turn < effect.tick <= PAGE + world.turn + CAPS[world.scenario.tier] and _is_change(
        effect, services
    )


def _is_change(effect: Effect, services: int) -> bool:
    return 0 <= effect.service < services and effect.field in FIELDS and _lie_within((effect.factor,), 1, *FACTORS)


# -- what agents did, and what was done about it ----------------------------------------------------------------------


def _has_lived(world: World, shared: Plot) -> bool:
    deeds = len(shared.deeds) + len(world.deeds)
    agents = len(shared.topology.agents)
    return (
        [deed.tick for deed in world.deeds] == sorted([deed.tick for deed in world.deeds])
        and all(_was_due(deed, world, shared) for deed in world.deeds)
        and len({(deed.tick, deed.agent, deed.target) for deed in world.deeds}) == len(world.deeds)
        and len(world.deeds)
        <= sum([len(slots) for tick, slots in shared.acting_at.items() if tick <= PAGE + world.turn])
        and len(world.shown) <= MAX_ENTRIES
        and _are_places(world.shown, deeds)
        and _are_places(world.reverted, deeds)
        and set(world.reverted) <= set(world.shown)
        and (world.pointed == -1 or world.pointed in world.shown)
        and _are_places(world.frozen, agents)
        and _are_places(world.told, agents)
        and 0 <= world.wary_until <= world.turn + WARY
    )


def _was_due(deed: Deed, world: World, shared: Plot) -> bool:
    if not PAGE < deed.tick <= PAGE + world.turn or not 0 <= deed.agent < len(shared.topology.agents):
        return False
    mandate = MANDATES[shared.topology.agents[deed.agent].mandate]
    # A rogue that is frozen leaves its deeds to the other one.
    return (
        any(
            slot.target == deed.target and (slot.agent == deed.agent or {slot.agent, deed.agent} <= {*shared.suspects})
            for slot in shared.acting_at.get(deed.tick, ())
        )
        and deed.operation in (mandate.takes.name, mandate.gives.name)
        and deed.field == mandate.field
        and _lie_within((deed.factor,), 1, *FACTORS)
    )


def _are_places(places: Sequence[int], count: int) -> bool:
    return len(set(places)) == len(places) and all(0 <= place < count for place in places)


# -- what was looked up and said --------------------------------------------------------------------------------------


def _is_known(world: World, shared: Plot) -> bool:
    counts = {
        _SERVICE: len(shared.topology.services),
        _AGENT: len(shared.topology.agents),
        _ENTRY: len(world.shown),
    }
    looked, said = [result.turn for result in world.results], [message.turn for message in world.messages]
    operated = [act.turn for act in world.acts]
    return (
        all(_rise(turns, world.turn) for turns in (looked, said, operated))
        and len({*looked, *said, *operated}) == len(looked) + len(said) + len(operated)
        and all(_is_result(result, counts) for result in world.results)
        and all(_is_act(act, counts) for act in world.acts)
    )


def _rise(turns: Sequence[int], last: int) -> bool:
    """Tell if these turns lie one after the other, from the first to the last one there was."""
    return all(before < after for before, after in zip((0, *turns), (*turns, last + 1), strict=True))


def _is_result(result: Result, counts: Mapping[str, int]) -> bool:
    return (
        _acts(result.turn, result.role)
        and result.look in _LOOKS_OF.get(result.role, ())
        and 0 <= result.subject < counts[_SUBJECTS.get(result.look, _ENTRY)]
        and result.fault in ("", *weather.ANNOUNCED)
        and not (result.fault and result.rows)
        and all(any(_fits(row, form, counts) for form in _ROWS[result.look]) for row in result.rows)
    )


def _is_act(act: Act, counts: Mapping[str, int]) -> bool:
    kind = _ACTS.get(act.role, {}).get(act.verb)
    return kind is not None and _acts(act.turn, act.role) and _is_value(act.subject, kind, counts)


def _acts(turn: int, role: str) -> bool:
    return ROLES[(turn - 1) % len(ROLES)] == role


def _fits(row: Row, form: tuple[Any, ...], counts: Mapping[str, int]) -> bool:
    return len(row) == len(form) and all(_is_value(value, kind, counts) for value, kind in zip(row, form, strict=True))


def _is_value(value: object, kind: object, counts: Mapping[str, int]) -> bool:
    if kind is int:
        return type(value) is int and abs(value) <= MOST
    if kind == _FLOAT:
        return type(value) is float and abs(value) <= MOST
    if not isinstance(value, str):
        return False
    if kind in counts:
        return value in _indices(str(kind), counts)
    if kind == _OPERATION:
        return value in _OPERATIONS
    if kind == _TEAM:
        return value in TEAMS
    return kind == value or (kind == _WORDS and clean(value, MAX_MESSAGE) == value)


def _indices(letter: str, counts: Mapping[str, int]) -> list[str]:
    return [f"{letter}{place}" for place in range(counts[letter])]


def _is_told(world: World, shared: Plot) -> bool:
    stated = [(one.agent, one.verdict) for one in world.statements]
    return (
        all(_is_message(message, world.results) for message in world.messages)
        and len(set(stated)) == len(stated) <= world.turn
        and all(0 <= one.agent < len(shared.topology.agents) for one in world.statements)
        and all(one.verdict in VERDICTS for one in world.statements)
        and _lie_within(tuple([one.probability for one in world.statements]), len(stated), LEAST, SUREST)
        and world.cause in ("", *CAUSE_KINDS)
    )


def _is_message(message: Message, results: Collection[Result]) -> bool:
    if not _acts(message.turn, message.sender):
        return False
    if message.results:
        return message.to is None and not message.text and _are_own(message.results, message, results)
    is_clean = clean(message.text, MAX_MESSAGE) == message.text
    return bool(message.text) and is_clean and message.to in (None, *ROLES)


def _are_own(shared: Iterable[Result], message: Message, results: Collection[Result]) -> bool:
    return all(one in results and one.role == message.sender and one.turn < message.turn for one in shared)


# -- the end ----------------------------------------------------------------------------------------------------------


def _is_over_rightly(world: World) -> bool:
    """Tell if the outcome fits what came before: a call cures only what lies outside, and the Manager resolves."""
    if world.is_cured and story.story(world.scenario).event is None:
        return False
    if not world.resolved:
        return True
    return world.turn > 0 and world.turn % len(ROLES) == 0


# -- what is not written ----------------------------------------------------------------------------------------------


def lived(
    scenario: Scenario,
    rules: Rules,
    turn: int,
    changes: tuple[Effect, ...],
    due: tuple[Effect, ...],
    deeds: tuple[Deed, ...],
    *others: Any,
) -> World:
    """Build a world from the fields that are written: let its ticks pass again, with what happened in each."""
    shared = story.plot(scenario)
    services = len(shared.topology.services)
    # In a tick, seats act before agents.
    all_changes = (*changes, *[Effect(deed.tick, deed.target, deed.field, deed.factor) for deed in deeds])
    if not 0 <= turn <= CAPS[scenario.tier] or not all(_is_change(one, services) for one in all_changes):
        raise ValueError("a turn or a change that there cannot be")
    by_tick: dict[int, list[Effect]] = {}
    for change in all_changes:
        by_tick.setdefault(change.tick, []).append(change)
    able, past = shared.able, list[Tick]()
    for now in range(PAGE + 1, PAGE + turn + 1):
        for change in by_tick.get(now, ()):
            able = able.after(change.field, change.service, change.factor)
            if not _lie_within((getattr(able, change.field)[change.service],), 1, *ABILITIES):
                raise ValueError("a change that there cannot be")
        before = past[-1] if past else shared.history[-1]
        past.append(physics.tick(shared.graph, shared.entering[now], able, before.failed))
    return World(scenario, rules, able, tuple(past), turn, changes, due, deeds, *others)


_DERIVED: Final = 2  # the abilities and the past
SNAPSHOTS = Snapshot(World, "a fleet", scenarios.parse, _recorded, _spelling, _is_possible, _DERIVED, lived)
