"""Errors of a run that the command line prints as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.config import ConfigError
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.telemetry.sinks import SinkError
from chaosops_ray.workers.adoption import AdoptionError
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.samplers.sampler import SamplerError


class AlarmError(RuntimeError):
    """KL to the base exceeded alarm.kl, and alarm.action is abort."""


# Errors that name the problem and the remedy; any other error is a defect of this program and keeps its trace.
_MODELS = (ServedModelError, AdapterError, SamplerError, AdoptionError)
_KNOWN = (ConfigError, PoolError, AlarmError, FloatingPointError, SinkError, *_MODELS)


@contextmanager
def as_input_errors() -> Iterator[None]:
    """Convert known errors to InputError."""
    try:
        yield
    except _KNOWN as error:
        # Ray's wrapper of an error that crossed a process holds the error itself as its cause.
        cause = getattr(error, "cause", None)
        raise InputError(str(cause if isinstance(cause, Exception) else error)) from error
