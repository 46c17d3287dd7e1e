"""A real file system of a few kilobytes, which can be filled and made read-only under what writes there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, but: int = 0) -> None:
        """Take all room but so many bytes; a file takes whole pages."""
        self.clear()
        free = os.statvfs(self.path)
        self._filler.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - but)))

    def clear(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    def remount(self, option: str) -> None:
        """Change an option of the mount: ro, rw or size=N."""
        refused = _run("mount", "-o", f"remount,{option}", str(self.path))
        assert not refused, refused

    def names(self) -> list[str]:
        """All files and folders but the filler."""
        found = [path for path in self.path.rglob("*") if path != self._filler]
        return sorted([str(path.relative_to(self.path)) for path in found])


@contextmanager
def mounted(path: Path, size: str) -> Iterator[Disk]:
    """Mount a disk of this size; skip the test where that is not permitted."""
    path.mkdir()
    refused = _run("mount", "-t", "tmpfs", "-o", f"size={size}", "chaosops-test", str(path))
    if refused:
        pytest.skip(f"no small disk can be mounted here, which takes root: {refused}")
    try:
        yield Disk(path)
    finally:
        # Whatever still has a file open there keeps the rest of it until it ends.
        _run("umount", "--lazy", str(path))


def _run(*command: str) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return ran.stderr.strip() if ran.returncode else ""
