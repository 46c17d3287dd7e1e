"""A run that is asked to end: at once, or when it has finished what it does."""

from __future__ import annotations

import os
import signal

import pytest

from chaosops_ray.workers.stop import GRACE_SECONDS, LOOK_SECONDS, Stop, StopError, on_sigterm


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_who_does_not_look_ends_at_once() -> None:
    with pytest.raises(StopError, match="told to"):
        Stop().ask("told to")


def test_who_looks_may_finish_for_a_while() -> None:
    clock = Clock()
    stop = Stop(clock=clock)
    with stop.asked_for():
        stop.check()
        stop.ask("told to")
        stop.ask("told again")
        with stop.finishing():
            stop.check()
            clock.now += GRACE_SECONDS - 0.1
            stop.check()
        with pytest.raises(StopError, match="told to"):
            stop.check()
        clock.now += 0.1
        with stop.finishing(), pytest.raises(StopError, match="told to"):
            stop.check()


def test_another_reason_is_looked_for_once_a_second() -> None:
    clock, looks, answers = Clock(), list[float](), [None, None, "the node goes"]

    def look() -> str | None:
        looks.append(clock.now)
        return answers[len(looks) - 1]

    stop = Stop(look, clock)
    for _ in range(4):
        stop.check()
        clock.now += LOOK_SECONDS / 2
    with stop.finishing():
        stop.check()  # it is found out now, and there is time to finish
    assert looks == [100.0, 100.0 + LOOK_SECONDS, 100.0 + 2 * LOOK_SECONDS]
    with pytest.raises(StopError, match="the node goes"):
        stop.check()


def test_a_signal_asks_and_a_second_one_ends_the_process() -> None:
    """In a process of its own, for the second signal ends it."""
    child = os.fork()
    if not child:
        try:
            stop = Stop()
            with on_sigterm(stop), stop.asked_for():
                os.kill(os.getpid(), signal.SIGTERM)
                if stop.why == "SIGTERM":
                    os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_afterwards_the_signal_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with on_sigterm(Stop()):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def broken_by_the_signal() -> None:
    """As a call of Ray is, during which a signal arrives."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except StopError as error:
        raise SystemError("a call returned a result with an exception set") from error


def test_a_call_that_the_signal_broke_is_the_signal_s_doing() -> None:
    with pytest.raises(StopError, match="SIGTERM"), on_sigterm(Stop()):
        broken_by_the_signal()
    with pytest.raises(SystemError, match="odd"), on_sigterm(Stop()):
        raise SystemError("odd")
