"""A published adapter on disk: an immutable folder `policy-v{number}`, whose marker is written last.

No file is trusted: sizes are bounded, links are not followed, and all bytes of a version are checked, those of the
adapter by its digest, those of the marker by its seal.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from chaosops_ray.store.files import (
    atomic_file,
    atomic_folder,
    make_folder,
    parse_object,
    remove_folder,
    sealed,
    sweep,
    to_disk,
)
from chaosops_ray.wire import Files, PolicyVersion

SCHEMA = "adapter/1"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MARKER = "complete.json"

_FILES = (CONFIG, WEIGHTS)
_FOLDER = re.compile(r"policy-v(0|[1-9][0-9]{0,8})")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_MARKER_BYTES = 4096
_MAX_CONFIG_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 24

# With the weights, the files that a base model's behaviour depends on. Others (a README, a licence) may change.
_BASE_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


class AdapterError(ValueError):
    """A version on disk that cannot be used; one line that names path, version and remedy."""


class DigestError(AdapterError):
    """A version with other bytes than those that were published."""


class BaseError(AdapterError):
    """A version that was trained on another base model."""


class Marker(NamedTuple):
    """The marker of a complete version."""

    number: int
    digest: str
    base: str  # the base model's digest
    modules: int  # how many modules the adapter binds


def digest(folder: Path) -> str:
    """Return the SHA-256 over names and bytes of the adapter's two files."""
    return _digest((folder / name for name in _FILES), follow=False)


def check_base(folder: Path) -> None:
    """Refuse a folder that is not a base model."""
    if not os.path.isfile(folder / "config.json"):  # also False where this process may not look
        raise AdapterError(f"{folder} is not a base model: it has no config.json; give the folder of a saved model")


def base_files(folder: Path) -> list[Path]:
    """Return the files of a base model that its behaviour depends on: configuration, tokenizer and weights."""
    check_base(folder)
    weights = list(folder.glob("*.safetensors"))
    if not weights:
        raise AdapterError(f"{folder} has no *.safetensors weights; save the model with safetensors")
    return sorted([folder / name for name in _BASE_FILES if os.path.lexists(folder / name)] + weights)


def base_digest(folder: Path) -> str:
    """Return the SHA-256 over names and bytes of a base model's files."""
    # The hub's cache consists of links; the digest is of the files that they lead to.
    return _digest(base_files(folder), follow=True)


def _digest_of(files: Files) -> str:
    """Return what `digest` returns once the files are written."""
    hasher = sha256()
    for name in _FILES:
        hasher.update(_announced(name, memoryview(files[name]).nbytes))
        hasher.update(files[name])
    return hasher.hexdigest()


def _announced(name: str, size: int) -> bytes:
    # Each length is before the bytes that it counts, so that no two sets of files give the same stream.
    named = name.encode()
    return len(named).to_bytes(8, "big") + named + size.to_bytes(8, "big")


def _digest(files: Iterable[Path], *, follow: bool) -> str:
    hasher = sha256()
    for path in files:
        with _opened(path, follow=follow) as file:
            size = os.fstat(file.fileno()).st_size
            hasher.update(_announced(path.name, size))
            file_digest(file, lambda: hasher)
            if file.tell() != size:
                raise AdapterError(f"{path} changed while it was read; a version never changes, publish a new one")
    return hasher.hexdigest()


def read(folder: Path, base: str | None = None) -> PolicyVersion:
    """Read the version in a folder and check all its bytes; with `base`, also the base model's digest."""
    found = _FOLDER.fullmatch(folder.name)
    if not found:
        raise AdapterError(f"{folder} is not a version's folder; give one with a name such as policy-v12")
    marker = _checked(folder, int(found[1]), base)
    return PolicyVersion(marker.number, marker.digest, str(folder.resolve()))


def verify(version: PolicyVersion, base: str | None = None) -> Marker:
    """Check that a version's folder holds the adapter that was published under its number and digest."""
    folder = Path(version.path)
    if folder.name != version.name:
        raise AdapterError(f"{folder} is not the folder of {version.name}; versions keep their names")
    marker = _checked(folder, version.number, base)
    if marker.digest != version.digest:
        found, wanted = marker.digest[:12], version.digest[:12]
        raise DigestError(f"{folder}: {version.name} has digest {found}, wanted is {wanted}; adopt the published one")
    return marker


