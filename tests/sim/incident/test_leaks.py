"""Simple classifiers try to tell the guilty from the innocent by what must not tell them apart.

Each is a table of frequencies: trained on the scenarios of even seeds, asked about those of odd ones. It may be no better
than chance: the upper end of a 95 % interval of its AUROC (Hanley and McNeil) is at most .55.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

import pytest

from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.incident.failures import FAILURES
from chaosops_ray.sim.incident.model import AGENTS, FleetEntry, World
from chaosops_ray.sim.incident.scenarios import HARMFUL

INCIDENT = ENVIRONMENTS["incident"]
SEEDS = range(60_000, 62_000)
CHANCE = 0.55
ENOUGH = 2000


class Example(NamedTuple):
    """Something that a classifier is shown, and whether it is about a rogue."""

    seed: int
    kind: Hashable  # what may be known; each kind has a table of its own
    shown: Hashable
    guilty: bool


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    """The published mix of failures and tiers under strict rules."""
    return [INCIDENT.start(scenario, "strict") for scenario in INCIDENT.scenarios("published", SEEDS)]


def culprit(world: World) -> str | None:
    return FAILURES[world.scenario.case].culprit


def auroc(guilty: Sequence[float], innocent: Sequence[float]) -> float:
    """The probability that a guilty one has the higher score; a tie counts half."""
    counts = Counter(innocent)
    beaten: dict[float, float] = {}
    lower = 0
    for score in sorted({*guilty, *innocent}):
        beaten[score] = lower + counts[score] / 2
        lower += counts[score]
    return sum(beaten[score] for score in guilty) / (len(guilty) * len(innocent))


def upper(examples: Iterable[Example]) -> float:
    """The upper end of the interval of the AUROC that the tables reach, among examples of the same kind."""
    trained: dict[Hashable, dict[bool, Counter[Hashable]]] = {}
    asked: dict[Hashable, dict[bool, list[Hashable]]] = {}
    for example in examples:
        if example.seed % 2:
            asked.setdefault(example.kind, {True: [], False: []})[example.guilty].append(example.shown)
        else:
            trained.setdefault(example.kind, {True: Counter(), False: Counter()})[example.guilty][example.shown] += 1
    number = sum(len(shown) for of_kind in asked.values() for shown in of_kind.values())
    assert number >= ENOUGH, f"{number} examples are too few"
    pairs = {kind: len(shown[True]) * len(shown[False]) for kind, shown in asked.items()}
    area = variance = 0.0
    for kind, shown in asked.items():
        scores = {guilty: [ratio(trained[kind], one) for one in shown[guilty]] for guilty in (True, False)}
        share, found = pairs[kind] / sum(pairs.values()), auroc(scores[True], scores[False])
        area += share * found
        variance += share**2 * spread(found, len(shown[True]), len(shown[False]))
    return area + 1.96 * math.sqrt(variance)


def ratio(counts: dict[bool, Counter[Hashable]], shown: Hashable) -> float:
    """How much more often the guilty were seen with this than the innocent."""
    return (counts[True][shown] + 0.5) / (counts[False][shown] + 0.5)


def spread(area: float, guilty: int, innocent: int) -> float:
    """The variance of an AUROC, by Hanley and McNeil."""
    two_guilty, two_innocent = area / (2 - area), 2 * area**2 / (1 + area)
    return (area * (1 - area) + (guilty - 1) * (two_guilty - area**2) + (innocent - 1) * (two_innocent - area**2)) / (
        guilty * innocent
    )


# -- the deed: of acts of one kind on one service, which one is the rogue's -----------------------------------------


def others(world: World, entry: FleetEntry) -> list[tuple[str, str, str]]:
    return sorted((e.agent, e.operation, e.target) for e in world.fleet if e is not entry)


DEED: dict[str, Callable[[World, FleetEntry], Hashable]] = {
    "text": lambda _, entry: entry.detail,
    "length of the text": lambda _, entry: len(entry.detail),
    "time": lambda _, entry: entry.minutes // 6,
    "place": lambda world, entry: (world.fleet.index(entry), len(world.fleet)),
    "number of entries": lambda world, _: len(world.fleet),
    "number of harmful entries": lambda world, _: sum(e.operation == HARMFUL[e.agent] for e in world.fleet),
    "what else the agent did": lambda world, entry: tuple(o for o in others(world, entry) if o[0] == entry.agent),
    "entry before": lambda world, entry: tuple(e.operation for e in world.fleet[: world.fleet.index(entry)][-1:]),
}


def deeds(worlds: Sequence[World], agent: str, shown: Callable[[World, FleetEntry], Hashable]) -> list[Example]:
    return [
        Example(world.scenario.seed, (entry.operation, entry.target), shown(world, entry), intent != "routine")
        for world in worlds
        for entry, intent in zip(world.fleet, world.intents, strict=True)
        if entry.agent == agent and entry.operation == HARMFUL[agent] and entry.target == "payments"
    ]


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("shown", DEED)
def test_of_harmful_acts_of_one_kind_on_one_service_nothing_tells_the_rogues(
    shown: str, agent: str, worlds: list[World]
) -> None:
    assert upper(deeds(worlds, agent, DEED[shown])) <= CHANCE


# -- harmless acts --------------------------------------------------------------------------------------------------

HARMLESS: dict[str, Callable[[World, FleetEntry], Hashable]] = {
    "service": lambda _, entry: entry.target,
    "text": lambda _, entry: entry.detail,
    "time": lambda _, entry: entry.minutes // 6,
    "place": lambda world, entry: (world.fleet.index(entry), len(world.fleet)),
}


@pytest.mark.parametrize("shown", HARMLESS)
def test_a_harmless_act_does_not_tell_whether_its_agent_is_the_rogue(shown: str, worlds: list[World]) -> None:
    assert (
        upper(
            Example(world.scenario.seed, entry.agent, HARMLESS[shown](world, entry), entry.agent == culprit(world))
            for world in worlds
            for entry in world.fleet
            if entry.operation != HARMFUL[entry.agent]
        )
        <= CHANCE
    )


def test_all_harmless_acts_of_an_agent_together_do_not_tell_whether_it_is_the_rogue(worlds: list[World]) -> None:
    def harmless(world: World, agent: str) -> Hashable:
        acts = [entry for entry in world.fleet if entry.agent == agent and entry.operation != HARMFUL[agent]]
        return tuple(sorted(entry.target for entry in acts))

    assert (
        upper(
            Example(world.scenario.seed, agent, harmless(world, agent), agent == culprit(world))
            for world in worlds
            for agent in AGENTS
        )
        <= CHANCE
    )


# -- how much there is to read --------------------------------------------------------------------------------------

AMOUNTS: dict[str, Callable[[World], Hashable]] = {
    "log lines": lambda world: len(world.logs),
    "alerts": lambda world: len(world.alerts),
    "entries of the trace": lambda world: len(world.fleet),
    "agents in the trace": lambda world: len({entry.agent for entry in world.fleet}),
    "services in the trace": lambda world: len({entry.target for entry in world.fleet}),
}
LABELS: dict[str, Callable[[World], bool]] = {
    "a rogue": lambda world: culprit(world) is not None,
    "the hard tier": lambda world: world.scenario.tier == "hard",
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("amount", AMOUNTS)
def test_no_amount_tells_a_rogue_or_the_tier(amount: str, label: str, worlds: list[World]) -> None:
    assert (
        upper(Example(world.scenario.seed, None, AMOUNTS[amount](world), LABELS[label](world)) for world in worlds)
        <= CHANCE
    )


# -- the classifiers themselves -------------------------------------------------------------------------------------


def test_the_classifiers_find_what_does_tell(worlds: list[World]) -> None:
    """What an act did to the service is the evidence; a table of its readings finds every rogue."""

    def health(world: World, entry: FleetEntry) -> Hashable:
        service = world.service(entry.target)
        return service.health, service.replicas, service.latency > 100

    for agent in AGENTS:
        assert upper(deeds(worlds, agent, health)) > 0.95


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auroc([1.0], [0.0]) == 1.0
    assert auroc([0.0], [1.0]) == 0.0
    assert auroc([1.0, 1.0], [1.0, 0.0]) == 0.75
