"""The verdict on a run: one line that is computed from its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from chaosops_ray.evaluate import TRAINED
from chaosops_ray.reports import tables
from chaosops_ray.sim.contract import AnyEnvironment

SOLVED = 0.9  # the share of its scenarios from which on a group, such as a failure, counts as solved
_LONGEST_LIST = 4


def verdict(environment: AnyEnvironment, found: Mapping[str, Any]) -> str:
    """Say on which tiers the trained policy beats the heuristic, and which groups of scenarios it does not solve.

    It beats the heuristic on a tier if the interval of their difference, on the same scenarios, lies above zero.
    """
    other = environment.heuristic
    if other is None:
        return f"none: world {environment.name} has no heuristic to compare the trained policy with"
    against = _differences(found, other)
    if not against:
        return f"none: the evaluation does not compare the trained policy with the {other}"
    means = {(cell["policy"], cell["tier"]): cell["mean"] for cell in found["cells"]}

    def on(tiers: Sequence[str]) -> str:
        shown = []
        for tier in tiers:
            both = [tables.headline(environment, means[policy, tier]) for policy in (TRAINED, other)]
            shown.append(f"{tier} ({both[0]} against {both[1]})")
        return _listed(shown)

    beaten = beaten_tiers(found, other)
    unsure = [tier for tier, row in against.items() if row["mean"] > 0 and tier not in beaten]
    lost = [tier for tier in against if tier not in (*beaten, *unsure)]
    parts = []
    if len(beaten) == len(against):
        parts.append(f"beats the {other} on every tier: {_listed(beaten)}")
    elif beaten:
        parts.append(f"beats the {other} on {_listed(beaten)}")
    if lost:
        parts.append(f"{'does not' if beaten else f'does not beat the {other}'} on {on(lost)}")
    if unsure:
        parts.append(f"is ahead of the {other} on {on(unsure)}, but the interval of the difference contains 0")
    if unsolved := below(environment, found):
        parts.append(f"solved below {tables.share(SOLVED)}: {with_shares(unsolved)}")
    return "; ".join(parts)


def beaten_tiers(found: Mapping[str, Any], policy: str) -> list[str]:
    """Return the tiers on which the trained policy beats another one."""
    return [tier for tier, row in _differences(found, policy).items() if row["ci"][0] > 0]


def _differences(found: Mapping[str, Any], policy: str) -> dict[str, Mapping[str, Any]]:
    rows = found.get("differences", [])
    return {row["tier"]: row for row in rows if (row["policy"], row["against"]) == (TRAINED, policy)}


def below(environment: AnyEnvironment, found: Mapping[str, Any]) -> dict[str, float]:
    """Return the groups that do not count as solved, each with the share that was solved; the lowest first."""
    name = next(metric.name for metric in environment.metrics if metric.is_share)
    grouping = environment.grouping
    cells = [cell for cell in found[f"by_{grouping}"] if cell["policy"] == TRAINED]
    unsolved = {cell[grouping]: cell[name] for cell in cells if cell[name] is not None and cell[name] < SOLVED}
    return dict(sorted(unsolved.items(), key=lambda one: one[1]))


def with_shares(groups: Mapping[str, float]) -> str:
    """Write the first of these groups, each with its share, which is never rounded up."""
    written = [f"{group} {floor(100 * share + 1e-9)} %" for group, share in groups.items()]
    more = len(written) - _LONGEST_LIST
    return ", ".join([*written[:_LONGEST_LIST], *([f"and {more} more"] if more > 0 else [])])


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
