"""The verdict is computed from the evaluation, and says no more than its intervals do."""

from __future__ import annotations

from typing import Any

import pytest

from chaosops_ray.reports.verdict import beaten_tiers, below, verdict
from chaosops_ray.sim.contract import AnyEnvironment
from tests.support import runs
from tests.support.runs import FLEET, INCIDENT, TOOLS


def evaluation(**intervals: tuple[float, float]) -> dict[str, Any]:
    """An evaluation of the oracle under the name of the trained policy, with made-up differences by tier."""
    differences = [
        {"tier": tier, "policy": "trained", "against": "heuristic", "mean": sum(ci) / 2, "ci": list(ci)}
        for tier, ci in intervals.items()
    ]
    other = {"tier": "easy", "policy": "trained", "against": "random", "mean": -9.0, "ci": [-10.0, -8.0]}
    return runs.evaluation() | {"differences": [other, *differences]}


@pytest.mark.parametrize(
    ("intervals", "said"),
    [
        (
            {"easy": (1, 3), "medium": (1, 3), "hard": (1, 3)},
            "beats the heuristic on every tier: easy, medium and hard",
        ),
        (
            {"easy": (-3, -1), "medium": (1, 3), "hard": (1, 3)},
            "beats the heuristic on medium and hard; does not on easy (+134.0 against +8.0)",
        ),
        (
            {"easy": (-3, 1), "medium": (-3, -1), "hard": (0, 0)},
            "does not beat the heuristic on easy (+134.0 against +8.0), medium (+150.7 against +31.2) and hard "
            "(+170.0 against −497.5)",
        ),
        (
            {"easy": (1, 3), "hard": (-1, 3)},
            "beats the heuristic on easy; is ahead of the heuristic on hard (+170.0 against −497.5), but the interval "
            "of the difference contains 0",
        ),
        # An interval that touches 0 excludes nothing.
        (
            {"hard": (0, 4)},
            "is ahead of the heuristic on hard (+170.0 against −497.5), but the interval of the difference contains 0",
        ),
    ],
)
def test_a_tier_is_beaten_if_the_interval_lies_above_zero(intervals: dict[str, Any], said: str) -> None:
    assert verdict(INCIDENT, evaluation(**intervals)) == said


def test_it_names_what_is_not_solved() -> None:
    found = evaluation(easy=(1, 3), medium=(1, 3), hard=(1, 3))
    shares = {"cascade": 0.0, "dns_outage": 0.899, "disk_full": 0.9, "memory_leak": 0.29}
    for cell in found["by_failure"]:
        if cell["policy"] == "trained":
            cell["success"] = shares.get(cell["failure"], 1.0)
        elif cell["policy"] == "random":
            cell["success"] = 0.0
    assert below(INCIDENT, found) == {"cascade": 0.0, "dns_outage": 0.899, "memory_leak": 0.29}
    assert verdict(INCIDENT, found) == (
        "beats the heuristic on every tier: easy, medium and hard; "
        "solved below 90 %: cascade 0 %, memory_leak 29 %, dns_outage 89 %"
    )


def test_of_many_unsolved_groups_it_names_the_first() -> None:
    found = evaluation(easy=(1, 3))
    for cell in found["by_failure"]:
        cell["success"] = 0.5
    names = [cell["failure"] for cell in found["by_failure"] if cell["policy"] == "trained"]
    shown = ", ".join([f"{name} 50 %" for name in names[:4]])
    assert verdict(INCIDENT, found).endswith(f"solved below 90 %: {shown}, and {len(names) - 4} more")


def test_without_a_comparison_there_is_no_verdict() -> None:
    none = "none: the evaluation does not compare the trained policy with the heuristic"
    assert verdict(INCIDENT, runs.evaluation()) == none
    assert verdict(INCIDENT, evaluation()) == none
    assert beaten_tiers(evaluation(), "heuristic") == []


@pytest.mark.parametrize(("world", "other", "form"), [(TOOLS, "heuristic", ".3f"), (FLEET, "investigator", "+.1f")])
def test_other_worlds_have_one_too(world: AnyEnvironment, other: str, form: str) -> None:
    """The baseline of rules of thumb goes by its name in the world."""
    tier, found = world.tiers[-1], runs.evaluation(world)
    (cell,) = [one for one in found["cells"] if (one["policy"], one["tier"]) == (other, tier)]
    differences = [{"tier": tier, "policy": "trained", "against": other, "mean": -1.0, "ci": [-2.0, 0.5]}]
    said = verdict(world, found | {"differences": differences})
    (own,) = [one for one in found["cells"] if (one["policy"], one["tier"]) == ("trained", tier)]
    both = [f"{one['mean']:{form}}".replace("-", "−") for one in (own, cell)]
    assert said.startswith(f"does not beat the {other} on {tier} ({both[0]} against {both[1]})")
