"""What a process may have, by files like those of Linux."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosops_ray.workers.memory import permitted

GIB = 1 << 30
FIRST, SECOND = "4:memory:/jobs/one\n3:cpuset:/\n", "0::/jobs/one\n"


def machine(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """A machine of 8 GiB, the control groups of the process, and the files with limits."""
    for name, text in {
        "proc/meminfo": "MemTotal:  8388608 kB\nMemFree: 1 kB\n",
        "proc/self/cgroup": groups,
        **limits,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        (SECOND, {}, 8),
        (SECOND, {"sys/fs/cgroup/jobs/one/memory.max": f"{2 * GIB}\n"}, 2),
        (SECOND, {"sys/fs/cgroup/jobs/one/memory.max": "max\n", "sys/fs/cgroup/jobs/memory.max": f"{3 * GIB}\n"}, 3),
        (SECOND, {"sys/fs/cgroup/memory.max": f"{GIB}\n"}, 1),
        (FIRST, {"sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes": f"{4 * GIB}\n"}, 4),
        (FIRST, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8),
        (FIRST, {"sys/fs/cgroup/memory.max": f"{GIB}\n"}, 8),  # of the other version, of which the process has no group
        (FIRST + SECOND, {"sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": f"{5 * GIB}"}, 5),
        ("", {}, 8),
    ],
)
def test_the_least_limit_counts(tmp_path: Path, groups: str, limits: dict[str, str], expected: int) -> None:
    assert permitted(machine(tmp_path, groups, limits)) == expected * GIB


def test_this_process_may_have_something() -> None:
    assert 1 << 26 < permitted() < 1 << 50
