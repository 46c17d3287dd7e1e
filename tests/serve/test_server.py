"""The server as its clients meet it: routes, sessions over WebSockets, and clients that mean no good."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openenv.cli._validation import validate_running_environment
from schemathesis import GenerationMode
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from chaosops_ray.serve import models, transport
from chaosops_ray.serve.app import create_app
from chaosops_ray.serve.environment import OPTIONS
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.tasks import SEEDS
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.speech import MAX_COMPLETION, MAX_NESTING
from tests.support.served import running

WORLDS = [*ENVIRONMENTS.values()]
INCIDENT = WORLDS[0]
TOKEN = "a-token-of-some-length"  # noqa: S105 - made up
LIMITS = Limits(sessions=4, message=40_000)
NOOP = {"type": "step", "data": {"action": "noop"}}
PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


@pytest.fixture(scope="module")
def app() -> Any:
    return create_app(INCIDENT, "strict", limits=LIMITS, names=("testserver",))  # as Starlette calls it


@pytest.fixture(scope="module")
def client(app: Any) -> Iterator[TestClient]:
    with TestClient(app) as found:
        yield found


@pytest.fixture(scope="module")
def address(app: Any) -> Iterator[str]:
    with running(app, LIMITS) as found:
        yield found


def asked(peer: Any, kind: str, data: Any = None) -> dict[str, Any]:
    message = {"type": kind} if data is None else {"type": kind, "data": data}
    if isinstance(peer, ClientConnection):
        peer.send(json.dumps(message))
        text = peer.recv(timeout=60)
    else:
        peer.send_text(json.dumps(message))
        text = peer.receive_text()
    found: dict[str, Any] = json.loads(text)
    return found


# -- routes ---------------------------------------------------------------------------------------------------------


def test_the_routes_answer(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "healthy"}
    metadata = client.get("/metadata").json()
    assert metadata["name"] == "incident"
    assert "from -1960 to 184" in metadata["description"]
    assert client.get("/state").json()["step_count"] == 0
    schema = client.get("/schema").json()
    assert schema["observation"]["properties"].keys() >= {"role", "text", "view", "rubrics", "done", "reward"}
    assert [split["name"] for split in client.get("/incident/splits").json()] == ["train", "test", "published", "cross"]
    assert client.get("/tools/splits").status_code == 404
    listed = client.post("/incident/tasks", json={"split": "test"}).json()["tasks"]
    assert len(listed) == 1000
    assert listed[0].keys() == {"id", "split", "index", "difficulty", "group"}
    assert client.post("/incident/num_tasks", json={"split": "test"}).json() == {"num_tasks": 1100}
    assert client.post("/incident/task", json={"split": "test", "index": 7}).json() == {"task": listed[7]}
    for index in (-1, 1100):
        assert client.post("/incident/task", json={"split": "test", "index": index}).status_code == 400
    ranged = client.post("/incident/task_range", json={"split": "test", "start": 5, "stop": 8}).json()
    assert ranged == {"tasks": listed[5:8]}
    assert client.post("/incident/tasks", json={"split": "nowhere"}).status_code == 400
    first = client.post("/reset", json={"task_id": listed[7]["id"]}).json()
    assert first["observation"]["metadata"]["index"] == 7
    assert client.post("/reset", json={"seed": 3, "colour": "blue"}).status_code == 400
    stateless = client.post("/step", json={"action": {"action": "noop"}})
    assert stateless.status_code == 400
    assert "over a WebSocket" in stateless.json()["detail"]


def test_the_published_action_is_taken_over_a_socket(client: TestClient) -> None:
    with client.websocket_connect("/ws") as peer:
        asked(peer, "reset", {"scenario_id": "db_deadlock", "colleagues": {"sre": "oracle", "oversight": "oracle"}})
        taken = asked(peer, "step", {"action_type": "restart", "target": "db", "args": {}})
        assert taken["data"]["done"]
        assert asked(peer, "state")["data"]["done"]


# -- OpenEnv's checks and the page ---------------------------------------------------------------------------------------


def test_a_running_server_passes_every_check_of_openenv(address: str) -> None:
    report = validate_running_environment(f"http://{address}", timeout_s=60)
    assert report["passed"]
    assert report["summary"]["failed_criteria"] == []
    assert report["mode"] == "simulation"


def test_the_snippet_of_the_page_runs(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    until_opened(address)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(program, str(PAGE), "exec"), {"URL": f"http://{address}"})  # noqa: S102 - it is ours
    assert capsys.readouterr().out == "dev 5 actions\nTrue\n"


def test_the_page_tells_the_limits_and_every_argument_of_reset() -> None:
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|", page, re.MULTILINE))
    limits = Limits()
    assert rows["sessions at the same time"].startswith(f"{limits.sessions},")
    assert rows["silence of a session"].startswith(f"{limits.idle:g} s")
    assert rows["messages that are no JSON object"].startswith(f"{limits.refusals} ")
    assert rows["messages that wait for an answer"].startswith(f"{transport.PENDING} ")
    assert rows["resets and steps of a session"] == f"{limits.resets:,} and {limits.steps:,}"
    assert rows["a request without an end, a connection without a request"] == f"{transport.SILENCE:g} s"
    assert limits.request == transport.SILENCE
    assert f"{limits.message // 1024} KiB, nested {MAX_NESTING} deep" in page
    assert f"{MAX_COMPLETION // 1024} KiB, {models.MAX_FIELDS} fields, nested {models.MAX_NESTING} deep" in page
    for name in ("seed", "episode_id", *OPTIONS):
        assert f"`{name}`" in page
    for seeds in SEEDS.values():
        assert f"{seeds[0]:,}–{seeds[-1]:,}" in page


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_one_session_knows_nothing_of_another(client: TestClient) -> None:
    with client.websocket_connect("/ws") as mine, client.websocket_connect("/ws") as other:
        asked(mine, "reset", {"seed": 1, "episode_id": "mine"})
        assert asked(other, "state")["data"]["episode_id"] is None
        assert asked(other, "step", {"action": "noop"})["type"] == "error"
        asked(other, "reset", {"seed": 2, "episode_id": "other"})
        asked(other, "step", {"action": "noop"})
        assert asked(mine, "state")["data"] | {"step_count": 0, "episode_id": "mine"} == asked(mine, "state")["data"]


@pytest.mark.parametrize("guess", ["x", "0" * 36, "../1", "%00", "1" * 3000])
def test_the_id_of_another_session_opens_nothing(client: TestClient, guess: str) -> None:
    with client.websocket_connect("/ws") as mine:
        asked(mine, "reset", {"seed": 1})
        with client.websocket_connect(f"/ws?session_id={guess}") as peer:
            refused = json.loads(peer.receive_text())
        assert refused["data"]["code"] == "SESSION_ERROR"
        for method in ("tools/list", "openenv/session/close"):
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"session_id": guess}}
            assert "Unknown session_id" in client.post("/mcp", json=call).json()["error"]["message"]
        assert asked(mine, "step", {"action": "noop"})["type"] == "observation"


def opened(address: str) -> bool:
    """Whether the server has room for one more session."""
    with connect(f"ws://{address}/ws") as peer:
        with suppress(ConnectionClosed):
            peer.send(json.dumps({"type": "state"}))
        answer = json.loads(peer.recv(timeout=60))
    if answer["type"] == "state":
        return True
    assert answer["data"]["code"] == "CAPACITY_REACHED"
    assert "all 4 sessions are in use" in answer["data"]["message"]
    return False


def until_opened(address: str) -> None:
    deadline = time.monotonic() + 60
    while not opened(address):
        assert time.monotonic() < deadline


def test_beyond_the_limit_a_session_is_refused_until_a_killed_one_is_freed(address: str) -> None:
    until_opened(address)
    with ExitStack() as stack:
        held = [stack.enter_context(connect(f"ws://{address}/ws")) for _ in range(LIMITS.sessions)]
        for peer in held:
            assert asked(peer, "reset", {"seed": 1})["type"] == "observation"
        assert not opened(address)
        held[0].socket.shutdown(socket.SHUT_RDWR)  # no closing handshake, as of a process that was killed
        until_opened(address)
        for peer in held[1:]:
            assert asked(peer, "step", {"action": "noop"})["type"] == "observation"


def test_with_a_token_a_client_without_it_opens_nothing() -> None:
    limits = Limits(sessions=1)
    with running(create_app(INCIDENT, "strict", limits=limits, token=TOKEN), limits) as where:
        for headers in ({}, {"Authorization": "Bearer another-token-of-length"}):
            with pytest.raises(InvalidStatus, match="401"):
                connect(f"ws://{where}/ws", additional_headers=headers)
        with connect(f"ws://{where}/ws", additional_headers={"Authorization": f"Bearer {TOKEN}"}) as peer:
            assert asked(peer, "state")["type"] == "state"


@pytest.mark.parametrize(
    ("name", "origin"), [("localhost", "http://evil.example"), ("evil.example", "http://evil.example")]
)
def test_a_page_of_another_site_opens_nothing(address: str, name: str, origin: str) -> None:
    """The second has a name of its own lead to this server."""
    host, port = address.split(":")
    headers = {"Origin": f"{origin}:{port}"}
    with socket.create_connection((host, int(port))) as peer, pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{name}:{port}/ws", sock=peer, additional_headers=headers)
    assert refused.value.response.status_code == 403
    assert b"this server" in refused.value.response.body
    posted = httpx.post(f"http://{address}/reset", json={}, headers={**headers, "Host": f"{name}:{port}"})
    assert posted.status_code == 403
    own = httpx.post(f"http://{address}/reset", json={}, headers={"Origin": f"http://{address}"})
    assert own.status_code == 200


def test_with_a_token_pages_and_names_are_no_matter() -> None:
    """Who has the token may come from anywhere; a page that has it not is refused for that."""
    with TestClient(create_app(INCIDENT, "strict", token=TOKEN)) as found:
        foreign = {"Host": "play.example.org", "Origin": "http://evil.example"}
        assert found.post("/reset", json={}, headers=foreign).status_code == 401
        known = {**foreign, "Authorization": f"Bearer {TOKEN}"}
        assert found.post("/reset", json={}, headers=known).status_code == 200


def first_words(where: str) -> str:
    """What a silent client hears first: a refusal, or later that it was silent."""
    with connect(f"ws://{where}/ws") as peer:
        return str(peer.recv(timeout=60))


def test_a_silent_session_is_ended_and_its_place_is_free() -> None:
    limits = Limits(sessions=1, idle=0.2)
    with running(create_app(INCIDENT, "strict", limits=limits), limits) as where:
        with connect(f"ws://{where}/ws") as peer:
            assert json.loads(peer.recv(timeout=60))["data"]["message"] == "no message within 0.2 s"
            with pytest.raises(ConnectionClosed):
                peer.recv(timeout=60)
        assert any("CAPACITY_REACHED" not in first_words(where) for _ in range(500))


# -- clients that mean no good ----------------------------------------------------------------------------------------

DEEP: Any = 0
for _ in range(40):
    DEEP = [DEEP]
WRONG: list[Any] = [
    {},
    {"type": None},
    {"type": ["reset"]},
    {"type": "shutdown"},
    {"type": "step"},
    {"type": "step", "data": []},
    {"type": "step", "data": {"action": "noop"}, "more": 1},
    {"type": "step", "data": {"completion": 7}},
    {"type": "step", "data": {"completion": "x", "action": "noop"}},
    {"type": "step", "data": {"completion": "x" * 17_000}},
    {"type": "step", "data": {"action": DEEP}},
    {"type": "step", "data": {"message": "x" * 30_000}},
    {"type": "step", "data": {str(n): n for n in range(40)}},
    {"type": "step", "data": {"metadata": 5}},
    {"type": "step", "data": {"metadata": {"deep": DEEP}}},
    {"type": "reset", "data": "now"},
    {"type": "reset", "data": {"seed": [1]}},
    {"type": "reset", "data": {"self": 1, "cls": 2, "func": 3, "session_id": "x"}},
    {"type": "reset", "data": {"colleagues": {"sre": {"name": "oracle"}}}},
    {"type": "reset", "data": {"task_id": "x" * 30_000}},
    {"type": "reset", "data": {"reward": 1e9, "state": {"done": True}}},
    {"type": "state", "data": {}},
    {"type": "mcp", "data": {"jsonrpc": "2.0", "method": 5}},
    {"type": "mcp", "data": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": [1]}},
    {"type": "mcp", "data": {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"session_id": ["x"]}}},
]


def test_wrong_messages_get_errors_and_the_episode_goes_on(client: TestClient) -> None:
    with client.websocket_connect("/ws") as peer:
        asked(peer, "reset", {"seed": 3})
        asked(peer, "step", {"action": "noop"})
        before = asked(peer, "state")["data"]
        for message in WRONG:
            peer.send_text(json.dumps(message))
            answer = json.loads(peer.receive_text())
            error = answer["data"].get("error") if answer["type"] == "mcp" else answer["type"] == "error"
            assert error, (message, answer)
        assert asked(peer, "state")["data"] == before
        assert asked(peer, "step", {"action": "noop"})["data"]["reward"] == -4.0


def test_a_step_takes_no_score_and_no_state_of_the_callers(client: TestClient) -> None:
    with client.websocket_connect("/ws") as peer:
        asked(peer, "reset", {"seed": 3})
        plain = asked(peer, "step", {"action": "noop"})["data"]
        asked(peer, "reset", {"seed": 3})
        forged = {"metadata": {"reward": 1e9, "score": 1.0, "done": True}, "action": "noop"}
        assert asked(peer, "step", forged)["data"] == plain
        more = asked(peer, "step", {"action": "noop", "reward": 1e9, "score": 1.0, "state": {"resolved": True}})
        assert more["data"]["reward"] < 0
        assert more["data"]["observation"]["score"] is None


def test_a_message_that_is_too_long_ends_the_connection_alone(address: str) -> None:
    with connect(f"ws://{address}/ws") as peer:
        peer.send("x" * (LIMITS.message + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            peer.recv(timeout=60)
    until_opened(address)


def unread(address: str) -> socket.socket:
    """A WebSocket of a client that never reads."""
    host, port = address.split(":")
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(60)
    peer.connect((host, int(port)))
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    peer.sendall(
        f"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.recv(1)
    assert b" 101 " in head
    return peer


def sent(peer: socket.socket, frames: bytes, most: int) -> int:
    """How much a peer takes until it takes no more or hangs up."""
    peer.settimeout(1)
    total = 0
    while total < most:
        try:
            total += peer.send(frames)
        except OSError:
            break
    return total


PING, MESSAGE, EMPTY = b"\x89\xfd" + bytes(4 + 125), b"\x81\x82" + bytes(4) + b"{}", b"\x00\x80" + bytes(4)


@pytest.mark.parametrize("frame", [PING, MESSAGE, EMPTY], ids=["pings", "messages", "fragments"])
def test_a_flood_is_not_taken_in_and_others_are_served(address: str, frame: bytes) -> None:
    most = 64 * 1024 * 1024
    with unread(address) as peer:
        peer.sendall(b"\x01\x80" + bytes(4) if frame == EMPTY else b"")  # the fragments are those of a message
        assert sent(peer, frame * 500, most) < most
        assert opened(address)
    until_opened(address)


def test_a_body_in_tiny_chunks_does_not_keep_others_waiting(address: str) -> None:
    head = b"POST /reset HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connection(address) as peer:
        peer.sendall(head)
        assert sent(peer, b"1\r\n \r\n" * 20_000, 16 * 1024 * 1024) < 16 * 1024 * 1024
    assert opened(address)


def test_a_server_ends_at_once_however_its_clients_stand(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(sessions=4)
    with ExitStack() as stack, running(create_app(INCIDENT, "strict", limits=limits), limits) as where:
        for beginning in (b"", b"GET /he", b"POST /reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"):
            stack.enter_context(connection(where)).sendall(beginning)
        stack.enter_context(unread(where))
        playing = stack.enter_context(connect(f"ws://{where}/ws"))
        assert asked(playing, "reset", {"seed": 1})["type"] == "observation"
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def connection(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def test_a_connection_without_a_request_is_dropped(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SILENCE", 0.1)
    host, port = address.split(":")
    for beginning in (b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
        with socket.create_connection((host, int(port)), timeout=60) as silent:
            silent.sendall(beginning)
            assert silent.recv(1000) == b""


def test_no_request_of_the_schema_breaks_the_server(app: Any) -> None:
    """Schemathesis writes requests for every route, valid ones and others; none of the answers is a 5xx."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/reset", "/step", "/state", "/mcp", "/{env_name}/tasks"}
    for operation in operations:
        for mode in GenerationMode if operation.body else [GenerationMode.POSITIVE]:

            @settings(max_examples=5, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def answered(case: Any) -> None:
                assert case.call().status_code < 500

            answered()
