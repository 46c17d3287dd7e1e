"""The chat completions endpoint that nearly every model server offers: text in, text out.

The key goes only to the named host: redirects are not followed, and neither proxies nor netrc are read from the
environment. An answer is bounded in bytes and in time, and never decompressed.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import httpx

from chaosops_ray.agents.served import ServedModelError
from chaosops_ray.plain_text import one_line, without

LONGEST_WAIT = 30.0
_FIRST_WAIT = 0.5
_MAX_BYTES = 8 << 20
_SAMPLING = {"temperature": 0.0, "stream": False}
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}


class _PassingError(Exception):
    """A failure that may not occur again; `wait` is the delay in seconds that the server asks for."""

    def __init__(self, words: str, wait: float = 0.0) -> None:
        super().__init__(words)
        self.wait = wait


class Answer(NamedTuple):
    """A model's answer: its text, and the first of the tools that it called, with the arguments as it wrote them."""

    text: str
    tool: str | None = None
    arguments: str = ""


class OpenAISampler:
    """A model behind a chat completions endpoint.

    `key_variable` names the environment variable that holds the API key; without it no key is sent. `timeout` is for
    one try as a whole, in seconds; a try that fails for a passing reason (429, 5xx, no connection) is repeated
    `retries` times, waiting twice as long each time, or as long as the server says, up to `LONGEST_WAIT`. An answer
    has at most `max_tokens`. `complete` blocks; do not call it from within an event loop.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_variable: str | None = None,
        timeout: float = 120.0,
        retries: int = 5,
        max_tokens: int = 512,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = _endpoint(base_url)
        # The system's certificates, read once because it takes a while; without TLS none are trusted.
        uses_tls = self._url.startswith("https:")
        self._tls = ssl.create_default_context() if uses_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._model = model
        self._key_variable = key_variable
        self._timeout = timeout
        self._retries = retries
        self._sampling = {**_SAMPLING, "max_tokens": max_tokens}
        self._sleep = sleep

    def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> str:
        """Return the model's answer to a conversation."""
        return self.answer(messages, seed).text

    def answer(
        self, messages: Sequence[Mapping[str, str]], seed: int, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Answer:
        """Return the model's answer to a conversation in which it may call tools, given in OpenAI's form."""
        body = {
            "model": self._model,
            "messages": [dict(message) for message in messages],
            "seed": seed,
            **self._sampling,
            **({"tools": list(tools)} if tools else {}),
        }
        key = self._key()
        headers = _HEADERS | ({"Authorization": f"Bearer {key}"} if key else {})
        attempt = 0
        while True:
            attempt += 1
            try:
                return _answer(asyncio.run(self._post(json.dumps(body).encode(), headers)), with_tools=bool(tools))
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
            raise ServedModelError(f"the environment variable {self._key_variable} holds no key; set it")
        if not (key.isascii() and key.isprintable()):
            raise ServedModelError(
                f"the environment variable {self._key_variable} holds no valid key: only printable ASCII is allowed"
            )
        return key

    async def _post(self, data: bytes, headers: dict[str, str]) -> bytearray:
        """Make one try. Its deadline covers everything: httpx's own timeouts begin again with every byte."""
        answer = bytearray()
        client = httpx.AsyncClient(trust_env=False, follow_redirects=False, verify=self._tls, timeout=self._timeout)
        try:
            async with (
                asyncio.timeout(self._timeout),
                client,
                client.stream("POST", self._url, content=data, headers=headers) as response,
            ):
                async for chunk in response.aiter_raw():  # as sent: decompressed, it could exceed the memory
                    answer += chunk
                    if len(answer) > _MAX_BYTES:
                        raise ServedModelError(f"the answer exceeds {_MAX_BYTES} bytes")
        except (TimeoutError, httpx.TimeoutException):
            raise _PassingError(f"no answer within {self._timeout:g} s") from None
        except (httpx.TransportError, OSError, UnicodeError) as error:  # a host's name may be impossible to encode
            raise _PassingError(f"no answer ({type(error).__name__}: {error})") from None
        if response.status_code == 429 or response.status_code >= 500:
            asked = response.headers.get("Retry-After", "")
            wait = float(asked) if asked.isascii() and asked.isdigit() else 0.0
            raise _PassingError(_refusal(response, answer), wait)
        if response.status_code != 200:
            raise ServedModelError(_refusal(response, answer))
        return answer

    def _line(self, words: str, key: str) -> str:
        """Return one line without the key, which servers like to repeat."""
        return f"{self._model} at {self._url}: {one_line(without(key, words))}"


def _endpoint(base_url: str) -> str:
    """Return the URL to post to; errors never repeat it, because it may hold a password."""
    try:
        url = httpx.URL(base_url)
        is_whole = url.scheme in ("http", "https") and bool(url.host) and (url.port or 0) < 1 << 16
    except (ValueError, httpx.InvalidURL):
        is_whole = False
    if not is_whole:
        raise ServedModelError("the endpoint is not a valid URL; write one such as http://127.0.0.1:8000/v1")
    if url.userinfo or url.query or url.fragment:
        raise ServedModelError("the endpoint's URL must have no user and no query; put the key into the environment")
    return str(url.copy_with(path=f"{url.path.rstrip('/')}/chat/completions"))


def _answer(data: bytearray, *, with_tools: bool) -> Answer:
    try:
        choice = json.loads(data)["choices"][0]
        message = choice["message"]
        text = message.get("content")
        if with_tools and message.get("tool_calls"):
            call = message["tool_calls"][0]["function"]
            tool, arguments = call["name"], call["arguments"]
            # Some servers send the object itself.
            arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
            return Answer(text if isinstance(text, str) else "", str(tool), arguments)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ServedModelError("the answer is not a chat completion") from None
    if not isinstance(text, str):
        raise ServedModelError(f"the answer holds no text (finish_reason {choice.get('finish_reason')!r})")
    return Answer(text)


def _refusal(response: httpx.Response, answer: bytearray) -> str:
    words = answer.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError, LookupError, TypeError):  # not JSON: give the body as it is
        error = json.loads(words)["error"]
        words = str(error["message"] if isinstance(error, dict) else error)
    return f"{response.status_code} {response.reason_phrase}: {words}"
