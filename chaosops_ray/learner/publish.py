"""Publishing: the learner's adapter becomes an immutable version on disk, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save

from chaosops_ray.learner.lora import ADAPTER
from chaosops_ray.store import versions
from chaosops_ray.store.versions import AdapterError
from chaosops_ray.wire import PolicyVersion

# A dot ahead, so that no reader ever takes it for a version; random, so that no two writers share one.
_UNFINISHED = re.compile(r"\.policy-v[0-9]+\.[0-9a-f]{8}")


def publish(model: PeftModel, adapters: Path, number: int, base: str, base_name: str) -> PolicyVersion:
    """Write the model's adapter as version `number`, trained on the base model of digest `base`.

    The same weights give the same digest on every machine; publishing them again under their number is no error.
    """
    name = versions.folder_name(number)
    if Path(base_name).is_absolute():
        raise AdapterError(f"{base_name} is a path of this machine, which {name} must not carry; give the base a name")
    adapters.mkdir(parents=True, exist_ok=True)
    _sweep(adapters)
    target = adapters / name
    if target.is_dir() and not os.path.lexists(target / versions.MARKER):
        shutil.rmtree(target)
    unfinished = _unfinished(adapters, name)
    unfinished.mkdir()
    try:
        _write(unfinished / versions.CONFIG, _config(model, base_name))
        _write(unfinished / versions.WEIGHTS, _weights(model))
        marker = versions.seal(unfinished, number, base)
        _to_disk(unfinished)
        if not _appear(unfinished, target):
            return _published_before(target, marker)
    finally:
        if unfinished.exists():
            shutil.rmtree(unfinished)
    _to_disk(adapters)
    return PolicyVersion(number, marker.digest, str(target.resolve()))


def _appear(unfinished: Path, target: Path) -> bool:
    """Give the folder its name; False where another has it already."""
    # The marker goes in ahead of the rename: everything is on disk by now, and the rename shows all of it at once or
    # nothing, so nobody sees a version without its marker or a marker without its version. What the marker is for is
    # the copies that others make, which are not atomic: there it tells a whole folder from a part.
    try:
        unfinished.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True


def prune(adapters: Path, keep: Collection[int]) -> tuple[int, ...]:
    """Delete all versions but these, and what crashes have left; the numbers that went."""
    _sweep(adapters)
    gone = sorted(set(versions.numbers(adapters)) - set(keep))
    for number in gone:
        name = versions.folder_name(number)
        # Out of the readers' sight first: a version that is half deleted must not look like one that is damaged.
        doomed = _unfinished(adapters, name)
        (adapters / name).rename(doomed)
        shutil.rmtree(doomed)
    return tuple(gone)


def _unfinished(adapters: Path, name: str) -> Path:
    return adapters / f".{name}.{secrets.token_hex(4)}"


def _sweep(adapters: Path) -> None:
    """A run has one learner; what lies here unfinished is from one that crashed."""
    for path in adapters.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            shutil.rmtree(path)


def _published_before(target: Path, marker: versions.Marker) -> PolicyVersion:
    """After a restart the same weights are published again; anything else would change what a number means."""
    there = versions.read(target, marker.base)
    if there.digest != marker.digest:
        raise AdapterError(
            f"{target} was published with digest {there.digest[:12]} and would now be {marker.digest[:12]}; "
            "a version never changes, publish under the next number"
        )
    return there


# -- bytes ------------------------------------------------------------------------------------------------------------


def _weights(model: PeftModel) -> bytes:
    # The embeddings are the base's own; asking PEFT to decide would make it look them up on the hub.
    tensors = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {"format": "pt"})


def _config(model: PeftModel, base_name: str) -> bytes:
    # PEFT would write the path that the base was loaded from, and sets in an order that changes from run to run.
    fields = {**model.peft_config[ADAPTER].to_dict(), "base_model_name_or_path": base_name, "inference_mode": True}
    return (json.dumps(fields, indent=2, sort_keys=True, default=_listed) + "\n").encode()


def _listed(value: Any) -> list[str]:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"the adapter's configuration holds a {type(value).__name__}, which JSON cannot")


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _to_disk(folder: Path) -> None:
    """The names in a folder are only safe when the folder itself is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
