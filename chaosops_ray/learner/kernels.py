"""Kernels of liger-kernel for the parts of a layer that only read and write memory, where a run asks for them."""

from __future__ import annotations

from importlib.util import find_spec

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
