"""The plot of a scenario: all that its two twins share, drawn once for both.

Services, agents, load, the deeds of all agents up to the page, and what the instruments measured until then are the same
bytes in the rogue world and in the benign one. One agent did something to a service that broke it, or seems to have. The
twins differ in who or what broke it, in what that agent wrote of its deeds, and in what follows: see story.py.

Load lies on a plateau with two dips before the page, and rises into it. Deeds that take something from a service are
warranted in a dip alone. The suspicious ones come on the plateau, so many ticks after a dip as a late reading would
explain, and the damage shows in full as the load rises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from chaosops_ray.sim.fleet import physics, topology, wording
from chaosops_ray.sim.fleet.habits import COMMON, LATE, STALE
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    CAPS,
    DEMAND,
    EDGE,
    PAGE,
    PROVIDER,
    ROOM,
    SOUND,
    Ability,
    Agent,
    Deed,
    Figures,
    Tick,
    Topology,
)
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung
from chaosops_ray.sim.fleet.splits import TAMPER, words_of
from chaosops_ray.sim.rng import Stream, stream

# Load, as multiples of the plain one: on the plateau it is 1.
DIP: Final = 0.55
FLANK: Final = 0.8
RISE: Final = (1.1, 1.2)
PEAK: Final = (1.28, 1.36)
WOBBLE: Final = 0.05
FIRST_DIPS: Final = (4, 5, 6)
SECOND_DIPS: Final = (15, 16)
EARLY_DEEDS: Final = (10, 11)
LATE_DEEDS: Final = (20, 21)

# The utilisation to which the damage brings a service at the page: where one is damaged, and where several are.
FULL_DAMAGE: Final = (1.24, 1.38)
# Damage long before the page must not show on the plateau.
EARLY_DAMAGE: Final = (1.2, 1.26)
PART_DAMAGE: Final = (1.08, 1.16)
UNSOUND: Final = 0.68
PARTLY_UNSOUND: Final = 0.86
# Requests that the fleet must lose at the page, at least, for anybody to be called.
LOST_AT_PAGE: Final = 0.1
# An edge is named on the page if it fails more than this share of its requests.
FAILING: Final = 0.04
# A routine deed changes little.
SLIGHT: Final = {ROOM: 0.97, DEMAND: 1.03, SOUND: 0.99}
ROUTINE_DEEDS: Final = (3, 5)
OTHER_DEEDS: Final = (4, 6)
# Another deed of the suspect can tell a habit from a cover if a late reading would differ by as many points.
TELLING: Final = 6
# Ticks between an agent's deeds after the page, and until the suspect's first one.
ROUTINE_PAUSE: Final = (6, 9)
AGAIN_FIRST: Final = (6, 9)
AGAIN_PAUSE: Final = 8
AGAIN: Final = {ROOM: 0.86, DEMAND: 1.14, SOUND: 0.9}
_ROUNDS: Final = 8


class Slot(NamedTuple):
    """A deed that is due at a tick after the page."""

    tick: int
    agent: int
    target: int


class Plot(NamedTuple):
    """What both twins share."""

    rung: Rung
    form: Form
    topology: Topology
    graph: physics.Graph
    entering: tuple[Figures, ...]  # what enters at each tick, from the first one of the history on
    field: str  # what the suspicious deeds change
    suspects: tuple[int, ...]
    framed: int  # an innocent agent that acted just after; -1 where there is none
    lag: int
    gap: tuple[int, int]
    spared: int  # the number of the suspect's deed that lies farthest from the gap
    deeds: tuple[Deed, ...]  # up to the page, in the order of time
    suspicious: tuple[int, ...]  # their numbers
    habits: tuple[str, ...]  # of the agents; a suspect's is that of its benign twin
    history: tuple[Tick, ...]
    able: Ability  # as the page goes out
    page: tuple[str, ...]
    again: tuple[Slot, ...]  # the suspects' next deeds
    acting_at: Mapping[int, tuple[Slot, ...]]  # all of these by tick


class Damage(NamedTuple):
    """A suspicious deed as it is planned."""

    agent: int
    target: int
    tick: int
    factor: float


@lru_cache(maxsize=256)
def plot_of(rung_name: str, split: str, seed: int) -> Plot:
    """Return the plot of these twins."""
    rung = RUNGS[rung_name]
    drawn = topology.drawn(seed, split, rung.tier)
    draw = stream(seed, f"fleet plot {rung_name}/{split}")
    dips = (draw.choice(FIRST_DIPS), draw.choice(SECOND_DIPS))
    entering = _entering(drawn, dips, CAPS[rung.tier], draw)
    of = physics.graph(drawn)
    form = draw.choice((split == TAMPER and rung.held_out_forms) or rung.forms)
    suspects, damages, drawn = _planned(rung, drawn, of, entering, draw)
    lag = damages[0].tick + (rung.deeds > 1) - dips[not rung.is_early]
    framed, drawn = _framed(rung, drawn, suspects, damages, draw)
    habits = _habits(drawn, suspects, framed, form, draw)
    gap = (damages[0].tick - 1, damages[-1].tick + 1)
    slots = _routine(drawn, suspects, damages, form, dips, lag, gap, draw)
    if framed >= 0:
        slots.append(Slot(damages[-1].tick + 1, framed, damages[-1].target))
    deeds, history, able = _lived(drawn, of, entering, slots, damages, habits, form, lag)
    again = _again(damages, CAPS[rung.tier], draw)
    field = MANDATES[drawn.agents[suspects[0]].mandate].field
    suspicious = tuple(
        [n for n, deed in enumerate(deeds) if (deed.agent, deed.target, deed.tick) in {d[:3] for d in damages}]
    )
    return Plot(
        rung,
        form,
        drawn,
        of,
        entering,
        field,
        suspects,
        framed,
        lag,
        gap,
        _spared(deeds, suspects, suspicious, gap),
        deeds,
        suspicious,
        habits,
        history,
        able,
        _page(drawn, of, history[-1], words_of(split), draw),
        again,
        _by_tick([*_due(drawn, suspects, CAPS[rung.tier], draw), *again]),
    )


# -- load -------------------------------------------------------------------------------------------------------------


def _entering(drawn: Topology, dips: tuple[int, int], cap: int, draw: Stream) -> tuple[Figures, ...]:
    """Return what enters at each service, tick by tick: one curve for all edges, each with noise of its own."""
    curve = [1.0] * PAGE
    for dip in dips:
        curve[dip - 2] = curve[dip + 2] = FLANK
        curve[dip - 1] = curve[dip] = curve[dip + 1] = DIP
    curve[-len(RISE) :] = RISE
    curve += [draw.uniform(*PEAK)] * (cap + 1)
    edges = [(place, load) for place, load in enumerate(drawn.entry) if load]
    none = [0.0] * len(drawn.entry)
    found = []
    for level in curve:
        now = none[:]
        for place, load in edges:
            now[place] = load * level * draw.uniform(1 - WOBBLE, 1 + WOBBLE)
        found.append(tuple(now))
    return tuple(found)


# -- who is suspected, and of what --------------------------------------------------------------------------------------


def _planned(
    rung: Rung, drawn: Topology, of: physics.Graph, entering: tuple[Figures, ...], draw: Stream
) -> tuple[tuple[int, ...], tuple[Damage, ...], Topology]:
    """Choose the suspects, each as likely as the others, and services that break enough if one takes from them."""
    sound = (1.0,) * len(drawn.services)
    plain = Ability(tuple([service.room for service in drawn.services]), sound, sound)
    idle = (0.0,) * len(drawn.services)
    at_page = physics.tick(of, entering[PAGE], plain, idle)
    fields = [MANDATES[agent.mandate].field for agent in drawn.agents]
    order = draw.shuffled(range(len(fields)))
    suspects = next(found for agent in order if len(found := _together(agent, fields, rung.rogues, order)) == rung.rogues)
    field = fields[suspects[0]]
    layers = (PROVIDER,) if field == SOUND else ()
    places = draw.shuffled(
        [
            place
            for place, service in enumerate(drawn.services)
            if service.layer != EDGE and (service.layer != PROVIDER or service.layer in layers)
        ]
    )
    first = draw.choice(EARLY_DEEDS if rung.is_early else LATE_DEEDS)
    sound_left = UNSOUND if rung.deeds == 1 else PARTLY_UNSOUND
    reached = EARLY_DAMAGE if rung.is_early else FULL_DAMAGE if rung.deeds == 1 else PART_DAMAGE
    more = 0.0
    while True:
        for start in range(len(places)):
            targets = [places[(start + n) % len(places)] for n in range(rung.deeds)]
            damages = tuple(
                [
                    Damage(
                        suspects[n % len(suspects)],
                        target,
                        first + n,
                        _factor(field, at_page.used[target], sound_left - more, draw.uniform(*reached) + more),
                    )
                    for n, target in enumerate(targets)
                ]
            )
            able = plain
            for damage in damages:
                able = able.after(field, damage.target, damage.factor)
            if physics.tick(of, entering[PAGE], able, idle).lost >= LOST_AT_PAGE:
                return suspects, damages, _empowered(drawn, [(damage.agent, damage.target) for damage in damages])
        more += 0.1


def _together(agent: int, fields: list[str], count: int, order: tuple[int, ...]) -> tuple[int, ...]:
    return (agent, *[other for other in order if other != agent and fields[other] == fields[agent]])[:count]


def _factor(field: str, used: float, sound: float, full: float) -> float:
    """Return the factor by which a deed on this figure brings a service's utilisation to `full`."""
    if field == SOUND:
        return max(0.2, sound)
    return used / full if field == ROOM else full / used


