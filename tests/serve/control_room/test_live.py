"""The page of live plays, the stream of one, and the endpoints that fork episodes."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from chaosops_ray import cli
from chaosops_ray.serve import access
from chaosops_ray.serve.control_room import live
from chaosops_ray.serve.control_room.app import create_app
from chaosops_ray.serve.control_room.models import Models
from chaosops_ray.serve.control_room.performances import Performance
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.serve.control_room.runs import Runs
from chaosops_ray.serve.control_room.stage import Stage
from chaosops_ray.sim import ENVIRONMENTS, play
from chaosops_ray.wire import Origin
from tests.support import model_process
from tests.support.control_room import HTML, data, opened, page

INCIDENT = ENVIRONMENTS["incident"]
ROOT = Path(__file__).parents[3]
EPISODE = {"run": "over", "file": "evaluation", "number": 0}
LIVE = {"world": "incident", "case": "rogue_deploy_bot", "tier": "hard"}
LONG = {**LIVE, "policy": "heuristic"}


@pytest.fixture
def client(filled: Path) -> Iterator[TestClient]:
    with opened(filled) as found:
        yield found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def with_models(filled: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """With a scripted process for models, and one model that was named."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runs = Runs(filled)
    models = Models([sys.executable, model_process.__file__, str(log)], {"model=well": "model=well"})
    room = Room(runs, stage=Stage(runs, models))
    with TestClient(create_app(room), base_url="http://localhost:8700") as found:
        yield found


def forked(client: TestClient, body: Any, status: int = 200) -> Any:
    answer = client.post("/api/fork", json=body)
    assert answer.status_code == status, answer.text[:500]
    found = answer.json()
    if status != 200:
        assert list(found) == ["error"]
        return found["error"]
    return found


def events(client: TestClient, chosen: dict[str, str]) -> list[tuple[str, Any]]:
    """The events of a live play."""
    answer = client.get("/live/events", params=chosen)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.strip().split("\n\n"):
        name, line = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(line.removeprefix("data: "))))
    return found


def grown(found: list[tuple[str, Any]]) -> dict[str, Any]:
    """The film that these events make."""
    film: dict[str, Any] = {}
    for name, part in found:
        if name == "film":
            film = part
        elif name == "more":
            assert part["from"] == len(film["steps"])
            assert len(film["moments"]) == part["from"] + 1
            film = {
                **film,
                **{key: value for key, value in part.items() if key not in ("from", "steps", "moments")},
                "steps": [*film["steps"], *part["steps"]],
                "moments": [*film["moments"], *part["moments"]],
            }
    return film


# -- the page -----------------------------------------------------------------------------------------------------


def test_the_page_offers_what_can_be_played(client: TestClient) -> None:
    text = page(client, "/live")
    for name in INCIDENT.policies:
        assert f'<option value="{name}"' in text
    assert "baselines only, no models" in text
    assert "performance.js" not in text
    assert 'value="synthetic"' in page(client, "/live?world=tools")


def test_a_choice_is_kept_without_javascript(client: TestClient) -> None:
    text = page(client, "/live?world=incident&policy=oracle&case=db_deadlock&tier=easy&seed=7&seats=sre=random")
    for chosen in ('value="oracle" selected', 'value="db_deadlock" selected', 'value="easy" selected', 'value="7"'):
        assert chosen in text
    assert "<noscript>" in text
    assert "/live/events?world=incident&amp;policy=oracle" in text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("policy=oracle&case=db_deadlock&tier=hard", "has no case &#39;db_deadlock&#39; of tier hard; it has easy"),
        ("policy=oracle&world=mars", "unknown world"),
        ("policy=oracle&seed=x", "not a whole number"),
        ("policy=oracle&set=none", "unknown evaluation set"),
        ("colour=blue", "not a part of a live play"),
    ],
)
def test_a_choice_that_cannot_be_played_is_said(client: TestClient, query: str, words: str) -> None:
    text = page(client, f"/live?{query}", 422)
    assert words in text
    assert "performance.js" not in text


def test_runs_and_named_models_are_offered_where_models_can_play(with_models: TestClient) -> None:
    text = page(with_models, "/live")
    for name in ("trained=over", "trained=deep:begun", "trained=sweep:trials:a-s0", "model=well"):
        assert f'value="{name}"' in text
    assert "trained=" not in page(with_models, "/live?world=tools")


# -- a live play --------------------------------------------------------------------------------------------------


