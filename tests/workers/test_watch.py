"""Waiting with a clock that the test moves: answers, pings and the dead."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ray.exceptions import RayError

from chaosops_ray.workers.liveness import Limits
from chaosops_ray.workers.stop import GRACE_SECONDS, LOOK_SECONDS, Stop, StopError
from chaosops_ray.workers.watch import Answers, GoneError, Watch

LIMITS = Limits(quiet=10.0, silence=30.0, start=100.0)


class World:
    """Actors that answer at their times; time passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: dict[int, tuple[float, Any]] = {}
        self.pinged: list[float] = []
        self.stopped_at = self.stopped_for = math.inf  # when the process that waits is stopped, and for how long
        self.watch = Watch(LIMITS, Answers(self.wait, self.get, lambda: self.now))

    def wait(self, refs: list[int], seconds: float | None) -> list[int]:
        end = min([math.inf if seconds is None else self.now + seconds, *[self.due[ref][0] for ref in refs]])
        assert end < math.inf, "this wait would never end"
        self.now = max(self.now, end)
        if self.now >= self.stopped_at:
            # It wakes up when its own time is over, and has not read yet what came meanwhile.
            self.now, self.stopped_at = self.now + self.stopped_for, math.inf
            return []
        return [ref for ref in refs if self.due[ref][0] <= self.now]

    def get(self, ref: int) -> Any:
        _, value = self.due[ref]
        if isinstance(value, Exception):
            raise value
        return value

    def answers(self, after: float, value: Any = None) -> int:
        """What is there after so many seconds."""
        ref = len(self.due)
        self.due[ref] = self.now + after, value
        return ref

    def start(self, name: str, answers: float = 1.0, value: Any = None) -> None:
        """An actor that is heard of at once and answers pings so many seconds later."""

        def ping() -> int:
            self.pinged.append(self.now)
            return self.answers(answers, value)

        self.watch.started(name, ping)
        self.watch.heard(name)

    def ask(self, after: float, value: Any = "done", limit: float = 500.0) -> Any:
        return self.watch.answer("one", "work", limit, self.answers(after, value))


@pytest.fixture
def world() -> World:
    made = World()
    made.start("one")
    return made


def test_an_answer_is_returned_and_pings_come_only_to_the_quiet(world: World) -> None:
    assert world.ask(5.0) == "done"
    assert world.pinged == []
    assert world.ask(25.0, "again") == "again"
    assert world.pinged == [15.0, 26.0]


def test_an_error_is_raised_as_it_is(world: World) -> None:
    with pytest.raises(KeyError, match="mine"):
        world.ask(5.0, KeyError("mine"))


def test_a_stopped_process_is_told_after_its_silence() -> None:
    world = World()
    world.start("one", answers=math.inf)
    with pytest.raises(GoneError, match=r"one: no sign of life for 40 s, while work") as told:
        world.ask(math.inf)
    assert world.now == 40.0
    assert list(told.value.dead) == ["one"]


def test_a_process_that_hangs_and_answers_pings_is_told_at_its_deadline(world: World) -> None:
    with pytest.raises(GoneError, match="one: work took longer than 200 s"):
        world.ask(math.inf, limit=200.0)
    assert world.now == 200.0


def test_a_process_that_never_starts_is_told() -> None:
    world = World()
    world.watch.started("one", lambda: world.answers(math.inf))
    with pytest.raises(GoneError, match="one: not heard of since it was started 100 s ago, while work"):
        world.ask(math.inf, limit=20.0)


def test_a_request_waits_for_the_start(world: World) -> None:
    world.watch.started("one", lambda: world.answers(90.0 - world.now))
    assert world.ask(105.0, limit=20.0) == "done"


def test_a_ping_that_fails_is_the_end() -> None:
    world = World()
    world.start("one", value=RayError("the engine\ndied"))
    with pytest.raises(GoneError, match="one: the engine"):
        world.ask(math.inf)


