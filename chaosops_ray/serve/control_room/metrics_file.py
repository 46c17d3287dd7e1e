"""A run's metrics.jsonl: the rows as they come, and quickly the last one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.serve.control_room.paths import file_inside
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.files import parse_object, reason

MAX_BYTES = 64 << 20
# The last row and, with luck, the last held-out evaluation are in the last part of the file.
_TAIL_BYTES = 256 << 10
# A row has two or three thousand bytes; a damaged one must not fill the memory.
_MAX_LINE = 1 << 20
_EVALUATION = b'"evaluation"'


class Growing:
    """The lines of a file that another process appends to, each once."""

    def __init__(self, root: Path, path: Path) -> None:
        self._root = root
        self._path = path
        self._inode = 0
        self._offset = 0

    def read(self, begin: Callable[[], None], take: Callable[[dict[str, Any]], None]) -> None:
        """Pass each new row to `take`; first call `begin` if the file was begun again since the last call.

        An InputError, of `take` as well, leaves the row and all later ones for the next call.
        """
        found = file_inside(self._root, self._path, MAX_BYTES)
        if found is None:
            if self._offset:
                begin()
            self._inode = self._offset = 0
            return
        try:
            with found.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                # A run that is resumed writes the file again, under the same name.
                if self._offset and (inode != self._inode or file.seek(0, os.SEEK_END) < self._offset):
                    begin()
                    self._offset = 0
                self._inode = inode
                file.seek(self._offset)
                # A last line without an end is being written.
                while (line := file.readline(_MAX_LINE)).endswith(b"\n"):
                    take(_row(line, self._path))
                    self._offset += len(line)
        except OSError as error:
            raise InputError(f"cannot read {self._path.name}: {reason(error)}") from None
        if len(line) == _MAX_LINE:
            raise InputError(
                f"a line of {self._path.name} has more than {_MAX_LINE:,} bytes, which no row of metrics has"
            )


class Last(NamedTuple):
    """The last rows of a run; None where there is none."""

    row: dict[str, Any] | None
    held_out: dict[str, Any] | None  # the last row with a held-out evaluation, if it is near the end


def read_last(path: Path) -> Last:
    """Read the end of a file of metrics."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            content = file.read(_TAIL_BYTES)
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {reason(error)}") from None
    lines = content.split(b"\n")[:-1]  # the last one may be half written
    if size > _TAIL_BYTES:
        lines = lines[1:]  # it begins in the middle
    if not lines:
        return Last(None, None)
    evaluated = next((line for line in reversed(lines) if _EVALUATION in line), None)
    return Last(_row(lines[-1], path), None if evaluated is None else _row(evaluated, path))


def _row(line: bytes, path: Path) -> dict[str, Any]:
    row = parse_object(line)
    if row is None or type(row.get("update")) is not int:
        raise InputError(
            f"a line of {path.name} is not a row of metrics: {line[:40].rstrip().decode(errors='replace')!r}"
        )
    return row
