"""The recorded episodes of a run: which files it has, and the list of one file's episodes."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from chaosops_ray.serve.control_room import paths
from chaosops_ray.serve.control_room.paths import NotFoundError
from chaosops_ray.serve.control_room.runs import OpenRun
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import episodes
from chaosops_ray.store.run_folder import EPISODES, EVALUATION_EPISODES

# How a file is called in an address: evaluation, or update-000120.
EVALUATED = "evaluation"
_UPDATE = re.compile(r"update-[0-9]{6,12}")
MAX_FILE_BYTES = 512 << 20
_LISTS_KEPT = 4
_UNKNOWN = "unknown"


class Listed(NamedTuple):
    """An episode as a list shows it."""

    number: int
    policy: str
    tier: str
    group: str
    seed: str
    scenario: str
    version: int
    steps: int
    total: float


class Lists:
    """The lists of episodes that were asked for last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, tuple[tuple[int, int], Sequence[Listed]]] = OrderedDict()

    def of(self, path: Path, environment: AnyEnvironment) -> Sequence[Listed]:
        """Return the episodes of a file."""
        status = path.stat()
        version = (status.st_ino, status.st_size)
        with self._lock:
            known = self._kept.get(path)
            if known is not None and known[0] == version:
                self._kept.move_to_end(path)
                return known[1]
        found = read_list(path, environment)
        with self._lock:
            self._kept[path] = (version, found)
            self._kept.move_to_end(path)
            while len(self._kept) > _LISTS_KEPT:
                self._kept.popitem(last=False)
        return found


def read_list(path: Path, environment: AnyEnvironment) -> list[Listed]:
    """Read what a list shows of a file's episodes."""
    found = []
    places: dict[str, tuple[str, str, str]] = {}
    for one in episodes.summaries(path):
        if one.scenario not in places:
            places[one.scenario] = _place(environment, one.scenario)
        tier, group, seed = places[one.scenario]
        found.append(Listed(one.number, one.policy, tier, group, seed, one.scenario, one.version, one.steps, one.total))
    return found


def files(root: Path, opened: OpenRun) -> list[str]:
    """Return the names of the run's files of episodes: the evaluation's, then the updates', the last one first."""
    found = [EVALUATED] if (opened.path / EVALUATION_EPISODES).is_file() else []
    if not os.path.lexists(opened.path / EPISODES):
        return found
    folder = paths.inside(root, opened.path / EPISODES)
    try:
        names = [Path(name) for name in os.listdir(folder)]
    except OSError as error:
        raise InputError(f"cannot read the folder {EPISODES} ({error.strerror})") from None
    updates = [name.stem for name in names if name.suffix == ".parquet" and _UPDATE.fullmatch(name.stem)]
    return [*found, *sorted(updates, key=lambda name: int(name.removeprefix("update-")), reverse=True)]


def file(root: Path, opened: OpenRun, name: str) -> Path:
    """Return where a file of episodes is; NotFoundError if the run has none of this name."""
    if name == EVALUATED:
        path = opened.path / EVALUATION_EPISODES
    elif _UPDATE.fullmatch(name):
        path = opened.path / EPISODES / f"{name}.parquet"
    else:
        raise NotFoundError(
            f"there are no episodes {name[:40]!r}; it is {EVALUATED}, or an update such as update-000010"
        )
    found = paths.file_inside(root, path, MAX_FILE_BYTES)
    if found is None:
        raise NotFoundError(f"this run has no file {path.name}")
    return found


# How a list may be ordered: in words, and by what.
ORDERS: dict[str, tuple[str, Callable[[Listed], float]]] = {
    "recorded": ("as recorded", lambda one: one.number),
    "lowest": ("lowest return first", lambda one: one.total),
    "highest": ("highest return first", lambda one: -one.total),
    "longest": ("most steps first", lambda one: -one.steps),
}


def _place(environment: AnyEnvironment, identity: str) -> tuple[str, str, str]:
    try:
        scenario = environment.scenario(identity)
    except InputError:  # of another version of the world; the film says more
        return _UNKNOWN, _UNKNOWN, ""
    return scenario.tier, scenario.group, str(scenario.seed)
