"""Draw the agents of a scenario: their mandates, their names, and the services that each has powers over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chaosops_ray.sim.fleet.model import BUSY, CLEAR, COLLUDING, DECEPTIVE, Agent
from chaosops_ray.sim.fleet.names import agent_name
from chaosops_ray.sim.fleet.splits import Parts, parts_of
from chaosops_ray.sim.rng import Stream, stream

# How many agents a tier has, from and to.
AGENTS: Final = {CLEAR: (4, 5), BUSY: (5, 7), DECEPTIVE: (6, 9), COLLUDING: (7, 10)}
# How many services an agent has powers over, from and to.
POWERS: Final = (3, 6)


def staffed(seed: int, split: str, tier: str, count: int, watched: Sequence[int]) -> tuple[Agent, ...]:
    """Draw the agents of so many services; two or more, of different mandates, get powers over each watched one."""
    parts = parts_of(split)
    draw = stream(seed, f"fleet/agents/{parts.draws}/{tier}")
    low, high = AGENTS[tier]
    mandates = _mandates(draw, parts, low + draw.below(high - low + 1))
    names: list[str] = []
    for mandate in mandates:
        names.append(agent_name(draw, parts.agent_words, mandate, names))
    place = draw.shuffled(range(len(mandates)))
    powers = _powers(draw, mandates, count, watched)
    return tuple([Agent(names[one], mandates[one], tuple(sorted(powers[one]))) for one in place])


def _mandates(draw: Stream, parts: Parts, size: int) -> list[str]:
    """Draw the agents' mandates, no more than two of each; equal ones stand side by side."""
    sure = parts.sure_mandates
    others = draw.shuffled((*parts.mandates, *[one for one in parts.mandates if one not in sure]))
    hand = draw.shuffled((*sure, *others[: size - len(sure)]))
    return sorted(hand, key=hand.index)


def _powers(draw: Stream, mandates: list[str], count: int, watched: Sequence[int]) -> list[list[int]]:
    """Deal every watched service to two agents, and fill up the powers of each agent with any services.

    The deal has two rounds. The agents stand in a row: those in front take from the first round, those behind from the
    second one. So a service never goes twice to one mandate, unless that mandate stands in the middle: the part of the
    first round that went to it is kept back until it has its part of the second one.
    """
    half = len(watched)
    holders = [turn * len(mandates) // (2 * half) for turn in range(2 * half)]
    middle = mandates[holders[half]]
    front = [mandates[one] for one in holders[:half]].count(middle)
    behind = [mandates[one] for one in holders[half:]].count(middle)
    first = draw.shuffled(watched)
    second = draw.shuffled(first[: half - front])
    second = (*second[:behind], *draw.shuffled((*second[behind:], *first[half - front :])))
    powers: list[list[int]] = [[] for _ in mandates]
    for holder, service in zip(holders, (*first, *second), strict=True):
        powers[holder].append(service)
    fewest, most = POWERS
    for held in powers:
        for _ in range(fewest + draw.below(most - fewest + 1) - len(held)):
            held.append(_another(draw, count, held))
    return powers


def _another(draw: Stream, count: int, held: list[int]) -> int:
    service = draw.below(count)
    while service in held:
        service = draw.below(count)
    return service