def test_a_live_play_is_the_film_of_the_episode(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for together in (0.0, 60.0):  # turn by turn, or all at once
        monkeypatch.setattr(live, "TOGETHER_SECONDS", together)
        found = events(client, {**LONG, "policy": "random"})
        names = [name for name, _ in found]
        film = grown(found)
        assert names == ["film", *["more"] * (1 if together else len(film["steps"])), "over"]
        scenario = INCIDENT.scenario("incident/rogue_deploy_bot/hard/1000")
        episode = play(INCIDENT, scenario, "strict", INCIDENT.policies["random"](scenario, "strict/2"))
        assert film["scenario"] == scenario.identity
        assert [step["action"] for step in film["steps"]] == [
            INCIDENT.format_action(step.action, "compact") for step in episode.steps
        ]
        assert film["is_over"]
        assert film["steps"][-1]["total"] == pytest.approx(episode.total)
        again = forked(client, {"episode": {"play": found[-1][1]["play"]}, "step": 0, "policy": "random"})
        assert {key: again[key] for key in film} == film


def test_a_scenario_of_any_case_is_drawn_by_the_seed(client: TestClient) -> None:
    drawn = [grown(events(client, {"seed": str(seed), "policy": "oracle"}))["scenario"] for seed in range(6)]
    assert len({identity.split("/")[1] for identity in drawn}) > 1
    assert drawn == [grown(events(client, {"seed": str(seed), "policy": "oracle"}))["scenario"] for seed in range(6)]
    tier = grown(events(client, {"tier": "medium", "policy": "oracle"}))
    assert tier["tier"] == "medium"


def test_seats_are_played_by_baselines(client: TestClient) -> None:
    film = grown(events(client, {**LONG, "seats": "sre=random,dev=random"}))
    assert {(step["role"], step["player"]) for step in film["steps"]} == {
        ("sre", "random"), ("dev", "random"), ("oversight", "heuristic"), ("manager", "heuristic")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"policy": "trained=over"}, "UNAVAILABLE: this server plays baselines only"),
        ({"policy": "nobody"}, "has no baseline 'nobody'"),
        ({"world": "mars"}, "unknown world"),
        ({"seats": "sre=nobody"}, "has no baseline"),
        ({"rules": "lax"}, "rule set"),
        ({"colour": "blue"}, "not a part of a live play"),
    ],
)
def test_what_cannot_be_played_is_refused_in_words(client: TestClient, chosen: dict[str, str], words: str) -> None:
    ((name, found),) = events(client, chosen)
    assert name == "refused"
    assert words in found["error"]
    assert found["unavailable"] == ("UNAVAILABLE" in words)


class Patient:
    """A model that waits before each of its turns."""

    name, version, digest, described, style = "trained", 7, "d" * 64, MappingProxyType({}), "compact"

    def __init__(self) -> None:
        self.asked = 0
        self.begun, self.goes_on = Event(), Event()

    def follow(self, action: str, completion: str | None) -> None:
        """It needs to know nothing."""

    def act(self, _seconds: float) -> tuple[str, Origin]:
        self.asked += 1
        self.begun.set()
        assert self.goes_on.wait(60)
        return '{"action": "noop"}', Origin(self.version, self.digest, "noop")


def test_a_play_that_nobody_watches_any_more_stops(filled: Path) -> None:
    model = Patient()

    class Scripted(Stage):
        @contextmanager
        def performing(self, before: Any, policy: str, _colleagues: Any) -> Iterator[Any]:
            with self._listed(Performance(before, policy, {}, model)) as performance:  # type: ignore[arg-type]
                yield performance, 60.0

    runs = Runs(filled)
    room, threads = Room(runs, stage=Scripted(runs)), ThreadPoolExecutor(1)

    async def watch() -> None:
        stream = live._events(room, threads, LONG)
        assert (await anext(stream)).startswith("event: film")
        assert await asyncio.to_thread(model.begun.wait, 60)
        await stream.aclose()  # type: ignore[attr-defined]
        model.goes_on.set()

    asyncio.run(watch())
    threads.shutdown(wait=True)
    assert model.asked == 1


def test_more_plays_than_there_are_places_are_refused(filled: Path) -> None:
    runs = Runs(filled)
    stage = Stage(runs, places=1)
    with TestClient(create_app(Room(runs, stage=stage)), base_url="http://localhost:8700") as client:
        with stage.performing(stage.found(LONG).played.before(0), "random", {}):
            assert "are being played already" in events(client, LONG)[0][1]["error"]
            assert "are being played already" in forked(
                client, {"episode": EPISODE, "step": 0, "policy": "oracle"}, 429
            )
        assert forked(client, {"episode": EPISODE, "step": 0, "policy": "oracle"})["is_over"]


