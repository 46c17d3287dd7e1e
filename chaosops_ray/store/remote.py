"""A run's folder in an object store, named by a URI, and the mirror that copies a working folder there.

A store has no renames and no locks. So a process works in a folder on its own disk, and the mirror uploads files in an
order that leaves a whole run behind wherever it stops: the files of a version or a checkpoint first, its marker last;
what is deleted loses its marker first. The last process that claims a run keeps it: others see before their next upload
that the claim is no longer theirs, and stop.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files, versions
from chaosops_ray.store.run_folder import (
    ADAPTERS,
    CHECKPOINTS,
    CHECKPOINTS_KEPT,
    CONFIG,
    CONTENTS,
    EPISODES,
    EVALUATION,
    METRICS,
    RESULTS,
    RunFolder,
)
from chaosops_ray.store.timeline import TIMELINE

T = TypeVar("T")

CLAIM = "claim.json"
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# Parts of a URI's query that are not secret; the value of any other is never shown.
_OPEN_KEYS = (
    "allow_bucket_creation",
    "endpoint_override",
    "force_virtual_addressing",
    "project_id",
    "region",
    "retry_limit_seconds",
    "scheme",
    "tls_ca_file_path",
    "tls_verify_certificates",
)
_HIDDEN = "***"
# In Azure's URIs a container stands where others have a user.
_NAMES_A_CONTAINER = ("abfs", "abfss")
# Folders appear in these only with their files.
_OBJECT_STORES = ("s3", "gcs", "abfs")
# Without these pyarrow waits for a silent server for ever.
_CONNECT_SECONDS, _REQUEST_SECONDS = 10.0, 20.0
# A request has this long with all its tries, and a second more for so many bytes.
_DEADLINE_SECONDS = 120.0
_SLOWEST_BYTES = 200_000
_PAUSES = (1.0, 5.0)
_CHUNK_BYTES = 1 << 23
_MARKERS = {ADAPTERS: versions.MARKER, CHECKPOINTS: CONTENTS}
_RECORDS = (CONFIG, METRICS, RESULTS, EVALUATION)
_FOLDERS = {ADAPTERS: "policy-v", CHECKPOINTS: "update-"}
_EPISODES = re.compile(rf"{EPISODES}/update-([0-9]{{6,}})\.parquet")
# Of an error's text, what tells the cause. These two do not go away by themselves.
_NO_BUCKET = "NO_SUCH_BUCKET"
_FORBIDDEN = "ACCESS_DENIED|FORBIDDEN|INVALID_ACCESS_KEY|SIGNATURE|TOKEN|[Cc]redential|[Pp]ermission|HTTP status 40[13]"
_FINAL = f"{_NO_BUCKET}|{_FORBIDDEN}"
_ADVICE = {
    _NO_BUCKET: "make the bucket, or name another",
    _FORBIDDEN: "check the credentials and what they permit",
    "NETWORK_CONNECTION|UNAVAILABLE|[Tt]imeout|[Cc]onnect|resolve|no answer": "check the endpoint and the network",
}


class RemoteError(InputError):
    """A store that does not do what it was asked; one line without credentials."""


class ClaimError(RemoteError):
    """A run that another process has claimed since."""


class Objects(Protocol):
    """What a mirror needs of a store; names are relative to the run's folder."""

    def names(self) -> dict[str, int]:
        """Return the names of all files, and their sizes."""
        ...

    def read(self, name: str) -> bytes:
        """Return the contents of a file; raise FileNotFoundError if there is none."""
        ...

    def write(self, name: str, content: Path | bytes) -> None:
        """Write a file, or replace it."""
        ...

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file to this disk."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file."""
        ...


