"""What is sent to an MLflow server, against a scripted one that speaks its REST interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chaosops_ray.telemetry.mlflow import MlflowSink
from chaosops_ray.telemetry.sinks import Described, SinkError, Sinks
from chaosops_ray.telemetry.table import samples
from tests.support import runs


class Server(ThreadingHTTPServer):
    """Keeps experiments and runs in memory."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.permissions: set[str | None] = set()
        self.status = 200  # of every answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, what: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if what == "experiments/get-by-name":
            known = self.experiments.get(given["experiment_name"])
            return (200, {"experiment": {"experiment_id": known}}) if known else (404, {})
        if what == "experiments/create":
            self.experiments[given["name"]] = str(len(self.experiments) + 1)
            return 200, {"experiment_id": self.experiments[given["name"]]}
        if what == "runs/create":
            name = f"id-{len(self.runs)}"
            self.runs[name] = {**given, "metrics": [], "params": {}, "status": "RUNNING"}
            return 200, {"run": {"info": {"run_id": name}}}
        run = self.runs[given["run_id"]]
        if what == "runs/update":
            run["status"] = given["status"]
            return 200, {}
        assert what == "runs/log-batch"
        assert len(given.get("metrics", [])) <= 1000
        assert len(given.get("params", [])) <= 100
        run["metrics"] += given.get("metrics", [])
        run["params"] |= {one["key"]: one["value"] for one in given.get("params", [])}
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer({key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, given: dict[str, Any]) -> None:
        self.server.permissions.add(self.headers.get("Authorization"))
        what = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
        status, found = self.server.answer(what, given) if self.server.status == 200 else (self.server.status, {})
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("EXPERIMENT_NAME", "TRACKING_TOKEN", "TRACKING_USERNAME", "TRACKING_PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    with serving() as found:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", found.url)
        yield found


SETTINGS = {"model": "tiny", **{f"key.{i}": "x" * i for i in range(0, 6000, 50)}}


def test_a_run_and_its_updates_are_there(server: Server, tmp_path: Path) -> None:
    sink = MlflowSink(Described("first", tmp_path, SETTINGS))
    for update in (1, 2):
        sink.write(samples(runs.row(update)), update)
    sink.close()
    assert server.experiments == {"chaosops": "1"}
    (run,) = server.runs.values()
    assert (run["experiment_id"], run["run_name"], run["status"]) == ("1", "first", "FINISHED")
    assert run["params"] == {key: value[:500] for key, value in SETTINGS.items()}
    there = {(one["key"], one["step"]): one["value"] for one in run["metrics"]}
    assert there == {(one.key, step): one.value for step in (1, 2) for one in samples(runs.row(step))}


def test_a_run_that_is_resumed_goes_on_in_the_same_place(server: Server, tmp_path: Path) -> None:
    for update in (1, 2):
        sink = MlflowSink(Described("first", tmp_path, {}))
        assert server.runs["id-0"]["status"] == "RUNNING"
        sink.write(samples(runs.row(update)), update)
        sink.close()
    assert list(server.runs) == ["id-0"]
    assert {one["step"] for one in server.runs["id-0"]["metrics"]} == {1, 2}


def test_the_experiment_and_the_permission_are_those_of_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours, & others")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "opensesame")
    MlflowSink(Described("first", tmp_path, {}))
    assert server.experiments == {"ours, & others": "1"}
    assert server.permissions == {"Bearer opensesame"}
    server.permissions.clear()
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "a")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "b")
    MlflowSink(Described("second", tmp_path, {}))
    assert server.permissions == {"Basic YTpi"}


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("file:///tmp/mlruns", "needs a server"),
        ("mlruns", "needs a server"),
        ("http://a:s3cret@127.0.0.1:1", "has a password in it"),
    ],
)
def test_an_address_that_is_no_server_is_refused(
    address: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(SinkError, match=says) as refused:
        MlflowSink(Described("first", tmp_path, {}))
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_refuses_is_found_out_at_the_start(server: Server, status: int, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(SinkError, match=r"mlflow does not start: .*; check MLFLOW_TRACKING_URI"):
        MlflowSink(Described("first", tmp_path, {}))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_gone_for_a_while_costs_those_updates(server: Server, tmp_path: Path) -> None:
    sink = MlflowSink(Described("first", tmp_path, {}))
    said: list[str] = []
    for update, status in ((1, 200), (2, 503), (3, 200)):
        server.status = status
        open_sinks = Sinks({"mlflow": sink}, said.append)
        open_sinks.send(runs.row(update))
        open_sinks.close()
    assert {one["step"] for one in server.runs["id-0"]["metrics"]} == {1, 3}
    assert said == ["telemetry: mlflow failed at update 2: HTTP Error 503: Service Unavailable; the training goes on"]