# -- models -------------------------------------------------------------------------------------------------------


def test_a_model_plays_live_and_can_be_forked(with_models: TestClient, log: Path) -> None:
    found = events(with_models, {**LIVE, "policy": "model=well"})
    film = grown(found)
    assert [step["wrote"] for step in film["steps"]] == ["as it wrote"] * len(film["steps"])
    assert {(step["player"], step["version"]) for step in film["steps"]} == {("model", 7)}
    kept = {"play": found[-1][1]["play"]}
    forks = forked(with_models, {"episode": kept, "step": 2, "action": "noop"})
    assert [step["player"] for step in forks["steps"][:4]] == ["model", "model", "you", "model"]
    assert forks["fork"] == {"step": 2, "action": "noop", "policy": "model=well", "seats": {}, "fresh": []}
    turns = [json.loads(line.removeprefix("turn ")) for line in log.read_text().splitlines() if line.startswith("turn")]
    (told,) = [taken for taken in turns if len(taken) == 3]
    assert [completion for _, completion in told] == ["as it wrote", "as it wrote", None]
    # Another policy takes over, and then a seat alone.
    other = forked(with_models, {"episode": kept, "step": 2, "policy": "oracle", "seats": {"sre": "random"}})
    assert other["fork"]["fresh"] == ["sre", "oversight"]
    assert {step["player"] for step in other["steps"][2:]} <= {"oracle", "random"}
    assert other["model"] == {}


def test_nothing_is_loaded_but_runs_of_the_folder_and_what_was_named(
    with_models: TestClient, filled: Path, log: Path
) -> None:
    outside = filled.parent / "outside"
    outside.mkdir(exist_ok=True)
    for policy in (
        "model=tiny", "served=m@http://127.0.0.1:1/v1", f"trained={outside}", "trained=..", "trained=../outside",
        "trained=over/../..", "trained=", "ppo=over", "trained=nowhere", "=", "a=b",
    ):  # fmt: skip
        ((name, found),) = events(with_models, {**LIVE, "policy": policy})
        assert (name, found["unavailable"]) == ("refused", True), policy
        error = forked(with_models, {"episode": EPISODE, "step": 0, "policy": policy}, 422)
        assert error.startswith("UNAVAILABLE: ")
    assert not log.exists()


def test_a_run_is_named_to_the_process_by_its_folder(with_models: TestClient, log: Path) -> None:
    for policy in ("trained=over", "trained=sweep:trials:a-s0@7"):
        events(with_models, {**LIVE, "policy": policy})
    assert [line for line in log.read_text().splitlines() if line.startswith("play")] == ["play over", "play a-s0@7"]


