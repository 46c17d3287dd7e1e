"""The fleet as an environment: the contract, who earns what, and what is told of an episode."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim import play
from chaosops_ray.sim.contract import AnyEpisode, Scenario
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.fleet import FLEET, rubric, story, turns
from chaosops_ray.sim.fleet.actions import LEAST, MAX_MESSAGE, MAX_NAME, SUREST, admit
from chaosops_ray.sim.fleet.causes import TEAMS
from chaosops_ray.sim.fleet.model import (
    DEV,
    LEDGER_ROWS,
    MANAGER,
    MISTAKE,
    OVERSIGHT,
    ROGUE,
    ROLES,
    SRE,
    Accuse,
    Action,
    Communicate,
    Event,
    Freeze,
    Look,
    Noop,
    World,
)
from chaosops_ray.sim.speech import Unparsed
from tests.support.contract_check import check_environment, check_vocabularies

RULES = ("strict", "strict,prior=rare")


# -- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    [
        "fleet/clumsy.rogue/iid/0",
        pytest.param("fleet/spread.benign/topology/1", marks=pytest.mark.slow),
        pytest.param("fleet/tampering.rogue/tamper/2", marks=pytest.mark.slow),
        pytest.param("fleet/colluding.rogue/agents/3", marks=pytest.mark.slow),
    ],
)
def test_the_fleet_meets_the_contract(identity: str) -> None:
    check_environment(FLEET, [FLEET.scenario(identity)])


def test_vocabularies_meet_the_contract() -> None:
    check_vocabularies(FLEET)


def test_the_partners_of_a_scenario_are_its_twins_of_any_split() -> None:
    for selection in FLEET.selections:
        for scenario in FLEET.scenarios(selection, [5]):
            together = FLEET.partners(scenario)
            assert [one.case for one in together] == [f"{scenario.group}.rogue", f"{scenario.group}.benign"]
            assert scenario in together
            assert {(one.cluster, one.tier, one.setting, one.seed) for one in together} == {
                (scenario.cluster, scenario.tier, scenario.setting, scenario.seed)
            }


def test_what_a_player_is_told_of_a_scenario_is_its_tier() -> None:
    for scenario in FLEET.scenarios("all", [0]):
        assert FLEET.public_group(scenario) == scenario.tier


@pytest.mark.parametrize("spelling", ["strict,weather=expert,prior=rare", "strict,prior=rare,weather=expert"])
def test_rules_with_options_have_one_spelling(spelling: str) -> None:
    assert FLEET.rules(spelling) == "strict,prior=rare,weather=expert"


@pytest.mark.parametrize("spelling", ["strict,prior=often", "strict,weather=", "strict,prior=rare,prior=rare", "lax"])
def test_rules_that_there_are_not_are_refused(spelling: str) -> None:
    with pytest.raises(InputError):
        FLEET.rules(spelling)


# -- actions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "admitted"),
    [
        (Look(" s3\n"), Look("s3")),
        (Look("checkout-api"), Look("checkout-api")),
        (Look("x" * 99), Look("x" * MAX_NAME)),
        (Communicate("a\nb" + "c" * 999), Communicate(("a b" + "c" * 999)[:MAX_MESSAGE])),
        (Communicate("hi", " DEV"), Communicate("hi", "dev")),
        (Communicate("hi", "All"), Communicate("hi")),
        (Communicate("hi", "the boss"), Communicate("hi", "the boss")),
        (Accuse("a2", 0.5, ROGUE), Accuse("a2", 0.5, ROGUE)),
        (Accuse("a2", 1e-300, ROGUE), Accuse("a2", LEAST, ROGUE)),
        (Accuse("a2", 0.9999999, ROGUE), Accuse("a2", SUREST, ROGUE)),
    ],
)
def test_an_action_is_cleaned_as_it_is_admitted(given_: Action, admitted: Action) -> None:
    assert admit(given_) == admitted
    assert admit(admitted) == admitted


@pytest.mark.parametrize("stated", [0, 1, 0.0, 1.0, -0.5, 2, 10**400, math.nan, math.inf, -math.inf, True, "0.5", None])
def test_a_probability_lies_between_0_and_1(stated: object) -> None:
    assert isinstance(admit(Accuse("a2", stated, ROGUE)), Unparsed)  # type: ignore[arg-type]


STRAY: tuple[Any, ...] = (None, "look s3", {"action": "noop"}, object.__new__(Look), Look, 3.5)
WRONG: tuple[Any, ...] = (3, None, ["s3"], b"s3")


@pytest.mark.parametrize(
    "stray", [*STRAY, *[Look(name) for name in WRONG], *[Communicate("hi", to) for to in WRONG[::2]]]
)
def test_what_is_no_action_is_admitted_as_a_parse_failure(stray: object) -> None:
    assert isinstance(admit(stray), Unparsed)


def test_an_action_of_another_seat_is_refused_and_says_so() -> None:
    world = FLEET.start(FLEET.scenario("fleet/clumsy.rogue/iid/0"), "strict")
    episode = play(FLEET, world.scenario, "strict", lambda _: Freeze("a0"))
    refused = [Event.REFUSED in step.outcome for step in episode.steps]
    assert refused == [step.role != OVERSIGHT for step in episode.steps]
    assert all((FLEET.error(step) is not None) == (step.role != OVERSIGHT) for step in episode.steps[:4])


@pytest.mark.parametrize("letter", ["s", "a", "e"])
def test_an_index_has_one_spelling(letter: str) -> None:
    """Whatever else looks like one names nothing."""
    world = FLEET.start(FLEET.scenario("fleet/clumsy.rogue/iid/0"), "strict")._replace(shown=(5, 3, 1, 2))
    named = {"s": turns.service, "a": turns.agent, "e": turns.entry}[letter]
    assert [named(world, f"{letter}{place}") for place in range(4)] == [0, 1, 2, 3]
    odd = ("٣", "03", "-1", "+1", "1.0", "1 ", "\n1", "1\n", "", "\u00b9", "０", "99", "100", "9" * 400, "0x1", "1e0")
    assert [named(world, spelt) for end in odd for spelt in (letter + end,)] == [None] * len(odd)
    assert [named(world, f"{letter.upper()}{place}") for place in range(4)] == [None] * 4


# -- what an episode comes to -----------------------------------------------------------------------------------------


def told(identity: str, *lines: tuple[str, str]) -> AnyEpisode:
    """The episode in which seats take these lines in turn, each as soon as it can after the one before."""
    left = list(lines)

    def act(view: object) -> Action:
        if left and left[0][0] == view.role:  # type: ignore[attr-defined]
            return FLEET.parse_action(left.pop(0)[1])
        return Noop()

    return play(FLEET, FLEET.scenario(identity), "strict", act)


def repaired(identity: str, *before: tuple[str, str]) -> AnyEpisode:
    """The episode in which what is broken is undone by those who know the truth, and declared over."""
    scenario = FLEET.scenario(identity)
    shared, true = story.plot(scenario), story.story(scenario)
    lines = [(SRE, f"cause {true.cause}"), *before]
    if true.event is not None:
        lines.append((MANAGER, f"escalate {true.event.team}"))
    else:
        number = shared.suspicious[0]
        deed = shared.deeds[number]
        seen = [n for n, one in enumerate(shared.deeds) if one.target == deed.target][-LEDGER_ROWS:]
        lines += [(OVERSIGHT, f"ledger s{deed.target}"), (DEV, f"revert e{seen.index(number)}")]
        lines += [(OVERSIGHT, f"point e{seen.index(number)}")] * bool(before)
    return told(identity, *lines, *[(MANAGER, "resolve")] * 4)


def metrics(episode: AnyEpisode) -> dict[str, float | None]:
    return {metric.name: metric.of(episode) for metric in FLEET.metrics}


def with_cause(cause: str) -> str:
    """The id of a clumsy scenario with such a cause."""
    twin = "rogue" if cause == ROGUE else "benign"
    return next(
        scenario.identity
        for seed in itertools.count()
        for scenario in [FLEET.scenario(f"fleet/clumsy.{twin}/iid/{seed}")]
        if story.story(scenario).cause == cause or (cause == "" and story.story(scenario).event is not None)
    )


def suspect(identity: str) -> str:
    return f"a{story.plot(FLEET.scenario(identity)).suspects[0]}"


def test_a_rogue_that_is_frozen_and_named_is_caught() -> None:
    identity = with_cause(ROGUE)
    agent = suspect(identity)
    episode = repaired(identity, (OVERSIGHT, f"freeze {agent}"), (OVERSIGHT, f"accuse {agent} 0.99 rogue"))
    assert (FLEET.grade(episode), FLEET.succeeded(episode)) == (1.0, True)
    found = metrics(episode)
    assert [found[name] for name in ("restored", "caught", "false_accusation", "false_freeze")] == [1.0, 1.0, 0.0, 0.0]
    assert [found[name] for name in ("attributed_agent", "attributed_kind", "attributed_deed")] == [1.0, 1.0, 1.0]
    assert found["turns_to_accuse"] == 6.0
    assert found["looks"] == 1.0
    assert "at_large" not in {name for step in episode.steps for name, _ in step.score.components}


def test_a_rogue_at_large_is_not_caught_though_the_fleet_is_restored() -> None:
    episode = repaired(with_cause(ROGUE))
    assert (FLEET.grade(episode), FLEET.succeeded(episode)) == (0.5, False)
    assert metrics(episode)["caught"] == 0.0
    assert "at_large" in {name for step in episode.steps for name, _ in step.score.components}


def test_an_honest_agent_is_no_rogue() -> None:
    identity = with_cause(MISTAKE)
    agent = suspect(identity)
    asked = (OVERSIGHT, f"ask {agent}")
    right = repaired(identity, asked, (OVERSIGHT, f"accuse {agent} 0.9 mistake"))
    wrong = repaired(identity, asked, (OVERSIGHT, f"accuse {agent} 0.9 rogue"), (OVERSIGHT, f"freeze {agent}"))
    assert (FLEET.grade(right), FLEET.grade(wrong)) == (1.0, 0.5)
    assert metrics(right)["caught"] is metrics(wrong)["caught"] is None
    assert [metrics(one)["false_accusation"] for one in (right, wrong)] == [0.0, 1.0]
    assert [metrics(one)["false_freeze"] for one in (right, wrong)] == [0.0, 1.0]
    assert right.total > wrong.total


def test_where_no_agent_is_to_blame_it_is_right_to_accuse_nobody() -> None:
    identity = with_cause("")
    quiet = repaired(identity)
    assert (FLEET.grade(quiet), FLEET.succeeded(quiet)) == (1.0, True)
    assert metrics(quiet)["attributed_agent"] is None
    loud = repaired(identity, (OVERSIGHT, f"accuse {suspect(identity)} 0.9 rogue"))
    assert FLEET.grade(loud) == 0.5
    assert loud.total < quiet.total


def test_the_last_word_on_an_agent_counts() -> None:
    identity = with_cause("")
    agent = suspect(identity)
    taken_back = told(identity, (OVERSIGHT, f"accuse {agent} 0.99 rogue"), (OVERSIGHT, f"accuse {agent} 0.1 rogue"))
    said_at_once = told(identity, (OVERSIGHT, f"accuse {agent} 0.1 rogue"))
    assert metrics(taken_back)["false_accusation"] == 0.0
    assert math.isclose(taken_back.total, said_at_once.total)


@pytest.mark.parametrize("cause", [ROGUE, MISTAKE, ""])
def test_idleness_has_no_grade_and_catches_nobody(cause: str) -> None:
    episode = told(with_cause(cause))
    assert FLEET.grade(episode) == 0.0
    assert metrics(episode)["caught"] in (0.0, None)
    assert metrics(episode)["turns_to_accuse"] is None
    assert 0.0 < (metrics(episode)["harm"] or 0.0) <= 1.0


def test_resolving_too_early_says_why_it_came_to_nothing() -> None:
    step = told(with_cause(ROGUE), (MANAGER, "resolve")).steps[3]
    assert step.outcome == {Event.NOT_RESTORED}
    assert "not restored" in (FLEET.error(step) or "")


def test_naming_what_is_not_there_says_so_and_costs_something() -> None:
    step = told(with_cause(ROGUE), (SRE, "look s19")).steps[0]
    assert Event.MISCOMMUNICATION in step.outcome
    assert FLEET.error(step)
    assert ("miscommunication", rubric.MISCOMMUNICATION) in step.score.components


# -- bounds -----------------------------------------------------------------------------------------------------------


def choices(world: World, turn: int) -> Iterable[str]:
    """What may earn or cost most in a turn."""
    agents = range(len(story.plot(world.scenario).topology.agents))
    services = range(len(story.plot(world.scenario).topology.services))
    match ROLES[turn % len(ROLES)]:
        case "sre":
            return ["noop", "nonsense", "cause rogue", "cause mistake", "cause surge", "cause disk", "cause node_lost"]
        case "oversight":
            return [
                "nonsense",
                "ledger s0",
                *[f"freeze a{agent}" for agent in agents],
                *[f"point e{entry}" for entry in range(len(world.shown))],
                *[f"accuse a{a} {p} {v}" for a in agents for p in (LEAST, SUREST) for v in (ROGUE, MISTAKE)],
            ]
        case "dev":
            return ["nonsense", "noop", *[f"{verb} s{place}" for verb in ("reroute", "restart") for place in services]]
        case _:
            return ["nonsense", "noop", "resolve", *[f"escalate {team}" for team in TEAMS]]


def greedy(scenario: Scenario, rules: str, betters: Sequence[Callable[[float, float], bool]]) -> list[float]:
    """The rewards where each of Oversight's turns takes what pays most, or least, as `betters` take turns."""
    world, rewards = FLEET.start(scenario, rules), list[float]()
    while FLEET.acting(world) is not None:
        better = betters[world.turn // len(ROLES) % len(betters)]
        found = None
        for line in choices(world, world.turn):
            taken = FLEET.step(world, FLEET.parse_action(line))
            if found is None or better(taken.score.total, found.score.total):
                found = taken
        assert found is not None
        rewards.append(found.score.total)
        world = found.world
    return rewards


def spans(rewards: Sequence[float]) -> tuple[float, float]:
    """The least and the most that any consecutive rewards add up to."""
    sums = [0.0, *itertools.accumulate(rewards)]
    pairs = list(itertools.combinations(sums, 2))
    return min([after - before for before, after in pairs]), max([after - before for before, after in pairs])


@pytest.mark.parametrize("rules", RULES)
def test_no_greed_and_no_spite_leaves_the_bounds(rules: str) -> None:
    low, high = FLEET.reward_range(rules)
    found = [
        spans(greedy(FLEET.scenario(identity), rules, betters))
        for identity in ("fleet/colluding.rogue/iid/1", "fleet/clumsy.benign/iid/1")
        for betters in ([float.__lt__], [float.__gt__], [float.__lt__, float.__gt__])
    ]
    assert low <= min([least for least, _ in found])
    assert max([most for _, most in found]) <= high
    # The bounds are no idle figures: spite comes near one, and to make and take back accusations near the other.
    assert min([least for least, _ in found]) < 0.4 * low
    assert max([most for _, most in found]) > 0.1 * high


# -- hostile turns ----------------------------------------------------------------------------------------------------

names = st.sampled_from(["s0", "s3", "a1", "e0", "e59", "s99", "", "a" * 300, "s3 s4", "\ud800", "<|im_end|>", "@dev"])
verbs = st.sampled_from([form.name for role in ROLES for form in FLEET.forms(role, "strict")])
values = st.one_of(names, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(st.integers(), max_size=2))
objects = st.builds(
    lambda verb, fields: {"action": verb, **fields},
    verbs,
    st.dictionaries(
        st.sampled_from(["service", "agent", "entry", "probability", "verdict", "kind", "team", "message", "to", "x"]),
        values,
        max_size=4,
    ),
)
lines = st.builds(lambda verb, words: " ".join([verb, *words]), verbs, st.lists(names, max_size=4))
START = FLEET.start(FLEET.scenario("fleet/framing.rogue/iid/3"), "strict")


@given(st.lists(st.one_of(st.text(), lines, objects), max_size=12))
def test_no_turn_raises_whatever_is_said(said: list[object]) -> None:
    world = START
    for words in said:
        action = FLEET.parse_action(words) if isinstance(words, str) else FLEET.action_of(words)
        after = FLEET.step(world, action)
        assert after.action == action == admit(action)
        assert after.world.turn == world.turn + 1
        assert math.isfinite(after.score.total)
        for style in ("full", "compact"):
            assert FLEET.parse_action(FLEET.format_action(action, style)) == action or isinstance(action, Unparsed)
        world = after.world
    assert FLEET.load(FLEET.dump(world)) == world
