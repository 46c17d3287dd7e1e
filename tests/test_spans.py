"""Spans: recorded by a scripted clock, never more than so many, and moved from the clocks of other machines."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.spans import DRIVER, Recorder, Span, Timeline, Work, covered, within


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def span(start: float, end: float, name: str = "sample") -> Span:
    return Span(name, start, end, end - start)


def test_spans_are_recorded_until_they_are_taken() -> None:
    clock = Clock(5.0)
    recorder = Recorder(clock)
    with recorder.during("load"):
        clock.now = 7.0
    assert recorder.take() == (span(5, 7, "load"),)
    assert recorder.take() == ()


def test_what_runs_several_times_at_once_is_one_span() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    with recorder.during("sample"):
        clock.now = 1.0
        with recorder.during("sample"), recorder.during("load"):
            clock.now = 2.0
        clock.now = 3.0
    assert recorder.take() == (span(1, 2, "load"), span(0, 3))


def test_what_still_runs_is_cut_where_it_is_taken() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    with recorder.during("sample"):
        clock.now = 1.0
        assert recorder.take() == (span(0, 1),)
        clock.now = 4.0
    assert recorder.take() == (span(1, 4),)


def test_what_fails_is_recorded_as_well() -> None:
    clock = Clock()
    recorder = Recorder(clock)

    def failing() -> None:
        with recorder.during("load"):
            clock.now = 2.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert recorder.take() == (span(0, 2, "load"),)


@given(st.lists(st.tuples(st.floats(0.001, 9), st.floats(0, 9), st.sampled_from("ab")), max_size=80), st.integers(2, 8))
def test_there_are_never_more_than_so_many_and_no_work_is_lost(
    work: list[tuple[float, float, str]], limit: int
) -> None:
    clock = Clock()
    recorder = Recorder(clock, limit)
    worked = dict.fromkeys("ab", 0.0)
    switches = 0
    for place, (took, pause, name) in enumerate(work):
        switches += place > 0 and name != work[place - 1][2]
        with recorder.during(name):
            clock.now += took
        worked[name] += took
        clock.now += pause
    spans = recorder.take()
    # Work of another kind is never joined.
    assert len(spans) <= max(limit, 1 + switches)
    assert sum([one.pieces for one in spans]) == len(work)
    for name, seconds in worked.items():
        assert sum([one.worked for one in spans if one.name == name]) == pytest.approx(seconds)
    for before, after in pairwise(spans):
        assert before.end <= after.start


def test_the_driver_s_spans_and_those_of_an_actor_on_its_machine_are_as_they_are() -> None:
    clock = Clock(100.0)
    timeline = Timeline(clock)
    with timeline.during("collect"):
        asked = timeline.now()
        clock.now = 104.0
        timeline.heard("shard-0", asked, Work((span(101, 103, "play"),), 101.0, 103.0))
    tracks = timeline.take()
    assert tracks[DRIVER].spans == (span(100, 104, "collect"),)
    assert tracks["shard-0"] == ((span(101, 103, "play"),), 0.0)
    assert list(timeline.take()) == [DRIVER]


@given(st.floats(-1e5, 1e5), st.lists(st.tuples(*[st.floats(0, 3)] * 3), min_size=1, max_size=9))
def test_spans_of_another_machine_are_placed_within_the_error_that_is_given(
    ahead: float, answers: list[tuple[float, float, float]]
) -> None:
    clock = Clock(50.0)
    timeline = Timeline(clock)
    true: list[float] = []
    for there, took, back in answers:
        asked = clock.now
        taken = asked + there
        answered = taken + took
        clock.now = answered + back
        true.append(taken)
        moved = Span("play", taken + ahead, answered + ahead, took)
        timeline.heard("shard-0", asked, Work((moved,), taken + ahead, answered + ahead))
    spans, error = timeline.take()["shard-0"]
    # An error of 0 says that both read the same clock, which is believed where nothing speaks against it.
    bound = error or min([there for there, _, _ in answers]) + min([back for _, _, back in answers])
    assert error <= min([there + back for there, _, back in answers]) / 2 + 1e-6
    for place, one in zip(sorted(true), spans, strict=True):
        assert abs(one.start - place) <= bound + 1e-6


def test_an_actor_that_was_replaced_had_another_clock() -> None:
    clock = Clock(10.0)
    timeline = Timeline(clock)
    timeline.started("sampler-0")
    timeline.heard("sampler-0", 8.0, Work((span(1008.5, 1009.5),), 1008.5, 1009.5))
    timeline.started("sampler-0")
    clock.now = 20.0
    timeline.heard("sampler-0", 18.0, Work((span(-81.5, -80.5),), -81.5, -80.5))
    spans, error = timeline.take()["sampler-0"]
    assert spans == (span(8.5, 9.5), span(18.5, 19.5))
    assert error == 0.5


def test_an_actor_that_answers_without_having_worked_has_no_track() -> None:
    timeline = Timeline(Clock())
    timeline.heard("sampler-0", 0.0, Work((), 0.0, 0.0))
    assert list(timeline.take()) == [DRIVER]


def test_work_is_counted_inside_intervals() -> None:
    found = [span(0, 2), Span("sample", 4, 8, worked=2.0, pieces=3), span(9, 9)]
    assert within(found, [(1, 6)]) == 1 + 1
    assert within(found, [(0, 1), (8, 10)]) == 1
    assert covered([span(4, 6), span(0, 2), span(1, 3), span(3, 3.5)]) == [(0, 3.5), (4, 6)]
