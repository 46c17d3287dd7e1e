"""Files and folders that appear whole or not at all, and the checks before they are written.

A file or folder is written beside its final name, synced to disk, and renamed. When a write returns, its contents and
its name are on disk. Before the rename, an error or a kill changes nothing under the final name. An error leaves no
other file either; a killed process leaves a hidden name that ends in `.part`, which `sweep` deletes.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.errors import InputError

_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{8}\.part", re.DOTALL)
# A name may have 255 bytes; the rest is for the marks of an unfinished one.
_MAX_NAME_BYTES = 200
_SEAL = "seal"
_LONGEST_IN_WORDS = 1000
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CHECK_DISK = "check the disk and its mount"
# The errors of a file system that a person can do something about; any other is a defect of this program.
_REMEDIES = {
    **dict.fromkeys((*_FULL, errno.EFBIG), "make room there"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), "put the file or folder back"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT), _CHECK_DISK),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files, ulimit -n"),
}
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the work is done."""
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
    """Return the reason of an error of the file system, without its number and path."""
    return one_line(getattr(error, "strerror", None) or error)


def remedy(error: OSError) -> str | None:
    """Return what a person can do about an error of the file system; None for any other error."""
    return _REMEDIES.get(error.errno or 0)


def in_words(error: OSError) -> str | None:
    """Return what went wrong where, and the remedy, of an error of the file system; None for any other error."""
    advice = remedy(error)
    if advice is None or (error.filename is None and error.errno not in _FULL):
        return None
    place = "the disk" if error.filename is None else os.fsdecode(error.filename)
    return one_line(f"{place}: {os.strerror(error.errno or 0)}; {advice}", _LONGEST_IN_WORDS)


@contextmanager
def naming(path: Path, inside: Path | None = None) -> Iterator[None]:
    """Let errors of the file system that name no file, or one in the unfinished `inside`, name this path instead."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        if named is None:
            error.filename = str(path)
        elif inside is not None and named.is_relative_to(inside):
            error.filename = str(path / named.relative_to(inside))
        raise


def check_folder(path: Path) -> None:
    """Refuse a folder that does not exist or cannot be written into."""
    if not path.is_dir():
        raise InputError(f"there is no folder {path}; make it first")
    if not os.access(path, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        raise InputError(f"cannot write into {path}: {'it is mounted read-only' if is_read_only else 'no permission'}")


def check_new_folder(path: Path) -> None:
    """Refuse a run's folder whose name is taken or that cannot be made."""
    try:
        if path.is_dir() and any(path.iterdir()):
            raise InputError(f"{path} is not empty; name another run folder, or continue that run with --resume {path}")
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} exists and is not a folder; name another run folder")
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {reason(error)}") from None
    check_folder(next((folder for folder in (path, *path.parents) if folder.exists()), path))


def check_free_folder(path: Path) -> None:
    """Refuse a folder to write, named with --out, that has contents or cannot be looked at."""
    try:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from None
    if taken:
        raise InputError(f"{path} exists and is not an empty folder; name another with --out")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield an empty file to fill; on success it replaces the file of that name, else it is deleted.

    If `path` is a link, the file that it leads to is replaced, on that file's device. Of several writers at the same
    time, the file of the last one stays.
    """
    check_writable(path)
    target = path.resolve()
    temporary = _beside(target)
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"cannot write {path}: {reason(error)}; {remedy(error) or 'name another'}") from None
    with naming(path, temporary):
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

    If a folder with contents or another file has the name, this raises FileExistsError. With `replace`, a folder with
    contents is replaced: for a moment there is none, but never half of one.
    """
    target = Path(os.path.realpath(path))
    temporary = _beside(target)
    with naming(path, temporary):
        temporary.mkdir()
        try:
            yield temporary
            _tree_to_disk(temporary)
            _take_name(temporary, target, replace=replace)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _take_name(temporary: Path, target: Path, *, replace: bool) -> None:
    former = None
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        if not replace or not target.is_dir():
            raise FileExistsError(errno.EEXIST, "the name is taken", str(target)) from None
        # A rename does not replace a folder with contents, and deleting it in place could leave half of it.
        former = _beside(target)
        target.rename(former)
        try:
            temporary.rename(target)
        except OSError:
            former.rename(target)
            raise
    to_disk(target.parent)
    if former is not None:
        shutil.rmtree(former)


