"""A run or a sweep as a job of a Ray cluster: checked on this machine, without Ray, before anything is sent."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from chaosops_ray.config import is_sweep, read
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store import remote
from chaosops_ray.sweeps import spec
from chaosops_ray.training import check as check_run

EXAMPLE = "http://127.0.0.1:8265"
# Ray's client prefers these variables to the address that it is given.
OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
# Patterns, as in a .gitignore, of files that are not sent, at any depth of the working directory.
EXCLUDES = (".git", ".venv", "venv", "runs", "__pycache__", ".cache", ".*_cache", ".hypothesis", "*.parquet")


class Job(NamedTuple):
    """The command that the cluster runs, and its folder."""

    entrypoint: str
    working_dir: Path


def prepare(
    config: Path, settings: Sequence[str], seed: str | None, seeds: str | None, out: Path | str, working_dir: Path
) -> Job:
    """Make the job for a configuration, after all checks that this machine can make."""
    inside = _inside(config, working_dir)
    if isinstance(out, str):
        if command(config) == "tune":
            raise InputError(f"--out {remote.shown(out)}: a sweep is in a folder that all nodes see; name its path")
        if remote.shown(out) != out:
            why = "the job's command is shown and logged; let the nodes have them in their environment"
            raise InputError(f"--out {remote.shown(out)}: leave user, password and keys out, {why}")
    elif not out.is_absolute():
        why = "the job's copy of the working directory is deleted at its end"
        raise InputError(f"--out {out}: give an absolute folder of the head node; {why}")
    check(config, settings, seed, seeds)
    arguments = [command(config), inside.as_posix(), "--address=auto", f"--out={out}"]
    arguments += [f"--set={setting}" for setting in settings]
    arguments += [f"--{name}={value}" for name, value in (("seed", seed), ("seeds", seeds)) if value is not None]
    return Job(shlex.join(["python", "-m", "chaosops_ray.cli", *arguments]), working_dir.resolve())


def check(config: Path, settings: Sequence[str], seed: str | None, seeds: str | None) -> None:
    """Check everything in a configuration that does not depend on the cluster."""
    if command(config) == "train":
        if seeds is not None:
            raise InputError(f"--seeds: {config} is one run, which has one seed; give --seed N")
        check_run.look_over(check_run.read(config, settings, seed))
        return
    if seed is not None:
        raise InputError(f"--seed: {config} is a sweep, which has seeds of its own; give --seeds A-B")
    spec.look_over(*spec.load_sweep(config, settings, seeds))


def command(config: Path) -> Literal["train", "tune"]:
    """Return the command that the file is for."""
    return "tune" if is_sweep(read(config)) else "train"


def _inside(config: Path, working_dir: Path) -> Path:
    """Return the configuration's path within the folder that is sent."""
    if not working_dir.is_dir():
        raise InputError(f"--working-dir {working_dir} is not a folder; give the one that CONFIG is in")
    try:
        inside = config.resolve().relative_to(working_dir.resolve())
    except ValueError:
        remedy = "move it there, or give another --working-dir"
        raise InputError(f"{config} is outside {working_dir.resolve()}, the folder that is sent; {remedy}") from None
    kept_back = [part for part in inside.parts if any(fnmatch(part, pattern) for pattern in EXCLUDES)]
    if kept_back:
        raise InputError(f"{config} is in {kept_back[0]}, which is not sent; copy it elsewhere")
    return inside


def checked_address(address: str, environment: Mapping[str, str]) -> str:
    """Check the address of a job server, and that Ray would use it and no other."""
    address = address.rstrip("/")
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, half a bracket
        usable = False
    if not usable:
        remedy = f"give the dashboard's, such as {EXAMPLE}"
        raise InputError(f"--address {address[:80]!r} is not the address of a job server; {remedy}")
    for name in OVERRIDES:
        if environment.get(name, address).rstrip("/") != address:
            raise InputError(f"{name} is set, and Ray would send the job there instead of to {address}; unset it")
    if parts.username is not None or parts.password is not None:
        raise InputError("--address: leave name and password out, it is shown and logged; Ray sends RAY_AUTH_TOKEN")
    return address
