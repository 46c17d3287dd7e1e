"""Models that play in performances, in a process of their own that is started when one is asked for.

The process speaks JSON, one object a line: it is sent a request, and answers with one line. It holds one model at a
time. Whatever it does (die, hang, flood, answer nonsense), the server goes on, and the performance ends with an error.

Requests and answers:
  {"play": {"policy", "world", "scenario", "rules"}}   {"ready": {"name", "version", "digest", "model", "colleagues",
                                                       "style"}} or {"unavailable": "why"}
  {"turn": {"taken": [[action, completion or null], …]}}   {"action", "version", "digest", "completion", "log_probs"}
                                                       or {"failed": "why"}
`taken` are the actions since the last turn, as records spell them, the model's own included; a completion stands with
those that this model wrote before the performance began.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from chaosops_ray.plain_text import one_line
from chaosops_ray.serve.control_room.performances import BrokenOffError, UnavailableError
from chaosops_ray.sim.contract import STYLES, AnyEnvironment, Scenario, Style
from chaosops_ray.sim.errors import InputError
from chaosops_ray.store.files import parse_object
from chaosops_ray.wire import Origin

LOAD_SECONDS = 300.0  # to start the process and to load a model
TURN_SECONDS = 120.0
_LONGEST_LINE = 4 << 20
_LONGEST_WHY = 600
_PIECE = 1 << 16
_ENDING = "the server is ending"
KINDS = ("trained", "model", "served")
_GOODBYE = 0.5  # seconds until a process that was asked to end is killed


def named(spelling: str) -> dict[str, str]:
    """Return the models of a comma-separated list, by the names that pages show: a URL may hold a key."""
    found: dict[str, str] = {}
    for given in spelling.split(",") if spelling else []:
        kind, _, what = given.partition("=")
        if kind not in KINDS or not what:
            raise InputError(f"{given[:80]!r} is not a model; write trained=RUN, model=NAME or served=MODEL@URL")
        name = given.partition("@")[0] if kind == "served" else given
        if name in found:
            raise InputError(f"policy {name} is named twice")
        found[name] = given
    return found


class Models:
    """The process of models, and what it may load: runs of the folder of runs, and what else was named."""

    def __init__(
        self,
        command: Sequence[str],
        named: Mapping[str, str] = MappingProxyType({}),
        load_seconds: float = LOAD_SECONDS,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self.named = named  # what whoever started the server permits beside trained=RUN, by what pages call it
        self._command = tuple(command)
        self._load_seconds = load_seconds
        self._turn_seconds = turn_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""  # what came after the last line
        self._is_ended = False

    @contextmanager
    def playing(self, spelling: str, environment: AnyEnvironment, scenario: Scenario, rules: str) -> Iterator[Loaded]:
        """Yield the model of this spelling, loaded for a performance of this scenario.

        UnavailableError if it cannot be. One performance at a time has the process; others are refused.
        """
        if not self._lock.acquire(blocking=False):
            raise UnavailableError("the process for models is playing for another page; try again in a moment")
        try:
            request = {
                "policy": spelling,
                "world": environment.name,
                "scenario": scenario.identity,
                "rules": rules,
            }
            try:
                answer = self._ask({"play": request}, self._load_seconds)
            except BrokenOffError as error:
                raise UnavailableError(str(error)) from None
            if "unavailable" in answer:
                raise UnavailableError(one_line(str(answer["unavailable"]), _LONGEST_WHY))
            try:
                loaded = Loaded(self, answer["ready"])
            except (KeyError, TypeError, ValueError, AttributeError):
                self._kill()
                raise UnavailableError("the process for models answered with nonsense; it was ended") from None
            yield loaded
        finally:
            if self._is_ended:
                self._kill()
            self._lock.release()

    def turn(self, taken: Sequence[tuple[str, str | None]], seconds: float) -> dict[str, Any]:
        """Return the answer to a turn."""
        return self._ask({"turn": {"taken": taken}}, min(seconds, self._turn_seconds))

    def nonsense(self) -> BrokenOffError:
        """End the process; return the error of an answer that cannot be understood."""
        self._kill()
        return BrokenOffError("the process for models answered with nonsense; it was ended")

    def end(self) -> None:
        """End the process for good; whoever waits for it gets an error."""
        self._is_ended = True
        if self._lock.acquire(blocking=False):
            self._kill()
            self._lock.release()
            return
        # A performance has it, and closes the pipes: it is reading from one, or will ask again.
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request; return the answer. BrokenOffError ends the process with it."""
        until = time.monotonic() + seconds
        process = self._running()
        try:
            self._send(process, json.dumps(request).encode() + b"\n", until, seconds)
            line = self._line(process, until, seconds)
        except OSError:
            line = b""
        if not line:
            raise BrokenOffError(self._why_it_ended(process))
        answer = parse_object(line)
        if answer is None:
            raise self.nonsense()
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._is_ended:
            raise BrokenOffError(_ENDING)
        if self._process is not None and self._process.poll() is not None:
            self._kill()  # it ended by itself, after a while without a request
        if self._process is None:
            self._rest = b""
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the command line's own
                    self._command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
                os.set_blocking(self._process.stdin.fileno(), False)  # type: ignore[union-attr]
            except OSError as error:
                raise BrokenOffError(f"the process for models cannot be started: {error.strerror}") from None
        return self._process

    def _send(self, process: subprocess.Popen[bytes], line: bytes, until: float, seconds: float) -> None:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        pipe = process.stdin.fileno()
        while line:
            if not select.select([], [pipe], [], max(0.0, until - time.monotonic()))[1]:
                raise self._late(seconds)
            line = line[os.write(pipe, line[:_PIECE]) :]

    def _line(self, process: subprocess.Popen[bytes], until: float, seconds: float) -> bytes:
        """Return the next line; b"" if the process has ended."""
        assert process.stdout is not None  # noqa: S101 - for the type checker
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise self._late(seconds)
            piece = os.read(process.stdout.fileno(), _PIECE)
            if not piece:
                return b""
            self._rest += piece
            if len(self._rest) > _LONGEST_LINE:
                raise self.nonsense()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _late(self, seconds: float) -> BrokenOffError:
        self._kill()
        return BrokenOffError(f"the process for models did not answer within {seconds:.3g} s; it was ended")

    def _why_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        self._kill()
        if self._is_ended:
            return _ENDING
        code = process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = "; it may have needed more memory than there is" if -code == signal.SIGKILL else ""
            return f"the process for models was ended by {name}{hint}"
        return f"the process for models ended with exit code {code}"

    def _kill(self) -> None:
        """End the process, if there is one, and forget it."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()  # a process whose input ends has no reason to stay
            except OSError:
                continue
        try:
            process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Loaded:
    """A model that is loaded, for one performance: see `performances.Model`."""

    def __init__(self, models: Models, ready: Mapping[str, Any]) -> None:
        self.name = _text(ready["name"])
        self.version, self.digest = _whole(ready["version"]), _text(ready["digest"])
        self.described: Mapping[str, Any] = _flat(ready["model"])
        self.colleagues: Mapping[str, str] = {_text(role): _text(name) for role, name in ready["colleagues"].items()}
        (self.style,) = [style for style in STYLES if style == ready["style"]]
        self._models = models
        self._taken: list[tuple[str, str | None]] = []

    style: Style

    def follow(self, action: str, completion: str | None) -> None:
        """Take note of an action."""
        self._taken.append((action, completion))

    def act(self, seconds: float) -> tuple[str, Origin]:
        """Return the action of the seat whose turn it is, as records spell it."""
        taken, self._taken = self._taken, []
        answer = self._models.turn(taken, seconds)
        if "failed" in answer:
            raise BrokenOffError(one_line(str(answer["failed"]), _LONGEST_WHY))
        try:
            log_probs = tuple([_number(one) for one in answer["log_probs"]])
            origin = Origin(_whole(answer["version"]), _text(answer["digest"]), _text(answer["completion"]), log_probs)
            action = _text(answer["action"])
        except (KeyError, TypeError, ValueError):
            raise self._models.nonsense() from None
        if origin[:2] != (self.version, self.digest):
            raise BrokenOffError(
                f"version {self.version} was asked and version {origin.version} ({origin.digest[:12]}) answered; "
                "its action was not taken"
            )
        return action, origin


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("not a number")
    return float(value)


def _flat(value: Any) -> Mapping[str, Any]:
    if not all(isinstance(one, str | int | float | None) for one in value.values()):
        raise TypeError("not flat")
    return dict(value)