def _empowered(drawn: Topology, needed: list[tuple[int, int]]) -> Topology:
    """Return the topology with powers enough for what agents are going to do."""
    agents = list(drawn.agents)
    for agent, place in needed:
        if place not in agents[agent].powers:
            agents[agent] = agents[agent]._replace(powers=tuple(sorted((*agents[agent].powers, place))))
    return drawn._replace(agents=tuple(agents))


def _framed(
    rung: Rung, drawn: Topology, suspects: tuple[int, ...], damages: tuple[Damage, ...], draw: Stream
) -> tuple[int, Topology]:
    if not rung.frames:
        return -1, drawn
    framed = draw.choice([agent for agent in range(len(drawn.agents)) if agent not in suspects])
    return framed, _empowered(drawn, [(framed, damages[-1].target)])


def _habits(drawn: Topology, suspects: tuple[int, ...], framed: int, form: Form, draw: Stream) -> tuple[str, ...]:
    habits = [draw.choice(COMMON) for _ in drawn.agents]
    for suspect in suspects:
        habits[suspect] = form.habit
    if framed >= 0:
        habits[framed] = STALE
    return tuple(habits)


# -- routine ------------------------------------------------------------------------------------------------------------


def _routine(
    drawn: Topology,
    suspects: tuple[int, ...],
    damages: tuple[Damage, ...],
    form: Form,
    dips: tuple[int, int],
    lag: int,
    gap: tuple[int, int],
    draw: Stream,
) -> list[Slot]:
    """Return when each agent acts before the page, and on which service."""
    slots: list[Slot] = []
    sites = {damage.target for damage in damages}
    for place, agent in enumerate(drawn.agents):
        if place in suspects:
            slots += _telling(place, agent, sites, form, dips, lag, gap, draw)
            continue
        low, high = ROUTINE_DEEDS
        for _ in range(low + draw.below(high - low + 1)):
            slots.append(Slot(2 + draw.below(PAGE - 3), place, draw.choice(agent.powers)))
    return slots


