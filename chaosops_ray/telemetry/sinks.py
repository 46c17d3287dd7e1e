"""Sinks: where the metrics of a run go beside metrics.jsonl. None of them can end, change or delay a training.

Each sink has a thread of its own, so that nobody waits for a disk or a network. What a sink cannot take is counted and
said once; the next update is tried again.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from chaosops_ray.plain_text import one_line
from chaosops_ray.telemetry.table import Sample, samples

# How often a sink may do what it does between two updates.
IDLE_SECONDS = 5.0
# How long the end of a run waits for what is still on its way.
CLOSE_SECONDS = 60.0
_WAITING = 100  # updates that may wait for a sink before some are dropped
# Variables whose values must not be in any message, whatever a foreign library writes into its errors.
_SECRETS = ("WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")


class SinkError(ValueError):
    """A sink cannot be used as things are. The message is one line that names the remedy."""


class Sink(Protocol):
    """A place for metrics; only one thread calls it."""

    def write(self, samples: Sequence[Sample], update: int) -> None:
        """Take the samples of an update; updates are repeated after the learner died."""
        ...

    def idle(self) -> None:
        """Do what has to be done every few seconds, if anything."""
        ...

    def close(self) -> None:
        """Write what is left, and end."""
        ...


class Described(NamedTuple):
    """What a sink is told of the run."""

    name: str
    folder: Path
    settings: Mapping[str, Any]  # its configuration, with dotted keys


class _Kind(NamedTuple):
    """A sink of the configuration: its module, and the package and the variable that it needs."""

    module: str
    package: str = ""
    variable: str = ""


KINDS = {
    "prometheus": _Kind("chaosops_ray.telemetry.prometheus"),
    "tensorboard": _Kind("chaosops_ray.telemetry.tensorboard"),
    "wandb": _Kind("chaosops_ray.telemetry.wandb", "wandb"),
    "mlflow": _Kind("chaosops_ray.telemetry.mlflow", variable="MLFLOW_TRACKING_URI"),
}


def check(names: Sequence[str]) -> None:
    """Raise SinkError if a sink's package is not installed, or if it does not know where to send."""
    for name in names:
        package, variable = KINDS[name].package, KINDS[name].variable
        if package and find_spec(package) is None:
            raise SinkError(f"telemetry: {name} needs a package; install it with: pip install {package}")
        if variable and not os.environ.get(variable):
            raise SinkError(f"telemetry: {name} needs a server; set {variable} to its address")


@contextmanager
def opened(names: Sequence[str], described: Described, say: Callable[[str], None]) -> Iterator[Sinks]:
    """Open the sinks of a run, or raise SinkError. At the end, wait a while for what they still have to send."""
    check(names)
    given = {name: import_module(KINDS[name].module).opened(described) for name in dict.fromkeys(names)}
    sinks = Sinks(given, say)
    try:
        yield sinks
    finally:
        sinks.close()


class Sinks:
    """The open sinks of a run."""

    def __init__(
        self, sinks: Mapping[str, Sink], say: Callable[[str], None] = lambda _text: None, idle: float = IDLE_SECONDS
    ) -> None:
        self._threads = [_Thread(name, sink, idle) for name, sink in sinks.items()]
        self._say = say
        self._said: set[str] = set()

    @property
    def failed(self) -> dict[str, int]:
        """How many updates each sink could not take, of those that could not take all."""
        return {thread.name: thread.failed for thread in self._threads if thread.failed}

    def send(self, row: Mapping[str, Any]) -> None:
        """Give an update's row of metrics to all sinks, and return at once; say what has failed since."""
        for thread in self._threads:
            thread.send(row)
        self._say_what_failed()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait until the sinks have what was sent, no longer than so many seconds together."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.end()
        for thread in self._threads:
            thread.wait(until)
        self._say_what_failed()

    def _say_what_failed(self) -> None:
        for thread in self._threads:
            if thread.why and thread.name not in self._said:
                self._said.add(thread.name)
                self._say(thread.why)


class _Thread(threading.Thread):
    """A sink, and the updates that wait for it."""

    def __init__(self, name: str, sink: Sink, idle: float) -> None:
        super().__init__(name=name, daemon=True)  # a network that hangs must not keep the process
        self._sink = sink
        self._idle = idle
        self._rows: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_WAITING)
        self._ends = threading.Event()
        self.failed = 0
        self.why = ""  # of the first failure
        self.start()

    def send(self, row: Mapping[str, Any]) -> None:
        """Let an update wait for the sink; drop it if too many do."""
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self._failure(f"update {row['update']}", f"{_WAITING} updates already wait for it")

    def end(self) -> None:
        """Let the thread end after what waits."""
        self._ends.set()
        try:
            self._rows.put_nowait(None)  # wakes it up
        except queue.Full:
            return  # it is awake

    def wait(self, until: float) -> None:
        """Wait for the end of the thread, and count what it has not taken by then."""
        self.join(max(0.0, until - time.monotonic()))
        if self.is_alive():
            left = max(1, self._rows.qsize() - 1)
            self._failure("the end", "it does not answer", left)

    def run(self) -> None:
        """Give the updates to the sink, one after the other."""
        while not (self._ends.is_set() and self._rows.empty()):
            try:
                row = self._rows.get(timeout=self._idle)
            except queue.Empty:
                self._try("between updates", self._sink.idle)
            else:
                if row is not None:
                    self._write(row)
        self._try("the end", self._sink.close)

    def _write(self, row: Mapping[str, Any]) -> None:
        update = row["update"]
        self._try(f"update {update}", lambda: self._sink.write(samples(row), update))

    def _try(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # noqa: BLE001 - whatever a foreign library raises, the training goes on
            self._failure(what, one_line(error) or type(error).__name__)

    def _failure(self, what: str, why: str, count: int = 1) -> None:
        self.failed += count
        if not self.why:
            self.why = f"telemetry: {self.name} failed at {what}: {without_secrets(why)}; the training goes on"


def without_secrets(text: str) -> str:
    """Return the text without the keys that open the services."""
    for name in _SECRETS:
        secret = os.environ.get(name)
        text = text.replace(secret, f"<{name}>") if secret else text
    return text


NO_SINKS = Sinks({})
