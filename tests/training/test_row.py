"""Parts of a row of metrics, of reports and groups that are written down here."""

from __future__ import annotations

import pytest

from chaosops_ray.telemetry.machine import Usage
from chaosops_ray.training.loop import by_component, machine, staleness
from chaosops_ray.wire import EpisodeReport, Group, Task

TASK = Task("0/0", "incident/db_deadlock/easy/0", "strict/2", 1, seed=7)


def report(**components: float) -> EpisodeReport:
    return EpisodeReport("", "easy", 0.0, 0.0, {}, {}, components, (), ())


def group(version: int | None) -> Group:
    return Group(TASK, (), (), version)


def test_a_part_that_paid_an_episode_nothing_counts_as_zero() -> None:
    assert by_component([report(a=4.0, b=1.0), report(a=2.0), report(c=-3.0)]) == {
        "a": 2.0,
        "b": pytest.approx(1 / 3),
        "c": -1.0,
    }


def test_staleness_counts_the_versions_since_a_group_was_played() -> None:
    assert staleness(5, [group(5), group(5)]) == {"mean": 0, "max": 0}
    assert staleness(5, [group(5), group(3), group(None)]) == {"mean": 1, "max": 2}
    assert staleness(5, [group(None)]) == {}


def test_the_machine_s_figures_are_those_of_the_actors_that_answered() -> None:
    used = {"learner": Usage(30, 900), "shard-0": Usage(7)}
    found = machine(used, {"tokens": 100.0}, {"update": 4.0}, 12.0, {"kernels": "transformers"})
    assert found["memory"].pop("driver") > 1 << 20
    assert found == {
        "memory": {"learner": 30, "shard-0": 7},
        "gpu_memory": {"learner": 900},
        "learner_tokens_per_second": 25.0,
        "engine_tokens_per_second": 12.0,
        "learner": {"kernels": "transformers"},
    }
    nothing = machine({}, {}, {"update": 4.0}, None, {})
    assert (nothing["learner_tokens_per_second"], nothing["engine_tokens_per_second"]) == (None, None)
