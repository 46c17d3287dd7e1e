"""The tasks that a server offers: splits of scenarios under ids that tell nothing about them.

A scenario's own id names what the episode is about, in the incident room even what is broken. What leaves the server
is a digest, and the tasks of a split stand in a drawn order, so that an index tells nothing either. Both are the same
in every server. They hide a task from whoever reads its id, not from somebody who goes through this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from chaosops_ray.sim.contract import MAX_SEED, AnyEnvironment, Scenario
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import stream

# Seeds of the cases that runs train on, and of the default evaluation set's. Training seeds are 100,000 and above
# everywhere in this program; those below are for evaluation, and 1000-1019, which reports use, are in no split.
TRAIN, TEST = "train", "test"
SEEDS = {TRAIN: range(100_000, 101_000), TEST: range(40_000, 40_100)}
# The most tasks in one answer.
SHOWN = 1000
_DIGEST = 12
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Task:
    """A scenario that is offered; one that a caller named itself is in no split and has no id."""

    scenario: Scenario
    id: str | None = None
    split: str | None = None
    index: int | None = None


class Catalog:
    """The splits of a world: train and test, and each of the world's other evaluation sets under its own name."""

    def __init__(self, environment: AnyEnvironment) -> None:
        self.environment = environment
        sets = {TRAIN: environment.trained_on, TEST: environment.selections[0]}
        chosen = {split: environment.scenarios(sets[split], seeds) for split, seeds in SEEDS.items()}
        others = [selection for selection in environment.selections if selection not in chosen]
        chosen |= {selection: environment.scenarios(selection) for selection in others}
        self._splits = {split: self._drawn(split, scenarios) for split, scenarios in chosen.items()}
        self._by_id = {task.id: task for tasks in self._splits.values() for task in tasks}

    def _drawn(self, split: str, scenarios: Sequence[Scenario]) -> tuple[Task, ...]:
        order = stream(0, f"served tasks {self.environment.name} {split}").shuffled(scenarios)
        return tuple([Task(one, _digest(split, one), split, index) for index, one in enumerate(order)])

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, the one that is drawn from by default first."""
        return tuple(self._splits)

    def tasks(self, split: str) -> tuple[Task, ...]:
        """Return the tasks of a split, in their order."""
        if split not in self._splits:
            raise unknown("split", split, self._splits)
        return self._splits[split]

    def described(self, task: Task) -> dict[str, object]:
        """Return what may be told of a task."""
        scenario = task.scenario
        group = self.environment.public_group(scenario)
        return {"id": task.id, "split": task.split, "index": task.index, "difficulty": scenario.tier, "group": group}

    @cached_property
    def _cases(self) -> Mapping[str, tuple[Scenario, ...]]:
        """The scenarios of all evaluation sets by case, those of the first set first."""
        found: dict[str, tuple[Scenario, ...]] = {}
        for selection in self.environment.selections:
            for one in self.environment.scenarios(selection):
                found[one.case] = (*found.get(one.case, ()), one)
        return found

    def task(
        self,
        seed: int,
        *,
        task_id: str | None = None,
        split: str | None = None,
        index: int | None = None,
        difficulty: str | None = None,
        scenario_id: str | None = None,
        scenario_seed: int | None = None,
    ) -> Task:
        """Return the task that is named by its id, by split and index or by a scenario's id, or else draw one by seed.

        `scenario_seed` is the seed that a case named by `scenario_id` has; without it, the one of its evaluation set.
        """
        named = [
            name
            for name, value in (("task_id", task_id), ("index", index), ("scenario_id", scenario_id))
            if value is not None
        ]
        if len(named) > 1:
            raise InputError(f"{' and '.join(named)} both name a task; give one of them")
        if difficulty is not None and difficulty not in self.environment.tiers:
            raise unknown("difficulty", difficulty, self.environment.tiers)
        if task_id is not None:
            found = self._by_id.get(task_id)
            if found is None:
                raise InputError(f"there is no task {task_id[:_SHOWN]!r}; the route tasks lists the ids of a split")
        elif scenario_id is not None:
            found = Task(self._scenario(scenario_id, difficulty, scenario_seed))
        elif index is not None:
            tasks = self.tasks(split or TRAIN)
            if not 0 <= index < len(tasks):
                raise InputError(f"split {split or TRAIN} has the tasks 0 to {len(tasks) - 1}, and none at {index}")
            found = tasks[index]
        else:
            tasks = self.tasks(split or TRAIN)
            if difficulty is not None:
                tasks = tuple([task for task in tasks if task.scenario.tier == difficulty])
            if not tasks:
                raise InputError(f"split {split or TRAIN} has no task of difficulty {difficulty}; name another split")
            found = stream(seed, "served task").choice(tasks)
        if difficulty not in (None, found.scenario.tier):
            raise InputError(f"the named task has difficulty {found.scenario.tier}, not {difficulty}; leave one out")
        if task_id is not None and split not in (None, found.split):
            raise InputError(f"task {task_id} is in split {found.split}, not {split}; leave one out")
        return found

    def _scenario(self, scenario_id: str, tier: str | None, seed: int | None) -> Scenario:
        if "/" in scenario_id:
            return self.environment.scenario(scenario_id)
        cases = self._cases.get(scenario_id, ())
        if not cases:
            raise InputError(f"there is no case {scenario_id[:_SHOWN]!r} in world {self.environment.name}")
        of_tier = [one for one in cases if tier in (None, one.tier)]
        if not of_tier:
            raise InputError(
                f"case {scenario_id} has no difficulty {tier}; it has {', '.join({one.tier: 0 for one in cases})}"
            )
        chosen = of_tier[0]
        return chosen if seed is None else self.environment.scenario(chosen._replace(seed=seed).identity)


def checked_seed(seed: object) -> int:
    """Return the seed; InputError where it is none."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed must be a whole number from 0 to {MAX_SEED}, got {str(seed)[:_SHOWN]}")
    return seed


def _digest(split: str, scenario: Scenario) -> str:
    return blake2b(f"{split}/{scenario.identity}".encode(), digest_size=_DIGEST, person=b"served task").hexdigest()