class ArrowObjects:
    """A folder in one of pyarrow's file systems."""

    def __init__(self, filesystem: fs.FileSystem, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def names(self) -> dict[str, int]:
        """Return the names of all files, and their sizes."""
        try:
            infos = self._filesystem.get_file_info(fs.FileSelector(self._root, recursive=True))
        except FileNotFoundError:  # no file has such a name yet; a bucket that is missing is another error
            return {}
        found = [one for one in infos if one.type == fs.FileType.File]
        return {one.path.removeprefix(f"{self._root}/"): one.size for one in found}

    def read(self, name: str) -> bytes:
        """Return the contents of a file."""
        with self._filesystem.open_input_stream(self._at(name)) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: Path | bytes) -> None:
        """Write a file, or replace it."""
        path = self._at(name)
        if self._filesystem.type_name not in _OBJECT_STORES:
            self._filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with self._filesystem.open_output_stream(path) as stream:
            if isinstance(content, bytes):
                stream.write(content)
                return
            with content.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    stream.write(chunk)

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file to this disk."""
        stream = self._filesystem.open_input_stream(self._at(name))
        with stream, files.atomic_file(to) as temporary, temporary.open("wb") as file:
            while chunk := stream.read(_CHUNK_BYTES):
                file.write(chunk)

    def delete(self, name: str) -> None:
        """Delete a file."""
        self._filesystem.delete_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


# -- URIs -------------------------------------------------------------------------------------------------------------


def is_uri(text: str) -> bool:
    """Tell a URI from a path."""
    return _URI.fullmatch(text) is not None


def local_path(uri: str) -> Path | None:
    """Return the folder of a file:// URI; None for another."""
    scheme, rest = _parts(uri)
    if scheme != "file":
        return None
    if not rest.startswith("/"):
        raise InputError(f"{shown(uri)} names a host; write file:///path")
    return Path(unquote(rest))


def shown(uri: str) -> str:
    """Return a URI as it may be printed and recorded: without user, password and keys."""
    scheme, rest = _parts(uri)
    place, question, query = rest.partition("?")
    user, at, after = place.rpartition("@")
    if scheme in _NAMES_A_CONTAINER and ":" not in user:
        at, after = "", place
    pairs = [pair.partition("=") for pair in query.split("&")]
    query = "&".join([f"{key}={value if key in _OPEN_KEYS else _HIDDEN}" for key, _, value in pairs])
    return f"{scheme}://{_HIDDEN + at if at else ''}{after}{question}{query if question else ''}"


def hide(uri: str, text: str) -> str:
    """Return a text, such as an error's, without the secrets of a URI."""
    _, rest = _parts(uri)
    place, _, query = rest.partition("?")
    values = [value for key, _, value in (pair.partition("=") for pair in query.split("&")) if key not in _OPEN_KEYS]
    secret = set(values)
    for user_and_password in (place.partition("@")[0], place.rpartition("@")[0]):
        if "@" in place:
            secret |= {user_and_password, *user_and_password.split(":", 1)}
    secret |= {unquote(one) for one in secret}
    text = text.replace(uri, shown(uri))
    for one in sorted(secret, key=len, reverse=True):
        # A flag such as true, or a user of a letter, is no secret, and would take other words with it.
        if len(one) > len("false"):
            text = text.replace(one, _HIDDEN)
    return text


def name_of(uri: str) -> str:
    """Return the last part of a URI's path, which is the run's name."""
    place = _parts(uri)[1].partition("?")[0].rstrip("/")
    name = unquote(place.rpartition("/")[2])
    if "/" not in place or name in ("", ".", "..") or "/" in name:
        raise InputError(f"{shown(uri)} names no folder; write for example s3://bucket/run")
    return name


def _parts(uri: str) -> tuple[str, str]:
    found = _URI.fullmatch(uri)
    if found is None:
        raise InputError("that is not a URI; write for example s3://bucket/run")
    return found[1].lower(), found[2]


def opened(uri: str) -> Remote:
    """Open the store of a URI; nothing is asked of it yet."""
    name_of(uri)
    try:
        # Without a region in the URI this asks the store for one.
        filesystem, root = within(_DEADLINE_SECONDS, fs.FileSystem.from_uri, _limited(uri))
        if isinstance(filesystem, fs.S3FileSystem):
            filesystem = _patient(filesystem)
    except (OSError, pa.ArrowException) as error:
        why = hide(uri, one_line(error))
        spelling = "write for example s3://bucket/run, and a / in a key as %2F"
        advice = spelling if isinstance(error, pa.ArrowInvalid) else _advice(why)
        raise RemoteError(f"cannot open {shown(uri)}: {why}; {advice}") from None
    return Remote(ArrowObjects(filesystem, root), shown(uri), lambda text: hide(uri, text))


