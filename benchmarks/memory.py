"""Whether memory stays flat over ten thousand episodes, and whether anything is left behind at the end.

    python benchmarks/memory.py [--episodes N] [--idle MINUTES] [--json FILE]

The tiny model trains as in the demo, through four shards, one sampler and one learner on a local Ray, without the
evaluations. After every update, the memory that each process has for itself is read (USS: pages shared with others are
not counted), and its open files. A first part is warm-up, in which caches fill up to their bounds. What follows may
grow by 5 % from its beginning to its end, each a median over some updates. With --idle, the same processes then wait
for so long and do nothing: what changes now is Ray's own. At the end there must be no process and no shared memory that
was not there before, and no more open files and sockets than a Ray leaves that runs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from chaosops_ray import config
from chaosops_ray.process_environment import set_variables
from chaosops_ray.store.run_folder import RunFolder
from chaosops_ray.training import base_models, loop

CONFIG = Path(__file__).parents[1] / "tune_configs" / "3a.yaml"
SETTINGS = ("rollout.shards=4", "batch.refill=0", "evaluation.every=0")
BAR = 0.05
# Shares of the episodes: of the warm-up, and of what each of the two medians is taken over after it.
WARM_UP, WINDOW = 0.4, 0.1
ACTORS = {"ray::LearnerHost": "learner", "ray::SamplerHost": "sampler", "ray::Shard": "shard"}
_GRACE_SECONDS = 60.0
_BETWEEN_SECONDS = 2.0
_MIB = 1 << 20


class Reading(NamedTuple):
    """One process at one time."""

    at: float  # episodes played, or seconds waited
    memory: int  # USS in bytes
    files: int
    threads: int


Readings = dict[str, list[Reading]]


def name_of(process: psutil.Process) -> str | None:
    """Return the name of an actor's process; None for any other one."""
    try:
        title = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None
    return next((name for prefix, name in ACTORS.items() if title.startswith(prefix)), None)


def watched() -> dict[str, psutil.Process]:
    """Return this process and the actors', by names that stay the same."""
    found = defaultdict(list)
    for process in psutil.Process().children(recursive=True):
        if name := name_of(process):
            found[name].append(process)
    numbered = {
        f"{name} {number}" if len(processes) > 1 else name: process
        for name, processes in sorted(found.items())
        for number, process in enumerate(sorted(processes, key=lambda one: one.pid))
    }
    return {"driver": psutil.Process(), **numbered}


def read(processes: Mapping[str, psutil.Process], at: float, into: Readings) -> None:
    """Add a reading of each process."""
    for name, process in processes.items():
        with process.oneshot():
            reading = Reading(at, process.memory_full_info().uss, process.num_fds(), process.num_threads())
        into.setdefault(name, []).append(reading)


def compared(readings: Sequence[Reading], total: float) -> dict[str, float]:
    """Compare the beginning and the end of what follows the warm-up."""
    begin, length = WARM_UP * total, WINDOW * total
    after = [one for one in readings if one.at >= begin]
    first = [one for one in after if one.at <= begin + length] or after[:1]
    last = [one for one in after if one.at >= total - length] or after[-1:]
    early, late = (statistics.median([one.memory for one in part]) for part in (first, last))
    slope = 0.0
    if len({one.at for one in after}) > 1:
        slope = statistics.linear_regression([one.at for one in after], [one.memory for one in after]).slope
    return {
        "start": readings[0].memory / _MIB,
        "after_warm_up": early / _MIB,
        "end": late / _MIB,
        "change": late / early - 1,
        "slope_per_1000": 1000 * slope / _MIB,
        "files": max([one.files for one in last]) - max([one.files for one in first]),
        "threads": max([one.threads for one in last]) - max([one.threads for one in first]),
    }


# -- what is left -----------------------------------------------------------------------------------------------------


def opened() -> dict[str, int]:
    """Return how many files, sockets and the like this process has open, by kind."""
    found: dict[str, int] = defaultdict(int)
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue  # that of this listing
        kind = target.partition(":")[0]
        found[kind if kind in ("socket", "pipe", "anon_inode") else "file"] += 1
    return dict(found)


def shared_memory() -> set[str]:
    """Return the names of shared memory that no living process has open or mapped, so that nobody will remove it."""
    there = {str(path) for path in Path("/dev/shm").rglob("*") if path.is_file()}  # noqa: S108 - where Linux has it
    return there - set(_held())


def _held() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for line in (process / "maps").read_text().splitlines():
                if "/dev/shm/" in line:  # noqa: S108
                    yield line.split(maxsplit=5)[5]
            yield from [os.readlink(entry) for entry in (process / "fd").iterdir()]
        except OSError:
            continue  # ended meanwhile


def outliving(processes: Iterable[psutil.Process]) -> list[int]:
    """Wait a while for processes to end; return those that did not."""
    until = time.monotonic() + _GRACE_SECONDS
    left = list(processes)
    while (left := [process for process in left if _lives(process)]) and time.monotonic() < until:
        time.sleep(0.2)
    return [process.pid for process in left]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# -- the measurement --------------------------------------------------------------------------------------------------


