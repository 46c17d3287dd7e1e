"""A run or a sweep as a job of a Ray cluster: looked over here, sent with its folder, followed to the end."""

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
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sweeps import runner, spec
from chaosops_ray.training import launch

EXAMPLE = "http://127.0.0.1:8265"
# What Ray's client takes for its address, whatever address it is given.
OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
# What is not sent along, wherever it lies in the working directory; patterns without a slash, as a .gitignore has them.
EXCLUDES = (".git", ".venv", "venv", "runs", "__pycache__", ".cache", ".*_cache", ".hypothesis", "*.parquet")
FAILED = 1
_KNOCK_SECONDS = 10.0
_SHOWN = 400


class Job(NamedTuple):
    """What the cluster is to run, and the folder that it runs in."""

    entrypoint: str
    working_dir: Path


class Ended(NamedTuple):
    """How a job came out: the exit code for whoever waited, and a few words."""

    code: int
    words: str


# -- before anything is sent ------------------------------------------------------------------------------------------


def prepare(
    config: Path, settings: Sequence[str], seed: str | None, seeds: str | None, out: Path, working_dir: Path
) -> Job:
    """The job for a configuration; whatever of it can be looked over on this machine has been."""
    inside = _inside(config, working_dir)
    if not out.is_absolute():
        raise InputError(
            f"--out {out}: give an absolute folder that all nodes see; what a job writes into its own copy of the "
            "working directory goes when the job is over"
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
    """Everything about a configuration that can be wrong and does not hang on the cluster."""
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
    """What the file is for."""
    return "tune" if is_sweep(read(config)) else "train"


def _inside(config: Path, working_dir: Path) -> Path:
    """The configuration's path within the folder that is sent."""
    if not working_dir.is_dir():
        raise InputError(f"--working-dir {working_dir} is no folder; give the one that CONFIG lies in")
    try:
        inside = config.resolve().relative_to(working_dir.resolve())
    except ValueError:
        raise InputError(
            f"{config} lies outside {working_dir.resolve()}, which is what the job is sent; move it there, or give "
            "another --working-dir"
        ) from None
    kept_back = [part for part in inside.parts if any(fnmatch(part, pattern) for pattern in EXCLUDES)]
    if kept_back:
        raise InputError(f"{config} lies in {kept_back[0]}, which is not sent along; copy it elsewhere")
    return inside


# -- the job server ---------------------------------------------------------------------------------------------------


def connect(address: str, environment: Mapping[str, str]) -> Any:
    """A client of the job server that the address names, and of no other."""
    address = address.rstrip("/")
    parts = _parts(address)
    for name in OVERRIDES:
        if environment.get(name, address).rstrip("/") != address:
            raise InputError(f"{name} is set, and Ray would send the job there and not to {address}; unset it")
    if parts.username is not None or parts.password is not None:
        raise InputError("--address: leave name and password out, it is shown and logged; Ray sends RAY_AUTH_TOKEN")
    with _told(address), _without_chatter():
        _knock(address)
        try:
            return JobSubmissionClient(address)
        except (KeyError, TypeError):  # an answer, and not the one that a job server gives
            raise InputError(f"{address} is not Ray's: give the address of its dashboard, such as {EXAMPLE}") from None


def _parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, half a bracket
        usable = False
    if not usable:
        raise InputError(
            f"--address {address[:80]!r} is no address of a job server; give the dashboard's, such as {EXAMPLE}"
        )
    return parts


def _knock(address: str) -> None:
    """Whether anybody is there and speaks HTTP; Ray's client has no deadline of its own."""
    try:
        urlopen(f"{address}/api/version", timeout=_KNOCK_SECONDS).close()  # noqa: S310 - the scheme was looked at
    except HTTPError as error:
        error.close()  # an answer; what it is worth, the client says
    except URLError as error:
        raise InputError(f"no job server at {address}: {error.reason}; give the cluster's dashboard") from None


def send(client: Any, job: Job) -> str:
    """Send the working directory and start the job; the name that Ray gives it."""
    environment = {
        "working_dir": str(job.working_dir),
        "excludes": list(EXCLUDES),
        "env_vars": process_environment.ENVIRONMENT,
    }
    with _told(client.get_address()), _without_chatter():
        try:
            name: str = client.submit_job(entrypoint=job.entrypoint, runtime_env=environment)
        except RuntimeError as error:
            if "exceed" not in str(error):  # in the words of both its limits, of a request and of a package
                raise
            raise InputError(
                f"{job.working_dir} is more than the cluster takes ({_line(str(error))}); list what the job does not "
                "need in a file .rayignore there"
            ) from None
    return name


def follow(client: Any, name: str, write: Callable[[str], object]) -> Ended:
    """Write what the job prints while it runs, and say how it came out."""
    address = client.get_address()
    with _told(address), _without_chatter():
        asyncio.run(_copy(client, name, write))
        details = client.get_job_info(name)
    if details.status == JobStatus.SUCCEEDED:
        return Ended(0, f"job {name} succeeded")
    if not details.status.is_terminal():
        raise InputError(f"the log of job {name} broke off, and the job goes on; {hint(name, address)}")
    code = details.driver_exit_code
    if not code:  # it never began, was stopped, or went with its node
        return Ended(FAILED, f"job {name} {details.status.lower()}: {_line(details.message or 'Ray does not say why')}")
    # A shell counts a death by signal from 128.
    return Ended(code if code > 0 else 128 - code, f"job {name} failed with exit code {code}")


async def _copy(client: Any, name: str, write: Callable[[str], object]) -> None:
    async for text in client.tail_job_logs(name):
        write(text)


def hint(name: str, address: str) -> str:
    """How to go on with a job that nobody waits for."""
    return (
        f"follow it: ray job logs {name} --follow --address {address}; stop it: ray job stop {name} --address {address}"
    )


@contextmanager
def _told(address: str) -> Iterator[None]:
    """What the way to a job server can raise, in a line."""
    try:
        yield
    except (BrokenPipeError, InputError):
        raise  # whoever read our output has gone, which cli knows; the way to the server has errors of its own for that
    except AuthenticationError:
        raise InputError(f"{address} asks for a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN") from None
    except (OSError, HTTPException, aiohttp.ClientError, RuntimeError, ValueError) as error:
        raise InputError(f"the job server at {address}: {_line(str(error))}") from error


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Ray's client logs its steps on stderr, where our one line belongs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _line(text: str) -> str:
    """The last line of what may be a whole traceback, which is what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    return (lines[-1].rstrip(".") if lines else "no reason given")[:_SHOWN]
