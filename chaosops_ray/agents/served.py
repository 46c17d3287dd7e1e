"""Any served model, by the chat completions endpoint that everybody offers: text in, text out.

No token engine: it cannot be learnt from, only evaluated. The standard library is enough for it. Redirects are not
followed, and proxies not asked: a key goes to the host that was named and to no other.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from chaosops_ray.plain_text import one_line

LONGEST_WAIT = 30.0
_FIRST_WAIT = 0.5
_MAX_BYTES = 8 << 20
_MAX_LETTERS = 300


class ServedModelError(RuntimeError):
    """The endpoint cannot be used, or did not answer; the message says why and what to do."""


class _PassingError(Exception):
    """A failure that may be gone the next time; how long the server wants us to wait."""

    def __init__(self, words: str, wait: float = 0.0) -> None:
        super().__init__(words)
        self.wait = wait


class OpenAISampler:
    """A model behind a chat completions endpoint.

    `key_variable` names the environment variable that holds the API key; without it no key is sent. `timeout` is for
    one try, in seconds; a try that fails for a passing reason (429, 5xx, no connection) is repeated `retries` times,
    waiting twice as long each time, or as long as the server says, and never longer than half a minute.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            parts = urlsplit(base_url)
            port = parts.port
        except ValueError:
            raise ServedModelError("the endpoint's URL has an address or a port that is none") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServedModelError("the endpoint must be a URL such as http://127.0.0.1:8000/v1")
        if parts.username is not None or parts.query or parts.fragment:
            raise ServedModelError(
                "the endpoint's URL must hold neither a user nor a query; a key goes into the environment"
            )
        self._connection: type[HTTPConnection] = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._port = port or self._connection.default_port
        self._host = parts.hostname
        self._path = parts.path.rstrip("/") + "/chat/completions"
        self._where = f"{parts.scheme}://{parts.netloc}{self._path}"
        self._model = model
        self._key_variable = key_variable
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._timeout = timeout
        self._retries = retries
        self._sleep = sleep
        self._clock = clock

    def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> str:
        """What the model answers to a conversation."""
        body = {
            "model": self._model,
            "messages": [dict(message) for message in messages],
            "temperature": self._temperature,
            "max_tokens": self._max_tokens,
            "seed": seed,
            "stream": False,
        }
        key = self._key()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = json.dumps(body).encode()
        attempt = 0
        while True:
            attempt += 1
            try:
                return _text(self._post(data, headers))
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
            raise ServedModelError(f"the environment variable {self._key_variable} holds no key for {self._where}")
        if not (key.isascii() and key.isprintable()):
            raise ServedModelError(f"the environment variable {self._key_variable} holds what cannot be a key")
        return key

    def _post(self, data: bytes, headers: dict[str, str]) -> bytes:
        until = self._clock() + self._timeout
        try:
            with closing(self._connection(self._host, self._port, timeout=self._timeout)) as connection:
                connection.request("POST", self._path, data, headers)
                with connection.getresponse() as response:
                    answer = self._read(response, until)
        except TimeoutError:
            raise _PassingError(f"no answer within {self._timeout:g} s") from None
        except (OSError, HTTPException, UnicodeError) as error:
            raise _PassingError(f"no answer ({type(error).__name__}: {error})") from None
        if response.status == 429 or response.status >= 500:
            raise _PassingError(_refusal(response, answer), _asked_wait(response))
        if response.status != 200:
            raise ServedModelError(_refusal(response, answer))
        return answer

    def _read(self, response: HTTPResponse, until: float) -> bytes:
        """The whole answer; a server that sends a byte now and then does not hold us beyond the deadline."""
        found = bytearray()
        while chunk := response.read1(1 << 16):
            found += chunk
            if len(found) > _MAX_BYTES:
                raise ServedModelError(f"an answer of more than {_MAX_BYTES} bytes")
            if self._clock() > until:
                raise TimeoutError
        if response.length:
            raise _PassingError("an answer that breaks off")
        return bytes(found)

    def _line(self, words: str, key: str) -> str:
        """One line without the key, which servers like to repeat, and without what would move a terminal's cursor."""
        clean = words.replace(key, "[key]") if key else words
        return f"{self._model} at {self._where}: {one_line(clean, _MAX_LETTERS)}"


def _text(answer: bytes) -> str:
    try:
        choice = json.loads(answer)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise ServedModelError("its answer is no chat completion") from None
    if not isinstance(text, str):
        raise ServedModelError(f"its answer holds no text (finish_reason {choice.get('finish_reason')!r})")
    return text


def _refusal(response: HTTPResponse, answer: bytes) -> str:
    words = answer.decode("utf-8", "replace")
    # Where they are not JSON, the words stand as they are.
    with suppress(ValueError, RecursionError, LookupError, TypeError):
        error = json.loads(words)["error"]
        words = str(error["message"] if isinstance(error, dict) else error)
    return f"{response.status} {response.reason}: {words}"


def _asked_wait(response: HTTPResponse) -> float:
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else 0.0
