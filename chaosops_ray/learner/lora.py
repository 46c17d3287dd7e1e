"""The base model and its adapter, as the learner holds them."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

ADAPTER = "default"


def load_base(model: str, device: str) -> PreTrainedModel:
    """The base model: bf16 on a GPU, fp32 on a CPU."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device)


def with_adapter(base: PreTrainedModel, rank: int, alpha: float, seed: int) -> PeftModel:
    """LoRA on all linear layers, the head apart; B begins at zero, so the policy begins as the base."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(base, config)


def bound_modules(model: PeftModel) -> int:
    """How many modules the adapter sits on."""
    return sum([ADAPTER in getattr(module, "lora_A", {}) for module in model.modules()])
