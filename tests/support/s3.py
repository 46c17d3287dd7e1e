"""A store that speaks S3, in a process of its own on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# The port is chosen by the system, and printed when the server answers there.
SERVER = """
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""
BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}


class Store:
    """A running server with one bucket."""

    def __init__(self, port: int) -> None:
        self._port = port

    def uri(self, run: str, bucket: str = BUCKET) -> str:
        """The URI of a run in it; keys come from the environment."""
        return f"s3://{bucket}/{run}?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{self._port}"


@contextmanager
def s3_here() -> Iterator[Store]:
    """Start a server, and set the environment's keys to what it takes; both end with this."""
    pytest.importorskip("moto", reason="moto is not installed: run `make install` again")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **KEYS},
        ) as server:
            try:
                assert server.stdout is not None
                port = int(server.stdout.readline())
                made = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
                urllib.request.urlopen(made, timeout=30).close()  # noqa: S310
                yield Store(port)
            finally:
                server.kill()
