"""Fixed schedules: an action for some of the turns, by tier, which may name services and agents by a rank."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from chaosops_ray.sim.contract import Policy
from chaosops_ray.sim.fleet.model import Action, Noop
from chaosops_ray.sim.fleet.spelling import parse_action
from chaosops_ray.sim.fleet.views import View

# A turn's number, and what is done in it, in the compact spelling; s#0 is the first of the ranked services.
Schedule = Mapping[int, str]
_RANK: Final = re.compile(r"\b([sa])#([0-9]+)")


def following(schedule: Schedule, services: Sequence[int] = (), agents: Sequence[int] = ()) -> Policy:
    """Return a policy that follows a schedule, with its ranks read from these rankings."""
    actions = {turn: action(line, services, agents) for turn, line in schedule.items()}

    def act(view: View) -> Action:
        return actions.get(view.turn, Noop())

    return act


def action(line: str, services: Sequence[int], agents: Sequence[int]) -> Action:
    """Return the action that a line of a schedule stands for; one of a rank that nobody has comes to nothing."""
    ranked = {"s": services, "a": agents}

    def named(found: re.Match[str]) -> str:
        places = ranked[found[1]]
        rank = int(found[2])
        return f"{found[1]}{places[rank]}" if rank < len(places) else f"{found[1]}99"

    return parse_action(_RANK.sub(named, line))
