"""The folder of a run: its configuration, metrics, episodes, adapters and checkpoints."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.episode import replay
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.episodes import EpisodeWriter
from chaosops_ray.store.files import appearing, check_new_folder, read_lines, reason, to_disk, write_lines
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
            raise InputError(f"cannot make the run folder {path}: {reason(error)}") from None
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
                    raise InputError(f"cannot lock {self.path}: {reason(error)}; put it where files lock") from None
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
