"""Who may use a server, and how much of it: the token and the limits that the command line is given."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.serve.limits import Limits
from chaosops_ray.sim.contract import Policy, PolicyFactory, Scenario
from chaosops_ray.sim.errors import InputError

TOKEN = "CHAOSOPS_TOKEN"  # noqa: S105 - the name of a variable
SHORTEST = 16
_LONGEST = 4096
MAX_SESSIONS = 4096
_LONGEST_NAME = 253
_SITE = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def token(path: Path | None, environ: Mapping[str, str]) -> str | None:
    """Return the token of the file, or else of the environment; None where there is neither. Errors never quote it."""
    if path is not None:
        source = str(path)
        try:
            with path.open(encoding="utf-8") as file:
                found = file.read(_LONGEST + 1)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InputError(f"--token-file {path} cannot be read ({why})") from None
    elif TOKEN in environ:
        source, found = f"the variable {TOKEN}", environ[TOKEN]
    else:
        return None
    found = found.strip()
    if not (found.isascii() and found.isprintable() and " " not in found and SHORTEST <= len(found) <= _LONGEST):
        raise InputError(
            f"{source} holds no token: it must be {SHORTEST} to {_LONGEST} printable characters without spaces"
        )
    return found


def limits(sessions: int, idle: float) -> Limits:
    """Return the limits with these two."""
    if not 1 <= sessions <= MAX_SESSIONS:
        raise InputError(f"--max-sessions must be 1-{MAX_SESSIONS}, got {sessions}")
    if not 1 <= idle <= 86_400:
        raise InputError(f"--idle must be 1-86400 seconds, got {idle:g}")
    return Limits(sessions=sessions, idle=idle)


def names(spelling: str) -> tuple[str, ...]:
    """Return the host names of a list such as play.example.org,example.org."""
    found = tuple([name for name in spelling.split(",") if name])
    for name in found:
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise InputError(f"--names must be host names without a port, such as play.example.org, got {name[:80]!r}")
    return found


def site(spelling: str) -> str:
    """Return the site of a spelling such as https://huggingface.co; "" for none."""
    if spelling and not _SITE.fullmatch(spelling):
        raise InputError(f"--framed-by must be a site, such as https://huggingface.co, got {spelling[:80]!r}")
    return spelling


def one_at_a_time(build: PolicyFactory, errors: Callable[[], AbstractContextManager[None]]) -> PolicyFactory:
    """Return a policy that many sessions may ask, whose engine answers one of them at a time.

    `errors` makes input errors of the engine's; to the sessions they are all one, which tells callers nothing of it.
    """
    lock = threading.Lock()

    @contextmanager
    def alone() -> Iterator[None]:
        try:
            with lock, errors():
                yield
        except InputError as error:
            raise ServedModelError(str(error)) from error

    def built(scenario: Scenario, rules: str) -> Policy:
        with alone():
            policy = build(scenario, rules)

        def act(view: Any, /) -> Any:
            with alone():
                return policy(view)

        return act

    return built
