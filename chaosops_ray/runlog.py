"""The only writer of what a run leaves behind. Every file appears whole or not at all.

Episodes are Parquet, one row a step; the rows of an episode stand together. The schema has a version in the file's
metadata, and a reader refuses what it does not know.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode
from chaosops_ray.sim.episode import replay
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_of
from chaosops_ray.wire import Group

EPISODES_SCHEMA = "episodes/2"
_SCHEMA_KEY = b"chaosops_schema"
_ROWS_AT_ONCE = 20_000
# No world's episode comes near it; a file that claims otherwise is not held in memory to find out.
MAX_EPISODE_ROWS = 10_000

_FIELDS: list[tuple[str, pa.DataType]] = [
    ("episode", pa.int64()),
    ("policy", pa.string()),
    # Which version of a trained policy took this step, and its adapter's digest; -1 and nothing where none did.
    ("version", pa.int64()),
    ("digest", pa.string()),
    ("scenario", pa.string()),
    ("rules", pa.string()),
    ("step", pa.int32()),
    ("role", pa.string()),
    ("view", pa.string()),
    ("action", pa.string()),
    ("outcome", pa.list_(pa.string())),
    ("components", pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))),
    ("reward", pa.float64()),
    ("state_hash", pa.string()),
]
UNTRAINED = (-1, "")
COLUMNS = pa.schema(_FIELDS, metadata={_SCHEMA_KEY: EPISODES_SCHEMA.encode()})


def state_hash(environment: AnyEnvironment, world: Any) -> str:
    """SHA-256 of the whole truth."""
    return sha256(environment.dump(world)).hexdigest()


# -- writing --------------------------------------------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """Fail before the work rather than after it."""
    try:
        target = path.resolve()
        target.with_name(f".{target.name}.00000000").lstat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot write {path}: {_reason(error)}") from None
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write {path}: it is there and no plain file; name another")
    check_folder(target.parent if path.is_symlink() else path.parent)


def _reason(error: Exception) -> str:
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
        raise InputError(f"cannot write {path}: {_reason(error)}") from None
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
        raise InputError(f"cannot read {path}: {_reason(error)}") from None
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is no JSON object; the file was not written by this program")
        rows.append(row)
    return rows


class EpisodeWriter:
    """Collects episodes into a Parquet file that appears when the writer is closed without an error."""

    def __init__(self, path: Path) -> None:
        self._appearing = appearing(path)
        self._rows: list[dict[str, Any]] = []
        self._written = 0

    def __enter__(self) -> EpisodeWriter:
        self._file = pq.ParquetWriter(self._appearing.__enter__(), COLUMNS, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._file.close()
        self._appearing.__exit__(kind, error, trace)

    def add(
        self,
        environment: AnyEnvironment,
        policy: str,
        episode: AnyEpisode,
        versions: Sequence[tuple[int, str]] | None = None,
    ) -> None:
        """Write one episode; `versions` has the policy's number and digest for each step, where one was trained."""
        taken_by = [UNTRAINED] * len(episode.steps) if versions is None else versions
        for number, (step, (version, digest)) in enumerate(zip(episode.steps, taken_by, strict=True)):
            self._rows.append(
                {
                    "episode": self._written,
                    "policy": policy,
                    "version": version,
                    "digest": digest,
                    "scenario": episode.scenario.identity,
                    "rules": episode.rules,
                    "step": number,
                    **_record(environment, step),
                }
            )
        self._written += 1
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=COLUMNS))
            self._rows.clear()


def _record(environment: AnyEnvironment, step: Any) -> dict[str, Any]:
    return {
        "role": step.role,
        "view": environment.dump_view(step.view),
        "action": environment.dump_action(step.action),
        "outcome": sorted(step.outcome),
        "components": [{"name": name, "value": value} for name, value in step.score.components],
        "reward": step.score.total,
        "state_hash": state_hash(environment, step.world),
    }


# -- the folder of a run ----------------------------------------------------------------------------------------------

