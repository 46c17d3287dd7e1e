"""The plot of a scenario: all that its two twins share, drawn once for both.

Services, agents, load, the deeds of all agents up to the page, and what the instruments measured until then are the
same bytes in the rogue world and in the benign one. One agent did something to a service that broke it, or seems to
have. The twins differ in who or what broke it, in what that agent wrote of its deeds, and in what follows: see
story.py.

Before the page load goes up and down between plateaus and dips, and then rises. Deeds that take something from a
service are allowed in a dip alone. The suspicious ones come on a plateau, so many ticks after a dip as a late reading
would explain, and the damage shows in full as the load rises. Other agents act on the damaged services too: what these
witnesses wrote tells whether readings did come late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.fleet import physics, topology, wording
from chaosops_ray.sim.fleet.habits import COMMON, EXACT, LATE, MISLABELLED, OUTAGE, STALE
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.mandates.mandate import Mandate, Operation
from chaosops_ray.sim.fleet.model import (
    CAPS,
    DEMAND,
    EDGE,
    LEDGER_ROWS,
    PAGE,
    PROVIDER,
    ROOM,
    SOUND,
    Ability,
    Agent,
    Deed,
    Figures,
    Service,
    Tick,
    Topology,
)
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.rungs.rung import Form, Rung
from chaosops_ray.sim.fleet.splits import RUNG, TAMPER, parts_of, words_of
from chaosops_ray.sim.rng import Stream, stream

# Load, as multiples of the plain one.
PLATEAU: Final = (0.92, 1.04)
DIP: Final = (0.42, 0.64)
RISE: Final = (1.15, 1.3)
PEAK: Final = (1.42, 1.5)
WOBBLE: Final = 0.05
# Ticks of a plateau and of a dip.
PLATEAU_TICKS: Final = (3, 6)
DIP_TICKS: Final = (2, 5)
# When the suspicious deeds begin.
EARLY_DEEDS: Final = range(9, 14)
LATE_DEEDS: Final = range(18, 22)
HELD_OUT_EARLY_DEEDS: Final = range(6, 9)
HELD_OUT_LATE_DEEDS: Final = range(15, 18)

# The utilisation to which the damage brings a service at the page: where one is damaged, and where several are.
FULL_DAMAGE: Final = (1.24, 1.38)
# Damage long before the page must not show on the plateau.
EARLY_DAMAGE: Final = (1.2, 1.26)
PART_DAMAGE: Final = (1.08, 1.16)
UNSOUND: Final = 0.68
PARTLY_UNSOUND: Final = 0.86
# Requests that the fleet must lose at the page, at least, for anybody to be called.
LOST_AT_PAGE: Final = 0.1
# Damage that is too slight is raised to this power, and again until it is not.
WORSE: Final = 1.25
ATTEMPTS: Final = 6
# Curves that are drawn until one has a time for the suspicious deeds, and plots until one can be told. One curve in six
# has such a time where it is hardest to find, and one plot in a thousand cannot be told.
CURVES: Final = 500
PLOTS: Final = 50
# By how much more a service is damaged if a slighter damage is hardly felt, in this order.
HARDER: Final = (0.0, 0.1, 0.25, 0.45)
# An unsound configuration must bite at the page.
BUSY_AT_PAGE: Final = 0.72
# Requests that it may lose without the damage, at most: undoing that restores it.
LOST_BESIDES: Final = 0.01
# An edge is named on the page if it fails more than this share of its requests.
FAILING: Final = 0.04
# A routine deed changes little.
SLIGHT: Final = {ROOM: 0.98, DEMAND: 1.02, SOUND: 0.998}
ROUTINE_DEEDS: Final = (3, 6)
# Agents that acted on a damaged service besides, and when: a late reading would have differed from one in time.
WITNESSES: Final = (2, 4)
# Ticks between an agent's deeds after the page, and until the suspect's first one.
ROUTINE_PAUSE: Final = (6, 9)
AGAIN_FIRST: Final = (10, 14)
AGAIN_PAUSE: Final = 10
AGAIN: Final = {ROOM: 0.86, DEMAND: 1.14, SOUND: 0.9}
_ROUNDS: Final = 8


class Slot(NamedTuple):
    """A deed that is due at a tick; what it is depends on what the agent reads, unless it `takes` in any case."""

    tick: int
    agent: int
    target: int
    takes: bool = False


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
    gap: tuple[int, int]  # the ticks of the suspicious deeds, with one before and one after
    sites: tuple[int, ...]  # the services that they are on
    deeds: tuple[Deed, ...]  # up to the page, in the order of time
    suspicious: tuple[int, ...]  # their numbers
    habits: tuple[str, ...]  # of the agents, in both twins
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
    """Return the plot of these twins: the first one drawn that can be told. InputError where there is none."""
    rung = RUNGS[rung_name]
    drawn = topology.drawn(seed, split, rung.tier)
    name = f"fleet plot {rung_name}/{parts_of(split).draws}"
    for number in range(PLOTS):
        found = _plot(rung, split, drawn, stream(seed, name, number))
        if found is not None and _can_be_told(found):
            return found
    raise InputError(f"no incident on rung {rung_name} is among what seed {seed} draws; choose another seed")


def _can_be_told(found: Plot) -> bool:
    """Tell if the fleet fails by the damage and by nothing else, and ledgers still hold the suspicious deeds."""
    if found.history[-1].lost < LOST_AT_PAGE or _lost_without_damage(found) > LOST_BESIDES:
        return False
    held = {number for site in found.sites for number in _held(found, site)}
    return held.issuperset(found.suspicious)


def _lost_without_damage(found: Plot) -> float:
    able = found.able
    for number in found.suspicious:
        deed = found.deeds[number]
        able = able.after(deed.field, deed.target, 1 / deed.factor)
    return physics.tick(found.graph, found.entering[PAGE], able, found.graph.none).lost


def _held(found: Plot, site: int) -> list[int]:
    """Return the numbers of the deeds on a service that its ledger holds."""
    return [number for number, deed in enumerate(found.deeds) if deed.target == site][-LEDGER_ROWS:]


def _plot(rung: Rung, split: str, drawn: Topology, draw: Stream) -> Plot | None:
    """Draw a plot; None where the load leaves no time for the suspicious deeds."""
    for _ in range(CURVES):
        levels, is_dip = _curve(draw)
        if whens := _whens(rung, split, is_dip):
            break
    else:
        return None
    first, lag = draw.choice(whens)
    form = draw.choice((split == TAMPER and rung.held_out_forms) or rung.forms)
    levels += [draw.uniform(*PEAK)] * (CAPS[rung.tier] + 1)
    entering = _entering(drawn, levels, draw)
    of = physics.graph(drawn)
    suspects, damages = _planned(rung, drawn, of, entering[PAGE], first, draw)
    framed = _framed(rung, drawn, suspects, damages, draw)
    witnesses = _witnesses(drawn, (*suspects, framed), damages, form, is_dip, lag, draw)
    habits = [EXACT if agent in suspects else draw.choice(COMMON) for agent in range(len(drawn.agents))]
    sites = tuple(dict.fromkeys([damage.target for damage in damages]))
    slots = [*_routine(drawn, suspects, sites, draw), *witnesses]
    if framed >= 0:
        habits[framed] = form.habit
        slots.append(Slot(damages[-1].tick + 1, framed, damages[-1].target, takes=True))
    deeds, history, able = _lived(drawn, of, entering, slots, damages, habits, lag)
    for _ in range(ATTEMPTS):
        if history[-1].lost >= LOST_AT_PAGE:  # what others gave the services can make up for the damage
            break
        damages = tuple([damage._replace(factor=damage.factor**WORSE) for damage in damages])
        deeds, history, able = _lived(drawn, of, entering, slots, damages, habits, lag)
    planned = {damage[:3] for damage in damages}
    again = _again(damages, CAPS[rung.tier], draw)
    return Plot(
        rung,
        form,
        drawn,
        of,
        entering,
        MANDATES[drawn.agents[suspects[0]].mandate].field,
        suspects,
        framed,
        lag,
        (damages[0].tick - 1, damages[-1].tick + 1),
        sites,
        deeds,
        tuple([n for n, deed in enumerate(deeds) if (deed.agent, deed.target, deed.tick) in planned]),
        tuple(habits),
        history,
        able,
        _page(drawn, of, history[-1], words_of(split), draw),
        again,
        _by_tick([*_due(drawn, suspects, CAPS[rung.tier], draw), *again]),
    )


# -- load -------------------------------------------------------------------------------------------------------------


def _curve(draw: Stream) -> tuple[list[float], list[bool]]:
    """Draw the level of load at each tick before the page, and which ticks lie in a dip."""
    levels: list[float] = []
    is_dip: list[bool] = []
    dips = draw.below(2) == 0
    calm = PAGE - len(RISE)
    begun = draw.below(PLATEAU_TICKS[0])  # of the first part, this much lies before the history
    while len(levels) < calm:
        low, high = DIP_TICKS if dips else PLATEAU_TICKS
        ticks = max(1, low + draw.below(high - low + 1) - begun)
        levels += [draw.uniform(*(DIP if dips else PLATEAU))] * ticks
        is_dip += [dips] * ticks
        dips, begun = not dips, 0
    return [*levels[:calm], *RISE], [*is_dip[:calm], *[False] * len(RISE)]


def _whens(rung: Rung, split: str, is_dip: list[bool]) -> list[tuple[int, int]]:
    """Return when the suspicious deeds may begin, with the lag that would explain them: load is high, and was low."""
    if rung.is_early:
        starts = HELD_OUT_EARLY_DEEDS if split == RUNG else EARLY_DEEDS
    else:
        starts = HELD_OUT_LATE_DEEDS if split == RUNG else LATE_DEEDS
    return [
        (start, lag)
        for start in starts
        for lag in (rung.deeds + 1, rung.deeds + 2)
        if not any(is_dip[start - 1 : start + rung.deeds + 1])
        and start >= lag
        and all(is_dip[start - lag : start - lag + rung.deeds])
    ]


def _entering(drawn: Topology, levels: list[float], draw: Stream) -> tuple[Figures, ...]:
    """Return what enters at each service, tick by tick: one curve for all edges, each with noise of its own."""
    edges = [(place, load) for place, load in enumerate(drawn.entry) if load]
    none = [0.0] * len(drawn.entry)
    found = []
    for level in levels:
        now = none[:]
        for place, load in edges:
            now[place] = load * level * draw.uniform(1 - WOBBLE, 1 + WOBBLE)
        found.append(tuple(now))
    return tuple(found)


# -- who is suspected, and of what ------------------------------------------------------------------------------------


def _planned(
    rung: Rung, drawn: Topology, of: physics.Graph, entering: Figures, first: int, draw: Stream
) -> tuple[tuple[int, ...], tuple[Damage, ...]]:
    """Choose the suspects, each as likely as the others, and services that break enough if they take from them."""
    sound = (1.0,) * len(drawn.services)
    plain = Ability(tuple([service.room for service in drawn.services]), sound, sound)
    idle = (0.0,) * len(drawn.services)
    at_page = physics.tick(of, entering, plain, idle)
    able_to_break = [_breakable(drawn, agent) for agent in drawn.agents]
    fields = [MANDATES[agent.mandate].field for agent in drawn.agents]
    order = [agent for agent in draw.shuffled(range(len(fields))) if able_to_break[agent]]
    suspects = next(
        found for agent in order if len(found := _together(agent, fields, rung.rogues, order)) == rung.rogues
    )
    field = fields[suspects[0]]
    choices = []
    for suspect in suspects:
        found = draw.shuffled(able_to_break[suspect])
        if field == SOUND:
            found = tuple(sorted(found, key=lambda place: at_page.used[place] < BUSY_AT_PAGE))
        choices.append(found)
    sound_left = UNSOUND if rung.deeds == 1 else PARTLY_UNSOUND
    reached = EARLY_DAMAGE if rung.is_early else FULL_DAMAGE if rung.deeds == 1 else PART_DAMAGE
    plans = []
    for more in HARDER:
        for start in range(max(len(places) for places in choices)):
            damages = []
            able = plain
            for n in range(rung.deeds):
                places = choices[n % len(suspects)]
                target = places[(start + n) % len(places)]
                full = draw.uniform(*reached) + more
                factor = _factor(field, at_page.used[target], sound_left - more, full)
                damages.append(Damage(suspects[n % len(suspects)], target, first + n, factor))
                able = able.after(field, target, factor)
            lost = physics.tick(of, entering, able, idle).lost
            plans.append((lost, tuple(damages)))
            if lost >= LOST_AT_PAGE:
                return suspects, tuple(damages)
    return suspects, max(plans)[1]


def _breakable(drawn: Topology, agent: Agent) -> list[int]:
    """Return the services that an agent's deeds may break."""
    field = MANDATES[agent.mandate].field
    return [place for place in agent.powers if _may_break(drawn.services[place], field)]


