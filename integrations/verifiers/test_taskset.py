"""The taskset is the world: the same texts, rewards and end as the bare world; vf-validate passes in every seat."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import verifiers.v1 as vf
from chaosops_verifiers import SeatEnv, SeatTaskset, load_taskset
from chaosops_verifiers.taskset import ID, REPLIES, SeatTask
from hypothesis import assume, given, settings
from verifiers.v1.cli.validate import run_validate
from verifiers.v1.configs.cli.validate import ValidateConfig
from verifiers.v1.trace import TraceTask
from verifiers.v1.utils.loaders import environment_class, resolve_env_config, taskset_class

from chaosops_ray.agents.seat import ChatSeat
from chaosops_ray.sim import environment_named
from tests.support.bare import Game, bare, games, state_hash

# This environment has no configuration that is shared with the project's own tests.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")
ROOT = Path(__file__).parents[2]
SEATS = [("tools", "agent"), *[("incident", role) for role in environment_named("incident").roles]]


def trace_of(task: SeatTask) -> vf.Trace:
    """A trace of this task with nothing in it."""
    agent = vf.AgentInfo(config=vf.AgentConfig(), name="scripted", trainable=False)
    return vf.Trace(task=TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash), agent=agent)


class ScriptedAgent:
    """An agent that replies from a list, and whose run is terminated when the list is used up."""

    def __init__(self, replies: Sequence[str]) -> None:
        self._replies = list(replies)
        self.told: list[str] = []
        self.trace: vf.Trace | None = None

    @asynccontextmanager
    async def interaction(self, task: SeatTask) -> AsyncIterator[Any]:
        self.trace = trace_of(task)
        yield self
        await task.score(self.trace)

    async def turn(self, message: str | None = None) -> vf.Segment:
        assert self.trace is not None
        opening = self.trace.task.data.prompt if message is None else message
        self.told.append(opening if isinstance(opening, str) else str(opening[-1].content))
        if not self._replies:
            return vf.Segment(messages=[], terminated=True)
        return vf.Segment(messages=[], root_reply=self._replies.pop(0))


def run(task: SeatTask, replies: Sequence[str]) -> ScriptedAgent:
    agent = ScriptedAgent(replies)
    # `run` needs nothing of the environment itself.
    asyncio.run(SeatEnv.run(object.__new__(SeatEnv), task, SimpleNamespace(agent=agent)))  # type: ignore[arg-type]
    return agent


def completions(task: SeatTask, policy: str) -> list[str]:
    """What a baseline says in this seat."""
    seat = task.seat
    game = Game(seat.environment, seat.rules, seat.scenario(task.data.seed), dict(seat.colleagues), policy)
    return [turn.move.completion for turn in bare(game).turns]


@settings(max_examples=30)
@given(games([environment_named(world) for world in ("incident", "tools")], one_seat=True))
def test_a_run_plays_the_episode_of_the_bare_world(game: Game) -> None:
    """The same texts, rewards and end; all rewards together are less by what the seat gets for saying nothing."""
    expected, environment = bare(game), game.environment
    assume(expected.turns)
    (role,) = {turn.role for turn in expected.turns}
    colleagues = ",".join(f"{other}={name}" for other, name in game.colleagues.items()) or "heuristic"
    seat = {"world": environment.name, "role": role, "rules": game.rules, "colleagues": colleagues}
    (task,) = load_taskset(**seat, num_tasks=1, first_seed=game.scenario.seed)
    said = [turn.move.completion for turn in expected.turns]
    agent, idle = run(task, said), task.played(())
    assert agent.told == [turn.text for turn in expected.turns]
    assert agent.trace is not None
    assert agent.trace.info[REPLIES] == said
    played = task.played(said)
    assert [state_hash(environment, step.world) for step in played.steps] == expected.states
    rewards = {name: one.value for name, one in agent.trace.rewards.items() if one is not None}
    assert rewards.pop("less_doing_nothing") == -idle.total
    paid: dict[str, float] = {}
    for turn in expected.turns:
        for name, value in turn.components.items():
            paid[name] = paid.get(name, 0.0) + value
    assert rewards == pytest.approx(paid)
    assert agent.trace.reward == pytest.approx(expected.total - idle.total, abs=1e-9)
    assert agent.trace.metrics["return"] == pytest.approx(expected.total)
    assert agent.trace.metrics[environment.headline_name] is not None


@pytest.mark.parametrize(("world", "role"), SEATS)
def test_a_run_that_is_cut_short_is_scored_as_one_that_says_nothing_more(world: str, role: str) -> None:
    for task in load_taskset(world=world, role=role, num_tasks=2):
        silent = run(task, [])
        assert silent.trace is not None
        assert silent.trace.reward == pytest.approx(0.0, abs=1e-9)
        said = completions(task, "random")[:1]
        cut, waited = run(task, said), run(task, [*said, *[""] * 200])
        assert cut.trace is not None
        assert waited.trace is not None
        assert cut.trace.reward == pytest.approx(waited.trace.reward)


@pytest.mark.parametrize(
    "reply",
    ["", "{" * 100_000, '{"action": "restart", "service": null}', "\ud800\x00", "x" * 1_000_000, '{"tool": {"a": []}}'],
)
@pytest.mark.parametrize("world", ["tools", "incident"])
def test_replies_that_are_no_action_are_scored_like_any_others(world: str, reply: str) -> None:
    role = "dev" if world == "incident" else ""
    (task,) = load_taskset(world=world, role=role, num_tasks=1)
    agent = run(task, [reply] * 200)
    assert agent.trace is not None
    assert agent.trace.reward < 1


@pytest.mark.parametrize(("world", "role"), SEATS)
def test_the_data_of_a_task_do_not_name_what_is_to_be_found_out(world: str, role: str) -> None:
    tasks = list(load_taskset(world=world, role=role, num_tasks=10))
    assert len({task.data.seed for task in tasks}) == 10
    for task in tasks:
        scenario = task.begin().episode.scenario
        written = task.data.model_dump_json()
        assert scenario.identity not in written
        assert scenario.case not in json.loads(written)["name"]
        seat = ChatSeat(task.seat.environment, role or "agent", task.seat.rules)
        read = seat.ask(task.with_data(idx=3).begin().view)
        told = [(message.role, message.content) for message in task.data.prompt]
        assert [("system", task.data.system_prompt), *told] == [(one["role"], one["content"]) for one in read]


def test_a_recorded_trace_is_scored_again() -> None:
    (task,) = load_taskset(world="incident", role="sre", num_tasks=1)
    agent = run(task, completions(task, "heuristic"))
    assert agent.trace is not None
    recorded = vf.Trace.model_validate_json(agent.trace.model_dump_json())
    recorded.rewards = {}
    asyncio.run(task.score(recorded))
    assert recorded.rewards == agent.trace.rewards


def test_the_package_is_found_by_its_id_and_plays_as_a_plain_chat() -> None:
    assert taskset_class(ID) is SeatTaskset
    assert environment_class(ID) is SeatEnv
    config = resolve_env_config({"taskset": {"id": ID, "world": "incident", "role": "dev"}})
    assert config.agent.harness.id == "null"  # type: ignore[attr-defined]
    made = SeatEnv(config)  # type: ignore[arg-type]
    assert [task.data.role for task in made.taskset.take(1)] == ["dev"]


@pytest.mark.parametrize(("world", "role"), SEATS)
def test_the_gold_and_noop_checks_of_vf_validate_pass(world: str, role: str, tmp_path: Path) -> None:
    chosen = load_taskset(world=world, role=role, num_tasks=20).config
    config = ValidateConfig(taskset=chosen, runtime=vf.SubprocessConfig(), rich=False, output_dir=tmp_path)
    rows = asyncio.run(run_validate(config))
    assert len(rows) == 20
    for row in rows:
        assert (row["mode"], row["reason"]) == ("all", "valid"), row
        assert (row["gold"]["reason"], row["noop"]["reason"]) == ("valid", "valid")
        assert row["noop"]["reward"] == pytest.approx(0.0, abs=1e-9)


def test_the_command_of_vf_validate_finds_the_taskset(tmp_path: Path) -> None:
    command = [Path(sys.executable).parent / "vf-validate", ID, "--runtime.type", "subprocess", "--no-rich"]
    seat = ["--taskset.world", "incident", "--taskset.role", "oversight", "--taskset.num-tasks", "2"]
    ran = subprocess.run([*command, *seat, "-o", tmp_path], cwd=tmp_path, capture_output=True, text=True, check=True)
    (file,) = tmp_path.glob("*/summary.json")
    summary = json.loads(file.read_text())
    assert (summary["mode"], summary["outcomes"]["valid"]) == ("all", 2), ran.stdout


def test_the_python_of_the_docs_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "verifiers.md").read_text(), re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(ran.stdout.splitlines()) == 5
    assert ran.stdout.startswith("incident-oversight-5000")