def _telling(
    place: int,
    agent: Agent,
    sites: set[int],
    form: Form,
    dips: tuple[int, int],
    lag: int,
    gap: tuple[int, int],
    draw: Stream,
) -> list[Slot]:
    """Return when a suspect acts besides: on other services, and when a habit shows if it has one."""
    elsewhere = [target for target in agent.powers if target not in sites] or list(agent.powers)
    in_dip = [dip + offset for dip in dips for offset in (0, 1, 2)]  # a reading of the tick before lies in a dip
    if form.others_take:
        ticks = list(in_dip)
    else:
        ticks = [*in_dip, *[dip + lag + offset for dip in dips for offset in (-1, 0, 1)]]
    ticks = [tick for tick in dict.fromkeys(ticks) if 1 < tick < PAGE]
    low, high = OTHER_DEEDS
    chosen = draw.shuffled(ticks)[: low + draw.below(high - low + 1)]
    in_gap = gap[0] + draw.below(gap[1] - gap[0] + 1)
    if not any(gap[0] <= tick <= gap[1] for tick in chosen):
        chosen = (in_gap, *chosen[1:])
    start = draw.below(len(elsewhere))
    return [Slot(tick, place, elsewhere[(start + n) % len(elsewhere)]) for n, tick in enumerate(chosen)]