def publish(adapters: Path, number: int, base: str, files: Files) -> PolicyVersion:
    """Write an adapter's two files as version `number`, trained on the base model of digest `base`.

    The same bytes under the same number change nothing; other bytes under that number are an error. One process
    writes here, so leftovers of killed ones are deleted first.
    """
    name = folder_name(number)
    make_folder(adapters)
    sweep(adapters)
    target = adapters / name
    if target.is_symlink():
        raise AdapterError(f"{target} is a link; move it elsewhere and publish {name} again")
    if target.is_dir() and not os.path.lexists(target / MARKER):
        shutil.rmtree(target)
    try:
        # The rename shows all files at once. The marker is for copies, which are not atomic: it proves them complete.
        with atomic_folder(target, replace=False) as unfinished, ThreadPoolExecutor(1) as beside:
            # Hashing takes about as long as writing. The digest is that of the bytes that were meant to be written:
            # whoever reads the version compares those on disk with it.
            hashing = beside.submit(_digest_of, files)
            for file in _FILES:
                (unfinished / file).write_bytes(files[file])
                to_disk(unfinished / file)
            marker = seal(unfinished, number, base, hashing.result())
    except FileExistsError:
        there = read(target, marker.base)
        if there.digest != marker.digest:
            raise AdapterError(
                f"{target} was published with digest {there.digest[:12]} and would now be {marker.digest[:12]}; "
                "a version never changes, publish under the next number"
            ) from None
        return there
    return PolicyVersion(number, marker.digest, str(target.resolve()))


def prune(adapters: Path, keep: Collection[int]) -> tuple[int, ...]:
    """Delete all versions but these, and leftovers of killed writers; return the deleted numbers."""
    sweep(adapters)
    gone = sorted(set(numbers(adapters)) - set(keep))
    for number in gone:
        remove_folder(adapters / folder_name(number))
    return tuple(gone)


def packed(version: PolicyVersion) -> Files:
    """Return a version's files, to be sent to another node; they are checked here, and again where they arrive."""
    verify(version)
    return {name: (Path(version.path) / name).read_bytes() for name in (*_FILES, MARKER)}


def sent_on(version: PolicyVersion, files: Files) -> Files:
    """Return a version's files, to be sent to another node, of an adapter that was published from these; see `packed`.

    Nothing is read but the marker, and nothing is checked: what arrives is.
    """
    return {**files, MARKER: (Path(version.path) / MARKER).read_bytes()}


def unpacked(version: PolicyVersion, files: Files, parent: Path) -> PolicyVersion:
    """Write a version that was sent into a new folder of `parent`; return it with this path. Nothing is checked."""
    folder = parent / version.name
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return version._replace(path=str(folder))


def numbers(adapters: Path) -> list[int]:
    """Return the numbers of the complete versions of a run, in order; their bytes are not checked."""
    if not adapters.is_dir():
        raise AdapterError(f"there is no folder {adapters}; give the adapters folder of a run")
    found = [_FOLDER.fullmatch(path.name) for path in adapters.iterdir() if os.path.lexists(path / MARKER)]
    return sorted([int(one[1]) for one in found if one])


def folder_name(number: int) -> str:
    """Return the name of a version's folder."""
    name = f"policy-v{number}"
    if not _FOLDER.fullmatch(name):
        raise AdapterError(f"a version's number must be 0-999999999, got {number}")
    return name


def _checked(folder: Path, number: int, base: str | None) -> Marker:
    name = folder_name(number)
    _check_files(folder, name)
    marker = _marker(folder, name)
    if marker.number != number:
        raise AdapterError(f"{folder} holds policy-v{marker.number}, not {name}; give the folder that name")
    actual = digest(folder)
    if actual != marker.digest:
        found, wanted = actual[:12], marker.digest[:12]
        raise DigestError(f"{folder}: {name} has digest {found}, wanted is {wanted}; delete it and publish it again")
    _object(_contents(folder / CONFIG, _MAX_CONFIG_BYTES, name), folder / CONFIG, name)
    modules = _modules(folder / WEIGHTS, name)
    if modules != marker.modules:
        raise AdapterError(f"{folder}: {name} has {modules} modules, its marker says {marker.modules}; publish again")
    if base is not None and marker.base != base:
        found, wanted = marker.base[:12], base[:12]
        raise BaseError(f"{folder}: {name} was trained on the base {found}, wanted is {wanted}; give the run's base")
    return marker


