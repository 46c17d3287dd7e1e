"""Activation checkpointing: how many layers compute their activations twice, so that they need not be kept.

The estimate is the driver's (training/footprint.py), the memory that of the GPU that the learner finds itself on. No
gradient depends on the choice: a layer that is computed again is computed from the same numbers in the same way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chaosops_ray.config import AUTO

GIB = 1 << 30
# The rest of a GPU is for what the allocator cannot use of its blocks, and for what no estimate counts.
USABLE_OF_A_GPU = 0.9


class Estimate(NamedTuple):
    """Estimate of the memory that an update takes, in bytes."""

    layers: int
    rest: int  # all but what the layers keep of a micro-batch
    kept: int  # of a layer that is computed once
    again: int  # of a layer that is computed again
    room: int | None  # memory that the learner may take; None: that of its GPU


class Chosen(NamedTuple):
    """Number of layers that are computed again, and the reason."""

    layers: int
    why: str


def choose(setting: bool | str, layers: int, estimate: Estimate | None, room: int | None) -> Chosen:
    """Choose how many of the layers are computed again; with `auto`, as few as the room permits."""
    if setting != AUTO:
        return Chosen(layers if setting else 0, f"{'all' if setting else 'no'} layers, as configured")
    if estimate is None or room is None:
        return Chosen(layers, "all layers: the need for memory could not be estimated")
    free = room - estimate.rest - layers * estimate.kept
    saved = max(1, estimate.kept - estimate.again)
    needed = min(layers, max(0, -(free // saved)))
    wanted = estimate.rest + layers * estimate.kept
    return Chosen(
        needed,
        f"{'no' if not needed else f'{needed} of {layers}'} layers: to keep all activations an update needs about "
        f"{wanted / GIB:.1f} GiB, and there are {room / GIB:.1f} GiB for it",
    )


def room_on_a_gpu(total: int, gpus: float, *, alone: bool) -> int:
    """Return what a learner may take of a GPU: its share, all of it where the engine sleeps meanwhile."""
    return int(USABLE_OF_A_GPU * total * (1.0 if alone else min(1.0, gpus)))


def checkpoint(model: Any, layers: int) -> None:
    """Let the first so many layers of a model compute their activations again."""
    if not layers:
        return
    model.activation_checkpointing_enable()
    able = [module for module in model.modules() if _is_layer(module)]
    for module in able[layers:]:
        module.gradient_checkpointing = False


def _is_layer(module: Any) -> bool:
    """Tell the repeated layers from models, which have the same flag."""
    return hasattr(module, "gradient_checkpointing") and not hasattr(module, "config")
