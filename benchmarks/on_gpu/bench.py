"""What the parts of the benchmark share: the device, the clock of a part, the memory and the time of a case."""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.on_gpu.shapes import SHAPES, base
from chaosops_ray.workers.memory import permitted

T = TypeVar("T")
Case = dict[str, Any]

_DRIVER = Path("/proc/driver/nvidia/version")
_VERSION = re.compile(r"\b\d+\.\d+(\.\d+)?\b")
# Peak and present memory of this process, which Linux counts; writing 5 begins the peak again.
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_LIBRARIES = ("torch", "transformers", "peft", "trl")

# What every case has; a case that does not have one of them says null.
COMMON = (
    "part", "name", "card", "card_memory_bytes", "driver", "versions", "shape", "parameters", "rank", "seconds",
    "tokens_per_second", "peak_memory_bytes", "mfu", "checkpointing", "skipped",
)  # fmt: skip


class Clock:
    """The time that a part has; it looks only between steps."""

    def __init__(self, limit: float, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.left_out: list[str] = []
        self._now = now
        self._began = now()

    @property
    def spent(self) -> float:
        """Seconds since the part began."""
        return self._now() - self._began

    @property
    def left(self) -> float:
        """Seconds until the part must end."""
        return self.limit - self.spent

    def until(self, share: float, spare: float = 0.0) -> Clock:
        """Return a clock that ends after this share of the time that is left, and so many seconds earlier."""
        return Clock(self.left * share - spare, self._now)

    def in_time(self, steps: Sequence[T], name: Callable[[T], str]) -> Iterator[T]:
        """Yield the steps as long as one that takes as long as the longest so far would end in time.

        The others are left out, by their names.
        """
        longest = 0.0
        for number, step in enumerate(steps):
            began = self.spent
            if began + longest > self.limit:
                self.left_out += [name(one) for one in steps[number:]]
                return
            yield step
            longest = max(longest, self.spent - began)


@dataclass(frozen=True)
class Bench:
    """Everything that a part is told."""

    device: str
    shapes: tuple[str, ...]  # of models, the most important first; empty for those of the part
    ranks: tuple[int, ...]
    rows: tuple[str, ...]
    tokens: int  # of an update
    budget: int  # tokens in a forward pass
    cohorts: tuple[int, ...]
    runs: int
    updates: int
    model: Path | None  # the folder of a real model, for the whole run
    style: str | None
    rate: float | None  # learning rate of the whole run; None for that of the part
    threads: int
    folder: Path  # for models that an engine loads
    clock: Clock
    settings: dict[str, Any] = field(default_factory=dict)  # what a part adds of its own, for the JSON

    @property
    def width(self) -> int:
        """Bytes of a number of the base model."""
        return 2 if self.device == "cuda" else 4

    def saved(self, shape: str) -> Path:
        """Return the folder of a model of this shape, which is made once."""
        folder = self.folder / shape
        if not folder.exists():
            base(SHAPES[shape], self.device).save_pretrained(folder)
            clean(self.device)
        return folder


def machine(device: str) -> dict[str, Any]:
    """Return what every case says of where it was measured."""
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    if device == "cpu":
        return {"card": "cpu", "card_memory_bytes": permitted(), "driver": None, "versions": versions}
    return {
        "card": torch.cuda.get_device_name(),
        "card_memory_bytes": torch.cuda.mem_get_info()[1],
        "driver": driver(),
        "versions": versions,
    }


def driver(path: Path = _DRIVER) -> str | None:
    """Return the version of NVIDIA's driver; None where the kernel does not say."""
    try:
        found = _VERSION.search(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[0] if found else None


def clean(device: str) -> None:
    """Give back the memory of what is no longer used."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def free_bytes(device: str) -> int:
    """Return the memory that is free on the device; on a CPU all that this process may have beside what it has."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return permitted() - _resident("VmRSS")


def restart_peak(device: str) -> None:
    """Begin to count the peak of the memory again."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        _RESET.write_text("5", encoding="ascii")


def peak_bytes(device: str) -> int:
    """Return the largest memory since `restart_peak`: of PyTorch's allocator, on a CPU the resident of this process."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")


def _resident(name: str) -> int:
    (line,) = [line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def timed(work: Callable[[int], object], runs: int, device: str, *, warm_up: bool = True) -> float:
    """Return the median seconds of so many runs, after one that warms up."""
    spent = []
    for number in range(runs + warm_up):
        began = time.perf_counter()
        work(number)
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[int(warm_up) :])