def test_a_ping_of_an_earlier_wait_counts_for_nothing() -> None:
    world = World()
    world.start("one", answers=20.0)
    assert world.ask(15.0) == "done"  # pinged at 10, and done before the ping is answered
    world.now = 100.0
    assert world.ask(5.0) == "done"
    assert world.ask(60.0) == "done"


def test_one_of_many_is_dead_while_another_works(world: World) -> None:
    world.start("two", answers=math.inf)
    with pytest.raises(GoneError) as told:
        world.watch.first([world.answers(math.inf)], {"one": "playing", "two": "playing"})
    assert list(told.value.dead) == ["two"]
    assert world.now == 40.0


def test_one_that_is_not_waited_for_is_not_judged(world: World) -> None:
    world.start("two", answers=math.inf)
    assert world.watch.first([world.answers(90.0)], {"one": "playing"})
    assert world.now == 90.0


def test_an_answer_of_many_is_no_sign_of_life_of_each(world: World) -> None:
    world.start("two")
    for _ in range(2):
        assert world.watch.first([world.answers(8.0), world.answers(900.0)], {"one": "playing", "two": "playing"})
    assert world.pinged == [10.0, 10.0]


def test_patience_ends_a_wait_and_nobody_s_life(world: World) -> None:
    slow = world.answers(100.0, "late")
    assert world.watch.first([slow], {"one": "playing"}, patience=25.0) == []
    assert world.now == 25.0
    assert world.watch.first([slow], {"one": "playing"}, patience=100.0) == [slow]


def test_what_is_there_already_is_returned_at_once(world: World) -> None:
    there = world.answers(0.0, "now")
    world.now = 1000.0  # quiet for long: it is pinged, but nobody waits for the ping
    assert world.watch.first([there], {"one": "playing"}) == [there]
    assert world.now == 1000.0


@pytest.mark.parametrize("at", [5.0, 10.0, 25.0, 39.0, 40.0])
def test_the_time_in_which_the_driver_itself_was_stopped_counts_against_nobody(world: World, at: float) -> None:
    """Before the ping, while it is on its way, and at the moment that would be its end."""
    world.start("one", answers=29.0)
    world.stopped_at, world.stopped_for = at, 5000.0
    assert world.ask(120.0, limit=200.0) == "done"


def test_who_is_dead_is_told_though_the_driver_was_stopped() -> None:
    world = World()
    world.start("one", answers=math.inf)
    world.stopped_at, world.stopped_for = 25.0, 5000.0
    with pytest.raises(GoneError, match="one: no sign of life"):
        world.ask(math.inf)
    assert world.now == 5070.0  # a whole silence after it woke up


# -- a run that is asked to end ---------------------------------------------------------------------------------------


@pytest.fixture
def stopping(world: World) -> Stop:
    stop = Stop(clock=lambda: world.now)
    world.watch = Watch(LIMITS, Answers(world.wait, world.get, lambda: world.now), stop)
    world.start("one")
    return stop


def asked_after(world: World, stop: Stop, seconds: float) -> None:
    """As a signal would, while somebody waits."""
    wait, since = world.wait, world.now

    def waiting(refs: list[int], limit: float | None) -> list[int]:
        there = wait(refs, limit)
        if world.now - since >= seconds and stop.why is None:
            stop.ask("SIGTERM")
        return there

    world.watch = Watch(LIMITS, Answers(waiting, world.get, lambda: world.now), stop)
    world.start("one")


def test_groups_are_waited_for_no_longer(world: World, stopping: Stop) -> None:
    asked_after(world, stopping, 3.0)
    with stopping.asked_for(), pytest.raises(StopError):
        world.watch.first([world.answers(100.0)], {"one": "playing"})
    assert world.now <= 3.0 + LOOK_SECONDS


def test_what_has_begun_is_finished_if_that_is_soon(world: World, stopping: Stop) -> None:
    asked_after(world, stopping, 3.0)
    with stopping.asked_for(), stopping.finishing():
        assert world.ask(3.0 + GRACE_SECONDS / 2) == "done"
        with pytest.raises(StopError):
            world.ask(GRACE_SECONDS)
    assert world.now <= 3.0 + GRACE_SECONDS + 2 * LOOK_SECONDS