def remove_folder(path: Path) -> None:
    """Delete a folder; half of it is never under its name."""
    doomed = _beside(path)
    path.rename(doomed)
    shutil.rmtree(doomed)


def make_folder(path: Path) -> None:
    """Make a folder and those above it if they do not exist; their names are on disk when this returns."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        to_disk(path.parent)


def temporary_folder() -> Path:
    """Make a folder that is deleted when this process ends."""
    path = Path(tempfile.mkdtemp(prefix="chaosops-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def sweep(folder: Path) -> None:
    """Delete the unfinished files of killed writers in a folder; only for the one process that may write there."""
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
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def _tree_to_disk(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _tree_to_disk(Path(entry))
            elif entry.is_file(follow_symlinks=False):  # a link or a pipe has no contents
                to_disk(Path(entry))
    to_disk(folder)


def _beside(target: Path) -> Path:
    """Return a new hidden name in the same folder; a long name is cut, at a whole character."""
    start = os.fsencode(target.name)[:_MAX_NAME_BYTES].decode(errors="ignore")
    return target.with_name(f".{start}.{secrets.token_hex(4)}.part")


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write each row as a line of JSON."""
    write_text(path, "".join([json.dumps(row, allow_nan=False) + "\n" for row in rows]))


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row as a line of JSON.

    Other processes see it when this returns, and a killed process loses no row; only `to_disk` makes it safe against a
    crash of the machine. A process killed in the middle leaves a last line without an end, which `read_lines` drops;
    an error in the middle, such as a full disk, leaves nothing of the line.
    """
    append_text(path, json.dumps(row, allow_nan=False) + "\n")


def append_text(path: Path, text: str) -> None:
    """Append a text; the file ends in a part of it only if the process is killed in the middle."""
    append_bytes(path, text.encode())


def append_bytes(path: Path, content: bytes) -> None:
    """Append bytes, in the same way."""
    left = memoryview(content)
    # Without a buffer, which would be written again when the file is closed.
    with naming(path), path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            while left:  # a disk that is nearly full takes a part
                left = left[file.write(left) :]
        except OSError:
            file.truncate(end)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines, without a last line that has no end because its writer was killed."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from None
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        row = parse_object(line)
        if row is None:
            raise InputError(f"{path}, line {number} is not a JSON object; the file was not written by this program")
        rows.append(row)
    return rows


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with a digest of them, so that a change shows; it keeps nobody from making another."""
    return {**values, _SEAL: sha256(json.dumps(values).encode()).hexdigest()}


def is_sealed(values: Mapping[str, Any]) -> bool:
    """Tell whether these are, in their order, what `sealed` returned."""
    return values == sealed({name: value for name, value in values.items() if name != _SEAL})


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file of sealed values."""
    try:
        found = parse_object(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}; {remedy}") from None
    if found is None or not is_sealed(found):
        raise InputError(f"{path} is not as it was written; {remedy}")
    return found


def check_digest(path: Path, wanted: str, remedy: str, size: int | None = None) -> None:
    """Refuse a file, or its first `size` bytes, with another digest."""
    if not path.is_file():
        raise InputError(f"there is no file {path}; {remedy}")
    if digest(path, size) != wanted:
        raise InputError(f"{path} is not as it was written; {remedy}")


def digest(path: Path, size: int | None = None) -> str:
    """Return the SHA-256 of a file, or of its first `size` bytes."""
    try:
        with path.open("rb") as file:
            if size is None:
                return file_digest(file, "sha256").hexdigest()
            return sha256(file.read(size)).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from None


def parse_object(text: str | bytes) -> dict[str, Any] | None:
    """Parse a JSON object that may have been damaged; None if it is not one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
