"""`chaosops infer` between a scripted endpoint and a scripted world: what it prints, whatever the two of them do."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaosops_ray.agents.forms import BY_CALLS
from chaosops_ray.cli import main
from tests.serve.test_inference_log import lines
from tests.support import scripted_servers as served
from tests.support.scripted_servers import CLOSE, FIRST, LAST, SECOND, scripted

ROOT = Path(__file__).parents[1]
KEY = "sk-test-0123456789abcdef"
NAMES = ("API_BASE_URL", "MODEL_NAME", "API_KEY", "HF_TOKEN", "HUGGINGFACE_API_KEY", "ENV_URL", "LOCAL_IMAGE_NAME")
Answer = Callable[[list[dict[str, str]]], str | tuple[int, bytes] | None]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "CHAOSOPS_TOKEN"):
        monkeypatch.delenv(name, raising=False)


class Ran:
    """A run of the command, what it said, and what endpoint and world heard."""

    def __init__(self, code: int, said: tuple[str, str], endpoint: served.Endpoint, world: served.World) -> None:
        self.code = code
        self.out, self.err = said
        self.endpoint, self.world = endpoint, world
        assert KEY not in self.out + self.err + json.dumps(world.messages) + repr(world.headers)

    @property
    def lines(self) -> list[str]:
        return lines(self.out)


@pytest.fixture
def infer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ran]]:
    def run(
        answer: Answer = lambda _: "open red",
        world: Callable[[dict[str, Any]], Any] | None = None,
        *options: str,
        environ: dict[str, str] | None = None,
    ) -> Ran:
        with served.endpoint(answer) as endpoint, served.world(world or scripted()) as made:
            given = {"API_BASE_URL": endpoint.url, "MODEL_NAME": "some/model", "API_KEY": KEY, "ENV_URL": made.url}
            for name, value in {**given, **(environ or {})}.items():
                monkeypatch.setenv(name, value)
            try:
                code = main(["infer", "--timeout", "5", "--retries", "0", *options])
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else -1
            said = capsys.readouterr()
            return Ran(code, said, endpoint, made)

    yield run
    assert threading.active_count() < 40


def test_an_episode_is_played_and_printed(infer: Callable[..., Ran]) -> None:
    answers = ["Red first.\n\nopen red", "open blue"]
    ran = infer(lambda _: answers.pop(0), None, "--reset", "difficulty=few", "--reset", "seed=7", "--max-tokens", "99")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.lines == [
        "[START] task=few/7a1c env=boxes model=some/model",
        '[STEP] step=1 action={"action":"open","box":"red"} reward=0.00 done=false error=null',
        '[STEP] step=2 action={"action":"open","box":"blue"} reward=1.00 done=true error=null',
        "[END] success=true steps=2 score=0.75 rewards=0.00,1.00",
    ]
    assert ran.world.of_type("reset") == [{"difficulty": "few", "seed": 7}]
    assert ran.world.of_type("step") == [{"completion": "Red first.\n\nopen red"}, {"completion": "open blue"}]
    first, second = ran.endpoint.asked
    assert [message["content"] for message in second["messages"]] == [
        "You open boxes.", "Two boxes.", "Red first.\n\nopen red", "Red is empty."
    ]  # fmt: skip
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "user"]
    assert (first["model"], first["seed"], first["max_tokens"]) == ("some/model", 7, 99)


EXAMPLE = {"asked": "Say that you wait.", "answer": '{"action": "wait"}'}


def test_examples_stand_between_the_system_prompt_and_the_first_view(infer: Callable[..., Ran]) -> None:
    first = served.observation(
        role="opener", text="Two boxes.", system_prompt="You open boxes.", examples=[EXAMPLE], tools=[TOOL]
    )
    for asked in infer(lambda _: "open red", scripted(reset=first)).endpoint.asked:
        assert asked["messages"][:4] == [
            {"role": "system", "content": "You open boxes."},
            {"role": "user", "content": "Say that you wait."},
            {"role": "assistant", "content": '{"action": "wait"}'},
            {"role": "user", "content": "Two boxes."},
        ]
    # Whoever acts by calls is told so instead; examples of answers as text would say otherwise.
    for asked in infer(lambda _: calling("{}"), scripted(reset=first), "--tools").endpoint.asked:
        assert asked["messages"][:2] == [
            {"role": "system", "content": f"You open boxes.\n\n{BY_CALLS}"},
            {"role": "user", "content": "Two boxes."},
        ]
    # A server without tools leaves nothing to call.
    untold = served.observation(role="opener", text="Two boxes.", system_prompt="You open boxes.", examples=[EXAMPLE])
    assert len(infer(lambda _: "open red", scripted(reset=untold), "--tools").endpoint.asked[0]["messages"]) == 4


def test_each_seat_has_its_own_conversation(infer: Callable[..., Ran]) -> None:
    guesser = served.observation(role="guesser", text="It is your turn.", system_prompt="You guess.", reward=0.0)
    ran = infer(lambda _: "pass", scripted(guesser, SECOND, LAST))
    told = [[message["content"] for message in asked["messages"]] for asked in ran.endpoint.asked]
    assert told == [
        ["You open boxes.", "Two boxes."],
        ["You guess.", "It is your turn."],
        ["You open boxes.", "Two boxes.", "pass", "Red is empty."],
    ]


def test_a_refused_action_is_an_error_of_its_step(infer: Callable[..., Ran]) -> None:
    refused = served.observation(
        role="opener",
        text="?",
        reward=-1.5,
        action={"unparsed": "no action found"},
        error="no action\u2028found\r\n\x1b[2J",
    )
    ran = infer(lambda _: "\x1b[2J", scripted(refused, LAST))
    assert ran.code == 0
    assert ran.lines[1] == (
        '[STEP] step=1 action={"unparsed":"no action found"} reward=-1.50 done=false error=no action found \ufffd[2J'
    )


@pytest.mark.parametrize("text", ["", "null", "\ud800 \u2028 \x00 \r\n", "🙂" * 3000, '{"action": "open"' * 900])
def test_nonsense_goes_to_the_world_as_it_is(infer: Callable[..., Ran], text: str) -> None:
    """What a completion is worth is the world's to say."""
    ran = infer(lambda _: (200, served.said(text)), scripted(served.observation(role="opener", text="?"), LAST))
    assert ran.code == 0
    assert len(ran.lines) == 4
    assert ran.world.of_type("step")[0] == {"completion": text.replace("\ud800", "\ufffd")}


