"""A base model that a node lacks arrives whole, once, and as it was sent; nothing else is ever used."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from chaosops_ray.store import received
from chaosops_ray.store.received import folder_of
from chaosops_ray.store.versions import AdapterError, BaseError, base_digest

CONTENTS = {
    "config.json": b"{}",
    "tokenizer.json": b"",
    "model-1.safetensors": b"twenty-one bytes long",
    "model-2.safetensors": b"0123456789",
}


class Sender:
    """A node that has the model; it can break off in the middle, or send something else."""

    def __init__(self, contents: dict[str, bytes] | None = None, breaks_at: str = "") -> None:
        self.contents = contents or CONTENTS
        self.breaks_at = breaks_at
        self.asked: list[tuple[str, int, int]] = []

    def files(self) -> Sequence[tuple[str, int]]:
        return [(name, len(content)) for name, content in self.contents.items()]

    def piece(self, name: str, start: int, size: int) -> bytes:
        if name == self.breaks_at:
            raise ConnectionError("the sender is gone")
        self.asked.append((name, start, size))
        return self.contents[name][start : start + size]


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def digest(tmp_path: Path) -> str:
    return base_digest(write(tmp_path / "at the driver's", CONTENTS))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAOSOPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_node_that_has_the_model_under_its_path_receives_nothing(tmp_path: Path, digest: str, cache: Path) -> None:
    here = write(tmp_path / "here", CONTENTS | {"README.md": b"not part of what the model does"})
    assert folder_of(here, digest, Sender(breaks_at="config.json")) == here
    assert not cache.exists()


def test_what_is_received_is_kept_for_the_next_actor(
    tmp_path: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(received, "PIECE_BYTES", 10)
    sender = Sender()
    folder = folder_of(tmp_path / "nowhere", digest, sender)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS
    one = [("model-1.safetensors", 0, 10), ("model-1.safetensors", 10, 10), ("model-1.safetensors", 20, 1)]
    assert sender.asked == [("config.json", 0, 2), *one, ("model-2.safetensors", 0, 10)]
    assert folder_of(tmp_path / "nowhere", digest, Sender(breaks_at="config.json")) == folder
    assert folder_of(tmp_path / "elsewhere", digest, Sender(breaks_at="config.json")) == folder


@pytest.mark.parametrize("change", [{"config.json": b"[]"}, {"model-3.safetensors": b"more"}])
def test_another_model_under_the_same_path_is_not_used(tmp_path: Path, digest: str, change: dict[str, bytes]) -> None:
    there = write(tmp_path / "there", CONTENTS | change)
    folder = folder_of(there, digest, Sender())
    assert folder != there
    assert base_digest(folder) == digest


@pytest.mark.parametrize("name", [name for name, content in CONTENTS.items() if content])
def test_a_model_that_has_arrived_in_part_is_not_used(tmp_path: Path, digest: str, cache: Path, name: str) -> None:
    """Neither after an error nor, with what a killed process leaves, by the next one."""
    with pytest.raises(AdapterError, match=r"cannot receive the base model into .*cache.*gone"):
        folder_of(tmp_path / "nowhere", digest, Sender(breaks_at=name))
    kept = cache / "received" / digest
    assert [path.name for path in kept.iterdir()] == ["lock"]
    write(kept / "incoming", {"config.json": b"{}", "unknown.safetensors": b"half"})
    write(kept / "model", {"config.json": b"{}", "model-1.safetensors": b"twenty"})
    folder = folder_of(tmp_path / "nowhere", digest, Sender())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS
    assert sorted(path.name for path in kept.iterdir()) == ["lock", "model"]


def test_a_copy_that_was_damaged_is_received_again(tmp_path: Path, digest: str) -> None:
    folder = folder_of(tmp_path / "nowhere", digest, Sender())
    (folder / "model-2.safetensors").write_bytes(b"0123456780")
    assert folder_of(tmp_path / "nowhere", digest, Sender()) == folder
    assert (folder / "model-2.safetensors").read_bytes() == CONTENTS["model-2.safetensors"]


def test_what_is_not_the_model_is_refused_and_not_kept(tmp_path: Path, digest: str, cache: Path) -> None:
    """Files of the driver that were changed after it had computed the digest."""
    with pytest.raises(BaseError, match=f"wanted is {digest[:12]}.*start again"):
        folder_of(tmp_path / "nowhere", digest, Sender(CONTENTS | {"config.json": b"[]"}))
    assert [path.name for path in (cache / "received" / digest).iterdir()] == ["lock"]


def test_actors_that_arrive_together_receive_it_once(tmp_path: Path, digest: str) -> None:
    """A lock belongs to an open file, so threads keep each other out as processes do."""
    sender, together = Sender(), threading.Barrier(4)
    found: list[Path] = []

    def arrive() -> None:
        together.wait()
        found.append(folder_of(tmp_path / "nowhere", digest, sender))

    threads = [threading.Thread(target=arrive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len(sender.asked) == 3


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, digest: str, cache: Path) -> None:
    cache.write_text("a file is in the way")
    with pytest.raises(AdapterError, match=r"cannot receive .*cache.*set CHAOSOPS_CACHE"):
        folder_of(tmp_path / "nowhere", digest, Sender())
