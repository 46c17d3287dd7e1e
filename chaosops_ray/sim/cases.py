"""The cases that scenarios are drawn from, by whoever plays a world without a list of scenarios."""

from __future__ import annotations

from collections.abc import Sequence

from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import stream


def cases(environment: AnyEnvironment, selection: str | None = None, tiers: Sequence[str] = ()) -> tuple[Scenario, ...]:
    """Return the cases of an evaluation set, by default the world's first, and of these tiers, by default all."""
    for tier in tiers:
        if tier not in environment.tiers:
            raise unknown(f"tier of world {environment.name}", tier, environment.tiers)
    chosen = environment.selections[0] if selection is None else selection
    found = tuple([case for case in environment.scenarios(chosen, [0]) if not tiers or case.tier in tiers])
    if not found:
        raise InputError(
            f"set {chosen} of world {environment.name} has no scenarios of {', '.join(tiers)}; name others"
        )
    return found


def drawn(environment: AnyEnvironment, among: Sequence[Scenario], seed: int) -> Scenario:
    """Return the scenario that this seed draws among the cases; the seed names nothing of it."""
    case = stream(seed, f"single seat/{environment.name}").choice(among)
    return environment.scenario(case._replace(seed=seed).identity)
