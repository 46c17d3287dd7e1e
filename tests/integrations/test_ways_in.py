"""Every way into the worlds plays the same episode: that of the bare world, for the same script.

A game is drawn and played by the contract's own methods, then through each way in that can express all of it. The
states of the world are compared in this process; no way in shows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chaosops_ray.agents.seat_spec import SeatSpec
from chaosops_ray.agents.session import OVER, Session
from chaosops_ray.integrations import symbolic
from chaosops_ray.integrations.aec import Turns
from chaosops_ray.integrations.rllib.environment import Table
from chaosops_ray.integrations.single_seat import SingleSeat
from chaosops_ray.integrations.trl import environment_class, session_of
from chaosops_ray.serve.app import create_app
from chaosops_ray.serve.client import CLIENTS, SeatClient
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.models import SeatAction
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.speech import Unparsed
from tests.support.bare import KINDS, WORLDS, Bare, Game, Turn, bare, games, named, state_hash, vocabulary
from tests.support.served import recorded, running

SIZE = 64
PAYS = ("return", "stream")
NEAR = 1e-9


class Servers:
    """A served world for each world and rule set that is asked for, with the states that it goes through."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[tuple[str, str], tuple[str, list[str]]] = {}

    def of(self, environment: AnyEnvironment, rules: str) -> tuple[str, list[str]]:
        if (environment.name, rules) not in self._running:
            world, states = recorded(environment)
            app = create_app(world, rules)
            self._running[environment.name, rules] = self._stack.enter_context(running(app, Limits())), states
        return self._running[environment.name, rules]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


def states_of(session: Session) -> list[str]:
    return [state_hash(session.environment, step.world) for step in session.running.steps]


def numbers_of(game: Game, turn: Turn) -> tuple[list[float], list[int]]:
    """The vector and the mask of what a seat sees, made of the bare world's view."""
    listed = vocabulary(game.environment, turn.role)
    vector = symbolic.features(game.environment, turn.view, SIZE).tolist()
    return vector, [int(spelling in turn.allowed) for spelling in listed]


def paid(game: Game, turn: Turn, role: str, pay: str) -> Any:
    worth = turn.reward if pay == "return" else turn.streams[game.environment.pay[role]]
    return pytest.approx(worth, abs=NEAR)


# -- the ways in ------------------------------------------------------------------------------------------------------


def over_a_socket(game: Game, expected: Bare, servers: Servers) -> None:
    """OpenEnv shows texts and views of every seat that the caller plays, and the parts of each reward."""
    environment = game.environment
    address, states = servers.of(environment, game.rules)
    states.clear()
    met: set[str] = set()
    with CLIENTS.get(environment.name, SeatClient)(f"http://{address}").sync() as env:
        seen = env.reset(scenario_id=game.scenario.identity, colleagues=game.colleagues)
        assert seen.reward is None
        total = 0.0
        for turn in expected.turns:
            observation = seen.observation
            assert not seen.done
            assert (observation.role, observation.text) == (turn.role, turn.text)
            assert observation.view == json.loads(environment.dump_view(turn.view))
            prompt = environment.system_prompt(turn.role, game.rules, "full")
            assert observation.system_prompt == (None if turn.role in met else prompt)
            opening = environment.opening(turn.role, game.rules, "full")
            examples = [(one.asked, one.answer) for one in observation.examples or ()]
            assert examples == ([] if turn.role in met else list(opening))
            met.add(turn.role)
            if turn.move.fields is None:
                seen = env.say(turn.move.completion)
            else:
                seen = env.step(SeatAction.model_validate(turn.move.fields))
            assert seen.reward == pytest.approx(turn.reward, abs=NEAR)
            assert seen.observation.rubrics == pytest.approx(turn.components, abs=NEAR)
            assert seen.observation.action == json.loads(environment.dump_action(turn.taken))
            total += seen.reward
        assert (seen.done, seen.observation.role, seen.observation.text) == (True, None, OVER)
        assert seen.observation.view == json.loads(environment.dump_view(expected.last))
    assert total == pytest.approx(expected.total, abs=NEAR)
    assert states == expected.states


def by_trl(game: Game, expected: Bare) -> None:
    """TRL shows texts, pays the return at the end, and says before the next text if a call was not valid."""
    (role,) = {turn.role for turn in expected.turns}
    seat = SeatSpec(game.environment, role, game.rules, game.colleagues, game.environment.cases, "full")
    environment = environment_class(seat)()
    told = environment.reset(scenario=game.scenario.identity)
    for turn, then in zip(expected.turns, [*[turn.text for turn in expected.turns[1:]], OVER], strict=True):
        assert told == turn.text
        assert turn.move.call is not None
        name, arguments = turn.move.call
        (form,) = [form for form in game.environment.forms(role, game.rules) if form.name == name]
        told = getattr(environment, name)(**arguments)
        unknown = [
            one.name for one in form.parameters if one.valid and arguments.get(one.name) not in (None, *one.valid)
        ]
        if isinstance(turn.taken, Unparsed) or unknown:
            first, _, told = told.partition("\n")
            reason = turn.taken.reason if isinstance(turn.taken, Unparsed) else f"{unknown[0]} must be one of "
            assert first.startswith(f"That call of {name} is not valid: {reason}")
        assert told == then or turn is not expected.turns[-1]
    assert told == OVER
    assert environment.get_reward() == pytest.approx(expected.total, abs=NEAR)
    assert states_of(session_of(environment)) == expected.states


