"""Who is dead, and when: every transition, with times that are given."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.workers.liveness import Judgement, Limits, Liveness, Request

LIMITS = Limits(quiet=10.0, silence=30.0, start=100.0)
UPDATE = Request("an update", 5.0, 200.0)


def started() -> Liveness:
    return Liveness(LIMITS).started("learner", 0.0).started("sampler", 0.0)


def working() -> Liveness:
    """The learner was heard of at 4 and is asked for an update at 5."""
    return started().heard("learner", 4.0).asked("learner", UPDATE)


def test_of_an_actor_that_nobody_waits_for_nothing_is_said() -> None:
    assert started().judged(1e9) == Judgement({}, (), math.inf)


def test_a_starting_actor_is_pinged_at_once_and_has_its_time_to_answer() -> None:
    asked = started().asked("learner", Request("a probe", 5.0, 20.0))
    assert asked.judged(5.0) == Judgement({}, ("learner",), 100.0)
    pinged = asked.pinged("learner", 5.0)
    assert pinged.judged(99.9) == Judgement({}, (), 100.0)
    dead = pinged.judged(100.0).dead
    assert dead == {"learner": "not heard of since it was started 100 s ago, while a probe"}


def test_a_quiet_actor_is_pinged_and_a_silent_one_is_dead() -> None:
    assert working().judged(13.9) == Judgement({}, (), 14.0)
    assert working().judged(14.0).to_ping == ("learner",)
    suspect = working().pinged("learner", 15.0)
    assert suspect.judged(44.9) == Judgement({}, (), 45.0)
    assert suspect.judged(45.0).dead == {"learner": "no sign of life for 41 s, while an update"}


def test_a_suspect_that_is_heard_of_is_healthy_again() -> None:
    again = working().pinged("learner", 15.0).heard("learner", 20.0)
    assert again.judged(29.9) == Judgement({}, (), 30.0)
    assert again.judged(30.0).to_ping == ("learner",)


def test_a_ping_that_nobody_waits_for_proves_nothing() -> None:
    assert working().pinged("learner", 15.0).unpinged("learner").judged(46.0) == Judgement({}, ("learner",), 205.0)


def test_an_actor_that_lives_and_does_not_finish_is_dead() -> None:
    alive = working()
    for now in range(5, 200, 5):
        alive = alive.heard("learner", float(now))
    assert not alive.judged(204.9).dead
    assert alive.judged(205.0).dead == {"learner": "an update took longer than 200 s"}


def test_the_time_of_a_request_begins_when_the_actor_has_started() -> None:
    late = started().asked("learner", Request("a probe", 5.0, 20.0)).heard("learner", 90.0)
    assert not late.judged(99.0).dead
    assert late.judged(110.0).dead == {"learner": "a probe took longer than 20 s"}


def test_what_is_done_is_waited_for_no_more() -> None:
    assert working().dropped("learner", UPDATE).judged(1e9) == Judgement({}, (), math.inf)
    twice = working().asked("learner", UPDATE).dropped("learner", UPDATE)
    assert twice.judged(205.0).dead.keys() == {"learner"}


def test_another_life_knows_nothing_of_the_one_before() -> None:
    again = working().pinged("learner", 15.0).started("learner", 50.0)
    assert again.judged(1e9) == Judgement({}, (), math.inf)
    assert again.asked("learner", Request("a probe", 51.0, 20.0)).judged(100.0).until == 150.0


def test_what_was_asked_of_the_life_before_may_still_be_dropped() -> None:
    again = working().started("learner", 50.0)
    assert again.judged(1e9) == Judgement({}, (), math.inf)
    assert again.dropped("learner", UPDATE) == again


def test_liveness_is_a_value() -> None:
    before = working()
    before.heard("learner", 9.0).started("other", 9.0)
    assert before == working()


EVENTS = st.lists(
    st.tuples(st.sampled_from(["asked", "heard", "pinged", "unpinged", "started", "dropped"]), st.floats(0, 50)),
    max_size=30,
)


@given(EVENTS, st.floats(0, 400))
def test_whatever_happens_a_judgement_says_until_when_it_holds(events: list[tuple[str, float]], later: float) -> None:
    """Nothing changes before `until`; at `until` something does; and nobody is both dead and pinged."""
    alive, now, requests = started(), 0.0, []
    for event, seconds in events:
        now += seconds
        if event == "asked":
            requests.append(Request("work", now, 40.0))
            alive = alive.asked("learner", requests[-1])
        elif event == "dropped":
            if requests:
                alive = alive.dropped("learner", requests.pop())
        elif event == "unpinged":
            alive = alive.unpinged("learner")
        else:
            alive = getattr(alive, event)("learner", now)
            requests = [] if event == "started" else requests
    judged = alive.judged(now + later)
    assert not judged.dead.keys() & set(judged.to_ping)
    if not judged.dead and not judged.to_ping:
        assert judged.until > now + later
        if not math.isinf(judged.until):
            between = now + later + (judged.until - now - later) * 0.99
            assert alive.judged(between) == judged
            after = alive.judged(judged.until)
            assert after.dead or after.to_ping


@pytest.mark.parametrize("since", [0.0, 1e6, 1e9])
def test_every_wait_ends(since: float) -> None:
    """An actor that answers pings and nothing else is dead after its deadline, one that answers none much earlier."""
    for answers in (True, False):
        alive = Liveness(LIMITS).started("one", since).heard("one", since).asked("one", Request("work", since, 500.0))
        now = since
        while not (judged := alive.judged(now)).dead:
            if judged.to_ping:
                alive = alive.pinged("one", now)
                alive = alive.heard("one", now + 1) if answers else alive
                now += 1
            else:
                now = judged.until
        assert now - since == pytest.approx(500.0 if answers else 40.0, abs=1.0)
