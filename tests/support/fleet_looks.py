"""One look of each kind at twins of the fleet: where to aim, what comes of it, as figures and as text.

An aim may use the truth of the plot, which no seat knows: what a learner cannot tell then, it cannot tell without it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from chaosops_ray.sim.contract import Scenario, Style
from chaosops_ray.sim.fleet import FLEET, looks, story
from chaosops_ray.sim.fleet.habits import EXACT
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import (
    ASK,
    AUDIT,
    CANARY,
    COMPARE,
    DEV,
    LEDGER,
    LOOK,
    OVERSIGHT,
    SRE,
    TRACE,
    Noop,
    Result,
    World,
)
from chaosops_ray.sim.fleet.plot import Plot

ROLE_OF: Final = {LOOK: SRE, TRACE: SRE, COMPARE: SRE, LEDGER: OVERSIGHT, AUDIT: OVERSIGHT, ASK: OVERSIGHT, CANARY: DEV}
# Turns that pass before the looks are taken.
DELAYS: Final = (0, 8, 16)
MISSING: Final = -999.0


class Aim(NamedTuple):
    """What the looks are aimed at; the canary goes to the deed of an agent, or to any in the ledger if it has none."""

    service: int
    agent: int
    author: int


Aiming: TypeAlias = Callable[[Plot, random.Random], Aim]


def at_suspect(plot: Plot, _: random.Random) -> Aim:
    """Aim at the suspect, the service it is said to have damaged, and its deed."""
    return Aim(plot.sites[0], plot.suspects[0], plot.suspects[0])


def _witnesses(plot: Plot) -> list[int]:
    found = {deed.agent for deed in plot.deeds if deed.target == plot.sites[0]} - set(plot.suspects)
    return sorted(found)


def at_exact_witness(plot: Plot, draw: random.Random) -> Aim:
    """Aim at another agent that acted on the damaged service and has no habit of its own, if there is one."""
    exact = [agent for agent in _witnesses(plot) if plot.habits[agent] == EXACT]
    return Aim(plot.sites[0], draw.choice(exact or _witnesses(plot) or [plot.suspects[0]]), plot.suspects[0])


def at_any_witness(plot: Plot, draw: random.Random) -> Aim:
    """Aim at any other agent that acted on the damaged service."""
    agent = draw.choice(_witnesses(plot) or [plot.suspects[0]])
    return Aim(plot.sites[0], agent, agent)


def at_framed(plot: Plot, _: random.Random) -> Aim:
    """Aim at the agent that acted just after the suspect, or at the suspect where there is none."""
    agent = plot.framed if plot.framed >= 0 else plot.suspects[0]
    return Aim(plot.sites[-1], agent, agent)


def at_random(plot: Plot, draw: random.Random) -> Aim:
    """Aim anywhere."""
    agent = draw.randrange(len(plot.topology.agents))
    return Aim(draw.randrange(len(plot.topology.services)), agent, agent)


AIMS: Final[dict[str, Aiming]] = {
    "suspect": at_suspect,
    "exact witness": at_exact_witness,
    "any witness": at_any_witness,
    "framed": at_framed,
    "random": at_random,
}


def after(scenario: Scenario, delay: int) -> World:
    """Return the incident after so many turns in which nobody does anything."""
    world = FLEET.start(scenario, "strict")
    for _ in range(delay):
        world = FLEET.step(world, Noop()).world
    return world


def taken(world: World, aim: Aim) -> World:
    """Take one look of each kind, all in the same moment."""
    for kind, subject in ((LOOK, aim.service), (TRACE, aim.service), (COMPARE, aim.service), (LEDGER, aim.service)):
        world = _looked(world, kind, subject)
    for kind in (AUDIT, ASK):
        world = _looked(world, kind, aim.agent)
    if world.shown:
        world = _looked(world, CANARY, _entry(world, aim))
    return world


def _entry(world: World, aim: Aim) -> int:
    plot = story.plot(world.scenario)
    if aim.author in plot.suspects:
        for place, number in enumerate(world.shown):
            if number in plot.suspicious:
                return place
    for place, number in enumerate(world.shown):
        if story.deed(world, number).agent == aim.author:
            return place
    return len(world.shown) - 1


def _looked(world: World, kind: str, subject: int) -> World:
    result, shown = looks.result(world, ROLE_OF[kind], kind, subject)
    return world._replace(results=(*world.results, result), shown=world.shown + shown)


_NAMED: Final = re.compile(r"\b[sae][0-9]+\b")


def text(world: World, aim: Aim, style: Style) -> str:
    """Write what the seats see of their looks, in one text."""
    seats = [FLEET.render(FLEET.view(world, role), None, style) for role in (SRE, OVERSIGHT, DEV)]
    return _NAMED.sub(lambda found: _named(world, aim, found[0]), "\n".join(seats))


def _named(world: World, aim: Aim, short: str) -> str:
    """Return what an index stands for, so that words of all scenarios mean the same."""
    plot, place = story.plot(world.scenario), int(short[1:])
    if short[0] == "s":
        return "thisservice" if place == aim.service else "service"
    if short[0] == "e":
        return f"entry{place}"
    return "suspect" if place in plot.suspects else "framed" if place == plot.framed else "agent"


# -- figures ----------------------------------------------------------------------------------------------------------

Features: TypeAlias = dict[str, float]
_ROWS: Final = {LOOK: 10, TRACE: 8, COMPARE: 25, LEDGER: 10, AUDIT: 8, ASK: 2, CANARY: 1}
_ROW_LENGTH: Final = 5


def features(world: World, aim: Aim) -> Features:
    """Return the looks' rows as figures, newest first, with counts, lengths and steps between rows."""
    found: Features = {}
    for result in world.results:
        _result(world, aim, result, found)
    return found