TOOL = {"type": "function", "function": {"name": "open", "parameters": {"type": "object"}}}


def calling(arguments: Any, name: Any = "open") -> tuple[int, bytes]:
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, call]}
    return 200, json.dumps({"choices": [{"message": message}]}).encode()


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"box": "red"}', {"action": "open", "box": "red"}),
        ({"box": "red"}, {"action": "open", "box": "red"}),
        ("", {"action": "open"}),
        ("[1]", {"completion": "open [1]"}),
        ('{"box": ', {"completion": 'open {"box": '}),
        ('{"a": ' * 2000, {"completion": "open " + '{"a": ' * 2000}),
        ('{"completion": "x"}', {"completion": 'open {"completion": "x"}'}),
    ],
    ids=range(7),
)
def test_a_tool_call_is_the_action(infer: Callable[..., Ran], arguments: Any, sent: Any) -> None:
    first = served.observation(role="opener", text="Two boxes.", system_prompt="You open boxes.", tools=[TOOL])
    ran = infer(lambda _: calling(arguments), scripted(reset=first), "--tools")
    assert ran.code == 0
    assert ran.world.of_type("step")[0] == sent
    assert [asked["tools"] for asked in ran.endpoint.asked] == [[TOOL], [TOOL]]
    assert ran.endpoint.asked[1]["messages"][2]["content"].startswith("open ")


def test_text_is_taken_beside_tools_as_well(infer: Callable[..., Ran]) -> None:
    first = served.observation(role="opener", text="Two boxes.", system_prompt="You open boxes.", tools=[TOOL])
    ran = infer(lambda _: "open red", scripted(reset=first), "--tools")
    assert ran.world.of_type("step")[0] == {"completion": "open red"}
    assert "tools" not in infer(lambda _: "open red", scripted(reset=first)).endpoint.asked[0]


