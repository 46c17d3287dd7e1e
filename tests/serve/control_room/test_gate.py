"""Who may enter, and what comes out: tokens, other sites, sizes, headers, paths that lead elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from chaosops_ray.serve.control_room.app import PAGES, create_app
from chaosops_ray.serve.control_room.gate import MAX_BODY, MAX_TARGET, Gate
from chaosops_ray.serve.control_room.paths import identity, relative_path
from chaosops_ray.serve.control_room.room import Room
from chaosops_ray.serve.control_room.runs import Runs
from chaosops_ray.sim.errors import InputError
from tests.support import runs
from tests.support.control_room import HTML, opened, page

TOKEN = "a-token-of-some-length"  # noqa: S105 - made up
OWN = "http://localhost:8700"


def test_every_answer_forbids_what_no_page_needs(filled: Path) -> None:
    with opened(filled) as client:
        for address in ("/", "/none", "/assets/style.css", "/api/runs/over/curves", "/api/none"):
            headers = client.get(address).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert "http" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"


def test_pages_hold_no_inline_script_or_style_and_name_no_other_site(filled: Path) -> None:
    with opened(filled) as client:
        for address in ("/", "/runs/over", "/runs/over/evaluation", "/runs/over/episodes", "/sweeps/sweep", "/none"):
            text = client.get(address, headers=HTML).text
            assert "<style" not in text
            assert " style=" not in text
            assert "://" not in text
            assert "<script>" not in text
            assert " onclick" not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example:8700"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
    ],
)
def test_other_sites_are_refused(filled: Path, headers: Mapping[str, str]) -> None:
    with opened(filled) as client:
        for address in ("/", "/api/runs/over/curves", "/assets/curves.js"):
            assert client.get(address, headers=headers).status_code == 403


def test_a_link_on_another_site_may_be_followed_and_own_requests_pass(filled: Path) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    with opened(filled) as client:
        assert client.get("/", headers=followed).status_code == 200
        assert client.post("/", headers=followed).status_code == 403
        own = {"origin": OWN, "sec-fetch-site": "same-origin"}
        assert client.get("/", headers=own).status_code == 200


def test_too_long_an_address_or_body_is_refused(filled: Path) -> None:
    with opened(filled) as client:
        assert client.get(f"/?{'x' * MAX_TARGET}").status_code == 414
        assert client.post("/", content=bytes(MAX_BODY + 1)).status_code == 413
        assert client.post("/").status_code == 405


def test_a_request_whose_client_left_before_its_end_is_not_passed_on() -> None:
    """A part of a form could be another turn than the one that was meant."""
    incoming = iter([{"type": "http.request", "body": b"line=flag", "more_body": True}, {"type": "http.disconnect"}])
    reached: list[Any] = []

    async def receive() -> Any:
        return next(incoming)

    async def reach(*given: Any) -> None:
        reached.append(given)

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/play/1", "query_string": b"", "headers": headers}
    asyncio.run(Gate(reach, reach, None)(scope, receive, reach))
    assert reached == []


def test_with_a_token_all_but_the_form_needs_it(filled: Path) -> None:
    with opened(filled, token=TOKEN) as client:
        assert "A token is needed" in page(client, "/runs/over", 401)
        for address in ("/", "/api/runs/over/curves", "/api/events", "/none", "/token"):
            assert client.get(address).status_code == 401
            assert client.get(address, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/assets/token.js").status_code == 200


def test_the_form_sets_a_cookie_that_scripts_and_other_sites_do_not_get(filled: Path) -> None:
    with opened(filled, token=TOKEN) as client:
        wrong = client.post("/token", data={"token": "wrong", "place": "/runs/over"}, follow_redirects=False)
        assert "set-cookie" not in wrong.headers
        right = client.post("/token", data={"token": TOKEN, "place": "/runs/over"}, follow_redirects=False)
        assert (right.status_code, right.headers["location"]) == (303, "/runs/over")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly; SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/").status_code == 200
        client.cookies.clear()
        forged = {"cookie": f"{cookie.split('=')[0]}={TOKEN}"}
        assert client.get("/", headers=forged).status_code == 401


@pytest.mark.parametrize("place", ["//evil.example", "http://evil.example", "/\\evil.example", "/a\r\nx: y", "", "/ä"])
def test_the_form_leads_to_no_other_site(filled: Path, place: str) -> None:
    with opened(filled, token=TOKEN) as client:
        found = client.post("/token", data={"token": TOKEN, "place": place}, follow_redirects=False)
        assert found.headers["location"] == "/"
        assert "x" not in found.headers


def test_a_token_from_another_site_s_form_is_refused(filled: Path) -> None:
    with opened(filled, token=TOKEN) as client:
        found = client.post("/token", data={"token": TOKEN}, headers={"origin": "http://evil.example"})
        assert found.status_code == 403


ESCAPES = [
    "..",
    "../x",
    "..:..",
    ":",
    "::",
    "",
    ".hidden",
    "over:..:..",
    "/etc",
    "a/../..",
    "over\0",
    "~",
    "over:",
    "\udcff",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_an_id_names_nothing_outside(escape: str) -> None:
    if escape == "~":
        assert relative_path(escape) == Path("~")
        return
    with pytest.raises(InputError, match="there is no run"):
        relative_path(escape)


def test_an_id_is_read_back_as_it_was_written() -> None:
    for relative in ("a", "a/b", "a:b/c", "~c/~t:", "~", "a~cb", "ä/ü b"):
        assert relative_path(identity(Path(relative))) == Path(relative)


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    secret = runs.evaluated(outside / "secret", 12).path
    root = tmp_path / "runs"
    own = runs.evaluated(root / "own", 12).path
    (root / "linked").symlink_to(secret)
    (root / "sweep" / "trials").mkdir(parents=True)
    (root / "sweep" / "sweep.yaml").write_text("arms: {}\n")
    (root / "sweep" / "plots").symlink_to("/etc")
    for name in ("metrics.jsonl", "evaluation.json", "evaluation-episodes.parquet"):
        (own / name).unlink()
        (own / name).symlink_to(secret / name)
    with opened(root) as client:
        assert "linked" not in page(client, "/")
        assert client.get("/runs/linked", headers=HTML).status_code == 404
        assert "leads out" in page(client, "/runs/own")
        assert client.get("/runs/own/evaluation", headers=HTML).status_code == 200
        for address in ("/runs/own/evaluation", "/runs/own/episodes?file=evaluation"):
            assert "leads out" in page(client, address)
        assert client.get("/sweeps/sweep/plots/passwd").status_code == 404
        assert client.get("/sweeps/sweep/plots/..%2f..%2fown%2fconfig.yaml").status_code == 404


def test_no_request_breaks_the_server(filled: Path) -> None:
    """Schemathesis writes requests for every route; none of the answers is a 5xx."""
    room = Room(Runs(filled))
    room.is_closing = True  # streams end at once
    found = [route.path for routes in PAGES for route in routes(room) if isinstance(route, Route)]
    addresses = list(dict.fromkeys(found))  # some are there for GET and for POST
    text = {"type": "string"}
    queries = ("file", "policy", "tier", "group", "order", "page", "after", "times")
    document = {
        "openapi": "3.1.0",
        "info": {"title": "control room", "version": "1"},
        "paths": {
            address: {
                "get": {
                    "parameters": [
                        *[{"name": name, "in": "query", "schema": {"type": ["string", "integer"]}} for name in queries],
                        *[
                            {"name": part.strip("{}"), "in": "path", "required": True, "schema": _either(part, text)}
                            for part in address.split("/")
                            if part.startswith("{")
                        ],
                    ],
                    "responses": {"200": {"description": "found"}},
                }
            }
            for address in addresses
        },
    }
    app = create_app(room, names=("testserver",))

    async def with_document(scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "http" and scope["path"] == "/openapi.json":
            await JSONResponse(document)(scope, receive, send)  # type: ignore[arg-type]
        else:
            await app(scope, receive, send)  # type: ignore[arg-type]

    schema = schemathesis.openapi.from_asgi("/openapi.json", with_document)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == len(addresses)
    for operation in operations:

        @settings(max_examples=8, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answered(case: schemathesis.Case) -> None:
            assert case.call().status_code < 500

        answered()


def _either(part: str, text: Mapping[str, str]) -> Mapping[str, object]:
    """A name that is there, as often as any other."""
    there = {"{run}": ["over", "deep:begun", "sweep"], "{sweep}": ["sweep", "over"], "{file}": ["evaluation"]}
    return {"anyOf": [{"enum": there[part]}, text]} if part in there else text


def test_a_request_that_takes_too_long_is_answered_all_the_same(filled: Path) -> None:
    """As when the disk of a run hangs. The thread is not waited for."""
    stuck = Event()
    room = Room(Runs(filled), deadline=0.05)

    async def asked() -> None:
        with pytest.raises(TimeoutError):
            await room.run(stuck.wait)

    asyncio.run(asked())
    stuck.set()
    room.close()


def test_the_client_of_these_tests_is_no_other_site(filled: Path) -> None:
    with TestClient(create_app(Room(Runs(filled)))) as client:
        assert client.get("/").status_code == 403  # it calls the server "testserver"
