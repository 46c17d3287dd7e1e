"""A run or a sweep as a job of a Ray cluster: checked here, sent with its folder, followed to the end."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import urlopen

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from chaosops_ray import process_environment
from chaosops_ray.config import is_sweep, read
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweeps import runner, spec
from chaosops_ray.training import launch

EXAMPLE = "http://127.0.0.1:8265"
# Ray's client prefers these variables to the address that it is given.
OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
# Not sent, anywhere in the working directory; patterns without a slash, as in a .gitignore.
EXCLUDES = (".git", ".venv", "venv", "runs", "__pycache__", ".cache", ".*_cache", ".hypothesis", "*.parquet")
FAILED = 1
_KNOCK_SECONDS = 10.0
_LONGEST = 400


class Job(NamedTuple):
    """The command that the cluster runs, and its folder."""

    entrypoint: str
    working_dir: Path


class Ended(NamedTuple):
    """The end of a job: an exit code for the command line, and a sentence."""

    code: int
    words: str


# -- before anything is sent ------------------------------------------------------------------------------------------


def prepare(
    config: Path, settings: Sequence[str], seed: str | None, seeds: str | None, out: Path, working_dir: Path
) -> Job:
    """Make the job for a configuration, and check on this machine all that can be checked here."""
    inside = _inside(config, working_dir)
    if not out.is_absolute():
        raise InputError(
            f"--out {out}: give an absolute folder that all nodes see; a job's own copy of the working directory is "
            "deleted when the job ends"
        )
    check(config, settings, seed, seeds)
    arguments = [command(config), inside.as_posix(), "--address=auto", f"--out={out}"]
    arguments += [f"--set={setting}" for setting in settings]
    if seed is not None:
        arguments.append(f"--seed={seed}")
    if seeds is not None:
        arguments.append(f"--seeds={seeds}")
    return Job(shlex.join(["python", "-m", "chaosops_ray.cli", *arguments]), working_dir.resolve())


def check(config: Path, settings: Sequence[str], seed: str | None, seeds: str | None) -> None:
    """Check everything in a configuration that does not depend on the cluster."""
    if command(config) == "train":
        if seeds is not None:
            raise InputError(f"--seeds: {config} is one run, which has one seed; give --seed N")
        launch.look_over(launch.read(config, settings, seed))
        return
    if seed is not None:
        raise InputError(f"--seed: {config} is a sweep, which has seeds of its own; give --seeds A-B")
    found, trials = spec.load_sweep(config, settings, seeds)
    runner.looked_over(found, trials)


def command(config: Path) -> Literal["train", "tune"]:
    """The command that the file is for."""
    return "tune" if is_sweep(read(config)) else "train"


def _inside(config: Path, working_dir: Path) -> Path:
    """The configuration's path within the folder that is sent."""
    if not working_dir.is_dir():
        raise InputError(f"--working-dir {working_dir} is not a folder; give the one that CONFIG lies in")
    try:
        inside = config.resolve().relative_to(working_dir.resolve())
    except ValueError:
        raise InputError(
            f"{config} lies outside {working_dir.resolve()}, and only that folder is sent; move it there, or give "
            "another --working-dir"
        ) from None
    kept_back = [part for part in inside.parts if any(fnmatch(part, pattern) for pattern in EXCLUDES)]
    if kept_back:
        raise InputError(f"{config} lies in {kept_back[0]}, which is not sent; copy it elsewhere")
    return inside


# -- the job server ---------------------------------------------------------------------------------------------------


def connect(address: str, environment: Mapping[str, str]) -> Any:
    """Connect to the job server at this address, and to no other."""
    address = address.rstrip("/")
    parts = _parts(address)
    for name in OVERRIDES:
        if environment.get(name, address).rstrip("/") != address:
            raise InputError(f"{name} is set, and Ray would send the job there instead of to {address}; unset it")
    if parts.username is not None or parts.password is not None:
        raise InputError("--address: leave name and password out, it is shown and logged; Ray sends RAY_AUTH_TOKEN")
    with _as_input_errors(address), _without_chatter():
        _knock(address)
        try:
            return JobSubmissionClient(address)
        except (KeyError, TypeError):  # an answer that is not a job server's
            raise InputError(f"{address} is not a Ray dashboard; give the address of one, such as {EXAMPLE}") from None


def _parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, half a bracket
        usable = False
    if not usable:
        raise InputError(
            f"--address {address[:80]!r} is not the address of a job server; give the dashboard's, such as {EXAMPLE}"
        )
    return parts


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
