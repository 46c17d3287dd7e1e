"""A world as an OpenEnv environment, in process: what a caller sees, earns and may ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.agents.session import Session
from chaosops_ray.serve.environment import SeatEnvironment, Served
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.models import SeatAction, SeatObservation
from chaosops_ray.serve.tasks import Catalog
from chaosops_ray.sim import ENVIRONMENTS, InputError, seats
from chaosops_ray.sim.contract import AnyEnvironment, Scenario
from tests.support.toy_world import TOY

INCIDENT, TOOLS = ENVIRONMENTS["incident"], ENVIRONMENTS["tools"]
CATALOGS = {world.name: Catalog(world) for world in (*ENVIRONMENTS.values(), TOY)}
RULES = [(world, rules) for world in ENVIRONMENTS.values() for rules in world.rule_sets]
ORACLES = {"sre": "oracle", "oversight": "oracle", "manager": "oracle"}
CAPTURED: dict[str, Any] = {}


def served(world: AnyEnvironment, rules: str = "strict", **options: Any) -> SeatEnvironment:
    return SeatEnvironment(Served(CATALOGS[world.name], world.rules(rules), **options))


def played(env: SeatEnvironment, first: SeatObservation, policy: str) -> list[SeatObservation]:
    """The rest of the episode, by a baseline that is given the views which only this process has."""
    session = env.session
    assert session is not None
    choose = session.environment.policies[policy](session.running.scenario, session.running.rules)
    seen = [first]
    while not seen[-1].done:
        action = json.loads(session.environment.dump_action(choose(session.view)))
        seen.append(env.step(SeatAction.model_validate(action)))
    return seen


@pytest.mark.parametrize(("world", "rules"), RULES, ids=lambda given: getattr(given, "name", given))
@pytest.mark.parametrize("policy", ["oracle", "random"])
def test_rewards_are_the_sum_of_the_rubrics_and_add_up_to_the_return(
    world: AnyEnvironment, rules: str, policy: str
) -> None:
    env = served(world, rules)
    low, high = world.reward_range(rules)
    for seed in range(4):
        first = env.reset(seed=seed)
        assert (first.reward, first.rubrics, first.done) == (None, {}, False)
        seen = played(env, first, policy)
        for one in seen[1:]:
            assert isinstance(one.reward, float)
            assert low <= one.reward == sum(one.rubrics.values()) <= high
        episode = env.session.episode  # type: ignore[union-attr]
        assert sum([one.reward for one in seen[1:]]) == pytest.approx(episode.total)
        last = seen[-1]
        assert (last.done, last.role, last.success) == (True, None, world.succeeded(episode))
        assert last.score == world.grade(episode)
        # The tree of rubrics says the same of the last observation, part by part.
        scores = {name: rubric.last_score for name, rubric in env.rubric.named_rubrics()}  # type: ignore[union-attr]
        leaves = {name: value for name, value in scores.items() if name in world.components}
        assert set(leaves) == set(world.components)
        assert {name: value for name, value in leaves.items() if value} == {
            name: value for name, value in last.rubrics.items() if value
        }
        groups = [value for name, value in scores.items() if "." not in name]
        assert sum(groups) == pytest.approx(last.reward)


@pytest.mark.parametrize("world", ENVIRONMENTS.values(), ids=lambda world: world.name)
def test_a_seat_is_told_its_prompt_and_its_tools_once(world: AnyEnvironment) -> None:
    env = served(world)
    seen = played(env, env.reset(index=3), "random")
    met: set[str] = set()
    for one in seen[:-1]:
        assert one.role is not None
        assert (
            (one.system_prompt is None)
            == (one.examples is None)
            == (one.tools is None)
            == ("guidance" not in one.metadata)
            == (one.role in met)
        )
        if one.tools is not None:
            names = [tool["function"]["name"] for tool in one.tools]
            assert names == [form.name for form in world.forms(one.role, "strict")]
        met.add(one.role)
    assert met == set(world.roles)
    assert seen[0].metadata.keys() == {"id", "split", "index", "difficulty", "group", "guidance"}


def test_in_compact_style_there_are_no_examples() -> None:
    first = served(INCIDENT).reset(index=3, style="compact")
    assert first.system_prompt == INCIDENT.system_prompt("sre", "strict", "compact")
    assert first.examples is None


def test_one_seat_is_the_callers_and_the_policies_named_play_the_others() -> None:
    env = served(INCIDENT)
    first = env.reset(index=1, role="dev", colleagues=ORACLES)
    assert env.state.seats == {**ORACLES, "dev": "caller"}
    seen = played(env, first, "oracle")
    assert {one.role for one in seen[:-1]} == {"dev"}
    scenario = CATALOGS["incident"].tasks("train")[1].scenario
    beside = Session(INCIDENT, scenario, "strict", seats.built(INCIDENT, ORACLES, scenario, "strict"))
    assert first.text == beside.text
    other = env.reset(index=1, role="dev", colleagues="oracle")
    assert other.text == first.text
    left = env.reset(index=1, colleagues={"sre": "heuristic", "manager": "random"})
    assert left.role == "oversight"
    assert env.state.seats["dev"] == "caller"


def test_policies_that_the_server_was_given_may_be_named() -> None:
    def quiet(_: Scenario, rules: str) -> Any:
        return lambda view: INCIDENT.action_of({"action": "communicate", "message": f"{view.role} of {rules}"})

    env = served(INCIDENT, policies={"quiet": quiet})
    seen = env.reset(index=0, role="manager", colleagues="quiet")
    assert "sre of strict/2" in seen.text
    with pytest.raises(InputError, match="unknown policy 'quiet'"):
        served(INCIDENT).reset(index=0, role="manager", colleagues="quiet")


def test_a_colleague_that_fails_ends_the_episode_and_says_nothing_of_itself() -> None:
    def broken(_: Scenario, __: str) -> Any:
        def act(_: Any) -> Any:
            raise ServedModelError("http://secret.example/v1 gave no answer")

        return act

    env = served(INCIDENT, policies={"broken": broken})
    env.reset(index=0, colleagues={"oversight": "broken"})
    for _ in range(2):
        with pytest.raises(InputError, match=r"reset") as caught:
            env.step(SeatAction(action="noop"))
        assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="a colleague's model gave no answer"):
        env.reset(index=0, role="dev", colleagues="broken")
    assert env.reset(index=0).role == "sre"


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "restart", "service": "db"},
        {"action_type": "restart", "target": "db"},
        {"action_type": "restart", "target": "db", "args": {}, "metadata": {"from": "elsewhere"}},
        {"completion": 'I restart it. {"action": "restart", "service": "db"}'},
    ],
)
def test_an_action_of_the_incident_room_in_each_spelling(fields: dict[str, Any]) -> None:
    env = served(INCIDENT)
    env.reset(scenario_id="db_deadlock", colleagues={"sre": "oracle", "oversight": "oracle"})
    seen = env.step(SeatAction.model_validate(fields))
    assert (seen.done, seen.success, seen.error) == (True, True, None)
    assert seen.action == {"action": "restart", "service": "db"}


@pytest.mark.parametrize(
    "fields",
    [
        {"tool": "submit_answer", "arguments": {"answer": "seven", "reasoning": "a guess"}},
        {"type": "submit_answer", "answer": "seven", "reasoning": "a guess"},
        {"type": "call_tool", "tool_name": "submit_answer", "arguments": {"answer": "seven", "reasoning": "a guess"}},
        {"completion": '{"tool": "submit_answer", "arguments": {"answer": "seven", "reasoning": "a guess"}}'},
    ],
)
def test_an_answer_in_each_spelling(fields: dict[str, Any]) -> None:
    env = served(TOOLS, "published")
    env.reset(scenario_id="W01")
    seen = env.step(SeatAction.model_validate(fields))
    assert seen.done
    assert seen.action == {"tool": "submit_answer", "arguments": {"answer": "seven", "reasoning": "a guess"}}


def test_what_is_no_action_is_a_step_that_costs_what_the_rules_say() -> None:
    env = served(INCIDENT)
    env.reset(index=0)
    seen = env.step(SeatAction.model_validate({"nonsense": [1, {"deep": None}]}))
    assert seen.rubrics["resolution.miscommunication"] == -20.0
    assert seen.error
    assert env.state.step_count == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": "7"}, "seed must be a whole number"),
        ({"seed": 2**63}, "seed must be a whole number"),
        ({"episode_id": ""}, "episode_id must be a text"),
        ({"episode_id": "x" * 256}, "episode_id must be a text"),
        ({"episode_id": 5}, "episode_id must be a text"),
        ({"rules": "published"}, "unknown option of reset 'rules'"),
        ({"self": 1}, "unknown option of reset 'self'"),
        ({"split": ["train"]}, "split must be text"),
        ({"index": "3"}, "index must be a whole number"),
        ({"index": False}, "index must be a whole number"),
        ({"role": "ceo"}, "unknown role 'ceo'"),
        ({"role": "dev"}, "nobody plays sre, oversight, manager"),
        ({"role": "dev", "colleagues": {"dev": "oracle"}}, "no seat is left to the caller"),
        ({"colleagues": dict.fromkeys(INCIDENT.roles, "oracle")}, "no seat is left to the caller"),
        ({"colleagues": "oracle"}, "needs a role for the caller"),
        ({"colleagues": {"dev": 3}}, "colleagues must be the name of a policy"),
        ({"colleagues": ["oracle"]}, "colleagues must be the name of a policy"),
        ({"colleagues": {"dev": "nobody"}}, "unknown policy 'nobody'"),
        ({"style": "loud"}, "unknown style 'loud'"),
    ],
)
def test_a_reset_that_is_refused_changes_nothing(options: dict[str, Any], words: str) -> None:
    env = served(INCIDENT)
    env.reset(seed=4, episode_id="mine")
    env.step(SeatAction(action="noop"))
    before = env.state
    with pytest.raises(InputError) as caught:
        env.reset(**options)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400
    assert env.state == before
    assert env.step(SeatAction(action="noop")).rubrics == {"mttr.delay": -4.0}


def test_colleagues_that_leave_no_turn_are_an_error_that_names_no_scenario() -> None:
    env = served(INCIDENT)
    with pytest.raises(InputError, match="no turn is left to the caller") as caught:
        env.reset(scenario_id="db_deadlock", role="manager", colleagues="oracle")
    assert "db_deadlock" not in str(caught.value)


def test_a_step_needs_an_episode_that_goes_on() -> None:
    env = served(TOOLS)
    with pytest.raises(InputError, match="no episode has begun; reset first"):
        env.step(SeatAction(tool="calculator"))
    env.reset(seed=0)
    env.step(SeatAction(type="submit_answer", answer="x", reasoning=""))
    with pytest.raises(InputError, match="the episode is over; reset to start another one"):
        env.step(SeatAction(tool="calculator"))
    assert env.state.step_count == 1
    env.close()
    for again in (env.reset, lambda: env.step(SeatAction())):
        with pytest.raises(InputError, match="this session has ended"):
            again()


def test_a_session_may_use_so_many_resets_and_steps() -> None:
    env = served(INCIDENT, limits=Limits(resets=2, steps=3))
    env.reset()
    for _ in range(3):
        env.step(SeatAction(action="noop"))
    with pytest.raises(InputError, match="has used its 3 steps"):
        env.step(SeatAction(action="noop"))
    env.reset()
    with pytest.raises(InputError, match="has used its 2 resets"):
        env.reset()


def test_resets_without_a_seed_go_through_the_seeds_in_order() -> None:
    env, other = served(INCIDENT), served(INCIDENT)
    assert [env.reset().metadata["id"] for _ in range(5)] == [other.reset(seed=n).metadata["id"] for n in range(5)]


def test_what_leaves_the_server_names_no_failure_but_where_every_failure_is_named() -> None:
    """Prompts and tools list all failures; texts and views are the world's own, and its tests look after them.

    The parts of a reward tell what has happened: one of them is called after the harm that spreads.
    """
    env = served(INCIDENT)
    failures = {scenario.case for scenario in INCIDENT.cases}
    for index in range(25):
        task = CATALOGS["incident"].tasks("test")[index]
        first = env.reset(split="test", index=index, episode_id="e")
        for one in played(env, first, "random"):
            told = one.model_dump(exclude={"system_prompt", "examples", "tools", "text", "view", "action", "rubrics"})
            told["metadata"].pop("guidance", None)
            said = json.dumps([told, env.state.model_dump(), env.get_metadata().model_dump()])
            assert not [name for name in failures if name in said]
            assert task.scenario.identity not in one.model_dump_json()


def test_a_world_that_gives_nothing_of_its_own_is_served_too() -> None:
    env = served(TOY)
    seen = played(env, env.reset(seed=1, episode_id="toy"), "random")
    assert seen[-1].done
    assert sum([one.reward or 0.0 for one in seen]) == pytest.approx(env.session.episode.total)  # type: ignore[union-attr]
    assert env.state.episode_id == "toy"
