"""A published adapter on disk: an immutable folder `policy-v{number}`, digested, with its marker written last.

No file is trusted: sizes are bounded, links are not followed, and every byte of a version is checked, the adapter's by
its digest and the marker's by its seal.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from chaosops_ray.store.files import atomic_file
from chaosops_ray.wire import PolicyVersion

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
_CHUNK = 1 << 20

# The files that a base model's behaviour depends on. Others in its folder (a README, a licence) may change.
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
    """A version on disk that cannot be used, in one line that names path, version and remedy."""


class DigestError(AdapterError):
    """A version whose bytes are not those that were published."""


class BaseError(AdapterError):
    """A version that was trained on another base model."""


class Marker(NamedTuple):
    """The marker of a complete version."""

    number: int
    digest: str
    base: str  # the base model's digest
    modules: int  # how many modules the adapter binds


# -- digests ----------------------------------------------------------------------------------------------------------


def digest(folder: Path) -> str:
    """SHA-256 over names and bytes of the adapter's two files."""
    return _digest((folder / name for name in _FILES), follow=False)


def base_digest(folder: Path) -> str:
    """SHA-256 over names and bytes of a base model's configuration, tokenizer and weights."""
    if not (folder / "config.json").is_file():
        raise AdapterError(f"{folder} is not a base model: it has no config.json; give the folder of a saved model")
    weights = list(folder.glob("*.safetensors"))
    if not weights:
        raise AdapterError(f"{folder} has no *.safetensors weights; save the model with safetensors")
    files = [folder / name for name in _BASE_FILES if os.path.lexists(folder / name)]
    # The hub's cache is made of links. The digest is of the files that they lead to.
    return _digest(sorted(files + weights), follow=True)


def _digest(files: Iterable[Path], *, follow: bool) -> str:
    hasher = sha256()
    for path in files:
        name = path.name.encode()
        with _opened(path, follow=follow) as file:
            size = os.fstat(file.fileno()).st_size
            # With both lengths ahead of the bytes that they count, no two sets of files give the same stream.
            hasher.update(len(name).to_bytes(8, "big") + name + size.to_bytes(8, "big"))
            seen = 0
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
                seen += len(chunk)
        if seen != size:
            raise AdapterError(f"{path} changed while it was read; a version is never written again, publish a new one")
    return hasher.hexdigest()


# -- reading ----------------------------------------------------------------------------------------------------------


def read(folder: Path, base: str | None = None) -> PolicyVersion:
    """Read the version in a folder and check every byte of it; with `base`, also the base model's digest."""
    number = _number(folder)
    marker = _checked(folder, number, base)
    return PolicyVersion(number, marker.digest, str(folder.resolve()))


def verify(version: PolicyVersion, base: str | None = None) -> Marker:
    """Check that a version's folder holds what was published under its number and digest."""
    folder = Path(version.path)
    if folder.name != version.name:
        raise AdapterError(f"{folder} is not the folder of {version.name}; versions keep their names")
    marker = _checked(folder, version.number, base)
    if marker.digest != version.digest:
        raise DigestError(
            f"{folder} holds {version.name} with digest {marker.digest[:12]}, wanted is {version.digest[:12]}; "
            "adopt the version as it was published"
        )
    return marker


def latest(adapters: Path, base: str | None = None) -> PolicyVersion:
    """Read the highest complete version of a run's folder of adapters; if that one is damaged, this is an error."""
    complete = numbers(adapters)
    if not complete:
        raise AdapterError(f"{adapters} holds no complete version of a policy; publish one first")
    return read(adapters / folder_name(complete[-1]), base)


def numbers(adapters: Path) -> list[int]:
    """The numbers of the complete versions in a run's folder of adapters, in order; their bytes are not checked."""
    if not adapters.is_dir():
        raise AdapterError(f"there is no folder {adapters}; give the adapters folder of a run")
    return sorted(
        int(found[1])
        for folder in adapters.iterdir()
        if (found := _FOLDER.fullmatch(folder.name)) and os.path.lexists(folder / MARKER)
    )


def folder_name(number: int) -> str:
    """The name of a version's folder."""
    name = f"policy-v{number}"
    if not _FOLDER.fullmatch(name):
        raise AdapterError(f"a version's number must be 0-999999999, got {number}")
    return name


def _number(folder: Path) -> int:
    found = _FOLDER.fullmatch(folder.name)
    if not found:
        raise AdapterError(f"{folder} is not a version's folder; give one with a name such as policy-v12")
    return int(found[1])


