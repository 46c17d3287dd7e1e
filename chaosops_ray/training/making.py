"""Base models that this package makes: each is made once, and kept in the cache."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from chaosops_ray.config import ConfigError
from chaosops_ray.store.files import atomic_folder, reason

_ELSEWHERE = "make room there, or set CHAOSOPS_CACHE to a folder on another disk"


def once(made: Path, room: int, build: Callable[[Path], None]) -> Path:
    """Return the model's folder; build the model if it is not there. It is asked before whether `room` bytes are free.

    Of processes that build the same model at once, the first to finish has its model kept.
    """
    if made.is_dir():
        return made
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(made.parent).free < room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with atomic_folder(made, replace=False) as temporary:
            build(temporary)
    except FileExistsError:
        if not made.is_dir():  # otherwise another process made the same model meanwhile
            raise
    except OSError as error:
        raise ConfigError(f"model: cannot keep it in {made}: {reason(error)}; {_ELSEWHERE}") from None
    return made
