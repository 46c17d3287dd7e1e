"""Run a command so that whatever ends it, no process that it started and no file of its folder is left.

Three processes: the caller, a keeper, and the command. The command and all that it starts are descendants of the
keeper, who adopts those whose parents end (Linux calls that a subreaper), so that none can be lost by running in the
background. The keeper is in a session of its own, where no signal of a terminal reaches it. It waits for the command to
end, or for the caller to be gone, which closes a pipe, also after `kill -9`. Then it ends the descendants and deletes
the folder. If the keeper itself is killed, its descendants fall to the caller, who does the same.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLITE, _LONGEST = 5.0, 60.0
INTERRUPTED, FAILED = 130, 1

Clean = Callable[[Path], None]


def contained(command: Sequence[str], prefix: str, clean: Clean = lambda _folder: None) -> int:
    """Run the command with a new folder in /tmp as its last argument; return its exit code, or INTERRUPTED.

    `clean` deletes what the work has made elsewhere; it may be called more than once.
    """
    folder = Path(f"/tmp/{prefix}{secrets.token_hex(4)}")  # noqa: S108 - nobody can know the name before
    _adopt_orphans()
    interrupted = False
    keeper = ours = 0
    try:
        # A signal from here on is an exception, and between the two lines below it waits.
        for stop in _STOPS:
            signal.signal(stop, _raise)
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        theirs, ours = os.pipe()
        keeper = os.fork()
        if keeper == 0:
            os.close(ours)
            os._exit(_keep(command, clean, folder, theirs))
        os.close(theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        return _exit_code(keeper)
    except KeyboardInterrupt:
        interrupted = True
        return INTERRUPTED
    finally:
        for stop in _STOPS:
            signal.signal(stop, signal.SIG_IGN)
        if keeper:
            os.close(ours)  # what the keeper waits for
            if interrupted:
                _exit_code(keeper)
            _end_descendants()  # none, unless the keeper was killed
            _delete(folder, clean)


def _raise(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _exit_code(process: int) -> int:
    """Wait for a child of ours."""
    try:
        _, status = os.waitpid(process, 0)
    except ChildProcessError:
        return FAILED  # waited for before
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else FAILED


def _keep(command: Sequence[str], clean: Clean, folder: Path, caller: int) -> int:
    """Be the keeper; `caller` is the end of a pipe that is closed when the caller is gone."""
    os.setsid()
    _adopt_orphans()
    for stop in _STOPS:
        # A function, because what a process ignores, those that it starts ignore too.
        signal.signal(stop, _do_nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    code = INTERRUPTED
    try:
        folder.mkdir(mode=0o700)
        work = subprocess.Popen([*command, str(folder)])  # noqa: S603 - the caller's
        ended = os.pidfd_open(work.pid)
        ready, _, _ = select.select([caller, ended], [], [])
        if ended in ready:
            code = work.wait()
    finally:
        _end_descendants()
        _delete(folder, clean)
    return code if code >= 0 else FAILED


def _do_nothing(_signal: int, _frame: FrameType | None) -> None:
    pass


def _adopt_orphans() -> None:
    """Become the parent of those descendants whose own parents end."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def _end_descendants() -> None:
    """End all descendants of this process, with those that they start meanwhile: politely, then not."""
    polite, last = time.monotonic() + _POLITE, time.monotonic() + _LONGEST
    told: set[int] = set()
    while running := descendants(os.getpid()):
        is_late = time.monotonic() > polite
        if time.monotonic() > last:
            print(f"these processes do not end: {sorted(running)}", file=sys.stderr)
            return
        for process in running - (set() if is_late else told):
            told.add(process)
            with suppress(ProcessLookupError):  # gone meanwhile
                os.kill(process, signal.SIGKILL if is_late else signal.SIGTERM)
        _bury()
        time.sleep(0.02)


def _bury() -> None:
    """Take the exit codes of children that have ended; they count as processes until then."""
    while True:
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            return


def descendants(ancestor: int) -> set[int]:
    """Return the processes below this one, those that have ended and wait for their parents included."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue  # gone meanwhile
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found = {ancestor}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def _delete(folder: Path, clean: Clean) -> None:
    clean(folder)
    shutil.rmtree(folder, ignore_errors=True)
