"""Ids of runs in URLs, and files that are read only where they belong.

The id of a run is its path below the folder of runs, with colons between the names. Nothing outside this folder is
read, whatever links lie in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.files import reason

_SEPARATOR = ":"
_ESCAPES = (("~", "~t"), (":", "~c"))
_LONGEST_ID = 1000


class NotFoundError(InputError):
    """There is nothing under this address."""


def identity(relative: Path) -> str:
    """Return the id of a folder by its path below the folder of runs."""
    return _SEPARATOR.join([_escaped(part) for part in relative.parts])


def relative_path(identity: str) -> Path:
    """Return the path that an id names; NotFoundError for one that names none, or one that leads elsewhere."""
    parts = [_unescaped(part) for part in identity.split(_SEPARATOR)]
    if len(identity) > _LONGEST_ID or not all(is_name(part) for part in parts):
        raise NotFoundError(f"there is no run {one_line(identity, 80)!r}")
    return Path(*parts)


def is_name(name: str) -> bool:
    """Tell whether this is the name of one visible file or folder, and not a path."""
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name and _is_text(name)


def inside(root: Path, path: Path) -> Path:
    """Return the file or folder that a path leads to; NotFoundError if it is missing or not below `root`."""
    try:
        found = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise NotFoundError(f"there is no {path.name}") from None
    if not found.is_relative_to(root):
        raise NotFoundError(f"{path.name} is a link that leads out of the folder of runs; it is not followed")
    return found


def file_inside(root: Path, path: Path, most: int) -> Path | None:
    """Return where a file is; None if there is none, InputError if it is not a plain file inside, or is too large."""
    if not os.path.lexists(path):
        return None
    found = inside(root, path)
    status = found.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path.name} is not a file")
    if status.st_size > most:
        raise InputError(f"{path.name} has {status.st_size:,} bytes; the control room reads at most {most:,}")
    return found


def read_inside(root: Path, path: Path, most: int) -> bytes | None:
    """Read a file of at most so many bytes; None if there is none."""
    found = file_inside(root, path, most)
    if found is None:
        return None
    try:
        with found.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {reason(error)}") from None


def _escaped(part: str) -> str:
    for character, code in _ESCAPES:
        part = part.replace(character, code)
    return part


def _unescaped(part: str) -> str:
    for character, code in reversed(_ESCAPES):
        part = part.replace(code, character)
    return part


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