# -- the endpoint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, b"<html>"), "not a chat completion"),
        ((200, b""), "not a chat completion"),
        ((200, b"[" * 100_000), "not a chat completion"),
        ((200, served.said(None)), "holds no text"),
        ((200, b"\xff" * (9 << 20)), "exceeds"),
        ((200, served.said("x" * 16_385)), "16385 characters"),
        (calling("{}"), "holds no text"),
        ((401, f"wrong key\n{KEY}".encode()), "401"),
        ((503, b"busy"), "503"),
        ((302, b""), "302"),
        (None, "no answer"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
@pytest.mark.parametrize("at", [0, 1])
def test_an_endpoint_that_fails_ends_the_run(
    infer: Callable[..., Ran], answer: tuple[int, bytes] | None, why: str, at: int
) -> None:
    given: list[Any] = [*["open red"] * at, answer]
    ran = infer(lambda _: given.pop(0))
    assert ran.code == 2
    assert why in ran.err
    assert ran.err.count("\n") == 1
    assert len(ran.lines) == 2 + at
    assert ran.lines[-1] == f"[END] success=false steps={at} score=0.00 rewards={'0.00' * at}"
    # The session is given back, not left to be found idle.
    assert ran.world.messages[-1]["type"] == "close"


def test_an_endpoint_that_hangs_ends_the_run(infer: Callable[..., Ran]) -> None:
    over = threading.Event()

    def hang(_: Any) -> None:
        over.wait(20)

    try:
        ran = infer(hang, None, "--timeout", "0.1")
    finally:
        over.set()
    assert ran.code == 2
    assert "no answer within 0.1 s" in ran.err
    assert ran.lines[-1] == "[END] success=false steps=0 score=0.00 rewards="


def test_an_endpoint_that_is_not_there_ends_the_run(infer: Callable[..., Ran]) -> None:
    for url in ("http://127.0.0.1:1/v1", "http://user:secret@127.0.0.1/v1", "127.0.0.1:8000"):
        ran = infer(environ={"API_BASE_URL": url})
        assert ran.code == 2
        assert "secret" not in ran.err
        assert ran.lines[-1] == "[END] success=false steps=0 score=0.00 rewards="


def test_the_key_is_sent_to_the_endpoint_alone(infer: Callable[..., Ran]) -> None:
    """An endpoint that gives the key away in its answers does not get it into the lines, or to the world."""
    leaks = served.observation(role="opener", text="?", action={"note": KEY}, error=f"no {KEY}")
    ran = infer(lambda _: f"my key is {KEY}", scripted(leaks, served.error(f"go away with {KEY}")))
    assert ran.endpoint.keys == [f"Bearer {KEY}"] * 2
    assert ran.world.of_type("step")[0] == {"completion": "my key is [key]"}
    assert "error=no [key]" in ran.lines[1]


@pytest.mark.parametrize("bad", [{"MODEL_NAME": KEY}, {"API_BASE_URL": f"http://127.0.0.1:1/{KEY}"}])
def test_an_error_hides_the_key_wherever_else_it_was_put(infer: Callable[..., Ran], bad: dict[str, str]) -> None:
    ran = infer(lambda _: (401, b"no"), environ=bad)
    assert ran.code == 2
    assert "[key]" in ran.err


def test_an_option_hides_the_key(infer: Callable[..., Ran]) -> None:
    for option in (KEY, f"seed={KEY}"):
        assert "[key]" in infer(lambda _: "open red", None, "--reset", option).err
    ran = infer(lambda _: "open red", None, "--reset", f"difficulty={KEY}")
    assert ran.world.of_type("reset") == [{"difficulty": "[key]"}]


# Servers escape some of the characters that keys have.
PARTED = "abc+def/0123456789=="


@pytest.mark.parametrize("escape", [("/", "\\/"), ("+", "\\u002B"), ("=", "\\u003d")])
def test_a_key_in_escapes_is_hidden_as_well(infer: Callable[..., Ran], escape: tuple[str, str]) -> None:
    key = {"API_KEY": PARTED}
    body = json.dumps({"detail": f"wrong key {PARTED}"}).replace(*escape)
    assert "wrong key [key]" in infer(lambda _: (401, body.encode()), environ=key).err
    first = served.observation(role="opener", text="Two boxes.", system_prompt="You open boxes.", tools=[TOOL])
    arguments = json.dumps({"box": PARTED}).replace(*escape)
    ran = infer(lambda _: calling(arguments), scripted(reset=first), "--tools", environ=key)
    assert ran.world.of_type("step")[0] == {"action": "open", "box": "[key]"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"API_KEY": "one", "HF_TOKEN": "two", "HUGGINGFACE_API_KEY": "three"}, "Bearer one"),
        ({"API_KEY": " ", "HF_TOKEN": "two", "HUGGINGFACE_API_KEY": "three"}, "Bearer two"),
        ({"API_KEY": "", "HUGGINGFACE_API_KEY": "three\n"}, "Bearer three"),
        ({"API_KEY": ""}, None),
    ],
)
def test_the_first_key_that_is_set_is_sent(infer: Callable[..., Ran], given: dict[str, str], sent: str | None) -> None:
    ran = infer(environ=given)
    assert ran.code == 0
    assert ran.endpoint.keys == [sent] * 2