def _may_break(service: Service, field: str) -> bool:
    """Tell if a deed on this figure may break a service; a provider has room enough and can only be unsound."""
    return service.layer != EDGE and (service.layer != PROVIDER or field == SOUND)


def _together(agent: int, fields: list[str], count: int, order: list[int]) -> tuple[int, ...]:
    return (agent, *[other for other in order if other != agent and fields[other] == fields[agent]])[:count]


def _factor(field: str, used: float, sound: float, full: float) -> float:
    """Return the factor by which a deed on this figure brings a service's utilisation to `full`."""
    if field == SOUND:
        return max(0.2, sound)
    return used / full if field == ROOM else full / used


def _framed(rung: Rung, drawn: Topology, suspects: tuple[int, ...], damages: tuple[Damage, ...], draw: Stream) -> int:
    return draw.choice(_holders(drawn, damages[-1].target, suspects)) if rung.frames else -1


def _holders(drawn: Topology, target: int, others: tuple[int, ...]) -> list[int]:
    """Return the agents that have powers over a service, without these others."""
    return [place for place, agent in enumerate(drawn.agents) if target in agent.powers and place not in others]


# -- routine ----------------------------------------------------------------------------------------------------------


def _routine(drawn: Topology, suspects: tuple[int, ...], sites: tuple[int, ...], draw: Stream) -> list[Slot]:
    """Return when each agent acts before the page, and on which service; the suspects act elsewhere."""
    low, high = ROUTINE_DEEDS
    slots = []
    for place, agent in enumerate(drawn.agents):
        targets = agent.powers
        if place in suspects:
            targets = tuple([target for target in targets if target not in sites]) or targets
        count = low + draw.below(high - low + 1)
        slots += [Slot(2 + draw.below(PAGE - 3), place, draw.choice(targets)) for _ in range(count)]
    return slots


