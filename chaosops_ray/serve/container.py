"""A served world in a container of this machine, by the `docker` command."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple
from uuid import uuid4

from chaosops_ray.plain_text import one_line
from chaosops_ray.serve.access import TOKEN
from chaosops_ray.serve.inference_settings import IMAGE, KEYS

# The port on which the server listens inside of its container.
PORT = 8000
_SECONDS = 60.0
# An image's name never begins with a dash, which docker would read as an option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")


class ContainerError(RuntimeError):
    """The container cannot be started, or has ended; one line says why."""


class Container(NamedTuple):
    """A container that was started."""

    name: str
    url: str

    def check(self) -> None:
        """Raise ContainerError if it is no longer running."""
        if _docker("inspect", "--format", "{{.State.Running}}", self.name) != "true":
            said = _docker("logs", "--tail", "20", self.name)
            raise ContainerError(f"the container of {IMAGE} ended: {one_line(said, part='last') or 'it said nothing'}")


@contextmanager
def container(image: str) -> Iterator[Container]:
    """Start an image that is on this machine, reachable from this machine only; remove it at the end.

    Its server is given the same token, if there is one, by the variable's name: arguments can be read by everybody.
    """
    if not _NAME.fullmatch(image):
        raise ContainerError(f"{IMAGE} is not an image's name: {one_line(image, 80)}")
    name = f"chaosops-{uuid4().hex[:12]}"
    token = ("--env", TOKEN) if os.environ.get(TOKEN) else ()
    try:
        _docker("run", "--detach", "--pull", "never", "--name", name, "--publish", f"127.0.0.1::{PORT}", *token, image)
        yield Container(name, f"http://{_docker('port', name, f'{PORT}/tcp')}")
    except BaseException:
        with suppress(ContainerError):
            _docker("rm", "--force", name)
        raise
    _docker("rm", "--force", name)


def _docker(*arguments: str) -> str:
    """Run the command and return what it says. It never sees the endpoint's key, nor the terminal's Ctrl-C."""
    environ = {name: value for name, value in os.environ.items() if name not in KEYS}
    try:
        ran = subprocess.run(  # noqa: S603 - the image's name is checked
            ["docker", *arguments],  # noqa: S607 - docker is found on the path, as everywhere
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if arguments[0] == "logs" else subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise ContainerError(f"{IMAGE} needs the docker command, which is not on the path") from None
    except OSError as error:
        raise ContainerError(f"{IMAGE} needs the docker command, which does not start: {one_line(error)}") from None
    except subprocess.TimeoutExpired:
        raise ContainerError(f"docker {arguments[0]} gave no answer within {_SECONDS:g} s") from None
    if ran.returncode:
        raise ContainerError(f"docker {arguments[0]}: {one_line(ran.stderr, part='last') or ran.returncode}")
    return ran.stdout.strip()
