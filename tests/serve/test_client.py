"""The typed clients against a server of ours on loopback, and against a scripted one that misbehaves."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest

from chaosops_ray.agents.forms import tool_schema
from chaosops_ray.agents.served import ServedPolicy
from chaosops_ray.agents.session import Session
from chaosops_ray.cli import main
from chaosops_ray.serve.access import TOKEN
from chaosops_ray.serve.app import create_app
from chaosops_ray.serve.client import IncidentEnv, SeatClient, ServedWorldError, ToolsEnv
from chaosops_ray.serve.inference_log import two_decimals
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.models import SeatAction
from chaosops_ray.sim import ENVIRONMENTS, play
from tests.serve.test_inference_log import lines
from tests.support import scripted_servers
from tests.support.scripted_servers import CLOSE, FIRST
from tests.support.served import running

PAGE = Path(__file__).parents[2] / "docs" / "inference.md"
LIMITS = Limits(sessions=2)
INCIDENT = "incident/db_deadlock/easy/40001"
TOOLS = next(one.identity for one in ENVIRONMENTS["tools"].cases if one.tier == "expert")


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """A server of each world."""
    with (
        running(create_app(ENVIRONMENTS["incident"], "strict", limits=LIMITS), LIMITS) as incident,
        running(create_app(ENVIRONMENTS["tools"], "strict", limits=LIMITS), LIMITS) as tools,
    ):
        yield {"incident": f"http://{incident}", "tools": f"http://{tools}"}


def test_the_incident_room_by_typed_calls(urls: dict[str, str]) -> None:
    """All seats are the caller's; what it is told and paid is what a session in this process is."""
    world = ENVIRONMENTS["incident"]
    session = Session(world, world.scenario(INCIDENT), world.rules("strict"))
    with IncidentEnv(urls["incident"]).sync() as env:
        seen = env.reset(scenario_id=INCIDENT).observation
        assert seen.system_prompt == session.system_prompt
        assert seen.tools == [tool_schema(form) for form in world.forms("sre", session.running.rules)]
        turns = 0
        while not seen.done and turns < 6:
            turns += 1
            assert (seen.role, seen.text) == (session.role, session.text)
            earned = session.act(world.call("restart", {"service": "db"}))
            result = env.call("restart", service="db")
            seen = result.observation
            assert result.reward == earned.reward == sum(seen.rubrics.values())
            assert seen.action == {"action": "restart", "service": "db"}
        state = env.state()
        assert (state.world, state.step_count, state.role) == ("incident", turns, session.role)
        assert turns > 1


def test_the_tools_by_typed_calls(urls: dict[str, str]) -> None:
    with ToolsEnv(urls["tools"]).sync() as env:
        env.reset(scenario_id=TOOLS)
        seen = env.call("calculator", expression="2 * 3").observation
        assert seen.action == {"tool": "calculator", "arguments": {"expression": "2 * 3"}}
        assert seen.error is None
        assert "6" in seen.text
        assert env.call("calculator", expression="2 *").observation.error
        assert env.call("no_such_tool").observation.error
        seen = env.call("submit_answer", answer="I do not know", reasoning="").observation
        assert seen.done
        assert (seen.score, seen.success) == (0.0, False)
        with pytest.raises(ServedWorldError, match="the episode is over"):
            env.call("calculator", expression="1")


def test_completions_and_action_objects_are_taken_as_well(urls: dict[str, str]) -> None:
    with ToolsEnv(urls["tools"]).sync() as env:
        texts = []
        for act in (
            lambda: env.say('I add. {"tool": "calculator", "arguments": {"expression": "1 + 1"}}'),
            lambda: env.call("calculator", expression="1 + 1"),
            lambda: env.step(ToolsEnv.action("calculator", {"expression": "1 + 1"})),
            lambda: env.step(SeatAction.model_validate({"type": "call_tool", "tool_name": "calculator", "arguments": {"expression": "1 + 1"}})),
        ):  # fmt: skip
            env.reset(scenario_id=TOOLS)
            texts.append(act().observation.text)
        assert len(set(texts)) == 1


def test_a_client_is_used_from_asynchronous_code_as_well(urls: dict[str, str]) -> None:
    async def play() -> Any:
        async with IncidentEnv(urls["incident"]) as env:
            await env.reset(role="oversight", colleagues="oracle", difficulty="easy", seed=7)
            return (await env.call("noop")).observation

    seen = asyncio.run(play())
    assert seen.action == {"action": "noop"}
    assert seen.role == "oversight" or seen.done


