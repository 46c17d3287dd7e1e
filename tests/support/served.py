"""A served world in this process: the server in a thread of its own, on a free port of the loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from chaosops_ray.serve.asgi import App
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.listening import listen, server
from chaosops_ray.sim.contract import AnyEnvironment

WAIT = 60.0


@contextmanager
def running(app: App, limits: Limits) -> Iterator[str]:
    """Serve the application; yield HOST:PORT."""
    started = threading.Event()
    with listen("127.0.0.1", 0) as bound:
        serving = server(app, limits, started.set)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        assert started.wait(WAIT)
        host, port = bound.getsockname()
        yield f"{host}:{port}"
        serving.should_exit = True
        thread.join(WAIT)
        assert not thread.is_alive()


def recorded(environment: AnyEnvironment) -> tuple[AnyEnvironment, list[str]]:
    """The world, and the hashes of its states from here on, one for each step that anybody takes in it."""
    hashes: list[str] = []

    class Recorded(type(environment)):  # type: ignore[misc]
        def step(self, world: Any, action: object) -> Any:
            taken = super().step(world, action)
            hashes.append(sha256(self.dump(taken.world)).hexdigest())
            return taken

    return Recorded(), hashes
