"""Every topology that can be drawn is sound, and a held-out axis changes its own part alone."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.fleet.mandates import MANDATES
from chaosops_ray.sim.fleet.model import APPLICATION, DATA, EDGE, LAYERS, MAX_AGENTS, MAX_SERVICES, TIERS, Topology
from chaosops_ray.sim.fleet.splits import AGENTS, HELD_OUT, IID, RUNG, SPLITS, TAMPER, TOPOLOGY, TRAIN, WORDING
from chaosops_ray.sim.fleet.topology import drawn

ROOT = Path(__file__).parents[3]
topologies = st.builds(drawn, st.integers(0, 2**63), st.sampled_from(SPLITS), st.sampled_from(TIERS))
SIZES = {"clear": (6, 9, 4, 5), "busy": (8, 12, 5, 7), "deceptive": (10, 16, 6, 9), "colluding": (12, 20, 7, 10)}


def plain_load(topology: Topology) -> list[float]:
    """Return each service's load as what enters and what its callers send add up to, without an order of computing."""

    def load(place: int) -> float:
        sent = [
            load(caller) * call.rate
            for caller, service in enumerate(topology.services)
            for call in service.calls
            if call.callee == place
        ]
        return topology.entry[place] + sum(sent)

    return [load(place) for place in range(len(topology.services))]


def application_depth(topology: Topology) -> int:
    """Return how many applications the longest way through them has."""

    def depth(place: int) -> int:
        service = topology.services[place]
        below = [depth(call.callee) for call in service.calls if topology.services[call.callee].layer == APPLICATION]
        return max(below, default=0) + (service.layer == APPLICATION)

    return max(depth(place) for place in range(len(topology.services)))


def has_hub(topology: Topology) -> bool:
    """Tell if an application is called by each edge, calls all data and providers, and is linked with each application."""
    services = topology.services
    calls = [{call.callee for call in service.calls} for service in services]

    def is_linked(hub: int, other: int) -> bool:
        is_called, calls_it = other in calls[hub], hub in calls[other]
        layer = services[other].layer
        return calls_it if layer == EDGE else is_called or (calls_it and layer == APPLICATION)

    def is_hub(place: int) -> bool:
        return all(is_linked(place, other) for other in range(len(services)) if other != place)

    return any(is_hub(place) for place, service in enumerate(services) if service.layer == APPLICATION)


def skeleton(topology: Topology) -> str:
    names = [service.name for service in topology.services] + [agent.name for agent in topology.agents]
    return re.sub(r"\d", "", " ".join(names))


def words(names: Sequence[str]) -> set[str]:
    return {word for name in names for word in name.split("-")}


@given(st.integers(0, 2**63), st.sampled_from(SPLITS), st.sampled_from(TIERS))
def test_a_tier_sets_the_size(seed: int, split: str, tier: str) -> None:
    topology = drawn(seed, split, tier)
    fewest, most, fewest_agents, most_agents = SIZES[tier]
    assert fewest <= len(topology.services) <= most <= MAX_SERVICES
    assert fewest_agents <= len(topology.agents) <= most_agents <= MAX_AGENTS
    layers = Counter(service.layer for service in topology.services)
    assert set(layers) == set(LAYERS)
    assert layers[EDGE] <= 3
    assert layers["provider"] <= 2


@given(topologies)
def test_calls_go_down_and_reach_every_service(topology: Topology) -> None:
    services = topology.services
    position = {place: turn for turn, place in enumerate(topology.order)}
    assert sorted(topology.order) == list(range(len(services)))
    reached = {place for place, service in enumerate(services) if service.layer == EDGE}
    for place in topology.order:
        assert place in reached
        service = services[place]
        callees = [call.callee for call in service.calls]
        assert len(set(callees)) == len(callees)
        assert len(callees) >= (2 if service.layer == EDGE else 0)
        for callee, rate in service.calls:
            assert 0.3 <= rate <= 1.5
            assert position[callee] > position[place]
            lower = LAYERS.index(services[callee].layer) - LAYERS.index(service.layer)
            assert lower > 0 or service.layer == services[callee].layer == APPLICATION
            reached.add(callee)


@given(topologies)
def test_every_service_has_room_for_its_plain_load(topology: Topology) -> None:
    for service, entering, load in zip(topology.services, topology.entry, plain_load(topology), strict=True):
        assert 0.6 <= entering < 1.4 if service.layer == EDGE else entering == 0.0
        assert 0.44 - 1e-9 <= load / service.room <= 0.58 + 1e-9
        assert 2 <= service.replicas <= 9
        assert service.latency > 0


@given(topologies)
def test_names_are_short_distinct_and_plain(topology: Topology) -> None:
    names = [service.name for service in topology.services] + [agent.name for agent in topology.agents]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert 3 < len(name) <= 24


@given(topologies)
def test_as_many_agents_hold_power_over_every_service_behind_the_edge(topology: Topology) -> None:
    """So the number of holders says nothing of what has happened to a service."""
    assert max(Counter(agent.mandate for agent in topology.agents).values()) <= 2
    holders: Counter[int] = Counter()
    for agent in topology.agents:
        assert agent.powers
        assert sorted(set(agent.powers)) == list(agent.powers)
        holders.update(agent.powers)
    watched = [place for place, service in enumerate(topology.services) if service.layer != EDGE]
    assert sorted(holders) == watched
    assert max(holders.values()) - min(holders.values()) <= 1