def _limited(uri: str) -> str:
    """Return the URI with a limit to how long Google's library tries, which is a quarter of an hour by itself."""
    if _parts(uri)[0] not in ("gs", "gcs") or "retry_limit_seconds=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={_REQUEST_SECONDS:g}"


def _patient(filesystem: fs.S3FileSystem) -> fs.S3FileSystem:
    """Return the same store with limits to how long it waits, which no URI can name."""
    options: Mapping[str, Any] = filesystem.__reduce__()[1][0]  # type: ignore[assignment]
    limits = {"connect_timeout": _CONNECT_SECONDS, "request_timeout": _REQUEST_SECONDS}
    # Small files become one request, and a process that is killed leaves no upload that is not finished.
    return fs.S3FileSystem(**{**_given(options), **limits, "allow_delayed_open": True})


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set; the others do not all pass the constructor's own checks."""
    proxied = options.get("proxy_options", {}).get("host")
    unset: Sequence[Any] = (None, "", -1.0)
    return {
        name: value
        for name, value in options.items()
        if value not in unset and (name != "proxy_options" or proxied) and (name != "load_frequency")
    }


# -- a store that is asked with patience, and without end never -------------------------------------------------------


class Remote:
    """The folder of a run in a store; every request ends, is tried a few times, and fails in one line."""

    def __init__(
        self,
        objects: Objects,
        name: str,
        hidden: Callable[[str], str] = str,
        pauses: Sequence[float] = _PAUSES,
        deadline: float = _DEADLINE_SECONDS,
    ) -> None:
        self.name = name
        self._objects = objects
        self._hidden = hidden
        self._pauses = pauses
        self._deadline = deadline
        self._sizes: Mapping[str, int] = {}

    def at(self, name: str) -> str:
        """Return where a file is, as it may be printed."""
        place, question, query = self.name.partition("?")
        return f"{place.rstrip('/')}/{name}{question}{query}"

    def names(self) -> set[str]:
        """Return the names of all files."""
        self._sizes = self._ask("list", "", 0, self._objects.names)
        return set(self._sizes)

    def read(self, name: str) -> bytes | None:
        """Return the contents of a small file; None if there is none."""
        try:
            return self._ask("read", name, 0, self._objects.read, name)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: Path | bytes) -> None:
        """Write a file, or replace it."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        self._ask("upload", name, size, self._objects.write, name, content)

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file to this disk."""
        files.make_folder(to.parent)
        try:
            self._ask("fetch", name, self._sizes.get(name, 0), self._objects.fetch, name, to)
        except FileNotFoundError:
            raise RemoteError(f"{self.at(name)} went while it was fetched; start again") from None

    def delete(self, name: str) -> None:
        """Delete a file that may be gone."""
        with suppress(FileNotFoundError):
            self._ask("delete", name, 0, self._objects.delete, name)

    def _ask(self, what: str, name: str, size: int, work: Callable[..., T], *given: Any) -> T:
        until = time.monotonic() + self._deadline + size / _SLOWEST_BYTES
        pauses = list(self._pauses)
        while True:
            try:
                return within(until - time.monotonic(), work, *given)
            except FileNotFoundError as error:
                if error.filename is not None:  # of this disk, not of the store
                    raise
                raise FileNotFoundError from None
            except (OSError, pa.ArrowException) as error:
                if isinstance(error, OSError) and error.filename is not None:
                    raise
                why = self._hidden(one_line(error))
                if not pauses or re.search(_FINAL, why) or time.monotonic() + pauses[0] >= until:
                    place = self.at(name) if name else self.name
                    raise RemoteError(f"cannot {what} {place}: {why}; {_advice(why)}") from None
            time.sleep(pauses.pop(0))


