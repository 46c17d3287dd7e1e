"""Folders for files that a process needs for a moment, on its own node; those of killed processes are deleted."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder, and delete it afterwards.

    A killed process leaves its folder behind. The next call on the node deletes it: a folder is locked as long as its
    process lives.
    """
    parent = _parent()
    # With this lock, nobody takes a folder that is not locked yet, or that is being deleted, for a leftover.
    with locked(parent / _LOCK):
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(dir=parent))
        own = os.open(folder, os.O_RDONLY)
        fcntl.flock(own, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        with locked(parent / _LOCK):
            shutil.rmtree(folder)
            os.close(own)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process has locked this file, and lock it; a lock ends with its process."""
    with path.open("ab") as file:  # NFS gives a lock only on a file that is open for writing
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _parent() -> Path:
    """Return the folder of this user's scratch folders; nobody else may have made it."""
    parent = Path(tempfile.gettempdir()) / f"chaosops-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    found = parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "somebody else has made this folder", str(parent))
    return parent


def _sweep(parent: Path) -> None:
    for folder in parent.iterdir():
        if folder.name == _LOCK:
            continue
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except BlockingIOError:
            pass  # its process lives
        finally:
            os.close(handle)