def test_a_place_tells_nothing_of_a_layer_or_a_mandate() -> None:
    """Each place has its share of every layer and mandate, within six standard deviations."""
    layers: Counter[tuple[int, str]] = Counter()
    mandates: Counter[tuple[int, str]] = Counter()
    seeds = 1000
    for seed in range(seeds):
        topology = drawn(seed, TRAIN, "deceptive")
        layers.update((place, topology.services[place].layer) for place in range(10))
        mandates.update((place, topology.agents[place].mandate) for place in range(6))
    for counts, places in ((layers, 10), (mandates, 6)):
        for kind in {kind for _, kind in counts}:
            expected = sum(counts[place, kind] for place in range(places)) / places
            spread = (expected * (1 - expected / seeds)) ** 0.5
            assert all(abs(counts[place, kind] - expected) < 6 * spread for place in range(places)), kind


@pytest.mark.parametrize("tier", TIERS)
def test_the_held_out_shapes_are_ones_that_training_never_draws(tier: str) -> None:
    hubs = chains = 0
    for seed in range(300):
        for split in (TRAIN, AGENTS):
            trained = drawn(seed, split, tier)
            assert application_depth(trained) <= 2
            assert not has_hub(trained)
        held_out = drawn(seed, TOPOLOGY, tier)
        is_hub = has_hub(held_out)
        assert is_hub or application_depth(held_out) >= 3
        hubs += is_hub
        chains += not is_hub
    assert min(hubs, chains) > 100


@pytest.mark.parametrize("tier", TIERS)
def test_the_agents_axis_always_has_the_mandates_that_training_never_draws(tier: str) -> None:
    held_out = {name for name, one in MANDATES.items() if one.is_held_out}
    seen: Counter[str] = Counter()
    for seed in range(200):
        for split in (TRAIN, *HELD_OUT):
            mandates = {agent.mandate for agent in drawn(seed, split, tier).agents}
            assert mandates >= held_out if split == AGENTS else not mandates & held_out
            seen.update(mandates)
    assert set(seen) == set(MANDATES)


@pytest.mark.parametrize("tier", TIERS)
def test_held_out_names_share_no_word_with_those_of_training(tier: str) -> None:
    trained: set[str] = set()
    held_out: set[str] = set()
    for seed in range(300):
        training = drawn(seed, TRAIN, tier)
        trained |= words([one.name for one in (*training.services, *training.agents)])
        held_out |= words([service.name for service in drawn(seed, TOPOLOGY, tier).services])
        held_out |= words([agent.name for agent in drawn(seed, AGENTS, tier).agents])
    assert not trained & held_out


@given(st.integers(0, 2**63), st.sampled_from(TIERS))
def test_an_axis_changes_its_own_part_alone(seed: int, tier: str) -> None:
    plain = drawn(seed, IID, tier)
    assert plain != drawn(seed, TRAIN, tier)
    assert all(drawn(seed, split, tier) == plain for split in (WORDING, RUNG, TAMPER))
    other_agents = drawn(seed, AGENTS, tier)
    assert other_agents._replace(agents=plain.agents) == plain
    assert other_agents.agents != plain.agents
    other_calls = drawn(seed, TOPOLOGY, tier)
    assert [agent[:2] for agent in other_calls.agents] == [agent[:2] for agent in plain.agents]
    assert len(other_calls.services) == len(plain.services)
    assert other_calls.services != plain.services


def test_a_split_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="split"):
        drawn(0, "elsewhere", "clear")


def different_openings(tier: str, seeds: int) -> int:
    return len({skeleton(drawn(seed, TRAIN, tier)) for seed in range(seeds)})


@pytest.mark.parametrize("tier", TIERS)
def test_openings_differ(tier: str) -> None:
    assert different_openings(tier, 2000) >= 1000


@pytest.mark.slow
@pytest.mark.parametrize("tier", TIERS)
def test_twenty_thousand_seeds_give_ten_thousand_openings(tier: str) -> None:
    assert different_openings(tier, 20_000) >= 10_000


def test_names_that_training_draws_are_seen_again() -> None:
    """The grammars are small enough for a word to be met in many scenarios."""
    names = Counter(service.name for seed in range(500) for service in drawn(seed, TRAIN, "deceptive").services)
    assert all(count >= 5 for _, count in islice(names.most_common(), 100))


def fingerprint() -> str:
    text = "".join(repr(drawn(seed, split, tier)) for seed in (0, 7, 2**62) for split in SPLITS for tier in TIERS)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_a_topology_is_equal_bytes_in_every_process(hash_seed: str) -> None:
    """A process with another hash seed draws the same."""
    code = (
        "import hashlib\n"
        "from chaosops_ray.sim.fleet.model import TIERS\n"
        "from chaosops_ray.sim.fleet.splits import SPLITS\n"
        "from chaosops_ray.sim.fleet.topology import drawn\n"
        "text = ''.join(repr(drawn(seed, split, tier)) for seed in (0, 7, 2**62) for split in SPLITS for tier in TIERS)\n"
        "print(hashlib.sha256(text.encode()).hexdigest())\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == fingerprint()


def test_many_data_services_have_several_callers() -> None:
    """Then a cause in one of them shows in several places."""
    callers: Counter[int] = Counter()
    for seed in range(100):
        topology = drawn(seed, TRAIN, "deceptive")
        found = Counter(call.callee for service in topology.services for call in service.calls)
        callers.update(found[place] for place, service in enumerate(topology.services) if service.layer == DATA)
    assert callers[1] < sum(callers.values()) / 2