def within(seconds: float, work: Callable[..., T], *given: Any) -> T:
    """Return what the work returns, or raise what it raises; raise TimeoutError if it takes longer."""
    results: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(*given))
        except BaseException as error:  # noqa: BLE001 - it is raised again, by the thread that waits
            raised.append(error)

    # A thread that hangs keeps nobody from ending.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:.3g} s")
    return results[0]


def _advice(why: str) -> str:
    return next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, why)), "see what the store says")


# -- the mirror -------------------------------------------------------------------------------------------------------


class Mirror:
    """A run's working folder, and the store that it is copied to."""

    def __init__(self, remote: Remote, folder: Path) -> None:
        self.remote = remote
        self.folder = folder
        self._token = secrets.token_hex(16)
        # What this process has uploaded or fetched: name and digest. Of a version or a checkpoint, its marker.
        self._known: dict[str, str] = {}

    @property
    def checkpoint(self) -> int:
        """The number of updates of the last whole checkpoint in the store; 0 if there is none."""
        return max(whole(set(self._known), CHECKPOINTS), default=0)

    def check_new(self) -> None:
        """Refuse a place that is taken; a claim alone is left of a process that was killed before it wrote anything."""
        name = self.remote.name
        if self.remote.names() - {CLAIM}:
            raise InputError(f"{name} is not empty; name another place, or continue that run with --resume {name}")

    def claim(self) -> None:
        """Make the run this process's; another one that trains it stops at its next upload."""
        self.remote.write(CLAIM, json.dumps({"token": self._token}).encode())

    def check_claim(self) -> None:
        """Raise ClaimError if another process has claimed the run since."""
        found = files.parse_object(self.remote.read(CLAIM) or b"")
        if found is None or found.get("token") != self._token:
            other = "another process has claimed it, and trains it now or is done with it"
            raise ClaimError(f"{self.remote.name} is no longer this process's: {other}; this one stops")

    def fetch(self, names: Sequence[str]) -> None:
        """Fetch files; markers last, and the configuration, which makes the folder a run, as the last of all."""
        for name in sorted(names, key=lambda name: (name == CONFIG, is_marker(name), name)):
            path = self.folder / name
            self.remote.fetch(name, path)
            self._known[name] = files.digest(path)

    def forget(self, done: int) -> None:
        """Upload the episodes of later updates again, although they have names that were uploaded before."""
        for name in list(self._known):
            found = _EPISODES.fullmatch(name)
            if found and int(found[1]) > done:
                del self._known[name]

    def push(self) -> None:
        """Upload what is new, each marker after its files, the evaluation last; then delete what the folder lost."""
        here = self._here()
        for group in uploads(here):
            self._push_group(group)
        lost = [name for name in self.remote.names() - here if name.partition("/")[0] in _MARKERS]
        for name in sorted(lost, key=lambda name: (not is_marker(name), name)):
            self.check_claim()
            self.remote.delete(name)
            self._known.pop(name, None)

    def release(self) -> None:
        """Give the claim back."""
        self.check_claim()
        self.remote.delete(CLAIM)

    def _here(self) -> set[str]:
        found = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
        return {name for name in found if not any(part.startswith(".") for part in Path(name).parts)}

    def _push_group(self, group: Sequence[str]) -> None:
        last = group[-1]
        if _EPISODES.fullmatch(last) and last in self._known:
            return
        digest = files.digest(self.folder / last)
        if self._known.get(last) == digest:
            return
        self._known.pop(last, None)
        if is_marker(last):
            # There may be other files under these names: without its marker nobody takes the mixture for whole.
            self.check_claim()
            self.remote.delete(last)
        for name in group:
            self.check_claim()
            self.remote.write(name, self.folder / name)
        self._known[last] = digest


def is_marker(name: str) -> bool:
    """Tell the file that is written last in a folder whose other files it makes whole."""
    room, _, rest = name.partition("/")
    return room in _MARKERS and rest.rpartition("/")[2] == _MARKERS[room]