# -- the world --------------------------------------------------------------------------------------------------------

BAD = [
    CLOSE,
    "not JSON",
    "[1, 2]",
    b"\xff\xfe",
    '{"type": "observation", "data": []}',
    served.observation(role="opener", unknown_field=1),
    served.error("Ran out of\n\x1b[31m patience", "CAPACITY_REACHED"),
    {"type": "error", "data": "?"},
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("at", ["reset", "state", "step 1", "step 2"])
def test_a_world_that_fails_ends_the_run(infer: Callable[..., Ran], bad: Any, at: str) -> None:
    world = {
        "reset": scripted(reset=bad),
        "state": scripted(said_state=bad),
        "step 1": scripted(bad),
        "step 2": scripted(SECOND, bad),
    }[at]
    ran = infer(lambda _: "open red", world)
    assert ran.code == 2
    assert ran.err.startswith("chaosops infer: ")
    assert ran.err.count("\n") == 1
    assert ran.err[:-1].isprintable()
    steps = ran.lines[1:-1]
    assert len(steps) == {"reset": 0, "state": 0, "step 1": 1, "step 2": 2}[at]
    assert not steps or steps[-1].startswith(
        f'[STEP] step={len(steps)} action="open red" reward=0.00 done=false error='
    )
    assert ran.lines[-1].startswith(f"[END] success=false steps={len(steps)} score=0.00")


@pytest.mark.parametrize(
    "end",
    [
        served.observation(text="Over.", reward=1.0, done=True),
        served.observation(text="Over.", reward=1.0, done=True, score=1.5, success=True),
        served.observation(text="Over.", reward=float("nan"), done=True, score=0.5, success=True),
        served.observation(text="Over.", reward=float("inf"), done=True, score=0.5, success=True),
        served.observation(text="Over.", reward=1.0, done=True, score=float("nan"), success=True),
        served.observation(text="Over.", reward=10**400, done=True, score=0.5, success=True),
        served.observation(text="Nobody's turn.", reward=1.0),
    ],
)
def test_an_end_that_is_none_is_no_success(infer: Callable[..., Ran], end: Any) -> None:
    ran = infer(lambda _: "open red", scripted(end))
    assert ran.code == 2
    assert ran.lines[-1].startswith("[END] success=false steps=1 score=0.00")


def test_an_episode_that_is_over_before_it_began_has_no_steps(infer: Callable[..., Ran]) -> None:
    ran = infer(lambda _: "open red", scripted(reset=LAST))
    assert ran.code == 0
    assert ran.lines[1:] == ["[END] success=true steps=0 score=0.75 rewards="]


def test_the_scheme_of_a_url_may_be_in_capitals(infer: Callable[..., Ran]) -> None:
    with served.world(scripted()) as made:
        assert infer(environ={"ENV_URL": made.url.upper()}).code == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "http://user:secret@127.0.0.1:1", "http://"])
