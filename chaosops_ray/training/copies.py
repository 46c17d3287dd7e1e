"""Runs in an object store: a working folder of this machine for whoever trains one, a copy for whoever reads one."""

from __future__ import annotations

import atexit
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from chaosops_ray.config import Run
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files, remote
from chaosops_ray.store.remote import Mirror, MirroredFolder
from chaosops_ray.store.run_folder import (
    ADAPTERS,
    CHECKPOINTS,
    CONFIG,
    EPISODES,
    EVALUATION,
    METRICS,
    RESULTS,
    RunFolder,
)
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.training import check, tiny

# In the cache: the working folders of runs in stores, one for each time that one is started or resumed.
_WORKING = "runs"
_RECORDS = (CONFIG, METRICS, RESULTS, EVALUATION)


def new(uri: str) -> Mirror:
    """Prepare the working folder of a new run; refuse a place in the store that is taken."""
    store = remote.opened(uri)
    if store.names():
        raise InputError(
            f"{store.name} is not empty; name another place, or continue that run with --resume {store.name}"
        )
    return Mirror(store, _working_folder(uri))


def resumed(uri: str) -> tuple[Mirror, Run, AnyEnvironment]:
    """Claim a run and fetch its last whole checkpoints, with all versions up to there, into a new working folder."""
    store = remote.opened(uri)
    _names(store)
    mirror = Mirror(store, _working_folder(uri))
    mirror.claim()
    names = store.names()  # as it is now that nobody else may write
    checkpoints, adapters = remote.whole(names, CHECKPOINTS), remote.whole(names, ADAPTERS)
    done = max(checkpoints, default=-1)
    wanted = [name for number in checkpoints for name in checkpoints[number]]
    wanted += [name for number in adapters if number <= done for name in adapters[number]]
    # Without a checkpoint the run begins again, whatever there is of it.
    wanted += [name for name in _RECORDS if name in names and (done >= 0 or name == CONFIG)]
    try:
        _fetch(mirror, wanted)
        with _named(mirror.folder, store.name):
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
    above = Path(tempfile.mkdtemp(prefix="chaosops-"))
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    mirror = Mirror(store, above / remote.name_of(uri))
    checkpoints, adapters = remote.whole(names, CHECKPOINTS), remote.whole(names, ADAPTERS)
    wanted = [name for name in _RECORDS if name in names]
    # Of the others their markers, which tell that they are there.
    wanted += [name for files_of in adapters.values() for name in files_of if remote.is_marker(name)]
    if EVALUATION not in names:
        wanted += [name for one in checkpoints for name in checkpoints[one]]
    _fetch(mirror, wanted)
    with _named(mirror.folder, store.name):
        folder = RunFolder(mirror.folder)
        if number is None:
            number = max([row["update"] for row in folder.check()], default=None)
        if number in adapters:
            mirror.fetch(adapters[number])
        check.recorded(folder)
        folder.version(number)
    return folder


def begin(mirror: Mirror, *, is_new: bool) -> MirroredFolder:
    """Return the working folder as one that is uploaded with every checkpoint; a new run is there from now on."""
    if is_new:
        mirror.claim()
    folder = MirroredFolder(mirror.folder, mirror)
    if is_new:
        folder.push()
    return folder


def finish(folder: MirroredFolder, mirror: Mirror) -> None:
    """Upload the rest of a run that is over, and delete the working folder."""
    folder.push()
    mirror.release()
    shutil.rmtree(mirror.folder.parent)


def _names(store: remote.Remote) -> set[str]:
    names = store.names()
    if CONFIG not in names:
        raise InputError(f"{store.name} is not a run: it has no {CONFIG}; give one that `chaosops train` made")
    return names


def _working_folder(uri: str) -> Path:
    return tiny.cache_folder() / _WORKING / f"{_key(uri)}-{secrets.token_hex(4)}" / remote.name_of(uri)


def _key(uri: str) -> str:
    return sha256(remote.shown(uri).encode()).hexdigest()[:12]


def _delete_others(uri: str, own: Path) -> None:
    """Delete earlier working folders of this run, unless a living process has one: the store is what counts."""
    for above in (tiny.cache_folder() / _WORKING).glob(f"{_key(uri)}-*"):
        path = above / own.name
        if path == own:
            continue
        try:
            with RunFolder(path).claimed():
                shutil.rmtree(above)
        except InputError:  # another process works there, or it never became a run
            continue


@contextmanager
def _named(folder: Path, name: str) -> Iterator[None]:
    """Let errors about the copy name the store."""
    try:
        yield
    except (InputError, AdapterError) as error:
        text = re.sub(rf"{re.escape(str(folder))}|{re.escape(str(folder.resolve()))}", lambda _: name, str(error))
        raise InputError(text) from None
