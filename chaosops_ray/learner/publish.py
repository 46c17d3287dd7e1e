"""Publishing: the learner's adapter becomes an immutable version on disk, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save

from chaosops_ray.learner.lora import ADAPTER
from chaosops_ray.store import versions
from chaosops_ray.store.files import atomic_folder, make_folder, remove_folder, sweep
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.wire import PolicyVersion


def publish(model: PeftModel, adapters: Path, number: int, base: str, base_name: str) -> PolicyVersion:
    """Write the model's adapter as version `number`, trained on the base model of digest `base`.

    The same weights give the same digest on every machine. Publishing them again under their number changes nothing;
    other weights under that number are an error. A run has one learner, so leftovers of killed ones are deleted first.
    """
    name = versions.folder_name(number)
    if Path(base_name).is_absolute():
        raise AdapterError(
            f"{base_name} is a path of this machine, which {name} must not contain; give the base a name"
        )
    make_folder(adapters)
    sweep(adapters)
    target = adapters / name
    if target.is_symlink():
        raise AdapterError(f"{target} is a link; move it elsewhere and publish {name} again")
    if target.is_dir() and not os.path.lexists(target / versions.MARKER):
        shutil.rmtree(target)
    try:
        # The rename shows all files at once. The marker is for copies, which are not atomic: it proves them complete.
        with atomic_folder(target, replace=False) as unfinished:
            (unfinished / versions.CONFIG).write_bytes(_config(model, base_name))
            (unfinished / versions.WEIGHTS).write_bytes(_weights(model))
            marker = versions.seal(unfinished, number, base)
    except FileExistsError:
        there = versions.read(target, marker.base)
        if there.digest != marker.digest:
            raise AdapterError(
                f"{target} was published with digest {there.digest[:12]} and would now be {marker.digest[:12]}; "
                "a version never changes, publish under the next number"
            ) from None
        return there
    return PolicyVersion(number, marker.digest, str(target.resolve()))


def prune(adapters: Path, keep: Collection[int]) -> tuple[int, ...]:
    """Delete all versions but these, and leftovers of killed learners; return the deleted numbers."""
    sweep(adapters)
    gone = sorted(set(versions.numbers(adapters)) - set(keep))
    for number in gone:
        remove_folder(adapters / versions.folder_name(number))
    return tuple(gone)


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
