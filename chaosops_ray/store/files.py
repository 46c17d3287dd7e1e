"""Files that appear whole or not at all, and the checks that come before them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaosops_ray.sim.errors import InputError


def check_writable(path: Path) -> None:
    """Fail before the work rather than after it."""
    try:
        target = path.resolve()
        target.with_name(f".{target.name}.00000000").lstat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from None
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write {path}: it is there and no plain file; name another")
    check_folder(target.parent if path.is_symlink() else path.parent)


def reason(error: Exception) -> str:
    """The reason of an error of the file system, without its number and path."""
    return getattr(error, "strerror", None) or str(error)


def check_folder(path: Path) -> None:
    """Fail early where files are to go into a folder that is none."""
    if not path.is_dir():
        raise InputError(f"there is no folder {path}; make it first")
    if not os.access(path, os.W_OK):
        raise InputError(f"cannot write into {path}: no permission")


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A temporary neighbour to write to; it takes the name when all went well, and is gone otherwise."""
    check_writable(path)
    target = path.resolve()  # a link stays a link
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; what a run leaves is as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """The value as indented JSON."""
    with appearing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Each row as a line of JSON."""
    with appearing(path) as temporary:
        temporary.write_text("".join([json.dumps(row, allow_nan=False) + "\n" for row in rows]), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of such a file; a last one that a crash cut short is not counted."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from None
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is no JSON object; the file was not written by this program")
        rows.append(row)
    return rows


def to_disk(path: Path) -> None:
    """Return when a file, or the names in a folder, are safe."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_new_folder(path: Path) -> None:
    """Fail early where a run's folder is taken, or cannot be made."""
    if path.is_dir():
        if any(path.iterdir()):
            raise InputError(f"{path} is not empty; name another run folder, or go on with it by --resume {path}")
    elif path.exists():
        raise InputError(f"{path} is there and no folder; name another run folder")
    above = path
    while not above.exists():
        above = above.parent
    check_folder(above)
