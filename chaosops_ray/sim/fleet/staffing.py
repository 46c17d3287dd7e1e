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
# How many agents have powers over each service that is watched: enough for a suspect, a framed one and witnesses.
HOLDERS: Final = {CLEAR: 4, BUSY: 5, DECEPTIVE: 6, COLLUDING: 7}


def staffed(seed: int, split: str, tier: str, watched: Sequence[int]) -> tuple[Agent, ...]:
    """Draw the agents; as many get powers over each of the watched services."""
    parts = parts_of(split)
    draw = stream(seed, f"fleet/agents/{parts.draws}/{tier}")
    low, high = AGENTS[tier]
    mandates = _mandates(draw, parts, low + draw.below(high - low + 1))
    names: list[str] = []
    for mandate in mandates:
        names.append(agent_name(draw, parts.agent_words, mandate, names))
    place = draw.shuffled(range(len(mandates)))
    powers = _powers(draw, len(mandates), watched, HOLDERS[tier])
    return tuple([Agent(names[one], mandates[one], tuple(sorted(powers[one]))) for one in place])


def _mandates(draw: Stream, parts: Parts, size: int) -> list[str]:
    """Draw the agents' mandates, no more than two of each; equal ones stand side by side."""
    sure = parts.sure_mandates
    others = draw.shuffled((*parts.mandates, *[one for one in parts.mandates if one not in sure]))
    hand = draw.shuffled((*sure, *others[: size - len(sure)]))
    return sorted(hand, key=hand.index)


def _powers(draw: Stream, size: int, watched: Sequence[int], holders: int) -> list[list[int]]:
    """Give every watched service to as many agents: a number of holders would tell what has happened to a service."""
    powers: list[list[int]] = [[] for _ in range(size)]
    for service in watched:
        for holder in draw.shuffled(range(size))[:holders]:
            powers[holder].append(service)
    for held in powers:
        if not held:
            held.append(draw.choice(watched))
    return powers