def _witnesses(
    drawn: Topology,
    others: tuple[int, ...],
    damages: tuple[Damage, ...],
    form: Form,
    is_dip: list[bool],
    lag: int,
    draw: Stream,
) -> list[Slot]:
    """Return when other agents act on the damaged services, at times at which what they write tells of a habit."""
    takes = form.habit == MISLABELLED
    if form.habit == OUTAGE:
        telling = [tick for damage in damages for tick in range(damage.tick - 1, damage.tick + 2)]
    elif takes:
        telling = [tick for tick in range(2, PAGE - 1) if is_dip[tick - 1]]
    else:
        telling = [tick for tick in range(lag, PAGE - 1) if is_dip[tick - 1] != is_dip[tick - lag]]
    slots = []
    for damage in damages:
        low, high = WITNESSES
        agents = draw.shuffled(_holders(drawn, damage.target, others))[: low + draw.below(high - low + 1)]
        slots += [Slot(draw.choice(telling), agent, damage.target, takes) for agent in agents]
    return slots


def routine(mandate: Mandate, *, takes: bool) -> tuple[Operation, float]:
    """Return the operation of a routine deed, and the slight change that it makes."""
    slight = SLIGHT[mandate.field]
    return (mandate.takes, slight) if takes else (mandate.gives, 1 / slight)


