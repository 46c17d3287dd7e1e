"""What policies score that do not do what a world asks for, beside the baselines, with intervals.

    python -m benchmarks.redteam [--world NAME] [--scenarios N] [--json FILE]

Strict rules, each tier by itself. Scenario n of a tier has the seed 20,000 + n, up to 29,999, and the cases of the tier
take turns. The interval is a bootstrap over scenarios, 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaosops_ray import resampling
from chaosops_ray.sim import ENVIRONMENTS, Scenario, environment_named, play
from chaosops_ray.sim.contract import AnyEnvironment, PolicyFactory
from chaosops_ray.sim.errors import InputError
from tests.support import redteam

FIRST, LAST = 20_000, 29_999
SCENARIOS = 300


def scenarios(environment: AnyEnvironment, tier: str, count: int) -> list[Scenario]:
    """The first scenarios of a tier, its cases in turn."""
    cases = [case for case in environment.cases if case.tier == tier]
    return [cases[n % len(cases)]._replace(seed=FIRST + n) for n in range(count)]


def measured(environment: AnyEnvironment, factory: PolicyFactory, chosen: Sequence[Scenario]) -> dict[str, Any]:
    """Mean return over these scenarios, with its interval."""
    rules = environment.rules("strict")
    returns = [play(environment, one, rules, factory(one, rules)).total for one in chosen]
    interval = resampling.interval(zip(chosen, returns, strict=True))
    return {"mean": sum(returns) / len(returns), "interval": interval}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every attempt and baseline, print a table for each world, write the figures where asked."""
    parser = argparse.ArgumentParser(description="What policies score that do not do what a world asks for.")
    parser.add_argument("--world", metavar="NAME", help=f"only this world (one of: {', '.join(redteam.ATTEMPTS)})")
    parser.add_argument("--scenarios", type=int, default=SCENARIOS, metavar="N", help="scenarios of each tier")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    if not 0 < given.scenarios <= LAST - FIRST + 1:
        parser.error(f"--scenarios must be from 1 to {LAST - FIRST + 1:,}")
    try:
        names = list(redteam.ATTEMPTS) if given.world is None else [environment_named(given.world).name]
    except InputError as error:
        parser.error(str(error))
    figures: dict[str, Any] = {}
    for name in names:
        environment = ENVIRONMENTS[name]
        chosen = {tier: scenarios(environment, tier, given.scenarios) for tier in environment.tiers}
        players = {f"baseline: {policy}": factory for policy, factory in environment.policies.items()}
        players |= {f"{one.kind}: {attempt}": one.factory for attempt, one in redteam.ATTEMPTS[name].items()}
        width = max([len(player) for player in players])
        print(
            f"{environment.title}: mean return, {given.scenarios} scenarios of each tier, {environment.rules('strict')}"
        )
        print(" " * width + "".join([f"{tier:>28}" for tier in environment.tiers]))
        figures[name] = {}
        for player, factory in players.items():
            found = {tier: measured(environment, factory, chosen[tier]) for tier in environment.tiers}
            figures[name][player] = found
            cells = [cell(environment, one) for one in found.values()]
            print(f"{player:<{width}}" + "".join([f"{one:>28}" for one in cells]), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def cell(environment: AnyEnvironment, found: dict[str, Any]) -> str:
    """A mean with its interval."""
    form = environment.headline_format
    low, high = found["interval"] or (found["mean"], found["mean"])
    return f"{found['mean']:{form}} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    sys.exit(main())
