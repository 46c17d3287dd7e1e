"""The figures of an update's time, of spans that are written down here."""

from __future__ import annotations

import pytest

from chaosops_ray.spans import Span, Track, Work
from chaosops_ray.training.times import figures
from chaosops_ray.wire import EpisodeReport, Group, Played, Task

TASK = Task("0/0", "incident/db_deadlock/easy/0", "strict/2", 1, seed=7)


def span(name: str, start: float, end: float) -> Span:
    return Span(name, start, end, end - start)


def track(*spans: Span) -> Track:
    return Track(spans)


def group(requests: int, waited: float, steps: int) -> Group:
    report = EpisodeReport("", "easy", 0.0, 0.0, {}, {}, {}, ("noop",) * steps, ())
    return Group(TASK, (), (report,), 0, Played(Work((), 0.0, 0.0), requests, waited))


# The version before the first one is published and adopted, too.
DRIVER = track(
    *(span("publish", 1, 2), span("adopt", 2, 3)),
    *(span("collect", 10, 14), span("update", 15, 18), span("publish", 18, 19), span("adopt", 19, 20)),
)
LEARNER = track(span("export", 1, 2), span("probe", 2, 2.5), span("update", 15, 18), span("probe", 19, 19.2))
LOCKSTEP = {
    "driver": DRIVER,
    "learner": LEARNER,
    "sampler-0": track(span("load", 2, 3), span("sample", 10, 13), span("load", 19.2, 19.5), span("proof", 19.5, 19.6)),
    "sampler-1": track(span("sample", 12, 14), span("load", 19.2, 19.4), span("proof", 19.4, 19.9)),
    "shard-0": track(span("play", 10, 13), span("play", 11, 14)),
    "shard-1": track(span("play", 10, 12)),
}
SAMPLERS = ("sampler-0", "sampler-1")
PLAYED = [group(30, 3.0, 100), group(10, 5.0, 20)]


def test_an_update_in_lockstep() -> None:
    assert figures(LOCKSTEP, SAMPLERS, PLAYED) == pytest.approx(
        {
            "rollout": 4.0,
            "engine": 2.5,
            "update": 4.0,
            "adopt": 2.0,
            "export": 1.0,
            "load": 0.3,
            "proof": 0.2 + 0.5,
            "idle_learner": 0.7,
            "idle_engines": 0.75,
            "overlap": 0.0,
            "queue": 8.0 / 40,
            "steps_per_second": 120 / (4 + 2),
        }
    )


def test_a_pipelined_update_has_engines_at_work_while_the_learner_learns() -> None:
    """They began before the update, and go on after it; only what lies in it counts."""
    ahead = LOCKSTEP | {"sampler-0": track(span("sample", 8, 16.5)), "sampler-1": track(span("sample", 17, 25))}
    found = figures(ahead, SAMPLERS, PLAYED)
    assert found["engine"] == pytest.approx((4 + 0) / 2)
    assert found["idle_engines"] == pytest.approx(1 - (6.5 + 3) / 2 / 10)
    assert found["idle_learner"] == pytest.approx(0.7)
    assert found["overlap"] == pytest.approx((1.5 + 1) / 2 / 10)


def test_work_that_was_joined_counts_with_what_it_was() -> None:
    pieces = Span("sample", 10, 14, worked=1.0, pieces=9)
    assert figures(LOCKSTEP | {"sampler-0": track(pieces)}, SAMPLERS[:1], PLAYED)["engine"] == pytest.approx(1.0)


def test_an_update_of_which_nothing_is_known() -> None:
    """Nothing was learnt or requested, and the samplers were replaced before they could say what they did."""
    found = figures({"driver": DRIVER}, SAMPLERS, [group(0, 0.0, 0)])
    assert (found["queue"], found["steps_per_second"]) == (None, None)
    assert (found["idle_learner"], found["idle_engines"], found["load"]) == (1.0, 1.0, 0.0)
