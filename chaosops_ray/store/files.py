"""Files and folders that appear whole or not at all, and the checks that come before them.

Everything is written beside its final name, synced to disk, and renamed. When a write returns, its contents and its
name are on disk. Before the rename, an error or a kill changes nothing under the final name. An error leaves nothing
else, either; a killed process leaves a hidden name that ends in `.part`, which `sweep` deletes.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.errors import InputError

_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{8}\.part", re.DOTALL)
# Of the 255 bytes that a name may have; the rest is for what marks it as unfinished.
_MAX_NAME_BYTES = 200
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


# -- checks -----------------------------------------------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before the work rather than after it."""
    try:
        target = path.resolve()
        _beside(target)
        target.lstat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from None
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write {path}: it exists and is not a plain file; name another")
    check_folder(target.parent if path.is_symlink() else path.parent)


def reason(error: Exception) -> str:
    """The reason of an error of the file system, without its number and path."""
    return one_line(getattr(error, "strerror", None) or error)


def check_folder(path: Path) -> None:
    """Refuse a folder that does not exist or cannot be written into."""
    if not path.is_dir():
        raise InputError(f"there is no folder {path}; make it first")
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into {path}: no permission")


def check_new_folder(path: Path) -> None:
    """Refuse a run's folder whose name is taken or that cannot be made."""
    try:
        is_folder, exists = path.is_dir(), path.exists()
        is_empty = not is_folder or not any(path.iterdir())
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {reason(error)}") from None
    if not is_empty:
        raise InputError(f"{path} is not empty; name another run folder, or continue that run with --resume {path}")
    if exists and not is_folder:
        raise InputError(f"{path} exists and is not a folder; name another run folder")
    above = path
    while not above.exists():
        above = above.parent
    check_folder(above)


# -- atomic writes ----------------------------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield an empty file to fill; on success it takes the name, in place of a file that has it, else it is deleted.

    `path` may be a link: then the file that it leads to is replaced, on that file's device. Of writers at the same
    time the last one stays.
    """
    check_writable(path)
    target = path.resolve()
    temporary = _beside(target)
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from None
    try:
        yield temporary
        to_disk(temporary)
        temporary.replace(target)
        to_disk(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it takes the name, else it is deleted. The folder above must exist.

    Where a folder with contents, or anything that is not a folder, has the name by then, this raises FileExistsError.
    With `replace`, a folder with contents gives way instead: there is a moment without any, but never half a one.
    """
    target = Path(os.path.realpath(path))
    temporary = _beside(target)
    temporary.mkdir()
    try:
        yield temporary
        _tree_to_disk(temporary)
        former = _take_name(temporary, target, replace=replace)
        to_disk(target.parent)
        if former is not None:
            shutil.rmtree(former)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_name(temporary: Path, target: Path, *, replace: bool) -> Path | None:
    """Rename the folder to the target; return where the folder lies that gave way to it, if any."""
    try:
        temporary.rename(target)
        return None
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        if not replace or not target.is_dir():
            raise FileExistsError(errno.EEXIST, "the name is taken", str(target)) from None
        # A rename replaces no folder that has contents, and deleting it in place would leave half of it after a crash.
        former = _beside(target)
        target.rename(former)
        try:
            temporary.rename(target)
        except OSError:
            former.rename(target)
            raise
        return former


def remove_folder(path: Path) -> None:
    """Delete a folder; nobody ever sees half of it under its name."""
    doomed = _beside(path)
    path.rename(doomed)
    shutil.rmtree(doomed)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they exist; their names are on disk when this returns."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        to_disk(path.parent)


def sweep(folder: Path) -> None:
    """Delete what killed writers left in a folder; only for the one process that may write there."""
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def to_disk(path: Path) -> None:
    """Return when the contents of a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tree_to_disk(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _tree_to_disk(Path(entry))
            elif entry.is_file(follow_symlinks=False):  # a link or a pipe has nothing but its name
                to_disk(Path(entry))
    to_disk(folder)


def _beside(target: Path) -> Path:
    """A new hidden name in the same folder; a long name or half a character is cut off."""
    start = os.fsencode(target.name)[:_MAX_NAME_BYTES].decode(errors="ignore")
    return target.with_name(f".{start}.{secrets.token_hex(4)}.part")


# -- text and JSON ----------------------------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write each row as a line of JSON."""
    write_text(path, "".join([_json_line(row) for row in rows]))


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row as a line of JSON.

    Other processes see it when this returns, and a killed process loses nothing; only `to_disk` makes it safe from a
    machine that goes down. A process killed in the middle leaves a last line without an end, which `read_lines` drops.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(_json_line(row))


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, without a last line that has no end because its writer was killed."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from None
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is not a JSON object; the file was not written by this program")
        rows.append(row)
    return rows