def test_a_world_that_is_not_there_ends_the_run(infer: Callable[..., Ran], url: str) -> None:
    ran = infer(environ={"ENV_URL": url})
    assert ran.code == 2
    assert "secret" not in ran.err
    assert ran.err.count("\n") == 1
    assert ran.lines == [
        "[START] task=null env=null model=some/model",
        "[END] success=false steps=0 score=0.00 rewards=",
    ]


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("busy", ["endpoint", "world"])
def test_a_signal_ends_the_run_and_its_session(
    infer: Callable[..., Ran], number: signal.Signals, code: int, busy: str
) -> None:
    over = threading.Event()

    def hang(_: Any) -> Any:
        os.kill(os.getpid(), number)
        over.wait(20)
        return CLOSE if busy == "world" else None

    steps = iter([SECOND, None])

    def world(message: dict[str, Any]) -> Any:
        if message["type"] != "step":
            return FIRST if message["type"] == "reset" else served.state()
        answer = next(steps)
        if answer is None and busy == "world":
            # The run has ended for its reader while the session is still being closed.
            threading.Timer(0.05, over.set).start()
            return hang(message)
        return answer or LAST

    asked = iter(["open red", "open blue"])

    def answer(messages: list[dict[str, str]]) -> Any:
        return hang(messages) if busy == "endpoint" and len(messages) > 2 else next(asked)

    try:
        ran = infer(answer, world, "--timeout", "20")
    finally:
        over.set()
    assert ran.code == code
    assert ran.err == ("chaosops infer: interrupted\n" if number == signal.SIGINT else "")
    assert ran.lines[-1] == "[END] success=false steps=1 score=0.00 rewards=0.00"


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (("API_BASE_URL",), "API_BASE_URL"),
        (("MODEL_NAME",), "MODEL_NAME"),
        (("ENV_URL",), "either ENV_URL or LOCAL_IMAGE_NAME"),
        (("API_BASE_URL", "MODEL_NAME"), "API_BASE_URL, and MODEL_NAME"),
        (("MODEL_NAME", "ENV_URL"), "MODEL_NAME, and either ENV_URL or LOCAL_IMAGE_NAME"),
    ],
)
def test_a_missing_setting_is_named(infer: Callable[..., Ran], missing: tuple[str, ...], named: str) -> None:
    ran = infer(environ=dict.fromkeys(missing, " "))
    assert ran.code == 2
    assert ran.err == f"chaosops infer: set {named} in the environment\n"
    model = "null" if "MODEL_NAME" in missing else "some/model"
    assert ran.lines == [f"[START] task=null env=null model={model}", "[END] success=false steps=0 score=0.00 rewards="]
    assert not ran.world.messages


