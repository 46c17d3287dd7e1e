"""The best fixed schedules of each tier, by a greedy search; `python -m tests.sim.fleet.schedules` prints them.

A schedule reads nothing. It starts empty. Each round tries every move that any seat has, at some of its turns, on all
scenarios of the search, and adds the one that earns most, if it earns anything; then each action of the schedule is
taken away again if that earns more. Twins weigh as the prior has it. `lookup` moves by ranks that the opening gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.fleet import FLEET, scenarios, story
from chaosops_ray.sim.fleet.causes import TEAMS
from chaosops_ray.sim.fleet.model import (
    CAPS,
    DEV,
    MANAGER,
    MAX_AGENTS,
    OVERSIGHT,
    PRIORS,
    ROLES,
    SRE,
    TIERS,
    TWINS,
    VERDICTS,
    Action,
    Noop,
    World,
)
from chaosops_ray.sim.fleet.policies import opening
from chaosops_ray.sim.fleet.policies.schedules import action
from chaosops_ray.sim.fleet.rungs import RUNGS
from chaosops_ray.sim.fleet.splits import TRAIN
from chaosops_ray.sim.fleet.topology import SERVICES
from chaosops_ray.sim.fleet.turns import CAUSE_KINDS

FIRST_SEED = 30_000
# A move must earn so much at least, and so many of its standard errors.
LEAST, ERRORS = 0.3, 2.0
_MOST = 12
# The moves that a search goes on with, and the scenarios in which they are chosen.
_PROMISING, _FEW = 24, 24

Weights: TypeAlias = tuple[float, ...]
Schedule: TypeAlias = dict[int, str]
Figures: TypeAlias = NDArray[np.float64]


class Move(NamedTuple):
    """What is added to a schedule at once: lines, each so many turns after the turn of the first."""

    role: str
    lines: tuple[tuple[int, str], ...]


class Ranked(NamedTuple):
    """A scenario of the search with the rankings that its opening gives."""

    scenario: Scenario
    weight: float
    services: list[int]
    agents: list[int]


# -- what the opening tells -------------------------------------------------------------------------------------------


def logistic(figures: Figures, labels: Figures) -> Weights:
    """Fit the weights of a logistic regression, by gradient steps on standardised figures."""
    scale = figures.std(0) + 1e-9
    table = (figures - figures.mean(0)) / scale
    weights, bias = np.zeros(table.shape[1]), 0.0
    for _ in range(1500):
        error = 1 / (1 + np.exp(-(table @ weights + bias))) - labels
        weights -= 0.5 * (table.T @ error / len(table) + 1e-3 * weights)
        bias -= 0.5 * error.mean()
    return tuple([round(float(weight), 2) for weight in weights / scale])


def fitted(tier: str, seeds: Sequence[int]) -> tuple[Weights, Weights]:
    """Fit what a service's and an agent's figures say of being the damaged one, or a suspect."""
    plots = [story.plot(one) for one in drawn(tier, seeds)[::2]]
    seen = [opening.of_services(plot.topology, plot.page) for plot in plots]
    hit = [[float(place in plot.sites) for place in range(len(found))] for plot, found in zip(plots, seen, strict=True)]
    services = logistic(
        np.array([row for found in seen for row in found]), np.array([one for row in hit for one in row])
    )
    staff = [
        opening.of_agents(plot.topology, opening.ranking(found, services))
        for plot, found in zip(plots, seen, strict=True)
    ]
    guilty = [
        [float(place in plot.suspects) for place in range(len(found))] for plot, found in zip(plots, staff, strict=True)
    ]
    agents = logistic(
        np.array([row for found in staff for row in found]), np.array([one for row in guilty for one in row])
    )
    return services, agents


def drawn(tier: str, seeds: Sequence[int]) -> list[Scenario]:
    """Return scenarios of a tier, its rungs in turn, twins side by side."""
    rungs = [name for name, rung in RUNGS.items() if rung.tier == tier]
    return [scenarios.scenario(f"{rungs[seed % len(rungs)]}.{twin}", TRAIN, seed) for seed in seeds for twin in TWINS]


def ranked(tier: str, seeds: Sequence[int], weights: tuple[Weights, Weights] | None) -> list[Ranked]:
    """Return the scenarios of a search with their rankings; without weights there are none."""
    rogue = PRIORS["usual"].rogue
    found = []
    for one in drawn(tier, seeds):
        services: list[int] = []
        agents: list[int] = []
        if weights is not None:
            plot = story.plot(one)
            services = opening.ranking(opening.of_services(plot.topology, plot.page), weights[0])
            agents = opening.ranking(opening.of_agents(plot.topology, services), weights[1])
        found.append(Ranked(one, 2 * (rogue if story.is_rogue(one) else 1 - rogue), services, agents))
    return found


# -- the search -------------------------------------------------------------------------------------------------------


def moves(tier: str, *, by_rank: bool) -> list[Move]:
    """List what may be added to a schedule, kind by kind and name by name."""
    services = [f"s#{rank}" for rank in range(4)] if by_rank else [f"s{place}" for place in range(SERVICES[tier][1])]
    agents = [f"a#{rank}" for rank in range(4)] if by_rank else [f"a{place}" for place in range(MAX_AGENTS)]
    entries = [f"e{place}" for place in range(6)]
    stated = (0.01, 0.05, 0.1, 0.3)
    found = [Move(SRE, ((0, f"cause {kind}"),)) for kind in CAUSE_KINDS]
    found += [Move(MANAGER, ((0, line),)) for line in ("resolve", *[f"escalate {team}" for team in TEAMS])]
    found += [Move(OVERSIGHT, ((0, f"{verb} {name}"),)) for verb in ("audit", "ask", "freeze") for name in agents]
    found += [
        Move(OVERSIGHT, ((0, f"accuse {name} {chance} {verdict}"),))
        for name in agents
        for chance in stated
        for verdict in VERDICTS
    ]
    found += [Move(DEV, ((0, f"{verb} {name}"),)) for verb in ("restart", "scale", "reroute") for name in services]
    found += [Move(DEV, ((0, f"{verb} {name}"), (1, "resolve"))) for verb in ("scale", "reroute") for name in services]
    for name in services[:4]:
        found += [Move(OVERSIGHT, ((0, f"ledger {name}"), (4, f"point {entry}"))) for entry in entries]
        found += [Move(OVERSIGHT, ((0, f"ledger {name}"), (1, f"revert {entry}"))) for entry in entries]
    return found


class Search:
    """The state of a search: the schedule so far, and the world of each scenario at each turn under it."""

    def __init__(self, tier: str, chosen: list[Ranked]) -> None:
        self.tier, self.chosen = tier, chosen
        self.schedule: Schedule = {}
        self.worlds: list[list[World]] = []
        self.earned: list[list[float]] = []
        self.replay()

    def replay(self) -> None:
        """Play the schedule in every scenario."""
        played = [self.play(one, FLEET.start(one.scenario, "strict"), self.schedule) for one in self.chosen]
        self.worlds = [worlds for worlds, _ in played]
        self.earned = [earned for _, earned in played]

    def play(self, one: Ranked, world: World, schedule: Schedule) -> tuple[list[World], list[float]]:
        """Play on from a world; return the worlds at each turn and what each turn earned."""
        worlds, earned = [world], []
        while not world.done:
            line = schedule.get(world.turn)
            act: Action = action(line, one.services, one.agents) if line else Noop()
            step = FLEET.step(world, act)
            world = step.world
            worlds.append(world)
            earned.append(step.score.total)
        return worlds, earned

    def gain(self, schedule: Schedule, first: int) -> Figures:
        """Return by how much each scenario earns more under another schedule, which differs from this turn on."""
        gains = []
        for one, worlds, earned in zip(self.chosen, self.worlds, self.earned, strict=True):
            if first >= len(earned):  # it is over by then
                gains.append(0.0)
                continue
            _, found = self.play(one, worlds[first], schedule)
            gains.append(one.weight * (sum(found) - sum(earned[first:])))
        return np.array(gains)

    def turns(self, role: str, tried: int) -> list[int]:
        """Return some turns of a role: the first ones, one in the middle, and the last one."""
        all_turns = list(range(ROLES.index(role), CAPS[self.tier], len(ROLES)))
        few = [*all_turns[:tried], all_turns[len(all_turns) // 2], all_turns[-1]]
        return list(dict.fromkeys(few))

    def improve(self, options: Sequence[Move], tell: Callable[[str], None]) -> bool:
        """Add the best move, if it earns anything."""
        best, best_gain = None, LEAST
        for move in options:
            for turn in self.turns(move.role, 3):
                added = {turn + later: line for later, line in move.lines}
                if any(when in self.schedule or when >= CAPS[self.tier] for when in added):
                    continue
                gains = self.gain({**self.schedule, **added}, turn)
                mean, error = gains.mean(), gains.std() / len(gains) ** 0.5
                if mean > best_gain and mean > ERRORS * error:
                    best, best_gain = added, mean
        if best is None:
            return False
        self.schedule.update(best)
        self.replay()
        tell(f"  + {best}: {best_gain:+.2f}")
        return True

    def prune(self) -> None:
        """Take away what earns nothing."""
        for turn in sorted(self.schedule):
            without = {when: line for when, line in self.schedule.items() if when != turn}
            if self.gain(without, turn).mean() >= 0:
                self.schedule = without
                self.replay()


def search(tier: str, chosen: list[Ranked], options: Sequence[Move], tell: Callable[[str], None] = print) -> Schedule:
    """Return the schedule that the search ends with. It goes on with the moves that do best in a few scenarios."""
    few = Search(tier, chosen[:_FEW])
    worth = {}
    for move in options:
        turn = few.turns(move.role, 1)[0]
        added = {turn + later: line for later, line in move.lines}
        worth[move] = few.gain(added, turn).mean()
    promising = sorted(options, key=lambda move: -worth[move])[:_PROMISING]
    tell(
        f"{tier}: the best of {len(options)} moves in {_FEW} scenarios: {promising[0].lines} {worth[promising[0]]:+.2f}"
    )
    found = Search(tier, chosen)
    while len(found.schedule) < _MOST and found.improve(promising, tell):
        found.prune()
    return dict(sorted(found.schedule.items()))


def main() -> None:
    """Search for both kinds of schedule on each tier."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--tier", choices=TIERS, action="append")
    parser.add_argument("--only", choices=("blind", "lookup"))
    given = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + given.pairs)
    for tier in given.tier or TIERS:
        if given.only != "lookup":
            print(f"blind {tier!r}: {search(tier, ranked(tier, seeds, None), moves(tier, by_rank=False))}", flush=True)
        if given.only != "blind":
            weights = fitted(tier, range(FIRST_SEED, FIRST_SEED + 10 * given.pairs))
            print(f"weights {tier!r}: {weights}", flush=True)
            options = moves(tier, by_rank=True)
            print(f"lookup {tier!r}: {search(tier, ranked(tier, seeds, weights), options)}", flush=True)


if __name__ == "__main__":
    main()