def _check_files(folder: Path, name: str) -> None:
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise AdapterError(f"{folder} is a link or a file; put the folder of {name} itself there")
        there = set(os.listdir(folder))
    except OSError as error:
        raise AdapterError(f"cannot read {folder} ({error.strerror}); publish {name} first") from None
    for missing in sorted({*_FILES, MARKER} - there):
        raise AdapterError(f"{folder}: {name} is half-written, without {missing}; delete it and publish it again")
    # An engine may load any other file in the folder (a tokenizer, other weights), and no digest covers it.
    for foreign in sorted(there - {*_FILES, MARKER}):
        raise AdapterError(f"{folder}: {name} holds {foreign!r}, which is not part of a version; move it elsewhere")


def _modules(path: Path, name: str) -> int:
    """Count the lora_A tensors, from the header alone."""
    with _opened(path, follow=False) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MAX_HEADER_BYTES:
            raise AdapterError(f"{path}: the header of {name} claims {size} bytes; publish the version again")
        header = _object(file.read(size), path, name)
    modules = sum([tensor.endswith(".lora_A.weight") for tensor in header])
    if not modules:
        raise AdapterError(f"{path}: {name} has no lora_A tensor; publish a LoRA adapter")
    return modules


def seal(folder: Path, number: int, base: str, of_files: str | None = None) -> Marker:
    """Write the marker of a folder that has the adapter's files; it appears whole, and is never replaced.

    `of_files` is the digest of the adapter's files, where it is known already.
    """
    name = folder_name(number)
    if not _DIGEST.fullmatch(base):
        raise AdapterError(f"{base[:80]!r} is not the digest of a base model, which {name} needs; call base_digest()")
    marker = Marker(number, of_files or digest(folder), base, _modules(folder / WEIGHTS, name))
    if os.path.lexists(folder / MARKER):
        raise AdapterError(f"{folder}: {name} is sealed already; a version never changes, publish a new one")
    with atomic_file(folder / MARKER) as temporary:
        temporary.write_bytes(_dumped(marker))
    return marker


def _dumped(marker: Marker) -> bytes:
    # The digest covers the adapter, the seal the other fields of the marker.
    return (json.dumps(sealed({"schema": SCHEMA, **marker._asdict()}), indent=2) + "\n").encode()


def _marker(folder: Path, name: str) -> Marker:
    path = folder / MARKER
    text = _contents(path, _MAX_MARKER_BYTES, name)
    fields = _object(text, path, name)
    schema = fields.get("schema")
    if schema != SCHEMA:
        raise AdapterError(f"{path}: {name} has schema {str(schema)[:40]!r}; this version reads {SCHEMA!r}")
    values: list[Any] = [fields.get(field) for field in Marker._fields]
    if [type(value) for value in values] != [int, str, str, int] or text != _dumped(Marker(*values)):
        raise AdapterError(f"{path}: the marker of {name} was changed; publish the version again")
    return Marker(*values)


@contextmanager
def _opened(path: Path, *, follow: bool) -> Iterator[BufferedReader]:
    """Open a plain file; never wait for a pipe, and follow a link only with `follow`."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise AdapterError(f"cannot read {path} ({error.strerror}); it must be a plain file") from None
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise AdapterError(f"{path} is not a plain file; replace it by one")
        yield file


def _contents(path: Path, limit: int, name: str) -> bytes:
    with _opened(path, follow=False) as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise AdapterError(f"{path} of {name} is larger than {limit} bytes; publish the version again")
    return text


def _object(text: bytes, path: Path, name: str) -> dict[str, Any]:
    value = parse_object(text)
    if value is None:
        raise AdapterError(f"{path} of {name} is not a JSON object; publish the version again")
    return value