METRICS = "metrics.jsonl"
CONFIG = "config.yaml"
ADAPTERS = "adapters"
EPISODES = "episodes"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation.json"
RESULTS = "evaluation-results.jsonl"
CHECKPOINTS_KEPT = 2
_CLAIM_POLL_SECONDS = 0.5
_CHECKPOINT = re.compile(r"update-([0-9]{6})")


class RunFolder:
    """Where a run leaves what it leaves."""

    def __init__(self, path: Path) -> None:
        if not (path / CONFIG).is_file():
            raise InputError(f"{path} is no run: it has no {CONFIG}; give a folder that `chaosops train` made")
        self.path = path
        self.adapters = path / ADAPTERS

    @classmethod
    def create(cls, path: Path, config: str) -> RunFolder:
        """A new run's folder; one that holds anything already is left alone."""
        check_new_folder(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name in (ADAPTERS, EPISODES, CHECKPOINTS):
                (path / name).mkdir()
        except OSError as error:
            raise InputError(f"cannot make the run folder {path}: {_reason(error)}") from None
        with appearing(path / CONFIG) as temporary:
            temporary.write_text(config, encoding="utf-8")
        return cls(path)

    @contextmanager
    def claimed(self, patience: float = 0.0) -> Iterator[None]:
        """While somebody trains here nobody else may; the claim dies with its process, and on NFS a while later."""
        until = time.monotonic() + patience
        # Opened for writing, though nothing is written: NFS gives nobody else an exclusive lock.
        with (self.path / CONFIG).open("r+b") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise InputError(
                            f"{self.path} is being trained by another process; wait for it, or stop it"
                        ) from None
                    time.sleep(_CLAIM_POLL_SECONDS)
                except OSError as error:
                    raise InputError(f"cannot lock {self.path}: {_reason(error)}; put it where files lock") from None
            yield

    # -- metrics --------------------------------------------------------------------------------------------------

    def log(self, row: Mapping[str, Any]) -> None:
        """One line of metrics; it is on its way to the disk when this returns."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics; a last one that a crash cut short is not counted."""
        path = self.path / METRICS
        return read_lines(path) if path.exists() else []

    def rewind(self, done: int) -> None:
        """Forget what came after the first `done` updates."""
        kept = [row for row in self.metrics() if row["update"] <= done]
        write_lines(self.path / METRICS, kept)
        for path in (self.path / EPISODES).glob("update-*.parquet"):
            if int(path.stem.removeprefix("update-")) > done:
                path.unlink()

    # -- episodes -------------------------------------------------------------------------------------------------

    def record(self, update: int, environment: AnyEnvironment, groups: Sequence[Group]) -> None:
        """The update's episodes, step by step; they are simulated again from their actions."""
        with EpisodeWriter(self.path / EPISODES / f"update-{update:06d}.parquet") as writer:
            for group in groups:
                for report in group.reports:
                    actions = [environment.load_action(action) for action in report.actions]
                    scenario = environment.scenario(report.scenario)
                    episode = replay(environment, scenario, group.task.rules, actions)
                    writer.add(environment, "trained", episode, report.versions)

    # -- checkpoints ----------------------------------------------------------------------------------------------

    @contextmanager
    def checkpoint(self, done: int) -> Iterator[Path]:
        """A folder to fill; it becomes the checkpoint after `done` updates when all went well."""
        folder = self.path / CHECKPOINTS
        temporary = Path(tempfile.mkdtemp(prefix=".update-", dir=folder))
        target = folder / f"update-{done:06d}"
        try:
            yield temporary
            for path in (*temporary.iterdir(), temporary):
                to_disk(path)
            if target.exists():  # a run that was rewound comes by again
                shutil.rmtree(target)
            temporary.rename(target)
            to_disk(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for number in self.checkpoints()[:-CHECKPOINTS_KEPT]:
            shutil.rmtree(folder / f"update-{number:06d}")

    def checkpoints(self) -> list[int]:
        """After how many updates there are checkpoints."""
        names = [_CHECKPOINT.fullmatch(path.name) for path in (self.path / CHECKPOINTS).iterdir()]
        return sorted([int(name[1]) for name in names if name])

    def checkpoint_path(self, done: int) -> Path:
        """Where that checkpoint lies."""
        return self.path / CHECKPOINTS / f"update-{done:06d}"


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


# -- reading --------------------------------------------------------------------------------------------------------


class RecordedEpisode(NamedTuple):
    """An episode as the file has it: what names it, and a row for each step."""

    number: int
    policy: str
    scenario: str
    rules: str
    rows: tuple[dict[str, Any], ...]


def read_episodes(path: Path) -> Iterator[RecordedEpisode]:
    """The episodes of a file, one after the other, without holding them all."""
    try:
        # A file handle of our own: pyarrow then never looks at the path, and it is closed whatever happens.
        with path.open("rb") as handle, pq.ParquetFile(handle) as file:
            _check_schema(path, file.schema_arrow)
            yield from _grouped(file)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from None


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"cannot read {path} ({reason.strip().splitlines()[0]}); give a Parquet file of episodes")


def _check_schema(path: Path, schema: pa.Schema) -> None:
    version = (schema.metadata or {}).get(_SCHEMA_KEY, b"").decode(errors="replace")
    if version != EPISODES_SCHEMA:
        raise InputError(f"{path} has schema {version or 'unknown'!r}; this version reads {EPISODES_SCHEMA!r}")
    if not schema.equals(COLUMNS):
        raise InputError(f"{path} does not have the columns of {EPISODES_SCHEMA!r}: {', '.join(COLUMNS.names)}")


def _grouped(file: pq.ParquetFile) -> Iterator[RecordedEpisode]:
    rows: list[dict[str, Any]] = []
    for batch in file.iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            if any(value is None for value in row.values()):
                raise InputError(
                    f"episode {row['episode']} has an empty field; the file was not written by this program"
                )
            if rows and row["episode"] != rows[0]["episode"]:
                yield _recorded(rows)
                rows = []
            rows.append(row)
            if len(rows) > MAX_EPISODE_ROWS:
                raise InputError(f"episode {row['episode']} has more than {MAX_EPISODE_ROWS} steps; no world's has")
    if rows:
        yield _recorded(rows)


def _recorded(rows: list[dict[str, Any]]) -> RecordedEpisode:
    first = rows[0]
    return RecordedEpisode(first["episode"], first["policy"], first["scenario"], first["rules"], tuple(rows))


# -- simulating again -----------------------------------------------------------------------------------------------


def differences(recorded: RecordedEpisode) -> list[str]:
    """What comes out otherwise when the recorded actions are played again, a line for each difference."""
    environment = environment_of(recorded.scenario)
    scenario = environment.scenario(recorded.scenario)
    rules = environment.rules(recorded.rules)
    actions = [environment.load_action(row["action"]) for row in recorded.rows]
    episode = replay(environment, scenario, rules, actions)
    name = f"episode {recorded.number} ({recorded.policy} on {recorded.scenario})"
    found = []
    for number, (row, step) in enumerate(zip(recorded.rows, episode.steps, strict=False)):
        again = _record(environment, step)
        found += [
            f"{name}, step {number}: {field} was {_shown(row[field])}, is {_shown(again[field])}"
            for field in again
            if not _same(row[field], again[field])
        ]
        said = (row["step"], row["policy"], row["scenario"], row["rules"])
        if said != (number, recorded.policy, recorded.scenario, recorded.rules):
            found.append(
                f"{name}, step {number}: the row says step {said[0]} of {said[1]} on {said[2]} under {said[3]}"
            )
    if len(episode.steps) < len(recorded.rows):
        found.append(f"{name}: recorded for {len(recorded.rows)} steps, over after {len(episode.steps)}")
    elif environment.acting(episode.steps[-1].world) is not None:
        found.append(f"{name}: the record stops at step {len(recorded.rows)}, the episode does not")
    return found


def _same(recorded: Any, again: Any) -> bool:
    if isinstance(recorded, float) and math.isnan(recorded):
        return False
    return bool(recorded == again)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
