"""What this process takes of its machine: memory, and that of its GPUs."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_KIB = 1024
_NVML = "libnvidia-ml.so.1"


class Usage(NamedTuple):
    """What an actor takes of its machine."""

    memory: int  # bytes that its processes have for themselves
    gpu_memory: int | None = None  # bytes in use on its GPUs; None without one
    tokens: int = 0  # that its engine has written so far


def usage(gpus: Sequence[int | str] = (), tokens: int = 0) -> Usage:
    """Return what this process takes, with those that it started; `gpus` are the numbers or UUIDs of its GPUs."""
    return Usage(memory(), gpu_memory(gpus), tokens)


def memory(process: Path = Path("/proc/self")) -> int:
    """Return the bytes that this process and those that it started have for themselves: pages that nobody shares."""
    return sum([own_memory(one) for one in (process, *_descendants(process))])


def own_memory(process: Path = Path("/proc/self")) -> int:
    """Return the same of this process alone."""
    try:
        lines = (process / "smaps_rollup").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0  # ended meanwhile, or of another user
    return sum([int(line.split()[1]) for line in lines if line.startswith("Private_")]) * _KIB


def _descendants(process: Path) -> Iterator[Path]:
    try:
        children = [child for task in (process / "task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return  # ended meanwhile
    for child in children:
        below = process.parent / child
        yield below
        yield from _descendants(below)


class Throughput:
    """The tokens a second of engines, from how many each has written so far."""

    def __init__(self) -> None:
        self._at = 0.0
        self._tokens: dict[str, int] | None = None

    def rate(self, tokens: Mapping[str, int], at: float) -> float | None:
        """Return the tokens a second of all engines since the last call; None the first time.

        An engine that was replaced counts from zero; one that did not answer is not counted until it does.
        """
        before, since = self._tokens, at - self._at
        self._tokens, self._at = {**(before or {}), **tokens}, at
        if before is None or since <= 0:
            return None
        new = [count - (before.get(name, 0) if before.get(name, 0) <= count else 0) for name, count in tokens.items()]
        return sum(new) / since


class _Memory(ctypes.Structure):
    """As nvmlDeviceGetMemoryInfo fills it."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def gpu_memory(gpus: Sequence[int | str]) -> int | None:
    """Return the bytes in use on these GPUs, by whatever process; None where there is no GPU or no driver to ask.

    The driver is asked, and not torch: torch would take hundreds of megabytes of the GPU to answer.
    """
    if not gpus:
        return None
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return None  # an accelerator of another maker
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        found = [_used(nvml, gpu) for gpu in gpus]
    finally:
        nvml.nvmlShutdown()
    known = [used for used in found if used is not None]
    return sum(known) if len(known) == len(found) else None


def _used(nvml: ctypes.CDLL, gpu: int | str) -> int | None:
    device, taken = ctypes.c_void_p(), _Memory()
    if str(gpu).isdecimal():
        asked = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(gpu)), ctypes.byref(device))
    else:
        asked = nvml.nvmlDeviceGetHandleByUUID(str(gpu).encode(), ctypes.byref(device))
    if asked != 0 or nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(taken)) != 0:
        return None
    return int(taken.used)