def _checked(folder: Path, number: int, base: str | None) -> Marker:
    name = f"policy-v{number}"
    _check_files(folder, name)
    marker = _marker(folder, name)
    if marker.number != number:
        raise AdapterError(f"{folder} holds policy-v{marker.number}, not {name}; give it that name again")
    actual = digest(folder)
    if actual != marker.digest:
        raise DigestError(
            f"{folder}: {name} has digest {actual[:12]}, published was {marker.digest[:12]}; "
            "delete the folder and publish the version again"
        )
    _json_object(folder / CONFIG, _MAX_CONFIG_BYTES, name)
    modules = _modules(folder / WEIGHTS, name)
    if modules != marker.modules:
        raise AdapterError(
            f"{folder}: {name} has {modules} modules, its marker says {marker.modules}; publish the version again"
        )
    if base is not None and marker.base != base:
        raise BaseError(
            f"{folder}: {name} was trained on the base model {marker.base[:12]}, wanted is {base[:12]}; "
            "give the run's own base model"
        )
    return marker


def _check_files(folder: Path, name: str) -> None:
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise AdapterError(f"{folder} is not a folder but a link or a file; put the folder of {name} itself there")
        there = set(os.listdir(folder))
    except OSError as error:
        raise AdapterError(f"cannot read {folder} ({error.strerror}); publish {name} first") from None
    if MARKER not in there:
        raise AdapterError(f"{folder} has no {MARKER}: {name} is half-written; delete it and publish the version again")
    for missing in sorted({*_FILES} - there):
        raise AdapterError(f"{folder}: {name} lacks {missing}; delete it and publish the version again")
    # An engine may load any other file in the folder (a tokenizer, other weights), and no digest covers it.
    for foreign in sorted(there - {*_FILES, MARKER}):
        raise AdapterError(f"{folder}: {name} holds {foreign!r}, which does not belong to a version; move it elsewhere")


def _modules(path: Path, name: str) -> int:
    """The count of lora_A tensors, from the header alone."""
    with _opened(path, follow=False) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MAX_HEADER_BYTES:
            raise AdapterError(f"{path}: the header of {name} claims {size} bytes; publish the version again")
        header = _parsed(file.read(size), path, name)
    modules = sum([tensor.endswith(".lora_A.weight") for tensor in header])
    if not modules:
        raise AdapterError(f"{path}: {name} has no lora_A tensor; publish a LoRA adapter")
    return modules


# -- the marker -------------------------------------------------------------------------------------------------------


def seal(folder: Path, number: int, base: str) -> Marker:
    """Write the marker of a folder whose adapter files are in place; it appears whole, and once."""
    name = folder_name(number)
    if not _DIGEST.fullmatch(base):
        raise AdapterError(f"{base[:80]!r} is not the digest of a base model, which {name} needs; call base_digest()")
    marker = Marker(number, digest(folder), base, _modules(folder / WEIGHTS, name))
    if os.path.lexists(folder / MARKER):
        raise AdapterError(f"{folder}: {name} is sealed already; a version never changes, publish a new one")
    with atomic_file(folder / MARKER) as temporary:
        temporary.write_bytes(_dumped(marker))
    return marker


def _dumped(marker: Marker) -> bytes:
    fields = {"schema": SCHEMA, **marker._asdict()}
    # The digest covers the adapter, the seal the other fields of the marker.
    fields["seal"] = sha256(json.dumps(fields).encode()).hexdigest()
    return (json.dumps(fields, indent=2) + "\n").encode()


def _marker(folder: Path, name: str) -> Marker:
    path = folder / MARKER
    with _opened(path, follow=False) as file:
        text = file.read(_MAX_MARKER_BYTES + 1)
    if len(text) > _MAX_MARKER_BYTES:
        raise AdapterError(f"{path} is larger than the marker of {name} can be; publish the version again")
    fields = _parsed(text, path, name)
    schema = fields.get("schema")
    if schema != SCHEMA:
        raise AdapterError(f"{path}: {name} has schema {str(schema)[:40]!r}; this version reads {SCHEMA!r}")
    wanted = {"number": int, "digest": str, "base": str, "modules": int}
    if any(type(fields.get(field)) is not kind for field, kind in wanted.items()):
        raise AdapterError(f"{path}: the marker of {name} must hold {', '.join(wanted)}; publish the version again")
    marker = Marker(**{field: fields[field] for field in wanted})
    if text != _dumped(marker):
        raise AdapterError(f"{path}: the marker of {name} was changed; publish the version again")
    return marker


# -- files that may be anything ---------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, *, follow: bool) -> Iterator[BinaryIO]:
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


def _json_object(path: Path, limit: int, name: str) -> dict[str, Any]:
    with _opened(path, follow=False) as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise AdapterError(f"{path} of {name} is larger than {limit} bytes; publish the version again")
    return _parsed(text, path, name)


def _parsed(text: bytes, path: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise AdapterError(f"{path} of {name} is not a JSON object; publish the version again")
    return value