def by_gymnasium(game: Game, expected: Bare, pay: Any) -> None:
    """Gymnasium's environment of one seat shows a vector, or the text, beside the mask."""
    (role,) = {turn.role for turn in expected.turns}
    given: dict[str, Any] = {"colleagues": game.colleagues, "rules": game.rules, "pay": pay}
    by_vector = SingleSeat(game.environment, role, size=SIZE, **given)
    by_text = SingleSeat(game.environment, role, observation="text", **given)
    seen, info = by_vector.reset(options={"scenario": game.scenario.identity})
    text, _ = by_text.reset(options={"scenario": game.scenario.identity})
    for turn in expected.turns:
        assert not isinstance(seen, str)
        assert (seen.tolist(), info["action_mask"].tolist()) == numbers_of(game, turn)
        assert by_vector.action_masks().tolist() == info["action_mask"].astype(bool).tolist()
        assert text == turn.text
        seen, reward, is_over, is_cut, info = by_vector.step(turn.move.number)
        assert reward == paid(game, turn, role, pay)
        assert info["components"] == pytest.approx(turn.components, abs=NEAR)
        text, *rest, _ = by_text.step(turn.move.number)
        assert rest == [reward, is_over, is_cut] == [reward, turn is expected.turns[-1], False]
    assert text == OVER
    for env in (by_vector, by_text):
        assert states_of(env.game.session) == expected.states


def by_pettingzoo(game: Game, expected: Bare, pay: str) -> None:
    """PettingZoo shows every role a vector and its mask, on its turn or not, and pays all of them at each turn."""
    env = Turns(game.environment, colleagues=game.colleagues, rules=game.rules, pay=pay, size=SIZE)
    env.reset(options={"scenario": game.scenario.identity})
    for turn in expected.turns:
        assert env.agent_selection == turn.role
        seen, _, is_over, is_cut, info = env.last()
        assert seen is not None
        assert (seen.tolist(), info["action_mask"].tolist()) == numbers_of(game, turn)
        assert (is_over, is_cut) == (False, False)
        env.step(turn.move.number)
        assert env.rewards == {role: paid(game, turn, role, pay) for role in env.possible_agents}
    assert set(env.terminations.values()) == {True}
    assert states_of(env.game.session) == expected.states


def by_rllib(game: Game, expected: Bare, pay: str) -> None:
    """RLlib's environment shows the role whose turn it is, and at the end all; rewards are scaled."""
    given = {"world": game.environment, "colleagues": game.colleagues, "rules": game.rules, "pay": pay, "size": SIZE}
    table = Table({**given, "scale": 0.5})
    seen, _ = table.reset(options={"scenario": game.scenario.identity})
    for turn in expected.turns:
        (found,) = seen.values()
        assert list(seen) == [turn.role]
        assert (found["observations"].tolist(), found["action_mask"].tolist()) == numbers_of(game, turn)
        assert found in table.observation_spaces[turn.role]
        seen, rewards, ended, cut, _ = table.step({turn.role: turn.move.number})
        assert {role: reward / 0.5 for role, reward in rewards.items()} == {
            role: paid(game, turn, role, pay) for role in table.agents
        }
        assert (ended, cut) == ({"__all__": turn is expected.turns[-1]}, {"__all__": False})
    assert list(seen) == table.agents
    assert states_of(table.game.session) == expected.states


# The ways in that each kind of script takes at least; whatever it can express, it takes.
TAKEN = {
    "numbers": {"a socket", "Gymnasium", "PettingZoo", "RLlib"},
    "calls": {"a socket", "TRL"},
    "anything": {"a socket"},
    "baseline": {"a socket", "TRL"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("environment", WORLDS, ids=named)
def test_every_way_in_plays_the_episode_of_the_bare_world(
    servers: Servers, environment: AnyEnvironment, kind: str
) -> None:
    """The same observations, the same reward of each turn and in sum, and the same states."""
    taken: set[str] = set()

    @settings(max_examples=6)
    @given(games([environment], [kind]), st.sampled_from(PAYS))
    def plays(game: Game, pay: str) -> None:
        expected = bare(game)
        assume(expected.turns)  # colleagues may end an episode before the caller has a turn; each way in refuses that
        has_one_seat = len(game.colleagues) == len(environment.roles) - 1
        has_calls = all(turn.move.call is not None for turn in expected.turns)
        has_numbers = all(turn.move.number is not None for turn in expected.turns)
        over_a_socket(game, expected, servers)
        taken.add("a socket")
        if has_one_seat and has_calls:
            by_trl(game, expected)
            taken.add("TRL")
        if has_one_seat and has_numbers:
            by_gymnasium(game, expected, pay)
            taken.add("Gymnasium")
        if has_numbers:
            by_pettingzoo(game, expected, pay)
            by_rllib(game, expected, pay)
            taken.update(["PettingZoo", "RLlib"])

    plays()
    assert taken >= TAKEN[kind]
