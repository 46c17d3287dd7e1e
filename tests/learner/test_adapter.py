"""What is published: deterministic bytes, whole or not at all, and an adapter that engines can load."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM

from chaosops_ray.learner.adapter import adapter_files, serialized
from chaosops_ray.store import versions
from chaosops_ray.store.versions import AdapterError, prune
from chaosops_ray.wire import Files
from tests.support.models import MODULES, publish, small_model, small_peft

# PEFT 0.21 asks transformers 5.13 and later for an attribute that has a new name there.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model(base: Path) -> PeftModel:
    return small_peft(base, seed=1, scale=0.2)


@pytest.fixture(scope="module")
def other(base: Path) -> PeftModel:
    return small_peft(base, seed=2, scale=0.2)


@pytest.fixture(scope="module")
def digest(base: Path) -> str:
    return versions.base_digest(base)


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    return tmp_path / "adapters"


def names(folder: Path) -> list[str]:
    return sorted([path.name for path in folder.iterdir()])


def test_what_is_published_is_complete(model: PeftModel, adapters: Path, digest: str) -> None:
    version = publish(model, adapters, 3, digest, "tiny")
    assert version == versions.read(adapters / "policy-v3", digest)
    assert versions.verify(version).modules == MODULES
    assert names(adapters) == ["policy-v3"]
    assert names(adapters / "policy-v3") == ["adapter_config.json", "adapter_model.safetensors", "complete.json"]


def test_peft_loads_it_back(model: PeftModel, adapters: Path, base: Path, digest: str) -> None:
    """The same logits, and not those of the base."""
    version = publish(model, adapters, 0, digest, "tiny")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), version.path).eval()
    with torch.inference_mode():
        wanted = model(input_ids=IDS).logits
        assert torch.equal(loaded(input_ids=IDS).logits, wanted)
        with loaded.disable_adapter():
            assert not torch.allclose(loaded(input_ids=IDS).logits, wanted, atol=0.1)


def test_the_names_of_tensors_are_those_that_peft_writes(
    model: PeftModel, adapters: Path, digest: str, tmp_path: Path
) -> None:
    """vLLM finds modules by the names in the file: they have to be PEFT's to the letter."""
    ours = load_file(Path(publish(model, adapters, 0, digest, "tiny").path) / versions.WEIGHTS)
    model.save_pretrained(str(tmp_path / "theirs"), save_embedding_layers=False)
    theirs = load_file(tmp_path / "theirs" / versions.WEIGHTS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_configuration_is_peft_s_own_without_the_machine(
    model: PeftModel, adapters: Path, base: Path, digest: str, tmp_path: Path
) -> None:
    folder = Path(publish(model, adapters, 0, digest, "Qwen/tiny").path)
    text = (folder / versions.CONFIG).read_text()
    assert str(base) not in text
    model.save_pretrained(str(tmp_path / "theirs"), save_embedding_layers=False)
    ours = json.loads(text)
    theirs = json.loads((tmp_path / "theirs" / versions.CONFIG).read_text())
    assert ours["base_model_name_or_path"] == "Qwen/tiny"
    assert ours["target_modules"] == sorted(theirs["target_modules"])
    for fields in (ours, theirs):
        del fields["base_model_name_or_path"], fields["target_modules"]
    assert ours == theirs


def test_the_same_weights_digest_alike_wherever_they_lie(adapters: Path, base: Path, tmp_path: Path) -> None:
    """Two machines: the base elsewhere, the run elsewhere, the adapter made anew."""
    moved = shutil.copytree(base, tmp_path / "elsewhere" / "model")
    digest = versions.base_digest(base)
    assert versions.base_digest(moved) == digest
    here = publish(small_peft(base, 1, 0.2), adapters, 5, digest, "tiny")
    there = publish(small_peft(moved, 1, 0.2), tmp_path / "run", 5, digest, "tiny")
    assert here.digest == there.digest
    assert here.path != there.path


def test_a_path_is_no_name_for_a_base(model: PeftModel, adapters: Path, digest: str) -> None:
    with pytest.raises(AdapterError, match=r"/home/me/model is a path of this machine.* name"):
        publish(model, adapters, 0, digest, "/home/me/model")
    assert not adapters.exists()


def test_a_restart_publishes_the_same_thing_again(model: PeftModel, adapters: Path, digest: str) -> None:
    first = publish(model, adapters, 7, digest, "tiny")
    marker = adapters / "policy-v7" / versions.MARKER
    written = marker.stat()
    assert publish(model, adapters, 7, digest, "tiny") == first
    assert (marker.stat().st_ino, marker.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert names(adapters) == ["policy-v7"]


def test_a_number_never_gets_another_adapter(model: PeftModel, other: PeftModel, adapters: Path, digest: str) -> None:
    first = publish(model, adapters, 7, digest, "tiny")
    with pytest.raises(AdapterError, match=rf"policy-v7 was published with digest {first.digest[:12]} .*; .*next"):
        publish(other, adapters, 7, digest, "tiny")
    assert versions.read(adapters / "policy-v7") == first
    assert names(adapters) == ["policy-v7"]


def test_a_number_never_gets_another_base(model: PeftModel, adapters: Path, digest: str) -> None:
    publish(model, adapters, 7, digest, "tiny")
    with pytest.raises(AdapterError, match="policy-v7 was trained on the base"):
        publish(model, adapters, 7, "00" * 32, "tiny")


def test_a_damaged_version_is_not_papered_over(model: PeftModel, adapters: Path, digest: str) -> None:
    folder = Path(publish(model, adapters, 7, digest, "tiny").path)
    content = bytearray((folder / versions.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / versions.WEIGHTS).write_bytes(content)
    with pytest.raises(AdapterError, match="policy-v7"):
        publish(model, adapters, 7, digest, "tiny")


def test_what_a_crash_left_is_removed(model: PeftModel, adapters: Path, digest: str) -> None:
    """A temporary folder of any version, and a folder of this number without its marker."""
    publish(model, adapters, 6, digest, "tiny")
    shutil.copytree(adapters / "policy-v6", adapters / ".policy-v5.00ff00ff.part")
    shutil.copytree(adapters / "policy-v6", adapters / "policy-v7")
    (adapters / "policy-v7" / versions.MARKER).unlink()
    assert publish(model, adapters, 7, digest, "tiny").number == 7
    assert names(adapters) == ["policy-v6", "policy-v7"]


class FullDisk(dict[str, bytes]):
    """Files of which one no longer fits."""

    def __init__(self, files: Files, last: str) -> None:
        super().__init__(files)
        self.last = last

    def __getitem__(self, name: str) -> bytes:
        if name == self.last:
            raise OSError(28, "No space left on device")
        return super().__getitem__(name)


@pytest.mark.parametrize("last", [versions.CONFIG, versions.WEIGHTS])
def test_a_failure_on_the_way_leaves_nothing(model: PeftModel, adapters: Path, digest: str, last: str) -> None:
    publish(model, adapters, 6, digest, "tiny")
    with pytest.raises(OSError, match="No space"):
        versions.publish(adapters, 7, digest, FullDisk(adapter_files(model, "tiny"), last))
    assert names(adapters) == ["policy-v6"]


def test_a_killed_driver_leaves_no_version(
    model: PeftModel, adapters: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the last step nothing that a reader takes for a version is there; the next driver cleans up.

    tests/store/test_files.py kills the writer of a folder at every step.
    """
    seen = []
    original = versions.seal

    def spy(folder: Path, number: int, base: str, of_files: str | None = None) -> versions.Marker:
        marker = original(folder, number, base, of_files)
        seen.append((names(adapters), versions.numbers(adapters)))
        shutil.copytree(folder, adapters / ".policy-v8.00000001.part")  # what SIGKILL would leave at this point
        return marker

    monkeypatch.setattr(versions, "seal", spy)
    publish(model, adapters, 8, digest, "tiny")
    monkeypatch.undo()
    ((there, complete),) = seen
    assert (len(there), there[0][:11], complete) == (1, ".policy-v8.", [])
    assert names(adapters) == [".policy-v8.00000001.part", "policy-v8"]
    assert prune(adapters, [8]) == ()
    assert names(adapters) == ["policy-v8"]


def test_a_link_in_a_version_s_place_is_not_followed(
    model: PeftModel, adapters: Path, digest: str, tmp_path: Path
) -> None:
    adapters.mkdir()
    (adapters / "policy-v3").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AdapterError, match="policy-v3 is a link"):
        publish(model, adapters, 3, digest, "tiny")
    assert names(tmp_path) == ["adapters"]


def test_a_reader_sees_all_or_nothing(model: PeftModel, adapters: Path, digest: str) -> None:
    """Whatever has a version's name while others publish reads back whole."""
    adapters.mkdir()
    done = threading.Event()
    found: set[int] = set()
    wrong: list[AdapterError] = []

    def watch() -> None:
        while not done.is_set():
            for path in adapters.glob("policy-v*"):
                try:
                    found.add(versions.read(path).number)
                except AdapterError as error:
                    wrong.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(10):
            publish(model, adapters, number, digest, "tiny")
    finally:
        done.set()
        watcher.join()
    assert not wrong
    assert found


def test_prune_keeps_what_it_is_told(model: PeftModel, adapters: Path, digest: str) -> None:
    for number in range(4):
        publish(model, adapters, number, digest, "tiny")
    (adapters / "notes.txt").write_text("mine")
    assert prune(adapters, {1, 3, 99}) == (0, 2)
    assert names(adapters) == ["notes.txt", "policy-v1", "policy-v3"]
    assert versions.numbers(adapters) == [1, 3]
    assert prune(adapters, ()) == (1, 3)


@pytest.mark.parametrize("number", [-1, 10**9])
def test_a_number_that_is_none(model: PeftModel, adapters: Path, digest: str, number: int) -> None:
    with pytest.raises(AdapterError, match="number"):
        publish(model, adapters, number, digest, "tiny")


def test_the_bytes_are_those_of_safetensors() -> None:
    draw = torch.Generator().manual_seed(0)
    names = ["b.weight", "a.weight", "layers.10.é", 'layers.2."x"', "layers.1"]
    tensors = {name: torch.randn(3, place + 1, generator=draw) for place, name in enumerate(names)}
    assert serialized(tensors) == save(tensors, {"format": "pt"})
    tensors["b.weight"] = torch.randn(4, 3, generator=draw).T
    assert serialized(tensors) == save({n: t.contiguous() for n, t in tensors.items()}, {"format": "pt"})
    tensors["a.weight"] = tensors["a.weight"].bfloat16()
    assert serialized(tensors) == save({n: t.contiguous() for n, t in tensors.items()}, {"format": "pt"})
