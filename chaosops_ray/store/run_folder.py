"""The folder of a run: its configuration, metrics, episodes, adapters and checkpoints."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.episode import replay
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files
from chaosops_ray.store.episodes import write_episodes
from chaosops_ray.wire import Group

METRICS = "metrics.jsonl"
CONFIG = "config.yaml"
ADAPTERS = "adapters"
EPISODES = "episodes"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation.json"
RESULTS = "evaluation-results.jsonl"
CHECKPOINTS_KEPT = 2
_CLAIM_POLL_SECONDS = 0.5
_CHECKPOINT = re.compile(r"update-([0-9]{6,})")
_EPISODES = re.compile(r"update-([0-9]{6,})\.parquet")


class RunFolder:
    """The folder of one run. Files are on disk once they are written, lines of metrics at the next checkpoint."""

    def __init__(self, path: Path) -> None:
        if not (path / CONFIG).is_file():
            raise InputError(f"{path} is not a run: it has no {CONFIG}; give a folder that `chaosops train` made")
        self.path = path
        self.adapters = path / ADAPTERS

    @classmethod
    def create(cls, path: Path, config: str) -> RunFolder:
        """Make the folder of a new run, which must be empty if it exists; its configuration is written last."""
        files.check_new_folder(path)
        try:
            files.make_folder(path)
            for name in (ADAPTERS, EPISODES, CHECKPOINTS):
                (path / name).mkdir()
        except OSError as error:
            raise InputError(f"cannot make the run folder {path}: {files.reason(error)}") from None
        files.write_text(path / CONFIG, config)
        return cls(path)

    @contextmanager
    def claimed(self, patience: float = 0.0) -> Iterator[None]:
        """Keep other processes from training here; the claim ends with its process, on NFS a while later."""
        until = time.monotonic() + patience
        # Opened for writing, though nothing is written, because NFS gives an exclusive lock only then.
        with (self.path / CONFIG).open("r+b") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        busy = f"{self.path} is being trained by another process; wait for it, or stop it"
                        raise InputError(busy) from None
                    time.sleep(_CLAIM_POLL_SECONDS)
                except OSError as error:
                    remedy = "use a file system that supports locks"
                    raise InputError(f"cannot lock {self.path}: {files.reason(error)}; {remedy}") from None
            yield

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line of metrics. A killed process loses none; `checkpoint` protects them from a machine's crash."""
        files.append_line(self.path / METRICS, row)

    def metrics(self) -> list[dict[str, Any]]:
        """Read the lines of metrics, without a last one that a crash cut short."""
        path = self.path / METRICS
        rows = files.read_lines(path) if path.exists() else []
        for number, row in enumerate(rows, 1):
            if type(row.get("update")) is not int:
                raise InputError(f"{path}, line {number} has no update; the file was not written by this program")
        return rows

    def check_rules(self, environment: AnyEnvironment, configured: str) -> None:
        """Refuse a run whose configuration, or a line of whose metrics, names rules that this program does not play."""
        spellings = {configured: CONFIG}
        for number, row in enumerate(self.metrics(), 1):
            if type(row.get("rules")) is not str:
                path = self.path / METRICS
                raise InputError(f"{path}, line {number} has no rules; the file was not written by this program")
            spellings.setdefault(row["rules"], METRICS)
        for spelling, file in spellings.items():
            try:
                environment.recorded_rules(spelling)
            except InputError as error:
                remedy = "use the version of the program that began the run, or train it again in a new folder"
                raise InputError(f"{self.path}, {file}: {error}; {remedy}") from None

    def rewind(self, done: int) -> None:
        """Delete the files and metrics of updates after the first `done`, and unfinished files of killed writers."""
        files.sweep(self.path / EPISODES)
        files.sweep(self.path / CHECKPOINTS)
        files.write_lines(self.path / METRICS, [row for row in self.metrics() if row["update"] <= done])
        for path in (self.path / EPISODES).iterdir():
            found = _EPISODES.fullmatch(path.name)
            if found and int(found[1]) > done:
                path.unlink()

    def record(self, update: int, environment: AnyEnvironment, groups: Sequence[Group]) -> None:
        """Simulate the update's episodes again from their actions, and write each step."""
        with write_episodes(self.path / EPISODES / f"update-{update:06d}.parquet") as writer:
            for group in groups:
                for report in group.reports:
                    actions = [environment.load_action(action) for action in report.actions]
                    scenario = environment.scenario(report.scenario)
                    episode = replay(environment, scenario, group.task.rules, actions)
                    writer.add(environment, "trained", episode, report.versions, dict(group.task.colleagues))

    @contextmanager
    def checkpoint(self, done: int) -> Iterator[Path]:
        """Yield a folder to fill; on success it is the checkpoint after `done` updates, and older ones are deleted.

        The metrics of these updates are on disk before the checkpoint is, so that a run that is resumed after a crash
        of the machine has all lines up to there.
        """
        # A run that was rewound makes the same checkpoint again.
        with files.atomic_folder(self.checkpoint_path(done), replace=True) as folder:
            yield folder
            if (self.path / METRICS).exists():
                files.to_disk(self.path / METRICS)
                files.to_disk(self.path)
        for number in self.checkpoints()[:-CHECKPOINTS_KEPT]:
            files.remove_folder(self.checkpoint_path(number))

    def checkpoints(self) -> list[int]:
        """Return the numbers of updates after which there are checkpoints, in order."""
        names = [_CHECKPOINT.fullmatch(path.name) for path in (self.path / CHECKPOINTS).iterdir()]
        return sorted([int(name[1]) for name in names if name])

    def checkpoint_path(self, done: int) -> Path:
        """Return the folder of the checkpoint after `done` updates."""
        return self.path / CHECKPOINTS / f"update-{done:06d}"
