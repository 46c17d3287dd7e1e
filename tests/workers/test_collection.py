"""Groups that are waited for: in order, lost ones again, and an error that names the one that fails again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ray.exceptions import ObjectLostError, RayTaskError

from chaosops_ray.wire import PolicyVersion, Task
from chaosops_ray.workers.health import PoolError
from chaosops_ray.workers.pool import Collection
from chaosops_ray.workers.samplers.sampler import ImpossibleError, SamplerError

VERSION = PolicyVersion(4, "d" * 64, "")
TASKS = [Task(f"4/{i}", f"incident/db_deadlock/easy/{i}", "strict/2", 4, seed=700 + i) for i in range(3)]
LOST = ObjectLostError("ab" * 28, "", "")


def raised(cause: Exception, function: str = "play") -> RayTaskError:
    """As it arrives from an actor."""
    traceback = f"ray::{function}() (pid=1)\n  File a.py, line 1\n{cause}"
    error: RayTaskError = RayTaskError(function, traceback, cause).as_instanceof_cause()
    return error


class Pool:
    """A pool that answers by a script: what comes of a task at its first try, its second, and so on."""

    def __init__(self, outcome: Callable[[Task, int], Any]) -> None:
        self._outcome = outcome
        self.sent: list[tuple[Task, int]] = []
        self.given_up: list[int] = []
        self.replacements = 0

    def send(self, task: Task, _number: int, version: PolicyVersion) -> int:
        assert version == VERSION
        self.sent.append((task, [sent for sent, _ in self.sent].count(task)))
        return len(self.sent) - 1

    def playing(self, refs: Sequence[int], _patience: float) -> list[int]:
        """The last first; those without an outcome never."""
        return [ref for ref in reversed(refs) if self._outcome(*self.sent[ref]) is not None][:1]

    def played(self, ref: int) -> Any:
        outcome = self._outcome(*self.sent[ref])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def cancel(self, refs: Sequence[int]) -> None:
        self.given_up += refs

    def replace_lost(self) -> None:
        self.replacements += 1

    def served(self) -> PolicyVersion:
        return VERSION


def gather(outcome: Callable[[Task, int], Any], retries: int = 2) -> tuple[list[Any], Pool]:
    pool: Any = Pool(outcome)
    return Collection(pool, TASKS, VERSION).gather(0.0, retries), pool


def test_groups_come_in_the_order_of_their_tasks() -> None:
    groups, pool = gather(lambda task, _: task.key)
    assert groups == ["4/0", "4/1", "4/2"]
    assert pool.replacements == 0


@pytest.mark.parametrize("failure", [LOST, raised(LOST), raised(ImpossibleError("sampler-0 answered with nothing"))])
def test_what_is_lost_is_played_again_under_the_same_seeds(failure: Exception) -> None:
    groups, pool = gather(lambda task, tried: failure if (task, tried) == (TASKS[1], 0) else task.key)
    assert groups == ["4/0", "4/1", "4/2"]
    assert [task for task, tried in pool.sent if tried] == [TASKS[1]]
    assert pool.replacements == 1


def test_what_is_too_late_is_given_up_and_played_again() -> None:
    groups, pool = gather(lambda task, tried: None if task is TASKS[0] and not tried else task.key)
    assert groups == ["4/0", "4/1", "4/2"]
    assert [pool.sent[ref][0] for ref in pool.given_up] == [TASKS[0]]


@pytest.mark.parametrize("failure", [LOST, raised(ImpossibleError("sampler-0 answered with nothing")), None])
def test_what_fails_again_and_again_is_named_with_its_scenario_and_seed(failure: Exception | None) -> None:
    with pytest.raises(PoolError, match=r"incident/db_deadlock/easy/1, seed 701\) failed 3 times"):
        gather(lambda task, _: failure if task is TASKS[1] else task.key)


def test_what_a_sampler_told_the_shard_is_told() -> None:
    failure = raised(raised(SamplerError("the context ended; raise resources.context"), "sample"))
    with pytest.raises(PoolError, match=r"3 times; the last: the context ended; raise resources\.context$"):
        gather(lambda task, _: failure if task is TASKS[1] else task.key)


def test_a_defect_is_not_tried_again() -> None:
    pool: Any = Pool(lambda task, _: raised(KeyError("odd")) if task is TASKS[2] else task.key)
    with pytest.raises(PoolError, match=r"4/2 .*seed 702.*odd"):
        Collection(pool, TASKS, VERSION).gather(0.0, 5)
    assert not any(tried for _, tried in pool.sent)
