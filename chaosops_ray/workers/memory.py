"""How much memory a process may have: the machine's, or less where a control group limits it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_KIB = 1024


def permitted(root: Path = Path("/")) -> int:
    """Return the bytes that this process may have; `root` is where `proc` and `sys` are."""
    return min([_of_the_machine(root), *_limits(root)])


def _of_the_machine(root: Path) -> int:
    lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    (total,) = [line.split()[1] for line in lines if line.startswith("MemTotal:")]
    return int(total) * _KIB


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of the process's control groups, of both versions, and of the groups above them."""
    listed = root / "proc/self/cgroup"
    for line in listed.read_text(encoding="utf-8").splitlines() if listed.exists() else ():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mounted, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mounted, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        folder = mounted / group.lstrip("/")
        # In a container, the group's own name may lead nowhere, and its limit is at the top.
        for place in (folder, *folder.parents):
            limit = place / name
            if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
                yield int(text)
            if place == mounted:
                break
