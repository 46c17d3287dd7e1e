"""The adapter's files, with the same bytes for the same weights on every machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save

from chaosops_ray.learner.lora import ADAPTER
from chaosops_ray.store import versions
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.wire import Files

_METADATA = {"format": "pt"}
_ALIGNED = 8  # of a safetensors header, in bytes


def adapter_files(model: PeftModel, base_name: str) -> Files:
    """Return the files of the model's adapter, which name its base model."""
    if Path(base_name).is_absolute():
        raise AdapterError(f"{base_name} is a path of this machine, which no adapter may contain; give the base a name")
    return {versions.CONFIG: _config(model, base_name), versions.WEIGHTS: _weights(model)}


def _weights(model: PeftModel) -> bytes:
    # The embeddings are the base's own; asking PEFT to decide would make it look them up on the hub.
    tensors = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    return serialized({name: tensor.detach() for name, tensor in tensors.items()})


def serialized(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes that safetensors makes of tensors of one kind, with one copy instead of four.

    Those of a GPU are put together there, and come over at once.
    """
    names = sorted(tensors, key=str.encode)
    if {tensor.dtype for tensor in tensors.values()} != {torch.float32}:
        return save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, dict(_METADATA))
    header: dict[str, Any] = {"__metadata__": _METADATA}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].numel() * 4
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % _ALIGNED)
    whole = bytearray(8 + len(told) + end)
    whole[: 8 + len(told)] = len(told).to_bytes(8, "little") + told
    flat = [tensors[name].reshape(-1) for name in names]
    body = torch.frombuffer(whole, dtype=torch.float32, offset=8 + len(told))
    if body.device == flat[0].device:
        torch.cat(flat, out=body)
    else:
        body.copy_(torch.cat(flat))
    return cast("bytes", whole)  # whoever reads or writes it takes either, and a copy would cost as much as all of this


def _config(model: PeftModel, base_name: str) -> bytes:
    # PEFT would write the path that the base was loaded from; sets have no order of their own.
    fields = {**model.peft_config[ADAPTER].to_dict(), "base_model_name_or_path": base_name, "inference_mode": True}
    return (json.dumps(fields, indent=2, sort_keys=True, default=_listed) + "\n").encode()


def _listed(value: Any) -> list[str]:
    """Write a set in order; refuse any other value that JSON cannot write, rather than publish it changed."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"the adapter's configuration holds a {type(value).__name__}, which JSON cannot write")
