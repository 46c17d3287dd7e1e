"""The gate in front of a server, with a scripted application behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chaosops_ray.serve.guard import Guard, checked_json
from chaosops_ray.serve.limits import Limits

TOKEN = "a-token-of-some-length"  # noqa: S105 - made up
LIMITS = Limits(sessions=2, idle=0.05, message=200, refusals=3, request=0.05)
BEARER = [(b"authorization", f"Bearer {TOKEN}".encode())]
HOSTILE = [
    "",
    "{",
    "null",
    "[]",
    '"text"',
    '{"a": NaN}',
    '{"a": -Infinity}',
    '{"a": 1e999}',
    '{"a": "\\ud800"}',
    '{"a": 1, "a": 2}',
    '{"a": ' + "[" * 70 + "]" * 70 + "}",
    '{"a": ' + "1" * 700 + "}",
    "[" * 100_000,
    '{"a":' * 100_000,
]


class Peer:
    """A client: what it sends, in order, and what it was sent. After its script it is silent, or gone."""

    def __init__(self, *script: dict[str, Any], is_gone: bool = True) -> None:
        self._script = list(script)
        self._is_gone = is_gone
        self.got: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if self._script:
            return self._script.pop(0)
        if self._is_gone:
            return {"type": "websocket.disconnect", "code": 1006}
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(self, message: Any) -> None:
        self.got.append(dict(message))

    @property
    def texts(self) -> list[Any]:
        return [json.loads(message["text"]) for message in self.got if message["type"] == "websocket.send"]

    @property
    def status(self) -> int:
        return int(self.got[0]["status"])


class Behind:
    """The application behind the gate: it notes what reaches it, and answers messages until its client is gone."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] == "http":
            self.seen.append((await receive())["body"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.seen.append(json.loads(message["text"]))
            await send({"type": "websocket.send", "text": '{"type": "observation"}'})
        self.seen.append(message["type"])
        await send({"type": "websocket.close", "code": 1000})


def http(path: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
    return {"type": "http", "path": path, "method": "POST", "headers": list(headers)}


def socket(path: str = "/ws", headers: Sequence[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
    return {"type": "websocket", "path": path, "headers": list(headers)}


def body(*parts: bytes) -> list[dict[str, Any]]:
    return [
        {"type": "http.request", "body": part, "more_body": place < len(parts)} for place, part in enumerate(parts, 1)
    ]


def text(value: object) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": value if isinstance(value, str) else json.dumps(value)}


CONNECT = {"type": "websocket.connect"}


def served(scope: dict[str, Any], peer: Peer, token: str | None = None, limits: Limits = LIMITS) -> Behind:
    behind = Behind()
    asyncio.run(Guard(behind, limits, token)(scope, peer.receive, peer.send))
    return behind


@pytest.mark.parametrize("message", HOSTILE)
def test_what_is_no_plain_json_object_is_refused(message: str) -> None:
    with pytest.raises(ValueError):
        checked_json(message)


def test_what_passes_is_plain_ascii() -> None:
    assert checked_json('{"a": "é\\u0000", "b": [1, 2.5, null]}') == b'{"a": "\\u00e9\\u0000", "b": [1, 2.5, null]}'


@pytest.mark.parametrize("given", [[], [(b"authorization", b"Bearer wrong-token-of-length")], [*BEARER, *BEARER]])
@pytest.mark.parametrize("path", ["/reset", "/openapi.json", "/", "/health/"])
def test_without_the_token_only_health_answers(path: str, given: list[tuple[bytes, bytes]]) -> None:
    peer = Peer(*body(b"{}"))
    assert served(http(path, given), peer, TOKEN).seen == []
    assert peer.status == 401
    assert TOKEN not in str(peer.got)
    for where in ("/ws", "/mcp", "/health"):
        knocking = Peer(CONNECT, text({}))
        assert served(socket(where, given), knocking, TOKEN).seen == []
        assert [message["type"] for message in knocking.got] == ["websocket.close"]
    assert served(http("/health", given), Peer(*body(b"")), TOKEN).seen == [b""]


def test_with_the_token_all_of_it_answers() -> None:
    assert served(http("/reset", BEARER), Peer(*body(b"{}")), TOKEN).seen == [b"{}"]
    assert served(socket("/ws", BEARER), Peer(CONNECT, text({"a": 1})), TOKEN).seen[0] == {"a": 1}


@pytest.mark.parametrize("message", HOSTILE[1:])
def test_a_body_that_is_no_object_does_not_get_in(message: str) -> None:
    peer = Peer(*body(message.encode()))
    assert served(http("/reset"), peer, limits=LIMITS._replace(message=10**6)).seen == []
    assert peer.status == 400


def test_a_body_has_bounds_in_length_and_time() -> None:
    long = Peer(*body(*[b" " * 50] * 5))
    assert served(http("/reset"), long).seen == []
    assert long.status == 413
    slow = Peer({"type": "http.request", "body": b"{", "more_body": True}, is_gone=False)
    assert served(http("/reset"), slow).seen == []
    assert slow.status == 408
    whole = Peer(*body(b'{"a":', b" 1}"))
    assert served(http("/reset"), whole).seen == [b'{"a": 1}']


def test_a_body_in_chunks_is_refused_unread() -> None:
    peer = Peer(is_gone=False)
    assert served(http("/reset", [(b"transfer-encoding", b"chunked")]), peer).seen == []
    assert peer.status == 411


def test_a_request_whose_client_left_before_its_end_is_not_passed_on() -> None:
    peer = Peer({"type": "http.request", "body": b'{"seed": 1}', "more_body": True}, {"type": "http.disconnect"})
    assert served(http("/reset"), peer).seen == []
    assert peer.got == []


def test_the_session_of_an_rpc_is_named_by_text() -> None:
    for given in ([1], {}, 5):
        peer = Peer(*body(json.dumps({"params": {"session_id": given}}).encode()))
        assert served(http("/mcp"), peer).seen == []
        assert peer.status == 400


@pytest.mark.parametrize("message", [*[text(one) for one in HOSTILE], {"type": "websocket.receive", "bytes": b"{}"}])
def test_a_message_that_is_no_object_gets_an_error_and_the_session_goes_on(message: dict[str, Any]) -> None:
    peer = Peer(CONNECT, message, text({"type": "state"}))
    assert served(socket(), peer).seen == [{"type": "state"}, "websocket.disconnect"]
    error, answer = peer.texts
    assert error["type"] == "error"
    assert error["data"]["code"] == "INVALID_JSON"
    assert len(error["data"]["message"]) < 200
    assert answer == {"type": "observation"}
    rpc = Peer(CONNECT, message)
    served(socket("/mcp"), rpc)
    assert rpc.texts[0]["error"]["code"] == -32700


def test_a_client_that_goes_on_sending_nonsense_is_closed() -> None:
    peer = Peer(CONNECT, *[text("nonsense")] * 10)
    assert served(socket(), peer).seen == ["websocket.disconnect"]
    assert len(peer.texts) == LIMITS.refusals
    assert [message["code"] for message in peer.got if message["type"] == "websocket.close"] == [1008]


def test_a_client_that_is_gone_when_it_is_answered_is_no_error() -> None:
    class Gone(Peer):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.send":
                raise BrokenPipeError

    peer = Gone(CONNECT, text({"a": 1}))
    assert served(socket(), peer).seen == [{"a": 1}, "websocket.disconnect"]
    assert len(peer.texts) == 1


def test_a_silent_client_is_ended() -> None:
    peer = Peer(CONNECT, text({"a": 1}), is_gone=False)
    assert served(socket(), peer).seen == [{"a": 1}, "websocket.disconnect"]
    assert peer.texts[-1]["data"]["message"] == "no message within 0.05 s"
    assert peer.got[-1]["type"] == "websocket.close"


def test_beyond_the_limit_a_session_is_refused_in_words_and_a_freed_place_is_given_again() -> None:
    async def scenario() -> None:
        behind = Behind()
        guard = Guard(behind, LIMITS._replace(idle=60.0))
        holders = [Peer(CONNECT, is_gone=False) for _ in range(2)]
        held = [asyncio.create_task(guard(socket(), peer.receive, peer.send)) for peer in holders]
        await asyncio.sleep(0)
        third = Peer(CONNECT, text({}))
        await guard(socket(), third.receive, third.send)
        assert [message["type"] for message in third.got] == ["websocket.accept", "websocket.send", "websocket.close"]
        assert third.texts == [
            {
                "type": "error",
                "data": {"message": "all 2 sessions are in use; try again later", "code": "CAPACITY_REACHED"},
            }
        ]
        held[0].cancel()  # as a server does with a connection that breaks
        await asyncio.wait(held[:1])
        fourth = Peer(CONNECT, text({"now": 4}))
        await guard(socket(), fourth.receive, fourth.send)
        assert {"now": 4} in behind.seen
        held[1].cancel()
        await asyncio.wait(held)

    asyncio.run(scenario())
