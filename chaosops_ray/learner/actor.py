"""The learner's actor. Its libraries are loaded in the actor's own process, and not where it is called from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from chaosops_ray.config import Run
from chaosops_ray.store.versions import check_base
from chaosops_ray.wire import Group, Ids, PolicyVersion, Probe

if TYPE_CHECKING:
    from chaosops_ray.learner.learner import Learner


class LearnerHost:
    """A learner in a process of its own; chaosops_ray.learner.learner describes the methods."""

    def __init__(
        self, run: Run, name: str, model: Path, base: str, weights: Mapping[str, Mapping[str, float]], folder: Path
    ) -> None:
        check_base(model)  # before the libraries, which take a while
        module = import_module("chaosops_ray.learner.learner")
        self._learner: Learner = module.Learner(run, name, model, base, weights, folder)

    def prepare(self) -> None:
        """Load what only updates need."""
        self._learner.prepare()

    def update(self, groups: Sequence[Group], done: int) -> dict[str, float]:
        """Learn from the groups."""
        return self._learner.update(groups, done)

    def publish(self, number: int) -> PolicyVersion:
        """Write the current policy as a version."""
        return self._learner.publish(number)

    def prune(self, keep: Collection[int]) -> None:
        """Delete all versions but these."""
        self._learner.prune(keep)

    def probe(self, texts: Sequence[Ids]) -> Probe:
        """Score the texts with the current policy."""
        return self._learner.probe(texts)

    def save(self, folder: Path, done: int) -> None:
        """Write all that the next update depends on."""
        self._learner.save(folder, done)

    def restore(self, folder: Path) -> None:
        """Go back to a saved state."""
        self._learner.restore(folder)


LearnerActor: Any = ray.remote(LearnerHost)
