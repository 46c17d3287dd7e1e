"""The network of one role: a policy over its actions, and an estimate of what is still to be earned."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Two towers of two hidden layers; nothing is shared, so that neither loss disturbs the other."""

    def __init__(self, size: int, hidden: int, actions: int) -> None:
        """Make it for vectors of this size."""
        super().__init__()
        self.policy = _tower(size, hidden, actions, first=0.01)
        self.value = _tower(size, hidden, 1, first=1.0)

    def logits(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the logits of the actions; what is not permitted has no probability."""
        found: Tensor = self.policy(features)
        return torch.where(mask > 0, found, torch.finfo(found.dtype).min)

    def values(self, features: Tensor) -> Tensor:
        """Return the estimates."""
        found: Tensor = self.value(features)
        return found.squeeze(-1)


def _tower(size: int, hidden: int, outputs: int, first: float) -> nn.Sequential:
    """Make a tower; with a small `first`, a policy begins as good as uniform over what is permitted."""
    last = nn.Linear(hidden, outputs)
    with torch.no_grad():
        last.weight.mul_(first)
        last.bias.mul_(first)
    return nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last)
