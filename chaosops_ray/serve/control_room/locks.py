"""Whether a process trains in a run's folder, asked of the kernel's list of locks.

A trainer holds a lock on its config.yaml. Trying this lock, even a shared one for a moment, would make a trainer that
starts in that moment fail. So nothing is locked here: Linux lists the locks of this machine in /proc/locks. Trainers on
another machine or in another container are not in the list, and other systems have none: there, a run is taken for
running while its metrics grow.
"""

from __future__ import annotations

import os
from pathlib import Path

LOCKS = Path("/proc/locks")
_PLACE, _KIND, _WRITE = 5, 1, 3


def locked_files(listing: Path = LOCKS) -> frozenset[tuple[int, int, int]]:
    """Return the files, as (major, minor, inode), on which a process of this machine holds an exclusive lock."""
    try:
        lines = listing.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    found = set()
    for line in lines:
        words = line.split()
        # A line with an arrow is a process that waits for the lock.
        if len(words) > _PLACE and words[_KIND] != "->" and words[_WRITE] == "WRITE":
            major, minor, inode = words[_PLACE].split(":")
            found.add((int(major, 16), int(minor, 16), int(inode)))
    return frozenset(found)


def key(status: os.stat_result) -> tuple[int, int, int]:
    """Return what `locked_files` calls the file with this status."""
    return os.major(status.st_dev), os.minor(status.st_dev), status.st_ino
