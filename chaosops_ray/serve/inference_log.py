"""The lines of an inference run: one [START], a [STEP] for each action, one [END].

[END] comes whatever happens in between: an error, Ctrl-C, SIGTERM, SIGHUP. A signal never cuts a line in two.
"""

from __future__ import annotations

import json
import math
import re
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import TextIO

from chaosops_ray.plain_text import one_line, without

UNKNOWN = "null"
MAX_ACTION = 4_000
MAX_NAME = 200
# Some endpoints need no key and are given a word such as "EMPTY"; that is no secret, and may occur in any text.
SHORTEST_SECRET = 8
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InferenceLog:
    """What an inference run has to say on stdout."""

    def __init__(self, out: TextIO, model: str, secret: str = "") -> None:
        """`secret`, the endpoint's key, is hidden wherever a line would hold it."""
        self._out = out
        self._model = model
        self._secret = secret if len(secret) >= SHORTEST_SECRET else ""
        # Where not every character can be written, an action is still JSON.
        self._is_ascii = not (getattr(out, "encoding", None) or "utf-8").lower().startswith("utf")
        self._rewards: list[str] = []
        self._is_success = False
        self._score = 0.0
        self._has_started = self._has_ended = False
        # A signal is raised as KeyboardInterrupt between lines only, and once.
        self._may_raise = False
        self._signal: int | None = None

    def run(self, work: Callable[[InferenceLog, ExitStack], None]) -> None:
        """Do the work, write [END], then close what the work left on the stack, which may take a while.

        After SIGINT this raises KeyboardInterrupt, after SIGTERM it exits with 143, after SIGHUP with 129. Further
        signals are not heard.
        """
        # What `nohup` has set stays set.
        heard = [one for one in _SIGNALS if (one, signal.getsignal(one)) != (signal.SIGHUP, signal.SIG_IGN)]
        before = {number: signal.signal(number, self._interrupt) for number in heard}
        stdout = sys.stdout
        try:
            with ExitStack() as stack:
                # Twice, since the one signal that is raised can come just before the first has begun.
                try:
                    try:
                        sys.stdout = sys.stderr  # whatever else is printed is not for the reader of these lines
                        self._listen()
                        work(self, stack)
                    finally:
                        self.end()
                finally:
                    self.end()
        except BaseException:
            # The signal's own exception may have been wrapped or replaced on its way here.
            if self._signal is None:
                raise
        finally:
            sys.stdout = stdout
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self._signal is not None:
            sys.exit(128 + self._signal)

    def start(self, task: str, env: str) -> None:
        """Write [START]; the names lose their white space."""
        names = [self._shown("_".join(name.split())) or UNKNOWN for name in (task, env)]
        line = f"[START] task={names[0]} env={names[1]} model={self._shown(self._model) or UNKNOWN}"
        self._may_raise = False  # the line and what is known of it go together
        self._has_started = True
        self._write(line)

    def step(self, action: object, reward: float, *, done: bool, error: str | None) -> None:
        """Write [STEP]; the action is written as JSON."""
        earned = two_decimals(reward)
        message = UNKNOWN if error is None else one_line(self.without_secret(error)) or UNKNOWN
        line = (
            f"[STEP] step={len(self._rewards) + 1} action={as_action(action, self._secret, is_ascii=self._is_ascii)} "
            f"reward={earned} done={str(done).lower()} error={message}"
        )
        self._may_raise = False
        self._rewards.append(earned)
        self._write(line)

    def result(self, score: float, *, is_success: bool) -> None:
        """Take down what [END] will say; until then it is no success and a score of 0."""
        self._score, self._is_success = score, is_success

    def end(self) -> None:
        """Write [END], once; a run that failed before it had begun gets its [START] first."""
        if self._has_ended:
            return
        self._may_raise = False
        self._has_ended = True
        if not self._has_started:
            self.start(UNKNOWN, UNKNOWN)
        self._write(
            f"[END] success={str(self._is_success).lower()} steps={len(self._rewards)} "
            f"score={two_decimals(self._score)} rewards={','.join(self._rewards)}"
        )

    def without_secret(self, text: str) -> str:
        """Return the text without the endpoint's key."""
        return without(self._secret, text)

    def _shown(self, name: str) -> str:
        return one_line(self.without_secret(name), MAX_NAME)

    def _write(self, line: str) -> None:
        self._may_raise = False
        self._out.write(f"{line}\n")
        self._out.flush()
        if not self._has_ended:
            self._listen()

    def _listen(self) -> None:
        self._may_raise = True
        if self._signal is not None:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        is_first = self._signal is None
        self._signal = self._signal or number
        if is_first and self._may_raise:
            raise KeyboardInterrupt


def two_decimals(value: float) -> str:
    """Write a number with two decimals, and zero without a sign; ValueError if it is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {value}")
    return f"{round(value, 2) + 0.0:.2f}"


def as_action(action: object, secret: str = "", *, is_ascii: bool = False) -> str:
    """Write an action as JSON on one line, in which no `=` occurs: ` reward=` ends it, whatever a model wrote."""

    def dumped(value: object) -> str:
        return json.dumps(value, ensure_ascii=is_ascii, separators=(",", ":"))

    text = dumped(action)
    if secret:
        # String by string, since across their escapes a replacement could leave half of one.
        text = _STRING.sub(lambda found: dumped(without(secret, json.loads(found[0]))), text)
        if (hidden := without(secret, text)) != text:  # the key is a number
            text = dumped(hidden)
    if len(text) > MAX_ACTION:
        text = dumped(f"{text[:MAX_ACTION]}…")
    return "".join([c if c.isprintable() and c != "=" else _escape(c) for c in text])


def _escape(character: str) -> str:
    return "\\u003d" if character == "=" else json.dumps(character)[1:-1]
