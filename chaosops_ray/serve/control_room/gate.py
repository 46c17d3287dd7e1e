"""The gate of the control room: who may enter, how much a request may hold, and what a browser may do with an answer.

Without a token the server is for this machine's own browser, and `SameOrigin` keeps pages of other sites out. With
one, all but the form that asks for it needs the token: in the header Authorization, or in a cookie that the form sets.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from chaosops_ray.serve.asgi import App, Message, Receive, Send, answer, delivered, values, whole_body

MAX_BODY = 64 << 10
MAX_TARGET = 8 << 10  # characters of path and query
_BODY_SECONDS = 20.0
FORM = "/token"  # where the form sends the token
_ASSETS = "/assets/"
_COOKIE_DAYS = 30
NOBODY = "'none'"

# Scripts, styles and data from here alone; no inline script or style, no other site.
POLICY = "; ".join(
    [
        "default-src 'none'",
        *[f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")],
        "form-action 'self'",
        "base-uri 'none'",
    ]
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Gate:
    """An ASGI application that stands before the pages; `ask` is the page with the form.

    Pages of the site `framed_by`, if there is one, may show these in a frame.
    """

    def __init__(self, app: App, ask: App, token: str | None, framed_by: str = "") -> None:
        self._app = app
        self._ask = ask
        self._token = token
        self._framed_by = framed_by

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send, self._framed_by, is_asset=scope["path"].startswith(_ASSETS))
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET:
            await answer(send, 414, f"an address has at most {MAX_TARGET} characters")
        elif _is_foreign(scope, in_frames=bool(self._framed_by)):
            await answer(send, 403, "a page of another site may not use the control room")
        else:
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    body = await whole_body(receive, MAX_BODY)
            except TimeoutError:
                await answer(send, 408, f"the request did not arrive within {_BODY_SECONDS:g} s")
                return
            except ConnectionResetError:
                return  # nobody is there to be answered
            if body is None:
                await answer(send, 413, f"a body has at most {MAX_BODY} bytes")
            else:
                await self._admit(scope, body, receive, send)

    async def _admit(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        whole = delivered(body, receive)
        if scope["path"] == FORM and scope["method"] == "POST" and self._token is not None:
            await self._take(scope, body, send)
        elif self._token is None or self._has_token(scope) or scope["path"].startswith(_ASSETS):
            await self._app(scope, whole, send)
        else:
            await self._ask(scope, whole, send)

    def _has_token(self, scope: Message) -> bool:
        token = self._token or ""
        given = values(scope, b"authorization")
        if given:
            return len(given) == 1 and hmac.compare_digest(given[0].encode(), f"Bearer {token}".encode())
        name, proof = _cookie_name(scope), _proof(token)
        for header in values(scope, b"cookie"):
            try:
                found = SimpleCookie(header).get(name)
            except CookieError:
                continue
            if found is not None and hmac.compare_digest(found.value.encode(), proof.encode()):
                return True
        return False

    async def _take(self, scope: Message, body: bytes, send: Send) -> None:
        """Set the cookie if the form holds the token, and lead back to where the visitor wanted to go."""
        try:
            fields = parse_qs(body.decode(), max_num_fields=8)
        except ValueError:
            fields = {}
        given = fields.get("token", [""])[0].strip()
        place = _own_place(fields.get("place", ["/"])[0])
        headers = [(b"location", place.encode()), (b"content-length", b"0")]
        if hmac.compare_digest(given.encode(errors="replace"), (self._token or "").encode()):
            secure = "; Secure" if scope.get("scheme") == "https" else ""
            cookie = (
                f"{_cookie_name(scope)}={_proof(self._token or '')}; Path=/; HttpOnly; SameSite=Strict; "
                f"Max-Age={_COOKIE_DAYS * 86_400}{secure}"
            )
            headers.append((b"set-cookie", cookie.encode()))
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _proof(token: str) -> str:
    """Return what the cookie holds: who reads it knows no token."""
    return hmac.new(token.encode(), b"chaosops control room", sha256).hexdigest()


def _cookie_name(scope: Message) -> str:
    # Cookies do not tell ports apart, and a machine may have several control rooms.
    return f"chaosops-{(scope.get('server') or ('', 0))[1]}"


def _own_place(place: str) -> str:
    """Return a path of this server; / for anything that leads elsewhere."""
    is_path = place.startswith("/") and not place.startswith("//") and place.isascii() and place.isprintable()
    return place if is_path and "\\" not in place and len(place) <= MAX_TARGET else "/"


def _is_foreign(scope: Message, *, in_frames: bool) -> bool:
    """Tell whether a page of another site sends this; a person who follows a link to a page is let through."""
    hosts, origins = values(scope, b"host"), values(scope, b"origin")
    if origins and not (len(hosts) == len(origins) == 1 and urlsplit_host(origins[0]) == hosts[0].lower()):
        return True
    site = values(scope, b"sec-fetch-site")
    if not site or site[0] in ("same-origin", "none"):
        return False
    shown = [["document"], ["iframe"]] if in_frames else [["document"]]
    follows = values(scope, b"sec-fetch-mode") == ["navigate"] and values(scope, b"sec-fetch-dest") in shown
    return not (follows and scope["method"] in ("GET", "HEAD"))


def urlsplit_host(origin: str) -> str | None:
    """Return host and port of an origin as the header Host spells them; None for an opaque one."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _with_headers(send: Send, framed_by: str, *, is_asset: bool) -> Send:
    """Return what sends answers with the headers that keep a browser from misusing them."""
    cache = "no-cache" if is_asset else "no-store"
    framed = {
        "content-security-policy": f"{POLICY}; frame-ancestors {framed_by or NOBODY}",
        **({} if framed_by else {"x-frame-options": "DENY"}),
    }
    more = _encoded({**HEADERS, **framed, "cache-control": cache}.items())

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(key, value) for key, value in message.get("headers", []) if key.lower() not in dict(more)]
            message = {**message, "headers": [*own, *more]}
        await send(message)

    return send_guarded


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]
