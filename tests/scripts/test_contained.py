"""Whatever ends a contained command, its processes and its folder are gone: also those in the background, also after -9."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from scripts.contained import descendants
from scripts.ray_up_on_loopback import wait

ROOT = Path(__file__).parents[2]
# Patience is for real programs; it ends after the time it takes to see that a signal was not enough.
CALLER = """
import sys
from scripts import contained as module
from scripts.contained import contained
module._POLITE = 0.2
sys.exit(contained([sys.executable, "-c", sys.argv[1]], "contained-test-"))
"""
# Starts what is hardest to end: in a session of its own, of no parent, deaf to signals. The pipe that it holds open shows
# that it is alive.
HARD = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    heard, said = os.pipe()
    if os.fork() == 0:
        for deaf in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(deaf, signal.SIG_IGN)
        os.write(said, b"x")
        time.sleep(1000)
    os.read(heard, 1)
    os._exit(0)
os.wait()
os.write(1, b"started " + sys.argv[-1].encode() + b"\\n")
"""
FOREVER = HARD + "time.sleep(1000)"


def started(work: str) -> tuple[subprocess.Popen[bytes], Path]:
    """The caller, when the hard one runs, and the folder."""
    caller = subprocess.Popen([sys.executable, "-c", CALLER, work], cwd=ROOT, stdout=subprocess.PIPE)
    assert caller.stdout is not None
    word, folder = caller.stdout.readline().split()
    assert word == b"started"
    path = Path(folder.decode())
    assert path.is_dir()
    return caller, path


def ended(caller: subprocess.Popen[bytes]) -> int:
    """The exit code, once nobody holds the pipe any more: neither the caller nor anything that it started."""
    assert caller.stdout is not None
    assert caller.stdout.read() == b""
    caller.stdout.close()
    return caller.wait()


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise OSError('broken')", 1), ("os.kill(os.getpid(), 9)", 1)]
)
def test_however_the_command_ends(end: str, code: int) -> None:
    caller, folder = started(f"{HARD}\n{end}")
    assert ended(caller) == code
    assert not folder.exists()


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_whatever_ends_the_caller(sent: signal.Signals, code: int) -> None:
    caller, folder = started(FOREVER)
    caller.send_signal(sent)
    assert ended(caller) == code
    assert not folder.exists()


def test_impatience_ends_it_no_sooner() -> None:
    caller, folder = started(FOREVER)
    for _ in range(5):
        caller.send_signal(signal.SIGINT)
    assert ended(caller) == 130
    assert not folder.exists()


def test_the_caller_does_what_its_keeper_cannot_do_any_more() -> None:
    caller, folder = started(FOREVER)
    (keeper,) = [process for process in psutil.Process(caller.pid).children() if process.children()]
    keeper.kill()
    assert ended(caller) == 1
    assert not folder.exists()


def test_descendants_are_those_of_all_generations() -> None:
    caller, _ = started(FOREVER)
    found, expected = descendants(caller.pid), psutil.Process(caller.pid).children(recursive=True)
    caller.terminate()
    ended(caller)
    assert found == {process.pid for process in expected}
    assert len(found) == 3  # the keeper, the command and the hard one


# -- waiting for what a slow machine does ---------------------------------------------------------------------------------


class Scripted:
    """What is seen at each look, ten seconds apart, and how far the clock got."""

    def __init__(self, seen: Iterable[object]) -> None:
        self.seen = iter(seen)
        self.now = 0.0

    def look(self) -> tuple[bool, object]:
        value = next(self.seen)
        return value == "there", value

    def pause(self, _seconds: float) -> None:
        self.now += 10.0


def waited(seen: Iterable[object]) -> float:
    script = Scripted(seen)
    wait(script.look, lambda: "the worker did not join", 60.0, 300.0, lambda: script.now, script.pause)
    return script.now


def test_a_wait_lasts_as_long_as_something_moves_on() -> None:
    assert waited(["there"]) == 0.0
    assert waited([*[str(look // 5) for look in range(28)], "there"]) == 280.0


def test_it_ends_when_nothing_does_and_at_the_limit() -> None:
    with pytest.raises(SystemExit, match="did not join: nothing has changed for 60 s"):
        waited(["begun", *["stuck"] * 10])
    with pytest.raises(SystemExit, match="did not join within 300 s"):
        waited(map(str, range(100)))
