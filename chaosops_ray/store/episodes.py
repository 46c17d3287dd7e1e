"""Episodes as Parquet, one row for each step, the rows of an episode together: writing, reading, replay.

The schema has a version in the file's metadata; a reader refuses versions that it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode
from chaosops_ray.sim.episode import replay
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_of
from chaosops_ray.store.files import atomic_file

EPISODES_SCHEMA = "episodes/2"
_SCHEMA_KEY = b"chaosops_schema"
_ROWS_AT_ONCE = 20_000
# Far above any world's episode: a file with longer ones is refused before it fills the memory.
MAX_EPISODE_ROWS = 10_000

_FIELDS: list[tuple[str, pa.DataType]] = [
    ("episode", pa.int64()),
    ("policy", pa.string()),
    # The version of the trained policy that took this step, and its adapter's digest; -1 and the base model's digest
    # where that played without an adapter, -1 and "" for other policies.
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
    """SHA-256 of the whole state of a world."""
    return sha256(environment.dump(world)).hexdigest()


class EpisodeWriter:
    """A writer of episodes into a Parquet file, which appears when the writer is closed without an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self._written = 0

    def __enter__(self) -> EpisodeWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_file(self._path))
            self._file = stack.enter_context(pq.ParquetWriter(temporary, COLUMNS, compression="zstd"))
            stack.push(self._finish)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def _finish(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()

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


# -- reading --------------------------------------------------------------------------------------------------------


class RecordedEpisode(NamedTuple):
    """An episode as it stands in the file: its names, and a row for each step."""

    number: int
    policy: str
    scenario: str
    rules: str
    rows: tuple[dict[str, Any], ...]


def read_episodes(path: Path) -> Iterator[RecordedEpisode]:
    """Yield the episodes of a file, one after the other, without holding them all."""
    try:
        # A file handle of our own: pyarrow then never looks at the path, and it is closed whatever happens.
        with path.open("rb") as handle, pq.ParquetFile(handle) as file:
            _check_schema(path, file.schema_arrow)
            yield from _grouped(file)
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, said: Exception | str) -> InputError:
    return InputError(f"cannot read {path} ({one_line(said, part='first')}); give a Parquet file of episodes")


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
                raise InputError(
                    f"episode {row['episode']} has more than {MAX_EPISODE_ROWS} steps; no world has so many"
                )
    if rows:
        yield _recorded(rows)


def _recorded(rows: list[dict[str, Any]]) -> RecordedEpisode:
    first = rows[0]
    return RecordedEpisode(first["episode"], first["policy"], first["scenario"], first["rules"], tuple(rows))


# -- replay ---------------------------------------------------------------------------------------------------------


def differences(recorded: RecordedEpisode) -> list[str]:
    """Play the recorded actions again; a line for each difference from the record."""
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