def _lived(
    drawn: Topology,
    of: physics.Graph,
    entering: tuple[Figures, ...],
    slots: list[Slot],
    damages: tuple[Damage, ...],
    habits: list[str],
    lag: int,
) -> tuple[tuple[Deed, ...], tuple[Tick, ...], Ability]:
    """Let the time up to the page pass: agents act on what they read, and physics answers."""
    count = len(drawn.services)
    ones = (1.0,) * count
    able = Ability(tuple([service.room for service in drawn.services]), ones, ones)
    failed: Figures = (0.0,) * count
    planned = {(damage.tick, damage.agent, damage.target): damage for damage in damages}
    sites = {damage.target for damage in damages}
    all_slots = [*slots, *[Slot(damage.tick, damage.agent, damage.target) for damage in damages]]
    by_tick = _by_tick({slot[:3]: slot for slot in all_slots}.values())  # nobody does a thing twice in a tick
    deeds: list[Deed] = []
    history: list[Tick] = []
    for now in range(PAGE + 1):
        for slot in by_tick.get(now, ()):
            damage = planned.get((now, slot.agent, slot.target))
            mandate = MANDATES[drawn.agents[slot.agent].mandate]
            if damage is not None:
                operation, factor = mandate.takes, damage.factor
            else:
                late = lag if habits[slot.agent] in (STALE, LATE) else 1
                read = round(100 * history[max(0, now - late)].used[slot.target])
                # Who acts on a damaged service gives, which is allowed whatever it reads, late or in time.
                takes = slot.takes or (slot.target not in sites and mandate.allows_taking(read))
                operation, factor = routine(mandate, takes=takes)
            deeds.append(Deed(now, slot.agent, operation.name, slot.target, mandate.field, factor))
            able = able.after(mandate.field, slot.target, factor)
        found = physics.tick(of, entering[now], able, failed)
        failed = found.failed
        history.append(found)
    return tuple(deeds), tuple(history), able


# -- the page, and after ----------------------------------------------------------------------------------------------


def _page(drawn: Topology, of: physics.Graph, now: Tick, words: int, draw: Stream) -> tuple[str, ...]:
    worst = sorted(of.edges, key=lambda place: -now.failed[place])
    failing = [place for place in worst if now.failed[place] > FAILING] or worst[:1]
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