@pytest.mark.parametrize(
    "options",
    [
        ("--timeout", "0"), ("--timeout", "nan"), ("--retries", "-1"), ("--max-tokens", "0"), ("--reset", "seed"),
        ("--reset", "seed=x"), ("--reset", "seed=-1"), ("--reset", "=1"), ("--reset", "index=" + "9" * 99),
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_named(infer: Callable[..., Ran], options: tuple[str, ...]) -> None:
    ran = infer(lambda _: "open red", None, *options)
    assert ran.code == 2
    assert options[0] in ran.err
    assert len(ran.lines) == 2


def test_inference_py_is_the_command_and_nothing_else() -> None:
    """Without openenv and its seconds: a setting is missing."""
    environ = {name: value for name, value in os.environ.items() if name not in NAMES}
    ran = subprocess.run(
        [sys.executable, ROOT / "inference.py"],
        env={**environ, "MODEL_NAME": "my model\n2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr == (
        "chaosops infer: set API_BASE_URL, and either ENV_URL or LOCAL_IMAGE_NAME in the environment\n"
    )
    assert lines(ran.stdout)[0] == "[START] task=null env=null model=my model 2"
    assert len((ROOT / "inference.py").read_text().splitlines()) < 15


def command_without_settings(stdout: int, redirection: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$1" {redirection}', sys.executable, str(ROOT / "inference.py")],
        env={**environ, "PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("redirection", ["", ">&-", "2>&-", ">&- 2>&-"])
def test_what_is_closed_is_not_written_to(redirection: str) -> None:
    """Without stderr, what is for it does not come on stdout instead."""
    ran = command_without_settings(subprocess.PIPE, redirection)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == (0 if "2>&-" in redirection else 1)
    if ran.stdout or not redirection.startswith(">&-"):
        assert len(lines(ran.stdout)) == 2


def test_a_reader_that_has_gone_is_no_episode_that_was_played() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = command_without_settings(writer, "")
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (2, "chaosops infer: the reader of stdout ended before the episode did\n")


# -- docker -----------------------------------------------------------------------------------------------------------

DOCKER = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    keys = [name for name in {names!r} if name in os.environ]
    print(json.dumps([sys.argv[1:], keys]), file=calls)
said, code = json.loads((folder / "answers").read_text())[sys.argv[1]]
print(said, file=sys.stderr if code else sys.stdout)
sys.exit(code)
"""


class Docker:
    """A scripted docker command, first on the path."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self.answers: dict[str, tuple[str, int]] = {
            "run": ("4f1d", 0), "port": (f"127.0.0.1:{port}", 0), "rm": ("", 0), "inspect": ("true", 0), "logs": ("", 0)
        }  # fmt: skip
        program = folder / "docker"
        program.write_text(DOCKER.format(python=sys.executable, folder=str(folder), names=NAMES[2:5]))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def script(self, **answers: tuple[str, int]) -> None:
        (self._folder / "answers").write_text(json.dumps({**self.answers, **answers}))

    @property
    def calls(self) -> list[list[str]]:
        """The commands; none of them was shown a key."""
        given = [json.loads(line) for line in (self._folder / "calls").read_text().splitlines()]
        assert not [keys for _, keys in given if keys]
        return [arguments for arguments, _ in given]


@pytest.fixture
def image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, infer: Callable[..., Ran]
) -> Callable[..., tuple[Ran, Docker]]:
    def run(
        answer: Answer = lambda _: "open red", *, name: str = "chaosops:1", port: int | None = None, **docker: Any
    ) -> Any:
        with served.world(scripted()) as made:
            scripted_docker = Docker(tmp_path, made.port if port is None else port)
            scripted_docker.script(**docker)
            monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
            ran = infer(answer, None, environ={"ENV_URL": "", "LOCAL_IMAGE_NAME": name})
            assert KEY not in json.dumps(made.messages)
        return ran, scripted_docker

    return run


def test_an_image_is_started_on_this_machine_alone_and_removed(image: Callable[..., tuple[Ran, Docker]]) -> None:
    ran, docker = image()
    assert ran.code == 0
    assert ran.lines[-1] == "[END] success=true steps=2 score=0.75 rewards=0.00,1.00"
    run, port, remove = docker.calls
    name = run[run.index("--name") + 1]
    assert re.fullmatch("chaosops-[0-9a-f]{12}", name)
    assert run == ["run", "--detach", "--pull", "never", "--name", name, "--publish", "127.0.0.1::8000", "chaosops:1"]
    assert port == ["port", name, "8000/tcp"]
    assert remove == ["rm", "--force", name]


def test_the_server_in_a_container_is_given_the_token_by_its_name(
    image: Callable[..., tuple[Ran, Docker]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOSOPS_TOKEN", "a-token-of-this-test")
    ran, docker = image()
    assert docker.calls[0][-3:] == ["--env", "CHAOSOPS_TOKEN", "chaosops:1"]
    assert "a-token-of-this-test" not in json.dumps(docker.calls)
    assert ran.code == 0


def test_a_container_that_ends_is_not_waited_for(image: Callable[..., tuple[Ran, Docker]]) -> None:
    ran, docker = image(port=1, inspect=("false", 0), logs=("starting\nno such world: tols", 0))
    assert ran.code == 2
    assert ran.err == "chaosops infer: the container of LOCAL_IMAGE_NAME ended: no such world: tols\n"
    assert [call[0] for call in docker.calls] == ["run", "port", "inspect", "logs", "rm"]
    assert len(ran.lines) == 2


@pytest.mark.parametrize("name", ["--privileged", "", " ", "a b", "a;b"])
def test_an_image_that_cannot_be_one_is_refused(infer: Callable[..., Ran], name: str) -> None:
    ran = infer(environ={"ENV_URL": "", "LOCAL_IMAGE_NAME": name, "PATH": ""})
    assert ran.code == 2
    assert "LOCAL_IMAGE_NAME" in ran.err
    assert len(ran.lines) == 2


def test_an_image_that_is_not_here_is_not_fetched(image: Callable[..., tuple[Ran, Docker]]) -> None:
    ran, docker = image(run=("Error: No such image: chaosops:1", 125))
    assert ran.err == "chaosops infer: docker run: Error: No such image: chaosops:1\n"
    assert [call[0] for call in docker.calls] == ["run", "rm"]


def test_without_docker_the_error_says_so(infer: Callable[..., Ran]) -> None:
    ran = infer(environ={"ENV_URL": "", "LOCAL_IMAGE_NAME": "chaosops:1", "PATH": ""})
    assert ran.err == "chaosops infer: LOCAL_IMAGE_NAME needs the docker command, which is not on the path\n"


def test_a_docker_that_does_not_start_is_named(infer: Callable[..., Ran], tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text("neither a script nor a program")
    for mode in (0o644, 0o755):
        program.chmod(mode)
        ran = infer(environ={"ENV_URL": "", "LOCAL_IMAGE_NAME": "chaosops:1", "PATH": str(tmp_path)})
        assert ran.code == 2
        assert "LOCAL_IMAGE_NAME needs the docker command, which does not start: " in ran.err


def test_a_signal_leaves_no_container(image: Callable[..., tuple[Ran, Docker]]) -> None:
    def answer(_: Any) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "open red"

    ran, docker = image(answer)
    assert ran.code == 143
    assert docker.calls[-1][:2] == ["rm", "--force"]
