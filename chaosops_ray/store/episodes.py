"""Episodes as Parquet: written, read and replayed.

A row is a step; the rows of an episode are together. The file's metadata names the schema's version, and a reader
refuses one that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from chaosops_ray.plain_text import one_line, printable
from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode
from chaosops_ray.sim.episode import replay
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_of
from chaosops_ray.store.files import atomic_file, parse_object
from chaosops_ray.wire import UNTRAINED, Origin

EPISODES_SCHEMA = "episodes/4"
_SCHEMA_KEY = b"chaosops_schema"
_POLICIES_KEY = b"chaosops_policies"
_SET_KEY = b"chaosops_set"
# A block of rows is what one episode costs to be read alone.
_ROWS_AT_ONCE = 5_000
# Far above any world's episode: a file with longer ones is refused before it fills the memory.
MAX_EPISODE_ROWS = 10_000
# All summaries of a file are in memory at once.
MAX_LISTED_ROWS = 300_000

_FIELDS: list[tuple[str, pa.DataType]] = [
    ("episode", pa.int64()),
    ("policy", pa.string()),
    # Who took this step: the policy, or the baseline that played this seat beside it.
    ("player", pa.string()),
    # Of the trained policy that took this step: its version and its adapter's digest. A base model without an adapter
    # has version -1 and its own digest, PPO -1 and that of its weights, any other policy -1 and "".
    ("version", pa.int64()),
    ("digest", pa.string()),
    # What our model wrote, and the log-probabilities of its tokens; "" and none for any other policy.
    ("completion", pa.string()),
    ("log_probs", pa.list_(pa.float64())),
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
COLUMNS = pa.schema(_FIELDS, metadata={_SCHEMA_KEY: EPISODES_SCHEMA.encode()})


def state_hash(environment: AnyEnvironment, world: Any) -> str:
    """SHA-256 of the whole state of a world."""
    return sha256(environment.dump(world)).hexdigest()


@contextmanager
def write_episodes(
    path: Path, models: Mapping[str, Mapping[str, Any]] = MappingProxyType({}), selection: str = ""
) -> Iterator[EpisodeWriter]:
    """Yield a writer of episodes into a Parquet file, which appears when this ends without an error.

    `models` tells of each policy that is a model which one it is, and `selection` is the evaluation set that was
    played; the file's metadata keep both.
    """
    policies = json.dumps({name: dict(one) for name, one in models.items()})
    metadata = {**COLUMNS.metadata, _POLICIES_KEY: policies, _SET_KEY: selection}
    columns = COLUMNS.with_metadata(metadata)
    # With checksums, a byte that changes later is an error when it is read, also in a column that no replay compares.
    options: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, columns, **options) as file:
        writer = EpisodeWriter(file)
        yield writer
        writer.flush()


class EpisodeWriter:
    """A writer of episodes into an open Parquet file, in blocks of rows."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []
        self._written = 0

    def add(
        self,
        environment: AnyEnvironment,
        policy: str,
        episode: AnyEpisode,
        origins: Sequence[Origin] | None = None,
        colleagues: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write one episode.

        `origins` tell where each action came from if a model played, `colleagues` by role the baseline that played this
        seat.
        """
        of_each = [UNTRAINED] * len(episode.steps) if origins is None else origins
        for number, (step, origin) in enumerate(zip(episode.steps, of_each, strict=True)):
            self._rows.append(
                {
                    "episode": self._written,
                    "policy": policy,
                    "player": colleagues.get(step.role, policy),
                    **origin._asdict(),
                    "scenario": episode.scenario.identity,
                    "rules": episode.rules,
                    "step": number,
                    **_record(environment, step),
                }
            )
        self._written += 1
        if len(self._rows) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are still in memory."""
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


class RecordedEpisode(NamedTuple):
    """An episode of a file: its names, and a row for each step."""

    number: int
    policy: str
    scenario: str
    rules: str
    rows: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """How errors name the episode."""
        return f"episode {self.number} ({self.policy} on {self.scenario})"


def origin_of(row: Mapping[str, Any]) -> Origin:
    """Return where the action of a row came from."""
    return Origin(row["version"], row["digest"], row["completion"], tuple(row["log_probs"]))


class Recording(NamedTuple):
    """What a file says of all its episodes: of each policy that is a model which one, and the evaluation set, or ""."""

    models: Mapping[str, Mapping[str, Any]]
    selection: str


def read_recording(path: Path) -> Recording:
    """Read what a file says of all its episodes."""
    with _opened(path) as file:
        metadata = file.schema_arrow.metadata
        models = parse_object(metadata.get(_POLICIES_KEY, b"{}"))
        try:
            selection = metadata.get(_SET_KEY, b"").decode()
        except UnicodeDecodeError:
            models = None
        if models is None or not all(_is_flat(model) for model in models.values()):
            raise InputError(f"{path} does not say which models it is of; the file was not written by this program")
        return Recording(models, selection)


def _is_flat(model: object) -> bool:
    scalars = (str, int, float, type(None))
    return isinstance(model, dict) and all(isinstance(value, scalars) for value in model.values())


class Summary(NamedTuple):
    """What a list of recorded episodes tells of each."""

    number: int
    policy: str
    scenario: str
    rules: str
    version: int  # of the last step that a model of ours took; -1 if none did
    steps: int
    total: float  # the return


def summaries(path: Path) -> list[Summary]:
    """Return what a list of a file's episodes tells of each; views, actions and outcomes are not read."""
    columns = ["episode", "policy", "scenario", "rules", "version", "reward"]
    with _opened(path) as file:
        if file.metadata.num_rows > MAX_LISTED_ROWS:
            raise InputError(
                f"{path} has {file.metadata.num_rows:,} steps; a list is made of at most {MAX_LISTED_ROWS:,}"
            )
        rows = file.read(columns)
    if any(column.null_count for column in rows.columns):
        raise InputError(f"{path} has an empty field; the file was not written by this program")
    # By the number of the episode: its first row, its highest version, its rows and their rewards. In Python, because
    # pyarrow's grouping loads pandas where it is installed, which takes longer than the whole list.
    by_number: dict[int, tuple[int, int, int, float]] = {}
    columns_read = [rows[name].to_pylist() for name in ("episode", "version", "reward")]
    for place, (number, version, reward) in enumerate(zip(*columns_read, strict=True)):
        first, highest, count, total = by_number.get(number, (place, version, 0, 0.0))
        by_number[number] = (first, max(highest, version), count + 1, total + reward)
    policies, scenarios, rules = (rows[name] for name in ("policy", "scenario", "rules"))
    return [
        Summary(
            number, *(policies[first].as_py(), scenarios[first].as_py(), rules[first].as_py()), version, steps, total
        )
        for number, (first, version, steps, total) in by_number.items()
    ]


def read_episode(path: Path, number: int) -> RecordedEpisode:
    """Read one episode; of a large file, only the blocks of rows that may hold it."""
    with _opened(path) as file:
        column = file.schema_arrow.get_field_index("episode")
        blocks = [
            block
            for block in range(file.num_row_groups)
            if _may_hold(file.metadata.row_group(block).column(column), number)
        ]
        for recorded in _read(file, blocks):
            if recorded.number == number:
                return recorded
    raise InputError(f"{path} has no episode {number}")


def _may_hold(block: Any, number: int) -> bool:
    statistics = block.statistics
    return statistics is None or not statistics.has_min_max or statistics.min <= number <= statistics.max


def read_episodes(path: Path) -> Iterator[RecordedEpisode]:
    """Yield the episodes of a file, one after the other, without holding them all."""
    with _opened(path) as file:
        yield from _read(file)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        # With our own file handle pyarrow never looks at the path, and the file is closed after an error, too.
        with path.open("rb") as handle, pq.ParquetFile(handle, page_checksum_verification=True) as file:
            _check_schema(path, file.schema_arrow)
            yield file
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        why = one_line(getattr(error, "strerror", None) or error, part="first")
        raise InputError(f"cannot read {path} ({why}); give a Parquet file of episodes") from None


def _check_schema(path: Path, schema: pa.Schema) -> None:
    version = (schema.metadata or {}).get(_SCHEMA_KEY, b"").decode(errors="replace")
    if version != EPISODES_SCHEMA:
        raise InputError(f"{path} has schema {version or 'unknown'!r}; this version reads {EPISODES_SCHEMA!r}")
    if not schema.equals(COLUMNS):
        raise InputError(f"{path} does not have the columns of {EPISODES_SCHEMA!r}: {', '.join(COLUMNS.names)}")


def _read(file: pq.ParquetFile, blocks: list[int] | None = None) -> Iterator[RecordedEpisode]:
    batches = file.iter_batches(batch_size=1000, row_groups=blocks)
    rows = (row for batch in batches for row in batch.to_pylist())
    latest = -1
    for number, of_one in groupby(rows, itemgetter("episode")):
        steps = tuple(islice(of_one, MAX_EPISODE_ROWS + 1))
        if any(value is None for row in steps for value in row.values()):
            raise InputError(f"episode {number} has an empty field; the file was not written by this program")
        if len(steps) > MAX_EPISODE_ROWS:
            raise InputError(f"episode {number} has more than {MAX_EPISODE_ROWS} steps; no world has so many")
        if number <= latest:
            raise InputError(f"episode {number} comes after episode {latest}; the file was not written by this program")
        latest, first = number, steps[0]
        yield RecordedEpisode(number, first["policy"], first["scenario"], first["rules"], steps)


def differences(recorded: RecordedEpisode) -> list[str]:
    """Play the recorded actions again; return a line for each difference from the record."""
    return _differences(recorded, *_played_again(recorded))


def replayed(recorded: RecordedEpisode) -> tuple[AnyEnvironment, AnyEpisode]:
    """Play the recorded actions again; return the episode, or raise InputError where it differs from the record."""
    environment, episode = _played_again(recorded)
    found = _differences(recorded, environment, episode)
    if found:
        raise InputError(f"{found[0]}; the record was changed, or another program wrote it")
    return environment, episode


def _played_again(recorded: RecordedEpisode) -> tuple[AnyEnvironment, AnyEpisode]:
    environment = environment_of(recorded.scenario)
    scenario = environment.scenario(recorded.scenario)
    try:
        rules = environment.recorded_rules(recorded.rules)
    except InputError as error:
        raise InputError(f"{recorded.name}: {error}; replay it with the version that recorded it") from None
    actions = [environment.load_action(row["action"]) for row in recorded.rows]
    return environment, replay(environment, scenario, rules, actions)


def _differences(recorded: RecordedEpisode, environment: AnyEnvironment, episode: AnyEpisode) -> list[str]:
    own = {"policy": recorded.policy, "scenario": recorded.scenario, "rules": recorded.rules}
    found = []
    for number, (row, step) in enumerate(zip(recorded.rows, episode.steps, strict=False)):
        again = _record(environment, step) | own | {"step": number}
        found += [
            f"{recorded.name}, step {number}: {field} was {printable(str(row[field]), 100)}, "
            f"is {printable(str(value), 100)}"
            for field, value in again.items()
            if row[field] != value
        ]
    if len(episode.steps) < len(recorded.rows):
        found.append(f"{recorded.name}: recorded for {len(recorded.rows)} steps, over after {len(episode.steps)}")
    elif environment.acting(episode.steps[-1].world) is not None:
        found.append(f"{recorded.name}: the record stops at step {len(recorded.rows)}, the episode does not")
    return found