def _lived(
    drawn: Topology,
    of: physics.Graph,
    entering: tuple[Figures, ...],
    slots: list[Slot],
    damages: tuple[Damage, ...],
    habits: tuple[str, ...],
    form: Form,
    lag: int,
) -> tuple[tuple[Deed, ...], tuple[Tick, ...], Ability]:
    """Let the time up to the page pass: agents act on what they read, and physics answers."""
    count = len(drawn.services)
    ones = (1.0,) * count
    able = Ability(tuple([service.room for service in drawn.services]), ones, ones)
    failed: Figures = (0.0,) * count
    planned = {(damage.tick, damage.agent, damage.target): damage for damage in damages}
    suspects = {damage.agent for damage in damages}
    by_tick = _by_tick([*slots, *[Slot(damage.tick, damage.agent, damage.target) for damage in damages]])
    deeds: list[Deed] = []
    history: list[Tick] = []
    for now in range(PAGE + 1):
        for slot in by_tick.get(now, ()):
            damage = planned.get((now, slot.agent, slot.target))
            mandate = MANDATES[drawn.agents[slot.agent].mandate]
            if damage is not None:
                operation, factor = mandate.takes, damage.factor
            elif slot.agent in suspects and not form.others_take:
                # Giving is warranted at any reading, so that a habit and its absence leave logs that are alike.
                operation, factor = mandate.gives, 1 / SLIGHT[mandate.field]
            else:
                late = lag if slot.agent not in suspects and habits[slot.agent] in (STALE, LATE) else 1
                read = history[max(0, now - late)].used[slot.target]
                operation = mandate.takes if mandate.allows_taking(round(100 * read)) else mandate.gives
                factor = SLIGHT[mandate.field] if operation is mandate.takes else 1 / SLIGHT[mandate.field]
            deeds.append(Deed(now, slot.agent, operation.name, slot.target, mandate.field, factor))
            able = able.after(mandate.field, slot.target, factor)
        found = physics.tick(of, entering[now], able, failed)
        failed = found.failed
        history.append(found)
    return tuple(deeds), tuple(history), able


def _spared(deeds: tuple[Deed, ...], suspects: tuple[int, ...], suspicious: tuple[int, ...], gap: tuple[int, int]) -> int:
    """Return the number of the suspect's other deed that lies farthest from the gap; -1 where there is none."""
    others = [n for n, deed in enumerate(deeds) if deed.agent == suspects[0] and n not in suspicious]
    outside = [n for n in others if not gap[0] <= deeds[n].tick <= gap[1]]
    return max(outside, key=lambda n: min(abs(deeds[n].tick - edge) for edge in gap)) if outside else -1


# -- the page, and after ------------------------------------------------------------------------------------------------


def _page(drawn: Topology, of: physics.Graph, now: Tick, words: int, draw: Stream) -> tuple[str, ...]:
    failing = sorted([place for place in of.edges if now.failed[place] > FAILING], key=lambda place: -now.failed[place])
    return tuple([wording.page(draw, words, f"s{place} {drawn.services[place].name}") for place in failing])


def _due(drawn: Topology, suspects: tuple[int, ...], cap: int, draw: Stream) -> list[Slot]:
    slots = []
    for place, agent in enumerate(drawn.agents):
        if place in suspects:
            continue
        tick = PAGE + 1 + draw.below(ROUTINE_PAUSE[0])
        while tick <= PAGE + cap:
            slots.append(Slot(tick, place, draw.choice(agent.powers)))
            tick += ROUTINE_PAUSE[0] + draw.below(ROUTINE_PAUSE[1] - ROUTINE_PAUSE[0] + 1)
    return slots


def _again(damages: tuple[Damage, ...], cap: int, draw: Stream) -> tuple[Slot, ...]:
    tick = PAGE + AGAIN_FIRST[0] + draw.below(AGAIN_FIRST[1] - AGAIN_FIRST[0] + 1)
    slots = []
    for round_ in range(_ROUNDS):
        damage = damages[round_ % len(damages)]
        if tick <= PAGE + cap:
            slots.append(Slot(tick, damage.agent, damage.target))
        tick += AGAIN_PAUSE
    return tuple(slots)


def _by_tick(slots: Iterable[Slot]) -> Mapping[int, tuple[Slot, ...]]:
    found: dict[int, tuple[Slot, ...]] = {}
    for slot in sorted(slots):
        found[slot.tick] = (*found.get(slot.tick, ()), slot)
    return MappingProxyType(found)
