"""Probes: scores of fixed texts, which a sampler must reproduce before it may serve a version."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel

from chaosops_ray.wire import Ids, Probe

# The log-probability may differ by this much between engines before a sampler may not serve.
TOLERANCE_FP32 = 2e-3
TOLERANCE_BF16 = 0.15
_AT_ONCE = 128


@torch.no_grad()
def probe(model: PeftModel, texts: Sequence[Ids], modules: int, before: Probe | None = None) -> Probe:
    """Score the texts with the policy as it is now; take the base's scores from an earlier probe of the same texts."""
    was_training = model.training
    model.eval()
    expected = tuple([_scores(model, text) for text in texts])
    if before is not None and before.texts == tuple(texts):
        base = before.base
    else:
        with model.disable_adapter():
            base = tuple([_scores(model, text) for text in texts])
    model.train(was_training)
    tolerance = TOLERANCE_FP32 if model.device.type == "cpu" else TOLERANCE_BF16
    return Probe(tuple(texts), expected, base, modules, tolerance)


def _scores(model: PeftModel, text: Ids) -> tuple[float, ...]:
    ids = torch.tensor([text], device=model.device)
    found: list[float] = []
    # Some places at a time: over a large vocabulary, every copy of all logits takes hundreds of megabytes.
    parts = torch.split(model(input_ids=ids).logits[0, :-1], _AT_ONCE), torch.split(ids[0, 1:], _AT_ONCE)
    for logits, tokens in zip(*parts, strict=True):
        found += logits.float().log_softmax(-1).gather(-1, tokens[:, None])[:, 0].tolist()
    return tuple(found)
