"""Ray's job server: it is sent a job with its folder, and the job is followed to its end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from chaosops_ray import process_environment
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweeps.jobs import EXAMPLE, EXCLUDES, Job

_KNOCK_SECONDS = 10.0
_LONGEST = 400


def connect(address: str) -> Any:
    """Connect to the job server at this address, and to no other."""
    with _quietly(address):
        try:  # Ray's client has no deadline, so this checks first that a server answers
            urlopen(f"{address}/api/version", timeout=_KNOCK_SECONDS).close()  # noqa: S310 - the scheme was checked
        except HTTPError as error:
            error.close()  # an answer; the client judges it
        except URLError as error:
            raise InputError(f"no job server at {address}: {error.reason}; give the cluster's dashboard") from None
        try:
            return JobSubmissionClient(address)
        except (KeyError, TypeError):  # an answer that is not a job server's
            raise InputError(f"{address} is not a Ray dashboard; give the address of one, such as {EXAMPLE}") from None


def send(client: Any, job: Job) -> str:
    """Send the working directory and start the job; return the name that Ray gives it."""
    environment = {
        "working_dir": str(job.working_dir),
        "excludes": list(EXCLUDES),
        "env_vars": process_environment.ENVIRONMENT,
    }
    with _quietly(client.get_address()):
        try:
            name: str = client.submit_job(entrypoint=job.entrypoint, runtime_env=environment)
        except RuntimeError as error:
            if "exceed" not in str(error):  # Ray's word for both its limits, of a request and of a package
                raise
            too_large = f"{job.working_dir} is larger than the cluster accepts ({_last_line(str(error))})"
            raise InputError(f"{too_large}; list what the job does not need in a file .rayignore there") from None
    return name


def follow(client: Any, name: str, write: Callable[[str], object]) -> tuple[int, str]:
    """Write the job's output while it runs; return an exit code for the command line, and a sentence on its end."""
    address = client.get_address()
    with _quietly(address):
        try:
            asyncio.run(_copy(client, name, write))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        details = client.get_job_info(name)
    if details.status == JobStatus.SUCCEEDED:
        return 0, f"job {name} succeeded"
    if not details.status.is_terminal():
        raise InputError(f"the log of job {name} broke off, and the job still runs; {hint(name, address)}")
    code = details.driver_exit_code
    if not code:  # it never began, was stopped, or its node died
        return 1, f"job {name} {details.status.lower()}: {_last_line(details.message or '')}"
    # Like a shell, 128 and the number of the signal that killed it.
    return code if code > 0 else 128 - code, f"job {name} failed with exit code {code}"


async def _copy(client: Any, name: str, write: Callable[[str], object]) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine
    # asyncio's own handler does not wake a loop that waits: a Ctrl-C just before it begins to wait would be lost.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    async for text in client.tail_job_logs(name):
        write(text)


def hint(name: str, address: str) -> str:
    """Return the commands that follow and stop a job."""
    of = f"--address {address}"
    return f"follow it: ray job logs {name} --follow {of}; stop it: ray job stop {name} {of}"


@contextmanager
def _quietly(address: str) -> Iterator[None]:
    """Convert the errors of a connection to InputError, and silence Ray's client, which logs its steps on stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except (BrokenPipeError, InputError):
        raise  # a broken pipe is our own output's, which cli handles; a connection's errors have other types
    except AuthenticationError:
        raise InputError(f"{address} asks for a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN") from None
    except (OSError, HTTPException, aiohttp.ClientError, RuntimeError, ValueError) as error:
        raise InputError(f"the job server at {address}: {_last_line(str(error))}") from error
    finally:
        logging.disable(before)


def _last_line(text: str) -> str:
    """Return the last line of what may be a whole traceback; it names the error."""
    return one_line(text, _LONGEST, part="last").rstrip(".") or "no reason given"
