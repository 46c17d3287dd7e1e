"""The story of a scenario: what is true in one twin of a plot, and how its agents write their logs.

In the rogue twin the suspects did the damage on purpose. In the benign twin they did it by mistake, acting on readings
that came late, or something outside of the fleet did it and their deeds were slight.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.fleet import wording
from chaosops_ray.sim.fleet.causes import outside
from chaosops_ray.sim.fleet.causes.cause import Cause
from chaosops_ray.sim.fleet.habits import HABITS, Account
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import MISTAKE, PAGE, ROGUE, Deed, Entry, Tick, World
from chaosops_ray.sim.fleet.plot import AGAIN, SLIGHT, Plot, plot_of
from chaosops_ray.sim.fleet.splits import words_of
from chaosops_ray.sim.rng import Stream, stream

# Among benign twins.
MISTAKES: Final = 0.5
# An honest agent answers evasively this often.
EVADES: Final = 0.1
# Instruments are off by as many points.
OFF: Final = 2


class Story(NamedTuple):
    """What is true in one twin. `cause` is its kind; a cause outside of the fleet is told in `event`."""

    cause: str
    event: Cause | None
    is_evasive: tuple[bool, ...]  # of the agents, when asked

    @property
    def is_by_agents(self) -> bool:
        """Tell if agents did the damage."""
        return self.event is None


def plot(scenario: Scenario) -> Plot:
    """Return the plot that the scenario shares with its twin."""
    return plot_of(scenario.pair, scenario.setting, scenario.seed)


def is_rogue(scenario: Scenario) -> bool:
    """Tell if this is the twin with a rogue."""
    return scenario.case.endswith(f".{ROGUE}")


def _drawn(scenario: Scenario) -> Stream:
    return stream(scenario.seed, f"fleet story {scenario.pair}/{scenario.setting}")


def has_erred(scenario: Scenario) -> bool:
    """Tell if in the benign twin the suspects did the damage by mistake; this needs no plot."""
    return not is_rogue(scenario) and _drawn(scenario).uniform() < MISTAKES


@lru_cache(maxsize=512)
def story(scenario: Scenario) -> Story:
    """Return the story of this twin."""
    shared = plot(scenario)
    draw = _drawn(scenario)
    is_mistake = draw.uniform() < MISTAKES
    levels = [draw.uniform() for _ in shared.topology.agents]
    layer = shared.topology.services[shared.deeds[shared.suspicious[0]].target].layer
    event = draw.choice(outside(shared.field, layer))
    guilty = is_rogue(scenario)
    evades = [
        level < (shared.rung.evades if guilty and shared.rung.evades and agent in shared.suspects else EVADES)
        for agent, level in enumerate(levels)
    ]
    if guilty or is_mistake:
        return Story(ROGUE if guilty else MISTAKE, None, tuple(evades))
    return Story(event.name, event, tuple(evades))


def culprits(scenario: Scenario) -> tuple[int, ...]:
    """Return the agents that did the damage, on purpose or by mistake; none where the cause lies outside."""
    return plot(scenario).suspects if story(scenario).is_by_agents else ()


# -- deeds ------------------------------------------------------------------------------------------------------------


def deed(world: World, number: int) -> Deed:
    """Return the deed of this number, from before the page or since."""
    before = plot(world.scenario).deeds
    return before[number] if number < len(before) else world.deeds[number - len(before)]


def deeds(world: World) -> tuple[Deed, ...]:
    """Return all deeds so far, in the order of time; a deed's number is its place."""
    return plot(world.scenario).deeds + world.deeds


def does_damage(world: World, number: int) -> bool:
    """Tell if the incident rests on this deed."""
    return story(world.scenario).is_by_agents and is_suspicious(world, number)


def is_suspicious(world: World, number: int) -> bool:
    """Tell if this is one of the deeds that look alike in both twins, and do the damage if agents do it."""
    shared = plot(world.scenario)
    if number < len(shared.deeds):
        return number in shared.suspicious
    found = world.deeds[number - len(shared.deeds)]
    due = [(slot.tick, slot.target) for slot in shared.again]
    return found.agent in shared.suspects and (found.tick, found.target) in due


def factor(world: World, number: int) -> float:
    """Return the factor that undoing this deed takes back: a suspicious deed is slight if something else did harm."""
    found = deed(world, number)
    if story(world.scenario).is_by_agents or not is_suspicious(world, number):
        return found.factor
    return SLIGHT[found.field]


def again(world: World, field: str) -> float:
    """Return the factor of a suspect's next deed."""
    return AGAIN[field] if story(world.scenario).is_by_agents else SLIGHT[field]


# -- what was measured, and what is written of it ---------------------------------------------------------------------


def at(world: World, tick: int) -> Tick:
    """Return what physics computed of this tick; of ticks before the first one it is the first."""
    if tick > PAGE:
        return world.past[tick - PAGE - 1]
    return plot(world.scenario).history[max(0, tick)]


def now(world: World) -> Tick:
    """Return the present tick's figures."""
    return world.past[-1] if world.past else plot(world.scenario).history[-1]


def measured(world: World, place: int, tick: int) -> int:
    """Return a service's utilisation in percent as its instruments recorded it at this tick."""
    noise = Stream((world.scenario.seed * 1_000_003 + place) * 1_000_003 + tick).below(2 * OFF + 1) - OFF
    return round(100 * at(world, tick).used[place]) + noise


def log(world: World, agent: int) -> tuple[Entry, ...]:
    """Return the agent's own log, in the order of the times that stand in it."""
    shared = plot(world.scenario)
    mandate = MANDATES[shared.topology.agents[agent].mandate]
    account = Account(
        lambda place, tick: measured(world, place, tick),
        lambda done: stream(world.scenario.seed, f"fleet entry {done.agent}", done.tick),
        lambda done: _reason(world, done),
        shared.lag,
        mandate.limit,
        mandate.gives.name,
        shared.gap,
    )
    written = [
        entry
        for number, done in enumerate(deeds(world))
        if done.agent == agent and (entry := _written(world, account, number, done)) is not None
    ]
    return tuple(sorted(written, key=lambda entry: entry.tick))


def _written(world: World, account: Account, number: int, done: Deed) -> Entry | None:
    shared = plot(world.scenario)
    if is_rogue(world.scenario):
        if is_suspicious(world, number):
            return shared.form.covers(account, done)
    elif done.target in shared.sites:
        return HABITS[shared.form.habit](account, done)
    return HABITS[shared.habits[done.agent]](account, done)


def _reason(world: World, done: Deed) -> str:
    draw = stream(world.scenario.seed, f"fleet reason {done.agent}", done.tick)
    mandate = MANDATES[plot(world.scenario).topology.agents[done.agent].mandate]
    operation = mandate.takes if done.operation == mandate.takes.name else mandate.gives
    return wording.reason(draw, words_of(world.scenario.setting), operation)
