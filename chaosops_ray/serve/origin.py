"""Keeps pages of other sites out of a server without a token.

A browser lets any page open a WebSocket to any address, loopback included, and send simple requests there; it names
the page's site in the header Origin. A page may also have a name of its own resolve to the server's address (DNS
rebinding): then Origin fits, and the name is in the header Host. So both headers are checked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from chaosops_ray.serve.asgi import App, Message, Receive, Send, refuse, values

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}
_SHOWN = 80


class Place(NamedTuple):
    """A host and its port, as URLs and the header Host name them."""

    host: str
    port: int | None


class SameOrigin:
    """An ASGI application before another one: it refuses what comes from, or through, another site.

    `address` is the one that the server is bound to; `names` are others under which it is reached. A server that is
    bound to all addresses is reached by any address, and by any name without a dot, such as a container's: no site can
    have such a name.
    """

    def __init__(self, app: App, address: str, names: Iterable[str] = ()) -> None:
        self._app = app
        self._names = {name.lower() for name in (*LOOPBACK, address, *names)}
        found = _address(address)
        self._is_everywhere = found is not None and found.is_unspecified

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a connection, or refuse it."""
        words = None if scope["type"] == "lifespan" else self._objection(scope)
        if words is None:
            await self._app(scope, receive, send)
        else:
            await refuse(scope, receive, send, 403, words)

    def _objection(self, scope: Message) -> str | None:
        """Say what is wrong with the two headers."""
        hosts, origins = values(scope, b"host"), values(scope, b"origin")
        host = _place(f"//{hosts[0]}") if len(hosts) == 1 else None
        if host is None:
            return "a request needs one valid header Host"
        if not self._is_own(host.host):
            return (
                f"this server has no name {host.host[:_SHOWN]!r}; use its address, or start it with --names and the "
                "name, or with a token"
            )
        if not origins:
            return None
        scheme = origins[0].partition(":")[0].lower()
        page = _place(origins[0]) if len(origins) == 1 and scheme in _PORTS else None
        if page is None or _whole(page, scheme) != _whole(host, scheme):
            return f"a page of another site may not use this server, got Origin {origins[0][:_SHOWN]!r}"
        return None

    def _is_own(self, host: str) -> bool:
        if host in self._names:
            return True
        return self._is_everywhere and ("." not in host or _address(host) is not None)


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    found = _address(host)
    return found is not None and found.is_loopback


def _place(url: str) -> Place | None:
    """Return the host and the port of a URL that has nothing after them; None where it is another one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or "@" in parts.netloc or parts.path or parts.query or parts.fragment:
        return None
    return Place(host, port)


def _whole(place: Place, scheme: str) -> Place:
    return place if place.port is not None else Place(place.host, _PORTS[scheme])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
