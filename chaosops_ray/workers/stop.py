"""A run that somebody asks to end, with a signal or by draining its node: whoever waits looks here."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# The exit code of a run that can be resumed; sysexits.h calls it a temporary failure.
TO_BE_RESUMED = 75
# What has begun may be finished within this time, and saving counts.
GRACE_SECONDS = 20.0
# Nothing may keep the process longer: a Ray whose processes were ended by the same signal answers nothing for a minute.
END_SECONDS = 28.0
LOOK_SECONDS = 1.0


class StopError(BaseException):
    """The run was asked to end before it was over, and can be resumed.

    Like KeyboardInterrupt it is no Exception, so that no library takes it for an error of its own work.
    """


class Stop:
    """Whether a run was asked to end, and until when it may finish what it does."""

    def __init__(
        self,
        look: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        late: Callable[[], None] | None = None,
    ) -> None:
        """`look` is asked at most once a second; what it returns is the reason to end.

        `late` is called, in a thread of its own, if the process is still there END_SECONDS after it was asked to end.
        """
        self.why: str | None = None
        self._since = 0.0
        self._clock = clock
        self._look = look
        self._late = late
        self._looked = -LOOK_SECONDS
        self._waits = False
        self._finishes = False

    def ask(self, why: str) -> None:
        """Ask the run to end. It ends at once unless it said that it will look by itself."""
        if self.why is None:
            self._asked(why)
        if not self._waits:
            raise StopError(why)

    def _asked(self, why: str) -> None:
        self.why, self._since = why, self._clock()
        if self._late is not None:
            timer = threading.Timer(END_SECONDS, self._late)
            timer.daemon = True
            timer.start()

    @contextmanager
    def asked_for(self) -> Iterator[None]:
        """Within this, the run looks by itself, so that it can save what it has."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Within this, the run is given some time, because what it does would be lost if it were not finished."""
        self._finishes = True
        try:
            yield
        finally:
            self._finishes = False

    def check(self) -> None:
        """Raise StopError if the run was asked to end, and has nothing to finish or no time for it any more."""
        now = self._clock()
        if self.why is None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            why = self._look()
            if why is not None:
                self._asked(why)
        if self.why is not None and not (self._finishes and now - self._since < GRACE_SECONDS):
            raise StopError(self.why)


@contextmanager
def on_sigterm(stop: Stop) -> Iterator[None]:
    """Ask a run to end at the first SIGTERM, and end the process at the second."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return

    def received(_number: int, _frame: FrameType | None) -> None:
        if stop.why is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        stop.ask("SIGTERM")

    former = signal.signal(signal.SIGTERM, received)
    try:
        yield
    except SystemError:
        # What a call of Ray makes of an exception that a signal's handler raises in the middle of it.
        if stop.why is None:
            raise
        raise StopError(stop.why) from None
    finally:
        signal.signal(signal.SIGTERM, former)
