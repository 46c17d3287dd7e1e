"""Runs in an object store: a working folder of this machine for whoever trains one, a copy for whoever reads one."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from chaosops_ray.config import Run
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files, remote
from chaosops_ray.store.received import cache_folder
from chaosops_ray.store.remote import Mirror, MirroredFolder, Remote
from chaosops_ray.store.run_folder import (
    ADAPTERS,
    CHECKPOINTS,
    CONFIG,
    EPISODES,
    RunFolder,
)
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.training import check

# In the cache: the working folders of runs in stores, one for each time that one is started or resumed.
_WORKING = "runs"


def new(uri: str) -> Mirror:
    """Prepare the working folder of a new run; refuse a place in the store that is taken."""
    mirror = Mirror(remote.opened(uri), _working_folder(uri))
    mirror.check_new()
    return mirror


def resumed(uri: str) -> tuple[Mirror, Run, AnyEnvironment]:
    """Claim a run and fetch its last whole checkpoints, with all versions up to there, into a new working folder."""
    store = remote.opened(uri)
    _names(store)
    mirror = Mirror(store, _working_folder(uri))
    mirror.claim()
    try:
        _fetch(mirror, remote.to_resume(store.names()))  # as it is now that nobody else may write
        with _named(mirror.folder, store):
            _, run, environment = check.begun(mirror.folder)
    except InputError:
        shutil.rmtree(mirror.folder.parent, ignore_errors=True)
        raise
    _delete_others(uri, mirror.folder)
    return mirror, run, environment


def _fetch(mirror: Mirror, wanted: list[str]) -> None:
    files.make_folder(mirror.folder)
    for room in (ADAPTERS, CHECKPOINTS, EPISODES):
        files.make_folder(mirror.folder / room)
    mirror.fetch(wanted)


def fetched(uri: str, number: int | None) -> RunFolder:
    """Fetch what a reader of one version needs into a temporary folder, checked; it goes when this process ends."""
    store = remote.opened(uri)
    names = _names(store)
    mirror = Mirror(store, files.temporary_folder() / remote.name_of(uri))
    _fetch(mirror, remote.to_read(names))
    with _named(mirror.folder, store):
        folder = RunFolder(mirror.folder)
        if number is None:
            number = max([row["update"] for row in folder.check()], default=None)
        if number is not None:
            mirror.fetch(remote.whole(names, ADAPTERS).get(number, []))
        check.recorded(folder)
        folder.version(number)
    return folder


def begin(mirror: Mirror, *, is_new: bool) -> MirroredFolder:
    """Return the working folder as one that is uploaded with every checkpoint; a new run is there from now on."""
    if is_new:
        mirror.check_new()  # again, because starting the cluster takes a while
        mirror.claim()
        mirror.check_new()  # and nothing has come from a process that claimed it meanwhile
    folder = MirroredFolder(mirror.folder, mirror)
    if is_new:
        folder.push()
    return folder


def finish(folder: MirroredFolder, mirror: Mirror) -> None:
    """Upload the rest of a run that is over, and delete the working folder."""
    folder.push()
    mirror.release()
    shutil.rmtree(mirror.folder.parent)


def _names(store: Remote) -> set[str]:
    names = store.names()
    if CONFIG not in names:
        raise InputError(f"{store.name} is not a run: it has no {CONFIG}; give one that `chaosops train` made")
    return names


def _working_folder(uri: str) -> Path:
    return cache_folder() / _WORKING / f"{_key(uri)}-{secrets.token_hex(4)}" / remote.name_of(uri)


def _key(uri: str) -> str:
    return sha256(remote.shown(uri).encode()).hexdigest()[:12]


def _delete_others(uri: str, own: Path) -> None:
    """Delete earlier working folders of this run, unless a living process has one: the store is what counts."""
    for above in (cache_folder() / _WORKING).glob(f"{_key(uri)}-*"):
        path = above / own.name
        if path == own:
            continue
        try:
            with RunFolder(path).claimed():
                shutil.rmtree(above)
        except InputError:  # another process works there, or it never became a run
            continue


@contextmanager
def _named(folder: Path, store: Remote) -> Iterator[None]:
    """Let errors about the copy name the store."""
    try:
        yield
    except (InputError, AdapterError) as error:
        paths = rf"(?:{re.escape(str(folder))}|{re.escape(str(folder.resolve()))})(?:/([\w./-]*))?"
        text = re.sub(paths, lambda found: store.at(found[1]) if found[1] else store.name, str(error))
        raise InputError(text) from None
