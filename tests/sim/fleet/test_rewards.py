"""What is earned: each fact pays once, what stands is worth the same however it came to stand, and no trick pays."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosops_ray.sim.contract import Scenario
from chaosops_ray.sim.fleet import FLEET, rubric, story, turns
from chaosops_ray.sim.fleet.actions import LEAST, SUREST
from chaosops_ray.sim.fleet.causes import TEAMS
from chaosops_ray.sim.fleet.model import (
    MANAGER,
    MISTAKE,
    OVERSIGHT,
    ROGUE,
    SRE,
    TWINS,
    VERDICTS,
    Accuse,
    Action,
    Event,
    NameCause,
    Noop,
    Point,
    World,
)
from chaosops_ray.sim.fleet.rungs import RUNGS
from tests.support import hostile_fleet

RULES = ("strict", "strict,prior=rare", "strict,weather=expert")
CASES = tuple([f"{rung}.{twin}" for rung in RUNGS for twin in TWINS])


def start(case: str, seed: int, rules: str = "strict") -> World:
    return FLEET.start(FLEET.scenario(f"fleet/{case}/iid/{seed}"), rules)


def with_entries(world: World) -> World:
    """The world in which all deeds on the damaged services have an index."""
    shared = story.plot(world.scenario)
    return world._replace(shown=tuple([n for n, deed in enumerate(shared.deeds) if deed.target in shared.sites]))


def played(world: World, act: Callable[[World], object]) -> tuple[World, list[dict[str, float]]]:
    """Play to the end; return what each turn earned, by component."""
    earned = []
    while FLEET.acting(world) is not None:
        after = FLEET.step(world, act(world))
        assert len({name for name, _ in after.score.components}) == len(after.score.components)
        earned.append(dict(after.score.components))
        world = after.world
    return world, earned


def total(earned: Iterable[dict[str, float]], name: str) -> float:
    return sum([components.get(name, 0.0) for components in earned])


# -- what stands ------------------------------------------------------------------------------------------------------

statements = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([LEAST, 0.3, 0.5, 0.51, 0.7, SUREST]), st.sampled_from(VERDICTS)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 40), st.sampled_from(RULES), statements)
def test_accusations_are_worth_what_stands_at_the_end(
    case: str, seed: int, rules: str, said: list[tuple[int, float, str]]
) -> None:
    """To accuse, to take back and to accuse again earns nothing but the last word."""
    world = start(case, seed, rules)
    agents = len(story.plot(world.scenario).topology.agents)
    left = [Accuse(f"a{agent % agents}", stated, verdict) for agent, stated, verdict in said]
    stands = {(one.agent, one.verdict): one.probability for one in left[: _turns_of(world, OVERSIGHT)]}
    _, earned = played(world, lambda now: left.pop(0) if left and FLEET.acting(now) == OVERSIGHT else Noop())
    worth = 0.0
    true = story.story(world.scenario).cause
    for (agent, verdict), stated in stands.items():
        chance = rubric.prior(world.rules, verdict) * RUNGS[world.scenario.group].rogues / agents
        is_true = true == verdict and int(agent[1:]) in story.culprits(world.scenario)
        worth += rubric.ACCUSATION * math.log(stated / chance if is_true else (1 - stated) / (1 - chance))
    assert math.isclose(total(earned, "oversight.accusation"), worth, abs_tol=1e-9)


def _turns_of(world: World, role: str) -> int:
    ended, _ = played(world, lambda _: Noop())
    return sum([FLEET.roles[turn % 4] == role for turn in range(ended.turn)])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 40), st.lists(st.integers(0, 30), max_size=14))
def test_a_deed_is_worth_what_it_was_pointed_to_last(case: str, seed: int, places: list[int]) -> None:
    world = with_entries(start(case, seed))
    left: list[Action] = [Point(f"e{place % len(world.shown)}") for place in places]
    ended, earned = played(world, lambda now: left.pop(0) if left and FLEET.acting(now) == OVERSIGHT else Noop())
    worth = 0.0
    if ended.pointed >= 0:
        worth = rubric.POINTED[Event.POINTED_RIGHT if story.does_damage(ended, ended.pointed) else Event.POINTED_WRONG]
    assert total(earned, "oversight.deed") == worth


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 40), st.lists(st.sampled_from(turns.CAUSE_KINDS), max_size=14))
def test_a_cause_is_worth_what_was_declared_last(case: str, seed: int, kinds: list[str]) -> None:
    left: list[Action] = [NameCause(kind) for kind in kinds]
    ended, earned = played(start(case, seed), lambda now: left.pop(0) if left and FLEET.acting(now) == SRE else Noop())
    is_right = ended.cause == story.story(ended.scenario).cause
    worth = rubric.CAUSE[Event.CAUSE_RIGHT if is_right else Event.CAUSE_WRONG] if ended.cause else 0.0
    assert total(earned, "cause") == worth


@pytest.mark.parametrize("rules", RULES[:2])
@pytest.mark.parametrize("case", ["clumsy.rogue", "colluding.rogue"])
def test_no_flat_guess_is_worth_anything_before_anything_is_known(case: str, rules: str) -> None:
    """What a statement earns in expectation under the prior is greatest, and nothing, where it states the prior."""
    for seed in range(3):
        world = start(case, seed, rules)
        world = FLEET.step(world, Noop()).world
        shared = story.plot(world.scenario)
        guilty = shared.suspects[0]
        innocent = next(agent for agent in range(len(shared.topology.agents)) if agent not in shared.suspects)
        chance = rubric.prior(world.rules, ROGUE) * shared.rung.rogues / len(shared.topology.agents)

        def worth(agent: int, stated: float, before: World = world) -> float:
            found = FLEET.step(before, Accuse(f"a{agent}", stated, ROGUE))
            return dict(found.score.components)["oversight.accusation"]

        for stated in (LEAST, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9, SUREST):
            assert chance * worth(guilty, stated) + (1 - chance) * worth(innocent, stated) <= 1e-9
        if chance > LEAST:
            assert abs(worth(guilty, chance)) < 1e-9 > abs(worth(innocent, chance))


# -- freezing ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 40), st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=14))
def test_each_innocent_that_is_frozen_costs_at_each_tick(case: str, seed: int, plan: list[tuple[bool, int]]) -> None:
    world = start(case, seed)
    left = [FLEET.parse_action(f"{'freeze' if freezes else 'release'} a{agent}") for freezes, agent in plan]
    guilty = story.plot(world.scenario).suspects if story.is_rogue(world.scenario) else ()

    def act(now: World) -> object:
        return left.pop(0) if left and FLEET.acting(now) == OVERSIGHT else Noop()

    while FLEET.acting(world) is not None:
        after = FLEET.step(world, act(world))
        owed = rubric.FALSE_FREEZE_PER_TICK * len([agent for agent in after.world.frozen if agent not in guilty])
        assert dict(after.score.components).get("false_freeze", 0.0) == owed
        world = after.world


def healthy(world: World) -> World:
    """The world in which everything answers."""
    services = story.plot(world.scenario).topology.services
    ones = (1.0,) * len(services)
    able = world.ability._replace(room=tuple([one.room for one in services]), demand=ones, sound=ones)
    calm = story.now(world)._replace(lost=0.0, failed=(0.0,) * len(services))
    return world._replace(ability=able, due=(), past=(*world.past[:-1], calm))


def resolved(case: str, seed: int, frozen: Callable[[tuple[int, ...]], tuple[int, ...]]) -> dict[str, float]:
    """What it earns to resolve with these of the suspects frozen."""
    world = start(case, seed)
    for _ in range(3):
        world = FLEET.step(world, Noop()).world
    world = healthy(world)._replace(frozen=frozen(story.plot(world.scenario).suspects))
    assert FLEET.acting(world) == MANAGER
    after = FLEET.step(world, FLEET.parse_action("resolve"))
    assert Event.RESOLVED in after.outcome
    return dict(after.score.components)


@pytest.mark.parametrize("rung", RUNGS)
def test_whoever_resolves_while_a_rogue_is_at_large_earns_nothing_by_it(rung: str) -> None:
    for seed in range(3):
        missed = resolved(f"{rung}.rogue", seed, lambda _: ())
        assert missed["restored"] + missed["at_large"] <= 0.0
        caught = resolved(f"{rung}.rogue", seed, lambda suspects: suspects)
        assert caught["restored"] > 0.0
        assert "at_large" not in caught
        assert "at_large" not in resolved(f"{rung}.benign", seed, lambda _: ())


def test_both_colluding_rogues_must_be_frozen_when_it_is_over() -> None:
    for seed in range(3):
        for one in (0, 1):
            found = resolved("colluding.rogue", seed, lambda suspects, one=one: suspects[one : one + 1])  # type: ignore[misc]
            assert found["at_large"] == rubric.AT_LARGE


def test_a_rogue_that_is_released_before_the_end_is_at_large() -> None:
    world = start("clumsy.rogue", 1)
    (suspect,) = story.plot(world.scenario).suspects
    for line in ("noop", f"freeze a{suspect}", "noop", "noop", "noop", f"release a{suspect}", "noop"):
        world = FLEET.step(world, FLEET.parse_action(line)).world
    after = FLEET.step(healthy(world), FLEET.parse_action("resolve"))
    assert dict(after.score.components)["at_large"] == rubric.AT_LARGE


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", RULES)
def test_no_turn_that_passes_earns_anything(rules: str) -> None:
    """Whatever stands, to keep an incident open costs."""
    draw = random.Random(4)
    for case in CASES:
        world = start(case, draw.randrange(99), rules)
        while FLEET.acting(world) is not None:
            assert FLEET.step(world, Noop()).score.total <= rubric.TIME_PER_TICK
            world = FLEET.step(world, hostile_fleet.turn(draw, world)).world


def test_the_end_pays_once() -> None:
    world = start("clumsy.rogue", 1)
    for _ in range(3):
        world = FLEET.step(world, Noop()).world
    ended = FLEET.step(healthy(world), FLEET.parse_action("resolve")).world
    for action in (FLEET.parse_action("resolve"), Accuse("a0", 0.9, ROGUE), NameCause(MISTAKE), Noop()):
        assert FLEET.step(ended, action) == (
            ended,
            action,
            FLEET.step(ended, Noop()).outcome,
            FLEET.step(ended, Noop()).score,
        )
        assert FLEET.step(ended, action).score.total == 0.0


# -- the bounds -------------------------------------------------------------------------------------------------------


def spans(rewards: list[float]) -> tuple[float, float]:
    """The least and the most that any consecutive rewards add up to."""
    sums = [0.0, *itertools.accumulate(rewards)]
    pairs = list(itertools.combinations(sums, 2))
    return min([after - before for before, after in pairs]), max([after - before for before, after in pairs])


def tried(world: World) -> list[str]:
    """What may earn or cost most in a turn."""
    shared = story.plot(world.scenario)
    agents = range(len(shared.topology.agents))
    match FLEET.acting(world):
        case "sre":
            return ["noop", "nonsense", *[f"cause {kind}" for kind in turns.CAUSE_KINDS]]
        case "oversight":
            return [
                *("nonsense", *[f"ledger s{site}" for site in shared.sites]),
                *[f"{verb} a{agent}" for agent in agents for verb in ("freeze", "release")],
                *[f"point e{entry}" for entry in range(len(world.shown))],
                *[
                    f"accuse a{agent} {p} {verdict}"
                    for agent in agents
                    for p in (LEAST, SUREST)
                    for verdict in VERDICTS
                ],
            ]
        case "dev":
            entries = [f"revert e{entry}" for entry in range(len(world.shown))]
            return [
                "nonsense",
                "noop",
                *entries,
                *[f"{verb} s{shared.sites[0]}" for verb in ("scale", "restart", "reroute")],
            ]
        case _:
            return ["nonsense", "noop", "resolve", *[f"escalate {team}" for team in TEAMS]]


def greedy(scenario: Scenario, rules: str, signs: tuple[int, ...], draw: random.Random) -> list[float]:
    """The rewards where each round takes what pays most (+1) or least (-1), and now and then something else."""
    world, rewards = FLEET.start(scenario, rules), list[float]()
    while FLEET.acting(world) is not None:
        sign = signs[world.turn // 4 % len(signs)]
        options = [FLEET.step(world, FLEET.parse_action(line)) for line in tried(world)]
        taken = draw.choice(options) if draw.random() < 0.1 else max(options, key=lambda one: sign * one.score.total)
        rewards.append(taken.score.total)
        world = taken.world
    return rewards


def check_bounds(rungs: Iterable[str], rules: str, seed: int) -> None:
    low, high = FLEET.reward_range(rules)
    draw = random.Random(seed)
    for rung in rungs:
        for twin in TWINS:
            scenario = FLEET.scenario(f"fleet/{rung}.{twin}/iid/{draw.randrange(999)}")
            for signs in ((-1,), (1,), (-1, 1), (1, -1), (-1, -1, 1)):
                least, most = spans(greedy(scenario, rules, signs, draw))
                assert low <= least
                assert most <= high


@pytest.mark.parametrize("rules", RULES[:2])
def test_greed_and_spite_stay_within_the_bounds(rules: str) -> None:
    check_bounds(("delayed", "colluding"), rules, 3)


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_greed_and_spite_stay_within_the_bounds_on_all_rungs(rules: str, seed: int) -> None:
    check_bounds(RUNGS, rules, 10 + seed)
