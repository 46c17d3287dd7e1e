"""The reward as a tree of OpenEnv rubrics, such as `resolution` and under it `resolution.wrong_fix`."""

from __future__ import annotations

from collections.abc import Iterable

from openenv.core.rubrics import Rubric

from chaosops_ray.serve.models import SeatAction, SeatObservation


class RewardPart(Rubric):
    """A part of the reward by its name, with the parts that it is made of; the part without a name is all of it.

    The world has judged the action before; a rubric only reads what the observation says of it.
    """

    def __init__(self, name: str, leaves: Iterable[str]) -> None:
        super().__init__()
        self._name = name
        below = [leaf for leaf in leaves if leaf != name and self._holds(leaf)]
        for leaf in below:
            child = leaf[len(name) + 1 if name else 0 :].partition(".")[0]
            if child not in dict(self.named_children()):
                setattr(self, child, RewardPart(f"{name}.{child}" if name else child, below))

    def forward(self, action: SeatAction, observation: SeatObservation) -> float:
        """Return what this part of the observation's reward is worth."""
        for child in self.children():
            child(action, observation)
        return sum([value for leaf, value in observation.rubrics.items() if self._holds(leaf)], 0.0)

    def _holds(self, leaf: str) -> bool:
        return not self._name or leaf == self._name or leaf.startswith(f"{self._name}.")


def reward_rubric(components: Iterable[str]) -> RewardPart:
    """Return the rubric of a world's reward; the names of all its parts are known before anything is played."""
    return RewardPart("", components)