def _result(world: World, aim: Aim, result: Result, found: Features) -> None:
    kind = result.look
    found[f"{kind} rows"] = len(result.rows)
    found[f"{kind} letters"] = sum([len(str(cell)) for row in result.rows for cell in row])
    before: list[float] | None = None
    for number, row in enumerate(reversed(result.rows[-_ROWS[kind] :])):
        coded = [_coded(world, aim, cell) for cell in row]
        for column, value in enumerate(coded[:_ROW_LENGTH]):
            found[f"{kind} {number}.{column}"] = value
            if before is not None and column < len(before) and not isinstance(row[column], str):
                found[f"{kind} {number}.{column} step"] = before[column] - value
        before = coded
    times = [row[0] for row in result.rows if kind == AUDIT] or [row[1] for row in result.rows if kind == LEDGER]
    if times:
        steps = [float(later) - float(earlier) for earlier, later in pairwise(times)]
        found[f"{kind} same times"] = sum([step == 0 for step in steps])
        found[f"{kind} widest step"] = max(steps, default=0.0)
        found[f"{kind} narrowest step"] = min(steps, default=0.0)
    if kind == AUDIT:
        here = [row for row in result.rows if row[2] == looks.service_name(aim.service)]
        found["audit rows here"] = len(here)
        found["audit takes"] = sum([_takes(str(row[1])) for row in result.rows])
        found["audit takes here"] = sum([_takes(str(row[1])) for row in here])
        found["audit least reading"] = min([float(row[3]) for row in result.rows], default=MISSING)
        found["audit least reading here"] = min([float(row[3]) for row in here], default=MISSING)
        for place, row in enumerate(reversed(here[-3:])):
            found[f"audit here {place} time"] = float(row[0])
            found[f"audit here {place} reading"] = float(row[3])
            found[f"audit here {place} takes"] = _takes(str(row[1]))


_TAKES: Final = {mandate.takes.name for mandate in MANDATES.values()}
_GIVES: Final = {mandate.gives.name for mandate in MANDATES.values()}


def _takes(operation: str) -> float:
    return float(operation in _TAKES)


def _coded(world: World, aim: Aim, cell: str | float) -> float:
    """Return a cell as a figure: what it is to the aim, where it names something."""
    if not isinstance(cell, str):
        return float(cell)
    if cell in _TAKES or cell in _GIVES:
        return _takes(cell)
    if cell[:1] in "sae" and cell[1:].isdigit():
        place = int(cell[1:])
        if cell[0] == "e":
            return float(place)
        if cell[0] == "s":
            return float(place == aim.service)
        plot = story.plot(world.scenario)
        return float(place == aim.agent) + 2.0 * (place in plot.suspects) + 4.0 * (place == plot.framed)
    return float(sum(cell.encode()) % 97)  # a wording, by a figure that differs from one to the next


def crossed(world: World, aim: Aim) -> Features:
    """Return what a good investigator would compute: each reading of the log against the service's recorded figures.

    These are no shallow features. They show that the signal is there for those who cross-check.
    """
    rows = {result.look: result.rows for result in world.results}
    used = {int(row[1]): float(row[2]) for row in rows[COMPARE] if row[0] == "before"}
    short = looks.service_name(aim.service)
    acted = [int(row[1]) for row in rows[LEDGER] if row[2] == looks.agent_name(aim.agent)]
    found: Features = {"crossed rows": 0.0}
    written = [row for row in rows[AUDIT] if row[2] == short]
    for place, row in enumerate(reversed(written[-4:])):
        tick = int(row[0])
        if tick - 1 in used:
            found[f"crossed {place} in time"] = abs(float(row[3]) - used[tick - 1])
        late = [abs(float(row[3]) - used[tick - lag]) for lag in range(2, 10) if tick - lag in used]
        if late:
            found[f"crossed {place} late"] = min(late)
        found[f"crossed {place} in ledger"] = float(tick in acted)
    times = {int(row[0]) for row in written}
    found["crossed missing"] = float(len([tick for tick in acted if tick not in times]))
    found["crossed added"] = float(len([tick for tick in times if tick not in acted]))
    return found
