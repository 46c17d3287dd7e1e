"""What a browser's page of another site may do to a server without a token: nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chaosops_ray.serve.origin import SameOrigin

LOCAL, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - nothing is bound to it


def asked(
    *headers: tuple[str, str], kind: str = "http", address: str = LOCAL, names: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The first message that the client of such a request gets."""
    got: list[dict[str, Any]] = []

    async def behind(_: Any, __: Any, send: Any) -> None:
        await send({"type": "websocket.accept"} if kind == "websocket" else {"status": 200})

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        got.append(dict(message))

    scope = {"type": kind, "path": "/", "headers": [(name.encode(), value.encode()) for name, value in headers]}
    asyncio.run(SameOrigin(behind, address, names)(scope, receive, send))
    if len(got) > 1:
        got[0]["detail"] = json.loads(got[1]["body"])["detail"]
    return got[0]


def status(*headers: tuple[str, str], **given: Any) -> int:
    return int(asked(*headers, **given)["status"])


OWN = ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.0.0.1:9"]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
    "evil.example#127.0.0.1",
    "192.168.1.5",
    "",
    "[::1",
    "127.0.0.1:port",
]


@pytest.mark.parametrize("host", OWN)
def test_a_loopback_server_is_reached_by_the_names_of_loopback(host: str) -> None:
    assert status(("host", host)) == 200
    assert status(("host", host), ("origin", f"http://{host}")) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_a_loopback_server_is_reached_by_no_other_name_even_of_the_same_origin(host: str) -> None:
    assert status(("host", host)) == 403
    assert status(("host", host), ("origin", f"http://{host}")) == 403


def test_a_request_has_one_host() -> None:
    assert status() == 403
    assert status(("host", "localhost"), ("host", "localhost")) == 403
    assert status(("Host", "evil.example")) == 403


ORIGINS = [
    "http://evil.example",
    "https://localhost:8001",
    "http://localhost",
    "http://127.0.0.1:8000",
    "http://localhost:8000.evil.example",
    "http://localhost:8000@evil.example",
    "http://localhost:8000/",
    "null",
    "",
    "file://",
    "chrome-extension://localhost:8000",
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    headers = [("host", "localhost:8000"), ("origin", origin)]
    refused = asked(*headers)
    assert (refused["status"], "another site" in refused["detail"]) == (403, True)
    closed = asked(*headers, kind="websocket")
    assert (closed["type"], "another site" in closed["reason"]) == ("websocket.close", True)
    assert status(headers[0], ("origin", "http://localhost:8000"), headers[1]) == 403


def test_behind_a_proxy_with_tls_the_port_may_be_left_out() -> None:
    name = {"names": ("play.example.org",)}
    assert status(("host", "play.example.org"), ("origin", "https://play.example.org"), **name) == 200
    assert status(("host", "play.example.org:443"), ("origin", "https://play.example.org"), **name) == 200
    assert status(("host", "play.example.org"), ("origin", "https://play.example.org:444"), **name) == 403


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.0.0.7:8000", 200),
        ("[fe80::7]:8000", 200),
        ("chaosops-incident:8000", 200),
        ("localhost", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("10.0.0.7.evil.example", 403),
        ("play.example.org", 200),
    ],
)
def test_a_server_on_all_addresses_is_reached_by_what_no_site_can_be_called(host: str, expected: int) -> None:
    """And by the names that it was given."""
    for address in (EVERYWHERE, "::"):
        assert status(("host", host), address=address, names=("Play.example.org",)) == expected


def test_a_server_on_one_address_is_reached_by_it() -> None:
    assert status(("host", "192.168.1.5:8000"), address="192.168.1.5") == 200
    assert status(("host", "192.168.1.6:8000"), address="192.168.1.5") == 403


def test_the_refusal_names_the_remedy_and_is_short() -> None:
    detail = asked(("host", f"{'x' * 5000}.example"))["detail"]
    assert "--names" in detail
    assert len(detail) < 300
