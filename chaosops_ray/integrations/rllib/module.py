"""The network of a role as an RLlib module that never takes an action which is not permitted."""

from __future__ import annotations

from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from chaosops_ray.integrations.rllib.environment import ACTION_MASK, OBSERVATIONS
from chaosops_ray.integrations.rllib.network import Network


class MaskedModule(TorchRLModule, ValueFunctionAPI):
    """A module for PPO, in training as in inference; `model_config` has `hidden`, the width of its layers."""

    def setup(self) -> None:
        """Make the network for the role's spaces."""
        (size,) = self.observation_space[OBSERVATIONS].shape
        self.network = Network(size, self.model_config["hidden"], int(self.action_space.n))

    def _forward(self, batch: dict[str, Any], **_settings: Any) -> dict[str, Tensor]:
        seen = batch[Columns.OBS]
        return {Columns.ACTION_DIST_INPUTS: self.network.logits(seen[OBSERVATIONS], seen[ACTION_MASK])}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:  # noqa: ARG002 - RLlib's form
        """Return the estimates of what is still to be earned."""
        return self.network.values(batch[Columns.OBS][OBSERVATIONS])
