"""The chat completions endpoint that nearly every model server offers: text in, text out.

The key goes to the host that was named and to no other: redirects are not followed, and neither proxies nor netrc are
read from the environment. An answer is bounded in bytes and in time, and never decompressed.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import httpx

from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.plain_text import one_line

LONGEST_WAIT = 30.0
_FIRST_WAIT = 0.5
_MAX_BYTES = 8 << 20
_MAX_LETTERS = 300


class _PassingError(Exception):
    """A failure that may be gone the next time; `wait` is how long the server wants us to wait."""

    def __init__(self, words: str, wait: float = 0.0) -> None:
        super().__init__(words)
        self.wait = wait


class OpenAISampler:
    """A model behind a chat completions endpoint.

    `key_variable` names the environment variable that holds the API key; without it no key is sent. `timeout` is for
    one try as a whole, in seconds; a try that fails for a passing reason (429, 5xx, no connection) is repeated
    `retries` times, waiting twice as long each time, or as long as the server says, and never longer than half a
    minute. `complete` blocks; do not call it from within an event loop.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_variable: str | None = None,
        temperature: float = 0.0,
        max_tokens: int = 512,
        timeout: float = 120.0,
        retries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = _endpoint(base_url)
        # The system's certificates, read once as that takes a while; where no TLS is spoken, none are trusted.
        uses_tls = self._url.startswith("https:")
        self._tls = ssl.create_default_context() if uses_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._model = model
        self._key_variable = key_variable
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._timeout = timeout
        self._retries = retries
        self._sleep = sleep

    def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> str:
        """Return the model's answer to a conversation."""
        body = {
            "model": self._model,
            "messages": [dict(message) for message in messages],
            "temperature": self._temperature,
            "max_tokens": self._max_tokens,
            "seed": seed,
            "stream": False,
        }
        key = self._key()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = json.dumps(body).encode()
        attempt = 0
        while True:
            attempt += 1
            try:
                return _text(asyncio.run(self._post(data, headers)))
            except _PassingError as failure:
                if attempt > self._retries:
                    raise ServedModelError(self._line(f"{failure} (tried {attempt} times)", key)) from None
                self._sleep(min(LONGEST_WAIT, max(failure.wait, _FIRST_WAIT * 2.0 ** min(attempt - 1, 10))))
            except ServedModelError as error:
                raise ServedModelError(self._line(str(error), key)) from None

    def _key(self) -> str:
        if self._key_variable is None:
            return ""
        key = os.environ.get(self._key_variable, "").strip()
        if not key:
            raise ServedModelError(f"the environment variable {self._key_variable} holds no key for {self._url}")
        if not (key.isascii() and key.isprintable()):
            raise ServedModelError(f"the environment variable {self._key_variable} holds what cannot be a key")
        return key

    async def _post(self, data: bytes, headers: dict[str, str]) -> bytes:
        """Make one try. Its deadline covers everything: httpx's own timeouts begin again with every byte."""
        try:
            async with (
                asyncio.timeout(self._timeout),
                httpx.AsyncClient(
                    trust_env=False, follow_redirects=False, verify=self._tls, timeout=self._timeout
                ) as client,
                client.stream("POST", self._url, content=data, headers=headers) as response,
            ):
                answer = await _read(response)
        except (TimeoutError, httpx.TimeoutException):
            raise _PassingError(f"no answer within {self._timeout:g} s") from None
        except (httpx.TransportError, OSError, UnicodeError) as error:  # a host's name may be impossible to encode
            raise _PassingError(f"no answer ({type(error).__name__}: {error})") from None
        if response.status_code == 429 or response.status_code >= 500:
            raise _PassingError(_refusal(response, answer), _asked_wait(response))
        if response.status_code != 200:
            raise ServedModelError(_refusal(response, answer))
        return answer

    def _line(self, words: str, key: str) -> str:
        """One printable line without the key, which servers like to repeat."""
        clean = words.replace(key, "[key]") if key else words
        return f"{self._model} at {self._url}: {one_line(clean, _MAX_LETTERS)}"


def _endpoint(base_url: str) -> str:
    """Return the URL to post to; refuse one that is not an endpoint's, without repeating a password in it."""
    try:
        parts = urlsplit(base_url)
        _ = parts.port
        httpx.URL(base_url)
    except (ValueError, httpx.InvalidURL):
        raise ServedModelError(
            "the endpoint's URL has an invalid address or port; write one such as http://127.0.0.1:8000/v1"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServedModelError("the endpoint must be a URL such as http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise ServedModelError(
            "the endpoint's URL must hold neither a user nor a query; a key goes into the environment"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/chat/completions"


async def _read(response: httpx.Response) -> bytes:
    """Return the whole body, as it was sent: decompressing could make it larger than anybody's memory."""
    found = bytearray()
    async for chunk in response.aiter_raw():
        found += chunk
        if len(found) > _MAX_BYTES:
            raise ServedModelError(f"an answer of more than {_MAX_BYTES} bytes")
    return bytes(found)


def _text(answer: bytes) -> str:
    try:
        choice = json.loads(answer)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise ServedModelError("its answer is no chat completion") from None
    if not isinstance(text, str):
        raise ServedModelError(f"its answer holds no text (finish_reason {choice.get('finish_reason')!r})")
    return text


def _refusal(response: httpx.Response, answer: bytes) -> str:
    words = answer.decode("utf-8", "replace")
    # Where they are not JSON, the words stand as they are.
    with suppress(ValueError, RecursionError, LookupError, TypeError):
        error = json.loads(words)["error"]
        words = str(error["message"] if isinstance(error, dict) else error)
    return f"{response.status_code} {response.reason_phrase}: {words}"


def _asked_wait(response: httpx.Response) -> float:
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else 0.0
