"""Errors of a run that the command line prints as one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.config import ConfigError
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.workers.adoption import AdoptionError
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.samplers.sampler import SamplerError


class AlarmError(RuntimeError):
    """KL to the base ran away, and the run was told to stop then."""


_FULL = (errno.ENOSPC, errno.EDQUOT)
# Every error that says by itself what is wrong and what to do; anything else is a defect of ours and keeps its trace.
KNOWN = (
    ServedModelError,
    ConfigError,
    AdapterError,
    SamplerError,
    AdoptionError,
    PoolError,
    AlarmError,
    FloatingPointError,
)


@contextmanager
def as_input_errors() -> Iterator[None]:
    """Convert known errors to InputError."""
    try:
        yield
    except KNOWN as error:
        # Ray's wrapper of an error that crossed a process holds the error itself as its cause.
        cause = getattr(error, "cause", None)
        raise InputError(str(cause if isinstance(cause, Exception) else error)) from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(
            f"{error.filename or 'the disk'}: {error.strerror}; make room, then --resume the run"
        ) from error
