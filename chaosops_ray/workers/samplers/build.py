"""The engine of a name. Each engine's libraries are loaded where that engine is wanted, and nowhere else."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from chaosops_ray.workers.samplers.sampler import Sampler, SamplerError

ENGINES = {
    "torch": ("chaosops_ray.workers.samplers.torch", "TorchSampler"),
    "vllm": ("chaosops_ray.workers.samplers.vllm", "VllmSampler"),
}


def build(engine: str, settings: dict[str, Any]) -> Sampler:
    """A new engine."""
    if engine not in ENGINES:
        raise SamplerError(f"there is no engine {engine!r}; known are {', '.join(ENGINES)}")
    module, name = ENGINES[engine]
    sampler: Sampler = getattr(import_module(module), name)(**settings)
    return sampler
