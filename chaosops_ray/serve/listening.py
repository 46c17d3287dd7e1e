"""The socket and the HTTP server of everything that is served."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from chaosops_ray.serve.asgi import App
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.transport import BoundedHttp, BoundedWebSocket
from chaosops_ray.sim.errors import InputError

# A ping is not answered while a message is being worked on, and a colleague may be a model that takes its time.
_PING, _PONG = 20.0, 120.0
_GOODBYE = 5  # seconds for requests in progress when the server is asked to end


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to this address; port 0 is any that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror}); try another --host or --port"
        ) from None
    return bound


def url(bound: socket.socket) -> str:
    """Return the URL of a socket's address."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server(
    app: App, limits: Limits, started: Callable[[], None], ending: Callable[[], None] = lambda: None
) -> uvicorn.Server:
    """Return the server, which `run(sockets=[…])` runs until a signal comes.

    `started` is called when it answers, and `ending` when it is asked to end, before it waits for open connections.
    """
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        ws=BoundedWebSocket,
        ws_max_size=limits.message,
        ws_ping_interval=_PING,
        ws_ping_timeout=_PONG,
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,  # paths may name sessions
        server_header=False,
        timeout_graceful_shutdown=_GOODBYE,
    )
    return _Server(config, started, ending)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started
        self._tell_end = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._tell_end()
        await super().shutdown(sockets)
