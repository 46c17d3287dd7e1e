"""Episodes as films: complete, the same from a record, and true to what each role read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.agents.seat import ChatSeat
from chaosops_ray.reports.film import film, recorded_film
from chaosops_ray.sim import ENVIRONMENTS, InputError, play
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode
from chaosops_ray.store.episodes import read_episode, write_episodes
from chaosops_ray.wire import UNTRAINED, Origin
from tests.support.toy_world import TOY

WORLDS: list[AnyEnvironment] = [*ENVIRONMENTS.values(), TOY]


def played(environment: AnyEnvironment, policy: str = "random") -> AnyEpisode:
    scenario = environment.cases[-1]._replace(seed=7)
    rules = environment.rule_sets[0]
    return play(environment, scenario, rules, environment.policies[policy](scenario, rules))


@pytest.mark.parametrize("environment", WORLDS, ids=[world.name for world in WORLDS])
def test_a_film_of_any_world_is_json_with_a_moment_more_than_steps(environment: AnyEnvironment) -> None:
    episode = played(environment)
    found = film(environment, episode, "random", "full")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(found["moments"]) == len(found["steps"]) + 1 == len(episode.steps) + 1
    assert found["steps"][-1]["total"] == pytest.approx(episode.total)
    assert found["is_over"]


@pytest.mark.parametrize("style", ["full", "compact"])
def test_each_role_reads_what_a_model_in_its_seat_reads(style: Any) -> None:
    environment = ENVIRONMENTS["incident"]
    episode = played(environment)
    found = film(environment, episode, "random", style)
    seats: dict[str, ChatSeat] = {}
    for step, shown in zip(episode.steps, found["steps"], strict=True):
        seat = seats.setdefault(step.role, ChatSeat(environment, step.role, episode.rules, style))
        assert seat.ask(step.view)[-1]["content"] == shown["read"]
        assert seat.messages[0]["content"] == found["prompts"][step.role]
        shown_before = [text for example in found["examples"][step.role] for text in example]
        before = seat.messages[1 : 1 + len(shown_before)]
        assert [message["content"] for message in before] == shown_before
        assert (shown_before == []) == (style == "compact")
        assert seat.answer(shown["wrote"]) == step.action


def test_the_film_of_a_record_says_who_played_and_what_was_written(tmp_path: Path) -> None:
    environment = ENVIRONMENTS["incident"]
    episode = played(environment, "heuristic")
    own = Origin(3, "9f2c", "thinking … noop", (-0.5, -0.25))
    origins = [own if step.role == "oversight" else UNTRAINED for step in episode.steps]
    colleagues = dict.fromkeys(("sre", "dev", "manager"), "heuristic")
    model = {"run": "first", "version": 3}
    path = tmp_path / "episodes.parquet"
    with write_episodes(path, {"trained": model}) as writer:
        writer.add(environment, "trained", played(environment))
        writer.add(environment, "trained", episode, origins, colleagues)
    found = recorded_film(read_episode(path, 1), "full", {"trained": model})
    players = ["trained" if step.role == "oversight" else "heuristic" for step in episode.steps]
    assert found == film(environment, episode, "trained", "full", players, origins, model)
    (shown, *_) = [step for step in found["steps"] if step["role"] == "oversight"]
    assert (shown["wrote"], shown["log_probs"], shown["version"]) == (own.completion, [-0.5, -0.25], 3)
    with pytest.raises(InputError, match="has no episode 2"):
        read_episode(path, 2)
    changed = read_episode(path, 1)
    row = {**changed.rows[0], "reward": 5.0}
    with pytest.raises(InputError, match="the record was changed"):
        recorded_film(changed._replace(rows=(row, *changed.rows[1:])), "full")
