"""The adapter's files, with the same bytes for the same weights on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save

from chaosops_ray.learner.lora import ADAPTER
from chaosops_ray.store import versions
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.wire import Files


def adapter_files(model: PeftModel, base_name: str) -> Files:
    """Return the files of the model's adapter, which name its base model."""
    if Path(base_name).is_absolute():
        raise AdapterError(f"{base_name} is a path of this machine, which no adapter may contain; give the base a name")
    return {versions.CONFIG: _config(model, base_name), versions.WEIGHTS: _weights(model)}


def _weights(model: PeftModel) -> bytes:
    # The embeddings are the base's own; asking PEFT to decide would make it look them up on the hub.
    tensors = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {"format": "pt"})


def _config(model: PeftModel, base_name: str) -> bytes:
    # PEFT would write the path that the base was loaded from; sets have no order of their own.
    fields = {**model.peft_config[ADAPTER].to_dict(), "base_model_name_or_path": base_name, "inference_mode": True}
    return (json.dumps(fields, indent=2, sort_keys=True, default=_listed) + "\n").encode()


def _listed(value: Any) -> list[str]:
    """Write a set in order; refuse any other value that JSON cannot write, rather than publish it changed."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"the adapter's configuration holds a {type(value).__name__}, which JSON cannot write")