def test_a_play_that_breaks_off_is_shown_as_far_as_it_went(
    filled: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runs = Runs(filled)
    models = Models([sys.executable, model_process.__file__, str(log)], {"model=die": "model=die"})
    with TestClient(create_app(Room(runs, stage=Stage(runs, models))), base_url="http://localhost:8700") as client:
        found = events(client, {**LIVE, "policy": "model=die", "seats": "sre=oracle"})
    assert [name for name, _ in found][-1] == "broken"
    assert "exit code 3" in found[-1][1]["error"]
    assert {step["player"] for step in grown(found)["steps"]} <= {"oracle"}


# -- forks --------------------------------------------------------------------------------------------------------


def test_a_recorded_episode_is_forked(client: TestClient) -> None:
    recorded = data(client, "/api/runs/over/episodes/evaluation/0")
    found = forked(client, {"episode": EPISODE, "step": 1, "action": "say stop", "policy": "heuristic"})
    assert found["steps"][0] == recorded["steps"][0]
    assert found["moments"][:2] == recorded["moments"][:2]
    assert found["steps"][1]["action"] == "say stop"
    assert found["steps"][1]["player"] == "you"
    assert found["is_over"]
    # A fork can be forked.
    again = forked(client, {"episode": {"play": found["play"]}, "step": 1, "policy": "oracle"})
    assert again["steps"][0] == recorded["steps"][0]
    assert again["fork"]["policy"] == "oracle"


def test_an_episode_is_named_by_the_parts_of_a_live_play(client: TestClient) -> None:
    found = forked(client, {"episode": LONG, "step": 2, "policy": "oracle"})
    assert [step["player"] for step in found["steps"]][:3] == ["heuristic", "heuristic", "oracle"]
    allowed = client.get("/api/permitted", params={**LONG, "step": 2}).json()
    assert (allowed["role"], allowed["step"]) == (found["steps"][2]["role"], 2)
    assert all(isinstance(text, str) for kind in allowed["kinds"] for text in kind)


def test_where_actions_cannot_be_listed_there_is_no_list(client: TestClient) -> None:
    for world in ENVIRONMENTS.values():
        found = client.get("/api/permitted", params={"world": world.name, "policy": "oracle", "step": 0}).json()
        scenario = live.choice({"world": world.name}).scenario()
        view = world.view(world.start(scenario, world.rules("strict")), found["role"])
        kinds = world.permitted(view)
        assert (found["kinds"] is None) == (kinds is None)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ([], 422, "no JSON object"),
        ({}, 422, "step must be"),
        ({"episode": EPISODE, "step": 0}, 422, "name what happens otherwise"),
        ({"episode": EPISODE, "step": True, "policy": "oracle"}, 422, "step must be"),
        ({"episode": EPISODE, "step": -1, "policy": "oracle"}, 422, "step must be 0-"),
        ({"episode": EPISODE, "step": 10**30, "policy": "oracle"}, 422, "step must be 0-"),
        ({"episode": EPISODE, "step": 0, "policy": 3}, 422, "policy must be"),
        ({"episode": EPISODE, "step": 0, "policy": "nobody"}, 422, "has no baseline"),
        ({"episode": EPISODE, "step": 0, "action": "sing"}, 422, "cannot be read as an action"),
        ({"episode": EPISODE, "step": 0, "seats": {"sre": "nobody"}}, 422, "has no baseline"),
        ({"episode": EPISODE, "step": 0, "seats": 3}, 422, "seats must be"),
        ({"episode": EPISODE, "step": 0, "policy": "oracle", "colour": 1}, 422, "not a part of a fork"),
        ({"episode": EPISODE, "step": 0, "action": "noop"}, 422, "no policy that can be asked again"),
        ({"episode": {**EPISODE, "number": 10**6}, "step": 0, "policy": "oracle"}, 422, "has no episode"),
        ({"episode": {**EPISODE, "number": 10**30}, "step": 0, "policy": "oracle"}, 422, "has no episode"),
        ({"episode": {**EPISODE, "file": "../secret"}, "step": 0, "policy": "oracle"}, 404, "no episodes"),
        ({"episode": {**EPISODE, "run": "../.."}, "step": 0, "policy": "oracle"}, 404, "no run"),
        ({"episode": {"play": "none"}, "step": 0, "policy": "oracle"}, 404, "not kept any more"),
        ({"episode": {"play": []}, "step": 0, "policy": "oracle"}, 404, "not kept any more"),
        ({"episode": "x", "step": 0, "policy": "oracle"}, 422, "episode must name"),
        ({"episode": {"seed": 3}, "step": 0, "policy": "oracle"}, 422, "seed must be a text"),
    ],
)
def test_a_fork_that_cannot_be_played_is_an_error_in_words(
    client: TestClient, body: Any, status: int, words: str
) -> None:
    assert words in forked(client, body, status)


def test_a_play_is_forgotten_when_many_came_after_it(filled: Path) -> None:
    stage = Stage(Runs(filled))
    played = stage.found(LONG).played
    first = stage.keep(played, "heuristic")
    for _ in range(63):
        stage.keep(played, "heuristic")
    assert stage.found({"play": first}).played is played  # which also makes it the last to be forgotten
    for _ in range(64):
        stage.keep(played, "heuristic")
    with pytest.raises(live.NotFoundError, match="not kept any more"):
        stage.found({"play": first})


def test_other_sites_fork_and_play_nothing(client: TestClient) -> None:
    evil = {"origin": "http://evil.example"}
    body = {"episode": EPISODE, "step": 0, "policy": "oracle"}
    assert client.post("/api/fork", json=body, headers=evil).status_code == 403
    assert client.get("/live/events", headers={"sec-fetch-site": "cross-site"}).status_code == 403


# -- the live page alone ------------------------------------------------------------------------------------------