@contextmanager
def ray_here() -> Iterator[None]:
    """A local Ray."""
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def train(episodes: int, idle: float, base: base_models.BaseModel, folder: Path) -> tuple[Readings, Readings, float]:
    """Train, then wait while the actors are there; return the readings of both, and the seconds of the training."""
    plain = config.load(CONFIG, ["model=tiny"])
    each = plain.batch.scenarios * plain.batch.group
    updates = -(-episodes // each)
    curriculum = f"curriculum=easy+medium+hard:{updates}"
    run = config.load(CONFIG, ["model=tiny", *SETTINGS, f"updates={updates}", curriculum])
    training = loop.prepare(run, base, RunFolder.create(folder, "model: tiny\n"))
    playing: Readings = {}
    waiting: Readings = {}
    began = time.monotonic()
    took = 0.0

    def watch(row: loop.Row) -> None:
        nonlocal took
        # Looked up every time: a process that was replaced would be another one, and none is.
        played = row["update"] * each
        read(watched(), played, playing)
        print(f"{played} episodes", end="\r", file=sys.stderr, flush=True)
        if row["update"] < updates:
            return
        took = time.monotonic() - began
        while (waited := time.monotonic() - began - took) < 60 * idle:
            time.sleep(_BETWEEN_SECONDS)
            read(watched(), waited, waiting)

    loop.train(training, watch)
    return playing, waiting, took


class Nothing:
    """An actor that does nothing."""

    async def ping(self) -> None:
        """Answer."""


def control() -> None:
    """Use a Ray as a run does, without a run: an actor of its own process in a placement group."""
    with ray_here():
        placed = placement_group([{"CPU": 1}])
        ray.get(placed.ready())
        actor = ray.remote(Nothing).remote()
        ray.get(actor.ping.remote())
        ray.kill(actor)
        remove_placement_group(placed)


def more_than(before: Mapping[str, int]) -> dict[str, int]:
    """Return by kind how much more this process has open than before."""
    return {kind: count - before.get(kind, 0) for kind, count in opened().items() if count > before.get(kind, 0)}


def measure(episodes: int, idle: float, base: base_models.BaseModel) -> dict[str, Any]:
    """Train in a Ray of its own; return the figures, and what is left at the end."""
    control()  # what libraries open once, and keep, is not counted
    with tempfile.TemporaryDirectory() as folder:
        files = opened()
        control()
        rays_own = more_than(files)
        files, shared = opened(), shared_memory()
        with ray_here():
            playing, waiting, took = train(episodes, idle, base, Path(folder) / "run")
            actors = outliving([one for name, one in watched().items() if name != "driver"])
            started = psutil.Process().children(recursive=True)
        processes = outliving(started)
        more = more_than(files)
    return {
        "episodes": episodes,
        "seconds": took,
        "processes": {name: compared(found, playing["driver"][-1].at) for name, found in playing.items()},
        "idle": {name: compared(found, 60 * idle) for name, found in waiting.items()},
        "left": {
            "actors": actors,
            "processes": processes,
            "open": {kind: count for kind, count in more.items() if count > rays_own.get(kind, 0)},
            "shared memory": sorted(shared_memory() - shared),
        },
        "open": {"by the run": more, "by a Ray that runs nothing": rays_own},
        "readings": {name: [list(one) for one in found] for name, found in playing.items()},
    }


def table(found: Mapping[str, Mapping[str, float]], per: str) -> str:
    """Lay the figures of the processes out."""
    titles = f"{'process':>9} {'at the start':>13} {'after warm-up':>14} {'at the end':>11} {'change':>8}"
    lines = [f"{titles} {per:>18} {'files':>6}"]
    for name, row in found.items():
        lines.append(
            f"{name:>9} {row['start']:>9.1f} MiB {row['after_warm_up']:>10.1f} MiB {row['end']:>7.1f} MiB "
            f"{row['change']:>+8.1%} {row['slope_per_1000']:>+14.2f} MiB {row['files']:>+6.0f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write the figures where asked; return 1 if something grows or is left."""
    parser = argparse.ArgumentParser(description="Memory over many episodes, and what is left at the end.")
    parser.add_argument("--episodes", type=int, default=10_000, metavar="N", help="episodes to play (default: 10000)")
    parser.add_argument(
        "--idle", type=float, default=0.0, metavar="MINUTES", help="then wait, as a control (default: 0)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    set_variables()
    found = measure(given.episodes, given.idle, base_models.prepare("tiny"))
    print(f"{found['episodes']:,} episodes in {found['seconds'] / 60:.1f} minutes")
    print(table(found["processes"], "per 1000 episodes"))
    if found["idle"]:
        print(f"then idle for {given.idle:g} minutes")
        print(table(found["idle"], "per 1000 seconds"))
    worst = max([row["change"] for row in found["processes"].values()])
    left = {what: listed for what, listed in found["left"].items() if listed}
    print(f"bar: at most +{BAR:.0%} after the warm-up; the worst is {worst:+.1%}")
    print(f"left at the end: {left or 'nothing'}; open in the driver beside what was before: {found['open']}")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(worst > BAR or bool(left))


if __name__ == "__main__":
    sys.exit(main())
