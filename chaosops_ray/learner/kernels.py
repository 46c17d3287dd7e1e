"""Kernels for the parts of a layer that only read and write memory: torch's, or liger-kernel's where a run asks."""

from __future__ import annotations

from importlib.util import find_spec
from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.integrations.liger import apply_liger_kernel

from chaosops_ray.config import ConfigError

_PACKAGE = "liger_kernel"
# The loss has kernels of its own: TRL's, which never hold the logits either.
_NOT_THE_LOSS = {"cross_entropy": False, "fused_linear_cross_entropy": False}


def check(*, on_gpu: bool) -> None:
    """Raise ConfigError where the kernels cannot run."""
    if not on_gpu:
        raise ConfigError("learner.liger: its kernels need a GPU, and the learner has none; set it to false")
    if find_spec(_PACKAGE) is None:
        raise ConfigError("learner.liger: the package is not installed; pip install liger-kernel, or set it to false")


def apply(model: PreTrainedModel) -> None:
    """Put the kernels into a model; raise ConfigError where they cannot run."""
    check(on_gpu=torch.cuda.is_available())
    apply_liger_kernel(model, _NOT_THE_LOSS)
    # The package leaves a kind of model that it does not know as it is, and says so in a log only.
    if not any(module.forward.__module__.startswith(_PACKAGE) for module in model.modules()):
        raise ConfigError(f"learner.liger: the package knows no {model.config.model_type}; set it to false")


def fuse_norms(model: PreTrainedModel) -> int:
    """Let one kernel of torch compute each RMS norm, which transformers computes in six passes; return how many.

    A norm that computes something else, such as one that adds 1 to its weight, is left as it is; so is liger-kernel's.
    """
    fused = 0
    for module in model.modules():
        if hasattr(module, "variance_epsilon") and "forward" not in vars(module) and _is_plain(module):
            module.forward = MethodType(_norm, module)
            fused += 1
    return fused


def _norm(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    weight = module.weight
    with torch.autocast(hidden_states.device.type, enabled=False):  # it would cast to single precision and stay there
        return torch.nn.functional.rms_norm(hidden_states, weight.shape, weight, module.variance_epsilon)


def _is_plain(module: Any) -> bool:
    """Tell whether the module gives the plain norm of some numbers."""
    weight = module.weight
    numbers = torch.linspace(-2, 3, 2 * weight.numel(), device=weight.device).view(2, -1).to(weight.dtype)
    with torch.no_grad():
        return torch.allclose(module(numbers), _norm(module, numbers), rtol=0.02, atol=0.02)