def test_the_live_page_stands_alone() -> None:
    room = Room(None)
    app = create_app(room, None, "0.0.0.0", ("space.example",), (live.alone,), "https://huggingface.co")  # noqa: S104
    with TestClient(app, base_url="https://space.example") as client:
        assert client.get("/", headers=HTML).url.path == "/live"
        headers = client.get("/live", headers=HTML).headers
        assert headers["content-security-policy"].endswith("frame-ancestors https://huggingface.co")
        assert "x-frame-options" not in headers
        framed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
        assert client.get("/live", headers=framed | HTML).status_code == 200
        assert client.get("/live/events", headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert events(client, LONG)[-1][0] == "over"
        assert "this server shows no runs" in forked(client, {"episode": EPISODE, "step": 0, "policy": "oracle"}, 404)
        assert client.get("/runs/over").status_code == 404
        assert client.get("/live", headers={"host": "evil.example"}).status_code == 403
    with TestClient(create_app(Room(None), shown=(live.alone,)), base_url="http://localhost:8701") as client:
        headers = client.get("/live").headers
        assert headers["content-security-policy"].endswith("frame-ancestors 'none'")
        assert headers["x-frame-options"] == "DENY"
        assert client.get("/live", headers=framed).status_code == 403


SPACE = ROOT / "deploy" / "space"


def test_the_space_starts_what_it_says() -> None:
    dockerfile = (SPACE / "Dockerfile").read_text()
    (shell,) = re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    command = shlex.split(json.loads(shell)[-1].replace("${SPACE_HOST:-}", "me-space.hf.space"))
    assert command[:2] == ["exec", "chaosops"]
    given = cli.parser().parse_args(command[2:])
    front = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    assert front["sdk"] == "docker"
    assert front["app_port"] == given.port == int(re.findall(r"^EXPOSE ([0-9]+)$", dockerfile, re.MULTILINE)[0])
    assert (given.host, given.names, given.framed_by) == ("0.0.0.0", "me-space.hf.space", "https://huggingface.co")  # noqa: S104
    assert access.names(given.names) == ("me-space.hf.space",)
    assert access.site(given.framed_by) == given.framed_by
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert re.findall(r"^ARG EXTRAS=(\w+)$", dockerfile, re.MULTILINE) == ["watch"]
    assert not [one for one in extras["watch"] if "torch" in one]
    assert "USER 1000:1000" in dockerfile


@pytest.mark.parametrize(
    "arguments",
    [
        ["live", "--framed-by", "https://huggingface.co/ 'self'"],
        ["live", "--framed-by", "*"],
        ["live", "--names", "a b"],
        ["live", "--plays", "0"],
        ["live", "--port", "65536"],
        ["watch", ".", "--policies", "oracle"],
        ["watch", ".", "--policies", "ppo=run"],
    ],
)
def test_mistakes_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


# -- any request --------------------------------------------------------------------------------------------------

_ANY = {"type": ["object", "array", "string", "number", "null", "boolean"]}
_EPISODES = [
    {"type": "object", "properties": {"run": {"const": "over"}, "file": {"enum": ["evaluation", "update-000001"]},
     "number": {"type": "integer", "minimum": 0, "maximum": 40}}, "required": ["run", "file", "number"]},
    {"type": "object", "properties": {name: {"enum": values} for name, values in {
        "world": ["incident", "tools", "x"], "policy": ["oracle", "random", "trained=over", "x"],
        "seed": ["0", "7", "-1"], "tier": ["any", "easy", "expert"]}.items()}},
    _ANY,
]  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "live", "version": "1"},
    "paths": {
        "/api/fork": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "episode": {"anyOf": _EPISODES},
                                    "step": {"type": ["integer", "string"], "minimum": -1, "maximum": 12},
                                    "action": {"anyOf": [{"enum": ["noop", "restart db"]}, _ANY]},
                                    "policy": {"enum": ["oracle", "heuristic", "trained=over", "=", "", 3, None]},
                                    "seats": {"anyOf": [{"enum": ["all", "sre=oracle", "x"]}, _ANY]},
                                },
                            }
                        }
                    }
                },
                "responses": {"200": {"description": ""}},
            }
        },
        "/api/permitted": {
            "get": {
                "parameters": [
                    {"in": "query", "name": name, "schema": {"type": "string"}}
                    for name in ("run", "file", "number", "step", "play", "world", "policy", "seats", "x")
                ],
                "responses": {"200": {"description": ""}},
            }
        },
    },
}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_no_request_breaks_the_server(filled: Path, path: str, mode: GenerationMode) -> None:
    inner = create_app(Room(Runs(filled)), names=("testserver",))
    document = JSONResponse(DOCUMENT)

    async def with_document(scope: Any, receive: Any, send: Any) -> None:
        app = document if scope.get("path") == "/openapi.json" else inner
        await app(scope, receive, send)

    schema = schemathesis.openapi.from_asgi("/openapi.json", with_document)
    (method,) = DOCUMENT["paths"][path]

    @settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=schema[path][method.upper()].as_strategy(generation_mode=mode))
    def answered(case: schemathesis.Case) -> None:
        answer = case.call()
        assert answer.status_code in (200, 400, 404, 405, 413, 414, 422, 429), answer.text[:300]

    answered()
