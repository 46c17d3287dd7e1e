"""The base model for actors on any node: only the driver's node must have it, and other nodes receive it by Ray."""

from __future__ import annotations

from pathlib import Path
from pickle import PickleBuffer
from typing import Any, NamedTuple, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chaosops_ray.store import received, versions
from chaosops_ray.wire import Files


def as_buffers(files: Files) -> Files:
    """Return files as buffers, which Ray does not copy while it packs and unpacks what is sent."""
    return cast("Files", {name: PickleBuffer(content) for name, content in files.items()})


class BaseSource(NamedTuple):
    """A base model on the driver's node, as any actor of the run gets it."""

    path: Path
    digest: str
    node: str

    @classmethod
    def here(cls, path: Path, digest: str) -> BaseSource:
        """Return the source of a model on this node, with the digest that this process has computed."""
        versions.check_base(path)  # before actors are placed for it
        return cls(path, digest, ray.get_runtime_context().get_node_id())

    def folder(self) -> Path:
        """Return the model's folder on the node of this process, after receiving it if it is not there.

        On the driver's node it is not read again. On every other node it is read to compute its digest, whenever an
        actor starts there: about two seconds for each GB, and what is read is loaded next.
        """
        if ray.get_runtime_context().get_node_id() == self.node:
            versions.check_base(self.path)
            return self.path
        return received.folder_of(self.path, self.digest, self)

    def files(self) -> list[tuple[str, int]]:
        """Return the names of the model's files and their sizes."""
        found: list[tuple[str, int]] = ray.get(self._there(_FILES).remote(self.path))
        return found

    def piece(self, name: str, start: int, size: int) -> bytes:
        """Return a part of a file."""
        found: bytes = ray.get(self._there(_PIECE).remote(self.path / name, start, size))
        return found

    def _there(self, task: Any) -> Any:
        """Return a task that Ray runs on the driver's node; unlike an actor, it need not be watched and ended."""
        return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(self.node, soft=False))


def _files(folder: Path) -> list[tuple[str, int]]:
    return [(path.name, path.stat().st_size) for path in versions.base_files(folder)]


def _piece(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


_FILES: Any = ray.remote(num_cpus=0)(_files)
_PIECE: Any = ray.remote(num_cpus=0)(_piece)
