"""The base model and its adapter, as the learner holds them."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from chaosops_ray.learner.kernels import fuse_norms

ADAPTER = "default"


def load_base(model: str, device: str) -> PreTrainedModel:
    """Load the base model: bf16 on a GPU, fp32 on a CPU."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device)


def with_adapter(base: PreTrainedModel, rank: int, alpha: float, seed: int, *, fused: bool | None = None) -> PeftModel:
    """Add LoRA to all linear layers except the head; B begins at zero, so the policy begins as the base.

    With `fused`, which is the default on a GPU, FusedLinear computes the layers, and a kernel of torch each norm.
    """
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    if base.device.type == "cuda" if fused is None else fused:
        fuse_norms(base)
        config._register_custom_module({nn.Linear: FusedLinear})
    return get_peft_model(base, config)


def bound_modules(model: PeftModel) -> int:
    """Count the modules that the adapter is bound to."""
    return sum([ADAPTER in getattr(module, "lora_A", {}) for module in model.modules()])


class FusedLinear(lora.Linear):
    """A linear layer with LoRA that reads and writes its activations as seldom as can be.

    PEFT's own casts the input to the adapter's fp32 and, under autocast, back to bf16, keeps that copy for the backward
    pass, and scales and adds the adapter's output in two passes more. On a GPU these passes take about as long as the
    product with the weights. Here the products accumulate in place, and only the input and the inner result are kept.
    """

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the layer's output; whatever is not plain training or playing of one adapter is left to PEFT."""
        if self.disable_adapters or self.merged or args or kwargs or self.active_adapters != [ADAPTER]:
            found: torch.Tensor = super().forward(x, *args, **kwargs)
            return found
        base, down, up = self.get_base_layer(), self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
        out: torch.Tensor = _FusedLora.apply(  # type: ignore[no-untyped-call]
            x, base.weight, base.bias, down, up, self.scaling[ADAPTER]
        )
        return out


class _FusedLora(torch.autograd.Function):
    """x W' + b + s (x A') B', for frozen W and b."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
        down, up = down.to(weight.dtype), up.to(weight.dtype)
        inner = flat @ down.T
        out = flat @ weight.T if bias is None else torch.addmm(bias, flat, weight.T)
        out.addmm_(inner, up.T, alpha=scaling)
        ctx.save_for_backward(flat, weight, down, up, inner)
        ctx.scaling, ctx.given = scaling, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, weight, down, up, inner = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, weight.shape[0])
        through = gradient @ up
        of_down = (through.T @ flat).float().mul_(ctx.scaling)
        of_up = (gradient.T @ inner).float().mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(through, down, alpha=ctx.scaling)
            of_x = of_x.view(*gradients[0].shape[:-1], -1).to(ctx.given)
        return of_x, None, None, of_down, of_up, None
