"""Base models on a node that is not the driver's: found, or received file by file and kept for the next actor.

A received model is kept under its digest in `cache_folder()`. Whatever is used has been read and has the right digest:
a folder that is half received, damaged, or that another model has been written into, is never used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from chaosops_ray.store import files
from chaosops_ray.store.scratch import locked
from chaosops_ray.store.versions import AdapterError, BaseError, base_digest

# The largest part of a file that is on the way at a time.
PIECE_BYTES = 64 << 20


class Source(Protocol):
    """The node that has the model."""

    def files(self) -> Sequence[tuple[str, int]]:
        """Return the names of the model's files and their sizes."""
        ...

    def piece(self, name: str, start: int, size: int) -> bytes:
        """Return a part of a file."""
        ...


def cache_folder() -> Path:
    """Return the folder of models that were made or received: CHAOSOPS_CACHE, or one in the user's cache."""
    given = os.environ.get("CHAOSOPS_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chaosops_ray"


def folder_of(path: Path, digest: str, source: Source) -> Path:
    """Return a folder of this node that holds the base model of this digest: `path`, or a copy, received if needed."""
    kept = cache_folder() / "received" / digest
    copy = kept / "model"
    for folder in (path, copy):
        if _holds(folder, digest):
            return folder
    try:
        files.make_folder(kept)
        with locked(kept / "lock"):
            if not _holds(copy, digest):  # otherwise another process has received it meanwhile
                _receive(copy, digest, source)
    except OSError as error:
        remedy = "make room or write permission there, or set CHAOSOPS_CACHE on this node"
        raise AdapterError(f"cannot receive the base model into {kept} ({files.reason(error)}); {remedy}") from None
    return copy


def _receive(copy: Path, digest: str, source: Source) -> None:
    """Receive a model; the caller has the lock, so that what lies here was left by a killed process."""
    incoming = copy.with_name("incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    try:
        for name, size in source.files():
            with (incoming / name).open("xb") as file:
                for start in range(0, size, PIECE_BYTES):
                    file.write(source.piece(name, start, min(PIECE_BYTES, size - start)))
        if (found := base_digest(incoming)) != digest:
            said = f"the base model that arrived has digest {found[:12]}, wanted is {digest[:12]}"
            raise BaseError(f"{said}; do not change its files while a run uses them, and start again")
        shutil.rmtree(copy, ignore_errors=True)
        incoming.rename(copy)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _holds(folder: Path, digest: str) -> bool:
    try:
        return base_digest(folder) == digest
    except AdapterError:  # there is none, or it cannot be read, or somebody is writing it
        return False