def uploads(names: set[str]) -> Iterator[list[str]]:
    """Yield files in the order in which they are uploaded; those of a marked folder together, its marker last."""
    rest = set(names)

    def take(wanted: Callable[[str], bool]) -> list[str]:
        found = sorted([name for name in rest if wanted(name)])
        rest.difference_update(found)
        return found

    def folders(room: str) -> Iterator[list[str]]:
        inside = take(lambda name: name.startswith(f"{room}/"))
        for folder in sorted({name.rpartition("/")[0] for name in inside}):
            group = [name for name in inside if name.rpartition("/")[0] == folder]
            marker = f"{folder}/{_MARKERS[room]}"
            if marker in group:  # a version or checkpoint that is not whole stays here
                yield [*[name for name in group if name != marker], marker]

    last = take(lambda name: name == EVALUATION)
    yield from ([name] for name in take(lambda name: name == CONFIG))
    yield from folders(ADAPTERS)
    yield from ([name] for name in take(lambda name: name.startswith(f"{EPISODES}/")))
    yield from ([name] for name in take(lambda name: name == METRICS))
    yield from folders(CHECKPOINTS)
    yield from ([name] for name in take(lambda _name: True))
    yield from ([name] for name in last)


class MirroredFolder(RunFolder):
    """A run's working folder that is uploaded with every checkpoint."""

    def __init__(self, path: Path, mirror: Mirror) -> None:
        super().__init__(path)
        self._mirror = mirror

    def rewind(self, done: int, logged: int | None = None) -> None:
        """Delete what came after the first `done` updates."""
        super().rewind(done, logged)
        self._mirror.forget(done)

    @contextmanager
    def checkpoint(self, done: int) -> Iterator[Path]:
        """Yield a folder to fill; on success it is a checkpoint here, and when this returns also in the store."""
        with super().checkpoint(done) as folder:
            yield folder
        self.push()

    def push(self) -> None:
        """Upload what is new; an error names the working folder."""
        try:
            self._mirror.push()
        except ClaimError:
            raise
        except RemoteError as error:
            name, done = self._mirror.remote.name, self._mirror.checkpoint
            there = f"--resume {name} goes on after update {done}" if done else f"--resume {name} begins again"
            raise RemoteError(f"{error}; {there}, --resume {self.path} with all that is here") from None


# -- reading ----------------------------------------------------------------------------------------------------------


def to_resume(names: set[str]) -> list[str]:
    """Select what the run needs to go on from its last whole checkpoint: the ones to keep, and all versions before."""
    checkpoints, adapters = whole(names, CHECKPOINTS), whole(names, ADAPTERS)
    if not checkpoints:  # it begins again, whatever there is of it
        return [CONFIG]
    wanted = [name for number in sorted(checkpoints)[-CHECKPOINTS_KEPT:] for name in checkpoints[number]]
    wanted += [name for number in adapters if number <= max(checkpoints) for name in adapters[number]]
    return wanted + [name for name in (*_RECORDS, TIMELINE) if name in names]


def to_read(names: set[str]) -> list[str]:
    """Select what tells whether the run is as it was written, and which versions it has."""
    markers = [name for files_of in whole(names, ADAPTERS).values() for name in files_of if is_marker(name)]
    records = [name for name in _RECORDS if name in names]
    if EVALUATION in names:
        return [*records, *markers]
    return [*records, *markers, *[name for files_of in whole(names, CHECKPOINTS).values() for name in files_of]]


def whole(names: set[str], room: str) -> dict[int, list[str]]:
    """Return the whole versions (`room` is ADAPTERS) or checkpoints by number, with the names of their files."""
    pattern = re.compile(rf"({room}/{_FOLDERS[room]}([0-9]+))/[^/]+")
    found: dict[int, list[str]] = {}
    for name in sorted(names):
        matched = pattern.fullmatch(name)
        if matched and f"{matched[1]}/{_MARKERS[room]}" in names:
            found.setdefault(int(matched[2]), []).append(name)
    return found