def test_what_the_server_refuses_is_an_error_and_the_session_goes_on(urls: dict[str, str]) -> None:
    with IncidentEnv(urls["incident"]).sync() as env:
        with pytest.raises(ServedWorldError, match="reset first"):
            env.call("noop")
        with pytest.raises(ServedWorldError, match="difficulty"):
            env.reset(difficulty="absurd")
        assert env.reset(difficulty="easy", seed=3).observation.role


def test_a_session_too_many_is_refused_in_words(urls: dict[str, str]) -> None:
    with IncidentEnv(urls["incident"]).sync() as first, IncidentEnv(urls["incident"]).sync() as second:
        first.reset(seed=1)
        second.reset(seed=1)
        third = IncidentEnv(urls["incident"]).sync()
        with pytest.raises(ServedWorldError, match=r"(?i)capacity|session"):
            third.reset(seed=1)
        third.close()


def test_the_token_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "0123456789abcdef-token"  # noqa: S105 - of this test
    monkeypatch.delenv(TOKEN, raising=False)
    with running(create_app(ENVIRONMENTS["tools"], "strict", limits=LIMITS, token=token), LIMITS) as place:
        refused = ToolsEnv(f"http://{place}").sync()
        with pytest.raises(ServedWorldError, match=r"401|403"):
            refused.reset()
        refused.close()
        monkeypatch.setenv(TOKEN, f"{token}\n")
        with ToolsEnv(f"http://{place}").sync() as env:
            assert env.reset(seed=1).observation.role


@pytest.mark.parametrize("token", ["line\nbreak", "naïve"])
def test_a_token_that_cannot_be_sent_is_refused_without_being_quoted(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(ServedWorldError, match=TOKEN) as caught:
        SeatClient("http://127.0.0.1:1")
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "http://", "http://me:secret@h", "http://h:99999", "http://h?token=secret"]
)
def test_an_address_that_is_none_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ServedWorldError, match="URL") as caught:
        SeatClient(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_hangs_is_given_up() -> None:
    def answer(message: dict[str, Any]) -> Any:
        if message["type"] == "reset":
            return FIRST
        connection_over.wait(20)
        return CLOSE

    connection_over = threading.Event()
    with scripted_servers.world(answer) as world:
        env = SeatClient(world.url, message_timeout_s=0.1).sync()
        env.reset()
        with pytest.raises(ServedWorldError, match=r"no answer within 0\.1 s"):
            env.call("noop")
        connection_over.set()
        env.close()


@pytest.mark.parametrize("world", ["incident", "tools"])
def test_the_endpoint_is_told_what_a_served_policy_is_told(
    urls: dict[str, str], world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`chaosops infer` against our server plays the episode that `evaluate` plays in this process."""
    environment = ENVIRONMENTS[world]
    scenario = environment.scenario({"incident": INCIDENT, "tools": TOOLS}[world])
    text = {"incident": '{"action": "restart", "service": "db"}', "tools": '{"tool": "web_search", "arguments": {"query": "x"}}'}[world]  # fmt: skip

    class Model:
        asked: ClassVar[list[list[dict[str, str]]]] = []

        def complete(self, messages: Sequence[Mapping[str, str]], _seed: int) -> str:
            self.asked.append([dict(message) for message in messages])
            return text

    episode = play(environment, scenario, "strict", ServedPolicy(environment, Model())(scenario, "strict"))
    with scripted_servers.endpoint(lambda _: text) as endpoint:
        monkeypatch.setenv("API_BASE_URL", endpoint.url)
        monkeypatch.setenv("MODEL_NAME", "m")
        monkeypatch.setenv("ENV_URL", urls[world])
        assert main(["infer", "--reset", f"scenario_id={scenario.identity}"]) == 0
    assert [asked["messages"] for asked in endpoint.asked] == Model.asked
    start, *steps, end = lines(capsys.readouterr().out)
    assert start == f"[START] task={scenario.tier} env={world} model=m"
    assert len(steps) == len(episode.steps)
    won = str(environment.succeeded(episode)).lower()
    rewards = ",".join([two_decimals(step.score.total) for step in episode.steps])
    score = two_decimals(environment.grade(episode))
    assert end == f"[END] success={won} steps={len(steps)} score={score} rewards={rewards}"


def test_the_snippet_of_the_page_runs(urls: dict[str, str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    said = StringIO()
    with redirect_stdout(said):
        exec(program.replace("http://127.0.0.1:8000", urls["tools"]), {})  # noqa: S102 - the docs' own
    assert "Steps left" in said.getvalue()
    assert said.getvalue().endswith("0.0 False\n")
