"""The client against a server of our own on loopback, which answers what the test tells it to."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from chaosops_ray.agents.endpoint import LONGEST_WAIT, OpenAISampler
from chaosops_ray.agents.served import ServedModelError

KEY = "sk-test-0123456789abcdef"
MESSAGES = [{"role": "system", "content": "Watch."}, {"role": "user", "content": "What now? ü"}]


class Server(HTTPServer):
    """Answers from a list, the last one again and again; keeps what it was asked."""

    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, dict[str, str], Any]]

    def say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, headers or {}, data))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(data)))
        answers = self.server.answers
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.answers, server.asked = [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Trickling:
    """A server that never comes to an end: a beginning, and then the same bytes again and again."""

    def __init__(self, opening: bytes, drop: bytes, pause: float = 0.01) -> None:
        self._opening, self._drop, self._pause = opening, drop, pause
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Trickling:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, suppress(OSError):  # the client goes away in the middle of it
            connection.sendall(self._opening)
            while not self._over.wait(self._pause):
                connection.sendall(self._drop)


def said(text: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, **more}]}


def client(server: Server, waits: list[float] | None = None, **options: Any) -> OpenAISampler:
    waits = [] if waits is None else waits
    return OpenAISampler(f"http://127.0.0.1:{server.server_port}/v1/", "some-model", sleep=waits.append, **options)


def failed(call: Callable[[], Any]) -> str:
    with pytest.raises(ServedModelError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    assert KEY not in line
    assert len(line) < 500
    # Nothing else is attached that a traceback would print.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return line


def test_a_conversation_goes_out_and_the_answer_comes_back(server: Server) -> None:
    server.say(200, said("Flag the autoscaler – now."))
    assert client(server, temperature=0.3, max_tokens=64).complete(MESSAGES, seed=7) == "Flag the autoscaler – now."
    ((path, headers, body),) = server.asked
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert body == {
        "model": "some-model",
        "messages": MESSAGES,
        "temperature": 0.3,
        "max_tokens": 64,
        "seed": 7,
        "stream": False,
    }


def test_the_key_is_read_from_the_environment_when_it_is_needed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.say(200, said("Yes."))
    asker = client(server, key_variable="A_KEY_FOR_TESTS")
    assert "A_KEY_FOR_TESTS holds no key" in failed(lambda: asker.complete(MESSAGES, 0))
    monkeypatch.setenv("A_KEY_FOR_TESTS", f" {KEY}\n")
    assert asker.complete(MESSAGES, 0) == "Yes."
    assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(vars(asker))
    monkeypatch.setenv("A_KEY_FOR_TESTS", f"{KEY}\r\nX-Other: 1")
    assert "holds what cannot be a key" in failed(lambda: asker.complete(MESSAGES, 0))
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_is_final_and_never_repeats_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("A_KEY_FOR_TESTS", KEY)
    server.say(status, {"error": {"message": f"wrong key\n\x1b[2J {KEY}, " + "and so on " * 900}})
    waits: list[float] = []
    line = failed(lambda: client(server, waits, key_variable="A_KEY_FOR_TESTS").complete(MESSAGES, 0))
    assert line.startswith(f"some-model at http://127.0.0.1:{server.server_port}/v1/chat/completions: {status} ")
    assert "wrong key \N{REPLACEMENT CHARACTER}[2J [key], and so on" in line
    assert (waits, len(server.asked)) == ([], 1)


@pytest.mark.parametrize(
    "body", [b"<html>nginx</html>", b"", b"\xff\xfe", b'{"error": "short"}', b"[]", b"[" * 100_000]
)
def test_a_refusal_in_any_form_is_one_line(server: Server, body: bytes) -> None:
    server.say(403, body)
    assert "403 Forbidden" in failed(lambda: client(server).complete(MESSAGES, 0))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_failures_are_repeated_with_growing_waits(server: Server, status: int) -> None:
    for _ in range(3):
        server.say(status, {"error": {"message": "busy"}})
    server.say(200, said("Here."))
    waits: list[float] = []
    assert client(server, waits).complete(MESSAGES, 0) == "Here."
    assert waits == [0.5, 1.0, 2.0]
    assert len({json.dumps(body) for _, _, body in server.asked}) == 1


def test_repeating_has_an_end_and_waits_have_a_bound(server: Server) -> None:
    server.say(503, {"error": {"message": "loading"}})
    waits: list[float] = []
    line = failed(lambda: client(server, waits, retries=9).complete(MESSAGES, 0))
    assert line.endswith("503 Service Unavailable: loading (tried 10 times)")
    assert waits == [0.5, 1, 2, 4, 8, 16, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]
    assert len(server.asked) == 10


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("3", 3), ("0", 0.5), ("86400", LONGEST_WAIT), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.5), ("²", 0.5)],
)
def test_the_server_may_ask_for_a_longer_wait(server: Server, asked: str, waited: float) -> None:
    server.say(429, {}, {"Retry-After": asked})
    server.say(200, said("Here."))
    waits: list[float] = []
    assert client(server, waits).complete(MESSAGES, 0) == "Here."
    assert waits == [waited]


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waits: list[float] = []
    nobody = OpenAISampler(f"http://127.0.0.1:{port}", "m", retries=2, sleep=waits.append)
    assert "no answer (ConnectError" in failed(lambda: nobody.complete(MESSAGES, 0))
    assert waits == [0.5, 1.0]
    for host in ("a..b", "xn--a"):  # neither can be looked up, for different reasons
        nowhere = OpenAISampler(f"http://{host}/v1", "m", retries=0)
        assert "no answer" in failed(lambda asker=nowhere: asker.complete(MESSAGES, 0))  # type: ignore[misc]


def test_a_server_that_says_nothing_runs_into_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        asker = OpenAISampler(f"http://127.0.0.1:{silent.getsockname()[1]}", "m", timeout=0.05, retries=0)
        assert "no answer within 0.05 s (tried 1 times)" in failed(lambda: asker.complete(MESSAGES, 0))


@pytest.mark.parametrize(
    ("opening", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
    ids=["headers", "body", "chunks", "hints"],
)
def test_a_server_that_trickles_runs_into_the_deadline(opening: bytes, drop: bytes) -> None:
    """Each byte comes long before a read would time out; the try as a whole has a deadline."""
    with Trickling(opening, drop) as server:
        asker = OpenAISampler(f"http://127.0.0.1:{server.port}", "m", timeout=0.3, retries=0)
        assert "no answer within 0.3 s" in failed(lambda: asker.complete(MESSAGES, 0))


def test_an_answer_that_breaks_off_is_asked_for_again(server: Server) -> None:
    server.say(200, b'{"choices": ', {"Content-Length": "500"})
    server.say(200, said("Whole."))
    assert client(server).complete(MESSAGES, 0) == "Whole."


def test_an_answer_without_end_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosops_ray.agents.endpoint._MAX_BYTES", 1000)
    for status in (200, 400, 503):
        server.answers.clear()
        server.say(status, said("x" * 2000))
        assert "an answer of more than 1000 bytes" in failed(lambda: client(server, retries=0).complete(MESSAGES, 0))


def test_an_endless_answer_is_refused_when_it_is_too_long() -> None:
    """Long before its deadline, and whatever it says of its length."""
    opening = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n"
    for head in (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", opening):
        with Trickling(head, b"10000\r\n" + b" " * 0x10000 + b"\r\n", pause=0.0) as server:
            asker = OpenAISampler(f"http://127.0.0.1:{server.port}", "m", retries=0)
            assert "bytes" in failed(lambda asker=asker: asker.complete(MESSAGES, 0))  # type: ignore[misc]


def test_a_compressed_answer_is_not_unpacked(server: Server) -> None:
    """A small one could become larger than the memory; none was asked for."""
    packed = gzip.compress(json.dumps(said("x" * 1_000_000)).encode())
    server.say(200, packed, {"Content-Encoding": "gzip"})
    assert "no chat completion" in failed(lambda: client(server).complete(MESSAGES, 0))
    assert server.asked[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [1]}',
        b'{"choices": [{"message": 1}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_completion_is_refused(server: Server, body: bytes) -> None:
    server.say(200, body)
    assert "no chat completion" in failed(lambda: client(server).complete(MESSAGES, 0))


def test_an_answer_without_text_says_why_it_ended(server: Server) -> None:
    server.say(200, said(None, finish_reason="tool_calls"))
    assert "no text (finish_reason 'tool_calls')" in failed(lambda: client(server).complete(MESSAGES, 0))
    server.answers.clear()
    server.say(200, said(""))
    assert client(server).complete(MESSAGES, 0) == ""


def test_a_redirect_is_not_followed_with_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY_FOR_TESTS", KEY)
    server.say(307, b"", {"Location": f"http://127.0.0.1:{server.server_port}/elsewhere"})
    assert "307 " in failed(lambda: client(server, key_variable="A_KEY_FOR_TESTS").complete(MESSAGES, 0))
    assert len(server.asked) == 1


def test_no_proxy_of_the_environment_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor is a password of a netrc file sent."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, nobody)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.say(200, said("Here."))
    assert client(server).complete(MESSAGES, 0) == "Here."
    assert "Authorization" not in server.asked[0][1]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://host/v1",
        "http://",
        "http://user:pw@host/v1",
        "http://host/v1?key=1",
        "http://host:port",
        "http://host:99999",
        "http://[::1/v1",
        "http://host\x00/v1",
    ],
)
def test_an_endpoint_that_is_none_is_refused_at_once(url: str) -> None:
    line = failed(lambda: OpenAISampler(url, "m"))
    assert "endpoint" in line
    assert "pw" not in line


def test_an_address_in_brackets_is_an_address() -> None:
    assert "[::1]" in OpenAISampler("http://[::1]:8000/v1", "m")._url
