"""Ray's job server: a job is sent with its folder and followed to the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from chaosops_ray import process_environment
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweeps.jobs import EXAMPLE, EXCLUDES, Job

FAILED = 1
_KNOCK_SECONDS = 10.0
_LONGEST = 400


class Ended(NamedTuple):
    """The end of a job: an exit code for the command line, and a sentence."""

    code: int
    words: str


def connect(address: str) -> Any:
    """Connect to the job server at this address, and to no other."""
    with _as_input_errors(address), _without_chatter():
        _knock(address)
        try:
            return JobSubmissionClient(address)
        except (KeyError, TypeError):  # an answer that is not a job server's
            raise InputError(f"{address} is not a Ray dashboard; give the address of one, such as {EXAMPLE}") from None


def _knock(address: str) -> None:
    """Check, with a deadline, that an HTTP server answers; Ray's client has no deadline."""
    try:
        urlopen(f"{address}/api/version", timeout=_KNOCK_SECONDS).close()  # noqa: S310 - the scheme was looked at
    except HTTPError as error:
        error.close()  # an answer; the client judges it
    except URLError as error:
        raise InputError(f"no job server at {address}: {error.reason}; give the cluster's dashboard") from None


def send(client: Any, job: Job) -> str:
    """Send the working directory and start the job; return the name that Ray gives it."""
    environment = {
        "working_dir": str(job.working_dir),
        "excludes": list(EXCLUDES),
        "env_vars": process_environment.ENVIRONMENT,
    }
    with _as_input_errors(client.get_address()), _without_chatter():
        try:
            name: str = client.submit_job(entrypoint=job.entrypoint, runtime_env=environment)
        except RuntimeError as error:
            if "exceed" not in str(error):  # Ray's word for both its limits, of a request and of a package
                raise
            raise InputError(
                f"{job.working_dir} is larger than the cluster accepts ({_last_line(str(error))}); list what the job "
                "does not need in a file .rayignore there"
            ) from None
    return name


def follow(client: Any, name: str, write: Callable[[str], object]) -> Ended:
    """Write what the job prints while it runs; return how it ended."""
    address = client.get_address()
    with _as_input_errors(address), _without_chatter():
        asyncio.run(_copy(client, name, write))
        details = client.get_job_info(name)
    if details.status == JobStatus.SUCCEEDED:
        return Ended(0, f"job {name} succeeded")
    if not details.status.is_terminal():
        raise InputError(f"the log of job {name} broke off, and the job still runs; {hint(name, address)}")
    code = details.driver_exit_code
    if not code:  # it never began, was stopped, or its node died
        return Ended(FAILED, f"job {name} {details.status.lower()}: {_last_line(details.message or '')}")
    # A shell counts a death by signal from 128.
    return Ended(code if code > 0 else 128 - code, f"job {name} failed with exit code {code}")


async def _copy(client: Any, name: str, write: Callable[[str], object]) -> None:
    async for text in client.tail_job_logs(name):
        write(text)


def hint(name: str, address: str) -> str:
    """The commands that follow and stop a job."""
    return (
        f"follow it: ray job logs {name} --follow --address {address}; stop it: ray job stop {name} --address {address}"
    )


@contextmanager
def _as_input_errors(address: str) -> Iterator[None]:
    """Convert the errors of a connection to a job server to InputError."""
    try:
        yield
    except (BrokenPipeError, InputError):
        raise  # a broken pipe is that of our own output, which cli handles; a connection's errors are other ones
    except AuthenticationError:
        raise InputError(f"{address} asks for a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN") from None
    except (OSError, HTTPException, aiohttp.ClientError, RuntimeError, ValueError) as error:
        raise InputError(f"the job server at {address}: {_last_line(str(error))}") from error


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Silence Ray's client, which logs its steps on stderr, where only our one line belongs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _last_line(text: str) -> str:
    """The last line of what may be a whole traceback, which names the error."""
    return one_line(text, _LONGEST, part="last").rstrip(".") or "no reason given"
