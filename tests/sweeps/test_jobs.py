"""`chaosops submit`: what is looked over here, what is sent, and jobs on a real cluster of three nodes."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import psutil
import pytest
from ray.job_submission import JobStatus

from chaosops_ray import process_environment
from chaosops_ray.cli import main
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweeps import job_server, jobs
from tests.support.cluster import SMALL
from tests.support.models import tiny_base

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
NAME = "raysubmit_scripted"


# -- a job server that follows a script -------------------------------------------------------------------------------


class Scripted(ThreadingHTTPServer):
    """Answers as Ray's job server does, but for what it is told to answer otherwise; and remembers what it was asked."""

    def __init__(self, otherwise: dict[str, tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.otherwise = otherwise
        self.asked: list[tuple[str, str, bytes]] = []
        self.interrupts = False
        self.over = Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def sent(self, method: str, path: str) -> bytes:
        (body,) = [body for verb, where, body in self.asked if verb == method and where.startswith(path)]
        return body


class Answers(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        if self.path.endswith("/logs/tail"):
            if self.server.interrupts:
                os.kill(os.getpid(), signal.SIGINT)
            self.server.over.wait(PATIENCE)
        elif self.path.startswith("/api/packages"):
            self.answer(404, "no such package")
        else:
            self.answer(200, json.dumps({"version": "4", "ray_version": "2.60.0"}))

    def do_PUT(self) -> None:
        self.answer(200, "")

    def do_POST(self) -> None:
        self.answer(200, json.dumps({"job_id": NAME, "submission_id": NAME}))

    def answer(self, status: int, text: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, body))
        status, text = self.server.otherwise.get(f"{self.command} {self.path.split('/')[2]}", (status, text))
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scripted(**otherwise: tuple[int, str]) -> Iterator[Scripted]:
    answers = {name.replace("_", " "): answer for name, answer in otherwise.items()}
    with Scripted(answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in jobs.OVERRIDES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working directory with the configurations, and with much that nobody needs on a cluster."""
    folder = tmp_path / "work"
    shutil.copytree(ROOT / "tune_configs", folder / "tune_configs")
    for ballast in (".git/HEAD", ".venv/pyvenv.cfg", "runs/a/config.yaml", "a/.mypy_cache/b", "a/data.parquet"):
        (folder / ballast).parent.mkdir(parents=True, exist_ok=True)
        (folder / ballast).write_text("model: tiny")
    return folder


def arguments(work: Path, url: str, *more: str) -> list[str]:
    config = work / "tune_configs" / "3a.yaml"
    return ["submit", str(config), "--working-dir", str(work), "--address", url, "--out", str(work / "run"), *more]


def line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


# -- what is looked over here -----------------------------------------------------------------------------------------

MISTAKES = {
    "typo in a setting": (["--set", "learner.lora_rnk=8"], "did you mean lora_rank"),
    "a curriculum that is none": (["--set", "curriculum=easy:5,extreme:5"], "extreme"),
    "a seed that is none": (["--seed", "-1"], "seed"),
    "turns that overlap": (
        ["--set", "resources={colocate: true, sampler_gpus: 0.5, learner_gpus: 0.5}", "--set", "schedule=pipelined"],
        "colocate",
    ),
    "a run folder in the job's own copy": (["--out", "runs/first"], "give an absolute folder"),
    "a working directory that is none": (["--working-dir", "/no/such/folder"], "--working-dir /no/such/folder"),
    "a working directory beside it": (["--working-dir", "docs"], "is outside"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_sent(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    monkeypatch.chdir(ROOT)
    more, words = MISTAKES[mistake]
    with scripted() as server:
        assert main([*arguments(work, server.url), "--set", "model=tiny", *more]) == 2
        assert server.asked == []
    assert words in line(capsys)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("tune_configs/none.yaml", "cannot read"),
        ("runs/a/config.yaml", "is in runs"),
        ("../outside.yaml", "is outside"),
    ],
)
def test_a_configuration_that_would_not_arrive_is_one(
    work: Path, capsys: pytest.CaptureFixture[str], config: str, words: str
) -> None:
    with scripted() as server:
        given = ["submit", str(work / config), "--working-dir", str(work), "--address", server.url, "--out", "/x"]
        assert main(given) == 2
        assert server.asked == []
    assert words in line(capsys)


def test_a_sweep_is_looked_over_as_well_and_tuned(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["submit", str(work / "tune_configs" / "phase3.yaml"), "--working-dir", str(work), "--out", "/x"]
    with scripted() as server:
        given += ["--address", server.url, "--set", "model=tiny"]
        for more, words in (
            (["--set", "learner.lora_rnk=8"], "did you mean lora_rank"),
            (["--seed", "1"], "has seeds of its own"),
        ):
            assert main([*given, *more]) == 2
            assert words in line(capsys)
        assert server.asked == []
        assert main([*given, "--no-wait"]) == 0
        asked = json.loads(server.sent("POST", "/api/jobs"))
    assert "chaosops_ray.cli tune tune_configs/phase3.yaml --address=auto" in asked["entrypoint"]


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_what_is_sent_is_the_command_and_the_folder_and_no_secret(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "a-secret")
    with scripted() as server:
        setting = "credit.streams={oversight: {flags: 1}}"
        given = arguments(work, server.url, "--set", "model=tiny", "--set", setting, "--seed", "7", "--no-wait")
        assert main([*given, "--out", "/it's; rm -r x"]) == 0
        asked = json.loads(server.sent("POST", "/api/jobs"))
        package = zipfile.ZipFile(io.BytesIO(server.sent("PUT", "/api/packages")))
        assert not [where for _, where, body in server.asked if b"a-secret" in body or "a-secret" in where]
    assert capsys.readouterr().out == f"{NAME}\n"
    assert shlex.split(asked["entrypoint"]) == [
        *("python", "-m", "chaosops_ray.cli", "train", "tune_configs/3a.yaml", "--address=auto"),
        *("--out=/it's; rm -r x", "--set=model=tiny", f"--set={setting}", "--seed=7"),
    ]
    assert asked["metadata"] == {}
    assert asked["runtime_env"]["env_vars"] == process_environment.ENVIRONMENT
    kept = [name for name in package.namelist() if not name.endswith("/")]
    assert "tune_configs/3a.yaml" in kept
    assert {Path(name).parts[0] for name in kept} == {"tune_configs"}


# -- the way there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "auto",
        "127.0.0.1:8265",
        "ray://127.0.0.1:10001",
        "http://",
        "http://127.0.0.1:99999",
        "http://[::1",
        "ftp://x:1",
    ],
)
def test_an_address_that_is_none_is_one_line(work: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert main([*arguments(work, address), "--set", "model=tiny"]) == 2
    assert "such as http://127.0.0.1:8265" in line(capsys)


def test_so_is_a_port_where_nobody_is(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted() as server:
        url = server.url
    assert main([*arguments(work, url), "--set", "model=tiny"]) == 2
    assert url in line(capsys)


def test_a_password_in_the_address_is_refused_and_not_repeated(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(work, "http://me:hunter2@127.0.0.1:1"), "--set", "model=tiny"]) == 2
    assert "hunter2" not in line(capsys)


@pytest.mark.parametrize("name", jobs.OVERRIDES)
def test_ray_is_not_let_send_the_job_elsewhere(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://elsewhere:8265")
    with scripted() as server:
        assert main([*arguments(work, server.url), "--set", "model=tiny"]) == 2
        assert server.asked == []
    assert f"{name} is set" in line(capsys)


TOO_LARGE = """Request failed: Traceback (most recent call last):
  File "packaging.py", line 446, in upload_package_to_gcs
ValueError: Package size (612.00MiB) exceeds the maximum size of 512.00MiB. To exclude large files, add them to it
"""
REFUSALS = {
    "a server of something else": ({"GET_version": (200, '{"hello": "world"}')}, "dashboard"),
    "a page": ({"GET_version": (200, "<html>")}, "the job server at"),
    "nothing of that name": ({"GET_version": (404, "nothing here")}, "404"),
    "a Ray of long ago": ({"GET_version": (200, '{"ray_version": "1.8.0"}')}, "1.9 or higher"),
    "no token": ({"GET_version": (401, "Unauthorized")}, "asks for a token"),
    "the wrong token": ({"GET_version": (403, "Forbidden")}, "asks for a token"),
    "a folder that is too large": ({"PUT_packages": (500, TOO_LARGE)}, ".rayignore"),
    "a request that is": ({"PUT_packages": (413, "Maximum request body size 9 exceeded")}, ".rayignore"),
    "no agent": ({"POST_jobs": (500, "No available agent to submit job, please try again later.")}, "No available"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_whatever_the_server_refuses_is_one_line(work: Path, capsys: pytest.CaptureFixture[str], refusal: str) -> None:
    otherwise, words = REFUSALS[refusal]
    with scripted(**otherwise) as server:
        assert main([*arguments(work, server.url), "--set", "model=tiny"]) == 2
    assert words in line(capsys)


# -- how it comes out -------------------------------------------------------------------------------------------------


class Client:
    """A job that prints two lines and comes out as it is told."""

    def __init__(self, status: JobStatus, code: int | None, message: str = "") -> None:
        self._details = SimpleNamespace(status=status, driver_exit_code=code, message=message)

    def get_address(self) -> str:
        return "http://cluster:8265"

    async def tail_job_logs(self, name: str) -> Any:
        assert name == NAME
        for text in ("one\n", "two\n"):
            yield text

    def get_job_info(self, name: str) -> Any:
        assert name == NAME
        return self._details


@pytest.mark.parametrize(
    ("status", "code", "expected", "words"),
    [
        (JobStatus.SUCCEEDED, 0, 0, "succeeded"),
        (JobStatus.FAILED, 2, 2, "exit code 2"),
        (JobStatus.FAILED, -9, 137, "exit code -9"),
        (JobStatus.FAILED, None, 1, "why not"),
        (JobStatus.STOPPED, None, 1, "stopped"),
    ],
)
def test_the_exit_code_is_that_of_the_job(status: JobStatus, code: int | None, expected: int, words: str) -> None:
    printed: list[str] = []
    client = Client(status, code, "Traceback:\n  and so on\nwhy not\n")
    ended, sentence = job_server.follow(client, NAME, printed.append)
    assert ended == expected
    assert words in sentence
    assert printed == ["one\n", "two\n"]


def test_a_log_that_breaks_off_is_no_end() -> None:
    with pytest.raises(InputError, match=f"{NAME}.*ray job logs {NAME} --follow --address http://cluster:8265"):
        job_server.follow(Client(JobStatus.RUNNING, None), NAME, lambda _text: None)


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's client still says it so
def test_control_c_leaves_the_job_running_and_says_how_to_stop_it(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted() as server:
        server.interrupts = True
        assert main([*arguments(work, server.url), "--set", "model=tiny"]) == 130
        assert [where for verb, where, _ in server.asked if "stop" in where or verb == "DELETE"] == []
    out, err = capsys.readouterr()
    assert out == ""
    assert f"job {NAME} is still running" in err
    assert f"ray job stop {NAME} --address {server.url}" in err
    assert "Traceback" not in err


# -- a real cluster ---------------------------------------------------------------------------------------------------

# What the nodes have: nothing but drivers on the head, and one GPU (it is only said to be there) beside one CPU.
NODES = {"gpu": ("--num-cpus=1", "--num-gpus=1"), "cpu": ("--num-cpus=1", "--num-gpus=0")}
TOKEN = "not-to-be-seen-" + "0123456789abcdef" * 2


class Cluster(NamedTuple):
    """Three nodes on this machine, and how to reach them."""

    url: str
    environment: dict[str, str]

    def state(self, what: str) -> list[dict[str, Any]]:
        """What the cluster says of its nodes, placement groups, jobs."""
        url = f"{self.url}/api/v0/{what}?detail=1"
        request = Request(url, headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310 - our own
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        return found

    def alive(self) -> int:
        """How many nodes there are; none before the head answers."""
        try:
            return len([node for node in self.state("nodes") if node["state"] == "ALIVE"])
        except OSError:
            return 0

    def submit(
        self, folder: Path, config: str, out: Path, *settings: str, watch: Callable[[str], None]
    ) -> tuple[int, str, str]:
        """`chaosops submit` as a person runs it; exit code, output and errors."""
        command = [sys.executable, "-m", "chaosops_ray.cli", "submit", config, "--address", self.url]
        command += ["--out", str(out), *[f"--set={setting}" for setting in settings]]
        with (
            (folder / "errors.txt").open("w+") as errors,
            subprocess.Popen(
                command, cwd=folder, env=self.environment, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            assert process.stdout is not None
            printed = ""
            for text in process.stdout:
                printed += text
                watch(text)
            code = process.wait(PATIENCE)
            errors.seek(0)
            return code, printed, errors.read()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now; all are held until the last one is found."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def until(true: Callable[[], bool], what: str) -> None:
    """Poll, for as long as it may reasonably take."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"{what} within {PATIENCE:g} s"
        time.sleep(0.2)


@contextmanager
def nodes(temporary: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    """A head that runs nothing and the nodes beside it. Nothing of it is left in the end."""
    gcs, dashboard, client, *agents = free_ports(4 + len(NODES))
    cluster = Cluster(f"http://127.0.0.1:{dashboard}", environment)
    head = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", "--num-cpus=0"]
    head += [f"--ray-client-server-port={client}", f"--temp-dir={temporary}/h"]
    asked = [[*head, "--num-gpus=0"]] + [
        # Machines of their own would not share a disk: here, one node's copy of the job's folder would replace another's.
        [f"--address=127.0.0.1:{gcs}", *size, f'--resources={{"node_{name}": 1}}', f"--temp-dir={temporary}/{name[0]}"]
        for name, size in NODES.items()
    ]
    # Workers take whatever ports are free: Ray's own range belongs to whoever else runs Ray here.
    common = ["--block", "--disable-usage-stats", "--include-log-monitor=false", "--object-store-memory=100000000"]
    common += ["--min-worker-port=0", "--max-worker-port=0"]
    started: list[subprocess.Popen[bytes]] = []
    with (temporary / "nodes.log").open("w") as log:
        try:
            for own, agent in zip(asked, agents, strict=True):
                # One after another: two that join at once from the same machine get in each other's way.
                command = [str(Path(sys.executable).with_name("ray")), "start", *own, *common]
                command.append(f"--dashboard-agent-listen-port={agent}")
                started.append(
                    subprocess.Popen(
                        command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                    )
                )
                until(lambda: cluster.alive() == len(started), f"{len(started)} nodes were up")
            yield cluster
        finally:
            end(started, temporary)


def end(started: Sequence[subprocess.Popen[bytes]], temporary: Path) -> None:
    """End these nodes and all that they started, and make sure of it."""
    family = [psutil.Process(node.pid) for node in started if node.poll() is None]
    family += [child for node in family for child in node.children(recursive=True)]
    for node in started:
        node.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    for process in alive:
        process.kill()
    for node in started:
        node.wait()
    until(lambda: not relatives(temporary), "all processes of the cluster ended")


def relatives(temporary: Path) -> list[str]:
    """Whoever still names the cluster's folder on its command line."""
    found = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [command for command in found if str(temporary) in command]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    tiny_base()
    # The path of a socket may be no longer than 107 bytes, and Ray adds some 80.
    temporary = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    environment = {name: value for name, value in os.environ.items() if name not in jobs.OVERRIDES}
    environment |= process_environment.ENVIRONMENT | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    # A job's `python` is looked up where its node was started.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    try:
        with nodes(temporary, environment) as made:
            yield made
    finally:
        shutil.rmtree(temporary)


@pytest.fixture
def folder(work: Path) -> Path:
    """A working directory with the program in it, as a checkout has."""
    shutil.copytree(ROOT / "chaosops_ray", work / "chaosops_ray", ignore=shutil.ignore_patterns("__pycache__"))
    return work


def unseen(cluster: Cluster, *texts: str) -> None:
    """The token stands in nothing that a person or the dashboard is shown."""
    assert TOKEN not in "".join([*texts, json.dumps(cluster.state("jobs"))])


@pytest.mark.cluster
def test_a_sweep_is_trained_as_a_job_where_its_configuration_says(
    cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    arms = {"arms": {"3a": {"extends": "3a.yaml"}, "3b": {"extends": "3b.yaml"}}, "seeds": "0", "reference": "3a"}
    (folder / "tune_configs" / "pair.yaml").write_text(json.dumps(arms))
    out, states = tmp_path / "pair", []

    def watch(text: str) -> None:
        if "connecting to Ray" in text:
            states.extend([job["status"] for job in cluster.state("jobs") if job["type"] == "SUBMISSION"])

    small = [setting for setting in SMALL if not setting.startswith("resources.")]
    # Half the GPU for each learner: both trials fit at once, and neither learner anywhere but on the node that has it.
    asked = ("learner_cpus: 0.2", "learner_gpus: 0.5", "sampler_cpus: 0.2", "shard_cpus: 0.2", "learner_threads: 1")
    more = ["updates=1", f"resources={{{', '.join(asked)}}}", "rollout.shards=1", "evaluation.seeds=1000"]
    code, printed, errors = cluster.submit(folder, "tune_configs/pair.yaml", out, *small, *more, watch=watch)
    assert code == 0, printed + errors
    assert states == ["RUNNING"]
    assert "chaosops_ray.cli tune tune_configs/pair.yaml" in printed
    assert f"report: {out / 'report.html'}" in printed
    assert (out / "report.html").is_file()
    for trial in ("3a-s0", "3b-s0"):
        assert f"{trial}: over after 1 updates" in printed

    sizes = {node["node_id"]: node["resources_total"] for node in cluster.state("nodes")}
    groups = cluster.state("placement_groups")
    assert len(groups) == 2
    used = set()
    for group in groups:
        bundles = [(sizes[bundle["node_id"]], bundle["unit_resources"]) for bundle in group["bundles"]]
        assert [asked.get("CPU", 0) for _, asked in bundles] == [0, 0.2, 0.2, 0.2]
        (name,) = bundles[0][1]  # the trial's own process runs where the sweep does, which has the run folders
        assert name.startswith("node:")
        assert [asked.get("GPU", 0) for _, asked in bundles] == [0, 0.5, 0, 0]
        assert "node_gpu" in bundles[1][0]
        used |= {bundle["node_id"] for bundle in group["bundles"]}
    # Together they are more than one node's CPU, and the head has none.
    assert {name for node in used for name in sizes[node] if name.startswith("node_")} == {"node_gpu", "node_cpu"}
    unseen(cluster, printed, errors)


@pytest.mark.cluster
def test_a_job_that_asks_for_too_much_says_so_and_ends_with_its_own_code(
    cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = ["resources.learner_gpus=8"]
    code, printed, errors = cluster.submit(folder, "tune_configs/3a.yaml", out, *SMALL, *more, watch=lambda _text: None)
    assert code == 2, printed + errors
    assert "the cluster has 1" in printed
    assert "failed with exit code 2" in errors
    assert not out.exists()
    unseen(cluster, printed, errors)
