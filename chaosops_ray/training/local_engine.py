"""An engine on this machine for a model that was found, whatever resources its run was trained on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from transformers import AutoConfig

from chaosops_ray.config import ConfigError, Run
from chaosops_ray.plain_text import one_line
from chaosops_ray.training.base_models import BaseModel
from chaosops_ray.workers.samplers.build import build, settings
from chaosops_ray.workers.samplers.sampler import Engine


def prepared(run: Run, base: BaseModel, sampler: str) -> Callable[[], Engine]:
    """Prepare to start an engine on this machine."""
    resources = run.resources.model_copy(
        update={
            "sampler_gpus": float(torch.cuda.is_available()),
            "sampler_threads": run.resources.learner_threads,
            "colocate": False,
            "context": min(run.resources.context, _longest(base) or run.resources.context),
        }
    )
    here = run.model_copy(update={"sampler": sampler, "schedule": "lockstep", "resources": resources})
    return partial(build, sampler, settings(here, base.path))


def _longest(base: BaseModel) -> int | None:
    """The longest context that a model can read; None where it has no limit."""
    try:
        config = AutoConfig.from_pretrained(base.path).get_text_config()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"model: {base.name} has a config.json that transformers cannot use ({one_line(error, 200)})"
        ) from None
    longest: int | None = getattr(config, "max_position_embeddings", None)
    return longest
