"""The folder of a run: its configuration, metrics, episodes, adapters and checkpoints.

What a run is judged by cannot change unseen. The metrics name every version and its digest; a checkpoint has the
digests of its files and of what was there before it; and the evaluation of a run that is over has those of its
configuration, metrics and results. Whoever reads them checks them, and an error names what is not as it was written.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from chaosops_ray.sim.contract import AnyEnvironment, AnyEpisode
from chaosops_ray.sim.episode import replay
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import files, versions
from chaosops_ray.store.episodes import EpisodeWriter, write_episodes
from chaosops_ray.store.timeline import TIMELINE, TimelineFile
from chaosops_ray.wire import EpisodeReport, Group, PolicyVersion

METRICS = "metrics.jsonl"
CONFIG = "config.yaml"
ADAPTERS = "adapters"
EPISODES = "episodes"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation.json"
RESULTS = "evaluation-results.jsonl"
EVALUATION_EPISODES = "evaluation-episodes.parquet"
CHECKPOINTS_KEPT = 2
# The digests of a checkpoint's files.
CONTENTS = "contents.json"
_FILES = "files"
_RESTORE = "restore it, or train the run again in a new folder"
# The files that the evaluation of a run that is over stands on.
_JUDGED_BY = (CONFIG, METRICS, RESULTS)
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
        self.timeline = TimelineFile(path / TIMELINE)
        # The size of the metrics, and the digest of the configuration, as this process left them; see `rewind`.
        self._left: tuple[int, str] | None = None

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
        self._check_left()
        files.append_line(self.path / METRICS, row)
        if self._left is not None:
            self._left = self._now()

    def _now(self) -> tuple[int, str]:
        path = self.path / METRICS
        return path.stat().st_size if path.exists() else 0, files.digest(self.path / CONFIG)

    def _check_left(self) -> None:
        """Refuse to go on if another process has changed what this one trains."""
        if self._left is None:
            return
        for name, left, there in zip((METRICS, CONFIG), self._left, self._now(), strict=True):
            if left != there:
                raise InputError(f"{self.path / name} was changed or removed while the run trained; {_RESTORE}")

    def metrics(self) -> list[dict[str, Any]]:
        """Read the lines of metrics, without a last one that a crash cut short."""
        path = self.path / METRICS
        rows = files.read_lines(path) if path.exists() else []
        for number, row in enumerate(rows, 1):
            if type(row.get("update")) is not int:
                raise InputError(f"{path}, line {number} has no update; the file was not written by this program")
        return rows

    def version(self, number: int | None = None, base: str | None = None) -> PolicyVersion:
        """Return a version of the run, by default that of its last update; its bytes are those that the run recorded.

        `base` is the digest that the base model must have.
        """
        recorded = {row["update"]: row["digest"] for row in self.check()}
        if number is None:
            if not recorded:
                raise InputError(f"{self.path} has finished no update; {self.path}@0 is the policy that it began with")
            number = max(recorded)
        folder = self.adapters / versions.folder_name(number)
        if number != 0 and number not in recorded:
            raise InputError(f"{self.path} has recorded no version {number}; its last is {max(recorded, default=0)}")
        if not os.path.lexists(folder):
            kept = ", ".join([str(one) for one in versions.numbers(self.adapters)]) or "none"
            raise InputError(f"there is no {folder}; the run still has versions {kept}, as in {self.path}@N")
        if number == 0:  # no update made it, so no line of the metrics names it
            return versions.read(folder, base)
        version = PolicyVersion(number, recorded[number], str(folder.resolve()))
        versions.verify(version, base)
        return version

    def check(self) -> list[dict[str, Any]]:
        """Return the metrics; refuse a run of which something recorded has changed, or whose metrics lost a line."""
        if self.evaluation() is None:
            self.last_checkpoint()
        path, rows = self.path / METRICS, self.metrics()
        for number, row in enumerate(rows, 1):
            if (row["update"], row.get("version")) != (number, number) or type(row.get("digest")) is not str:
                raise InputError(f"{path}, line {number} is not that of update {number}; lines are missing or changed")
        # A version is published before its update is in the metrics, and a run that is asked to end is saved then.
        later = [one for one in (*versions.numbers(self.adapters), *self.checkpoints()) if one > len(rows) + 1]
        if later:
            lost = f"{path} ends after update {len(rows)}, but the run has made {max(later)}"
            raise InputError(f"{lost}; restore the file, or give another run")
        return rows

    def finish(self, results: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]) -> None:
        """Write the evaluation of a run that is over, and with it the digests of all that it stands on."""
        files.write_lines(self.path / RESULTS, results)
        judged_by = {name: files.digest(self.path / name) for name in _JUDGED_BY}
        # It comes last: a folder with this file is a run that is over.
        files.write_json(self.path / EVALUATION, files.sealed({**evaluation, _FILES: judged_by}))

    def evaluation(self) -> dict[str, Any] | None:
        """Return the evaluation of a run that is over, all as it was written; None for another run."""
        path = self.path / EVALUATION
        if not os.path.lexists(path):
            return None
        found = files.read_sealed(path, f"delete it, and train --resume {self.path} makes it again")
        for name, digest in found[_FILES].items():
            files.check_digest(self.path / name, digest, _RESTORE)
        return found

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

    def rewind(self, done: int, logged: int | None = None) -> None:
        """Delete the files and metrics of updates after the first `done`, and unfinished files of killed writers.

        `logged` is how many updates keep their metrics, if it is not all of them: a run that was asked to end may have
        made an update whose line it has not written yet. From then on this process is the only writer, and stops if the
        metrics or the configuration change beside it.
        """
        files.sweep(self.path)
        files.sweep(self.path / EPISODES)
        files.sweep(self.path / CHECKPOINTS)
        last = done if logged is None else logged
        files.write_lines(self.path / METRICS, [row for row in self.metrics() if row["update"] <= last])
        for path in (self.path / EPISODES).iterdir():
            found = _EPISODES.fullmatch(path.name)
            if found and int(found[1]) > done:
                path.unlink()
        self.timeline.rewind(done)
        self._left = self._now()

    def record(self, update: int, environment: AnyEnvironment, groups: Sequence[Group]) -> None:
        """Simulate the update's episodes again from their actions, and write each step."""
        path = self.path / EPISODES / f"update-{update:06d}.parquet"
        with write_episodes(path, {"trained": {"run": self.path.name}}) as writer:
            for group in groups:
                for report in group.reports:
                    episode = episode_of(environment, report, group.task.rules)
                    writer.add(environment, "trained", episode, report.origins, dict(group.task.colleagues))

    def record_evaluation(
        self, models: Mapping[str, Mapping[str, Any]], selection: str
    ) -> AbstractContextManager[EpisodeWriter]:
        """Yield the writer of the episodes that the evaluation of a run that is over is made of."""
        return write_episodes(self.path / EVALUATION_EPISODES, models, selection)

    @contextmanager
    def checkpoint(self, done: int) -> Iterator[Path]:
        """Yield a folder to fill; on success it is the checkpoint after `done` updates, and older ones are deleted.

        The metrics of these updates are on disk before the checkpoint is, so that a run that is resumed after a crash
        of the machine has all lines up to there.
        """
        # A run that was rewound makes the same checkpoint again.
        with files.atomic_folder(self.checkpoint_path(done), replace=True) as folder:
            yield folder
            self._check_left()
            size = 0
            if (self.path / METRICS).exists():
                files.to_disk(self.path / METRICS)
                files.to_disk(self.path)
                size = (self.path / METRICS).stat().st_size
            files.write_json(folder / CONTENTS, files.sealed(self._contents(folder, size)))
        for number in self.checkpoints()[:-CHECKPOINTS_KEPT]:
            files.remove_folder(self.checkpoint_path(number))

    def _contents(self, folder: Path, metrics_bytes: int) -> dict[str, Any]:
        """Return the digests of a checkpoint's files, of the configuration, and of the metrics so far."""
        metrics = files.digest(self.path / METRICS, metrics_bytes) if metrics_bytes else ""
        return {
            _FILES: {path.name: files.digest(path) for path in sorted(folder.iterdir())},
            CONFIG: files.digest(self.path / CONFIG),
            METRICS: {"bytes": metrics_bytes, "digest": metrics},
        }

    def last_checkpoint(self) -> Path | None:
        """Return the folder of the last checkpoint, all bytes checked; None if there is none."""
        kept = self.checkpoints()
        if not kept:
            return None
        path = self.checkpoint_path(kept[-1])
        remedy = f"delete {path} to resume after update {kept[-2]}" if kept[1:] else "train the run again"
        contents = files.read_sealed(path / CONTENTS, remedy)
        for name, digest in contents[_FILES].items():
            files.check_digest(path / name, digest, remedy)
        files.check_digest(self.path / CONFIG, contents[CONFIG], _RESTORE)
        if contents[METRICS]["bytes"]:
            files.check_digest(self.path / METRICS, contents[METRICS]["digest"], _RESTORE, contents[METRICS]["bytes"])
        return path

    def checkpoints(self) -> list[int]:
        """Return the numbers of updates after which there are checkpoints, in order."""
        names = [_CHECKPOINT.fullmatch(path.name) for path in (self.path / CHECKPOINTS).iterdir()]
        return sorted([int(name[1]) for name in names if name])

    def checkpoint_path(self, done: int) -> Path:
        """Return the folder of the checkpoint after `done` updates."""
        return self.path / CHECKPOINTS / f"update-{done:06d}"


def episode_of(environment: AnyEnvironment, report: EpisodeReport, rules: str) -> AnyEpisode:
    """Simulate an episode again from the actions of its report."""
    actions = [environment.load_action(action) for action in report.actions]
    return replay(environment, environment.scenario(report.scenario), rules, actions)
