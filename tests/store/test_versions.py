"""A version on disk is whole and what was published, or an error that names it, its path and what to do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.store import versions
from chaosops_ray.store.versions import AdapterError, BaseError, DigestError
from chaosops_ray.wire import PolicyVersion

BASE = "ab" * 32
OTHER = "cd" * 32


def weights(modules: int = 2, content: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A safetensors file made by hand."""
    names = [f"base_model.model.layers.{i}.q_proj.lora_{side}.weight" for i in range(modules) for side in "AB"]
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": {"format": "pt"}, **dict.fromkeys(names, tensor)}).encode()
    return len(header).to_bytes(8, "little") + header + content


def fill(folder: Path, content: bytes = b"\x01\x02\x03\x04") -> None:
    folder.mkdir(parents=True)
    (folder / versions.CONFIG).write_text('{"peft_type": "LORA", "r": 4}\n')
    (folder / versions.WEIGHTS).write_bytes(weights(content=content))


def published(adapters: Path, number: int = 12) -> Path:
    folder = adapters / f"policy-v{number}"
    fill(folder, number.to_bytes(4, "big"))
    versions.seal(folder, number, BASE)
    return folder


def refused(folder: Path, *words: str, kind: type[AdapterError] = AdapterError) -> None:
    """Reading is an error of one line that says where, which and these words."""
    with pytest.raises(kind) as caught:
        versions.read(folder)
    said = str(caught.value)
    assert "\n" not in said
    for word in (str(folder), *words):
        assert word in said, said


def test_what_was_sealed_is_read_back(tmp_path: Path) -> None:
    folder = published(tmp_path)
    version = versions.read(folder, BASE)
    assert version == PolicyVersion(12, versions.digest(folder), str(folder))
    assert version.name == folder.name
    assert versions.verify(version, BASE) == versions.Marker(12, version.digest, BASE, 2)


def test_the_marker_is_as_documented(tmp_path: Path) -> None:
    marker = json.loads((published(tmp_path) / "complete.json").read_text())
    assert list(marker) == ["schema", "number", "digest", "base", "modules", "seal"]
    assert marker["schema"] == "adapter/1"


def test_a_path_relative_to_here_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process, which reads elsewhere, must find the folder."""
    folder = published(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert versions.read(Path("policy-v12")).path == str(folder)


def test_the_digest_knows_names_from_bytes(tmp_path: Path) -> None:
    """Moving a byte from one file to the other is another adapter."""
    found = set()
    for number, (config, content) in enumerate([(b"ab", b"c"), (b"a", b"bc"), (b"", b"abc"), (b"abc", b"")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / versions.CONFIG).write_bytes(config)
        (folder / versions.WEIGHTS).write_bytes(content)
        found.add(versions.digest(folder))
    assert len(found) == 4


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "policy-v3", "policy-v3", "No such file", "publish")


def test_a_folder_that_no_version_has(tmp_path: Path) -> None:
    fill(tmp_path / "checkpoint-7")
    refused(tmp_path / "checkpoint-7", "policy-v12")
    for name in ("policy-v", "policy-v01", "policy-v-1", "policy-v1.tmp", "policy-v١", "policy-v1234567890"):
        refused(tmp_path / name, "policy-v12")


def test_half_written(tmp_path: Path) -> None:
    fill(tmp_path / "policy-v12")
    refused(tmp_path / "policy-v12", "complete.json", "half-written", "publish")


@pytest.mark.parametrize("name", [versions.CONFIG, versions.WEIGHTS])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    folder = published(tmp_path)
    (folder / name).unlink()
    refused(folder, "policy-v12", name, "publish")


def test_a_renamed_version(tmp_path: Path) -> None:
    folder = published(tmp_path).rename(tmp_path / "policy-v13")
    refused(folder, "policy-v12", "policy-v13", "name")


def test_a_schema_of_the_future(tmp_path: Path) -> None:
    folder = published(tmp_path)
    marker = folder / versions.MARKER
    marker.write_text(marker.read_text().replace("adapter/1", "adapter/2"))
    refused(folder, "policy-v12", "'adapter/2'", "'adapter/1'")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 4000, b'{"schema": "adapter/1"}', b"1" * 4096]
)
def test_a_marker_that_is_none(tmp_path: Path, text: bytes) -> None:
    folder = published(tmp_path)
    (folder / versions.MARKER).write_bytes(text)
    refused(folder, "policy-v12", "publish")


def test_a_marker_without_end(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder / versions.MARKER).write_bytes(b" " * 5000)
    refused(folder, "policy-v12", "larger")


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "policy-v12"
    fill(folder)
    (folder / versions.CONFIG).write_text("{'r': 4}")
    versions.seal(folder, 12, BASE)
    refused(folder, versions.CONFIG, "policy-v12", "JSON")


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, weights()[:20], weights(modules=0)])
def test_weights_that_are_none_are_not_sealed(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "policy-v12"
    fill(folder)
    (folder / versions.WEIGHTS).write_bytes(content)
    with pytest.raises(AdapterError, match="policy-v12"):
        versions.seal(folder, 12, BASE)
    assert not (folder / versions.MARKER).exists()


@pytest.mark.parametrize("base", ["", "tiny", "AB" * 32, "ab" * 33])
def test_a_base_without_a_digest_is_not_sealed(tmp_path: Path, base: str) -> None:
    fill(tmp_path / "policy-v12")
    with pytest.raises(AdapterError, match="base_digest"):
        versions.seal(tmp_path / "policy-v12", 12, base)


@pytest.mark.parametrize("name", [versions.CONFIG, versions.WEIGHTS, versions.MARKER])
def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    """Not even to the same bytes: what a link leads to can change under a version."""
    folder = published(tmp_path)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    refused(folder, name)


def test_a_linked_folder_is_not_followed(tmp_path: Path) -> None:
    published(tmp_path / "elsewhere")
    (tmp_path / "policy-v12").symlink_to(tmp_path / "elsewhere" / "policy-v12")
    refused(tmp_path / "policy-v12", "link")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder / versions.CONFIG).unlink()
    os.mkfifo(folder / versions.CONFIG)
    refused(folder, "plain file")


def test_what_no_digest_covers_may_not_lie_there(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder / "adapter_model.bin").write_bytes(b"surprise")
    refused(folder, "policy-v12", "'adapter_model.bin'")


def test_another_base_model(tmp_path: Path) -> None:
    folder = published(tmp_path)
    for check in (lambda: versions.read(folder, OTHER), lambda: versions.verify(versions.read(folder), OTHER)):
        with pytest.raises(BaseError, match=r"policy-v12 .* abababababab, wanted is cdcdcdcdcdcd; .+"):
            check()


def test_another_adapter_under_the_same_number(tmp_path: Path) -> None:
    """Whole in itself, and not the one that was published: a second run's, for instance."""
    version = versions.read(published(tmp_path / "one"))
    other = tmp_path / "two" / "policy-v12"
    fill(other, b"\x09\x09\x09\x09")
    versions.seal(other, 12, BASE)
    with pytest.raises(DigestError, match=version.digest[:12]):
        versions.verify(version._replace(path=str(other)))


def test_a_path_that_leads_elsewhere_is_not_the_version(tmp_path: Path) -> None:
    version = versions.read(published(tmp_path, 12))
    other = published(tmp_path, 13)
    for path in (str(other), f"{version.path}/../policy-v13", f"{version.path}/..", ""):
        with pytest.raises(AdapterError, match="policy-v12"):
            versions.verify(version._replace(path=path))


def test_the_numbers_are_those_of_the_complete_versions(tmp_path: Path) -> None:
    for number in (2, 10, 9):
        published(tmp_path, number)
    fill(tmp_path / "policy-v3")
    fill(tmp_path / ".policy-v4.0a1b2c3d")
    (tmp_path / "policy-v5").write_text("a file")
    assert versions.numbers(tmp_path) == [2, 9, 10]
    with pytest.raises(AdapterError, match="missing"):
        versions.numbers(tmp_path / "missing")


# -- every byte counts ------------------------------------------------------------------------------------------------

NAMES = (versions.CONFIG, versions.WEIGHTS, versions.MARKER)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("whole"))


def damaged(whole: Path, name: str, content: bytes) -> None:
    """A copy with this content in one of its files is refused."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / whole.name
        shutil.copytree(whole, folder)
        versions.read(folder)
        (folder / name).write_bytes(content)
        refused(folder, "policy-v12")


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_changed_byte_is_found(whole: Path, data: st.DataObject, name: str) -> None:
    content = bytearray((whole / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1), "place")
    content[place] ^= data.draw(st.integers(1, 255), "flipped bits")
    damaged(whole, name, content)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_truncated_or_lengthened_file_is_found(whole: Path, data: st.DataObject, name: str) -> None:
    content = (whole / name).read_bytes()
    shorter = st.integers(0, len(content) - 1).map(lambda size: content[:size])
    longer = st.binary(min_size=1, max_size=8).map(lambda more: content + more)
    damaged(whole, name, data.draw(shorter | longer))


def test_every_byte_of_the_marker_flipped(tmp_path: Path) -> None:
    """The marker is small enough to try all of them."""
    folder = published(tmp_path)
    content = (folder / versions.MARKER).read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        (folder / versions.MARKER).write_bytes(flipped)
        refused(folder, "policy-v12")


# -- base models ------------------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text(json.dumps({"file": name}))
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"one")
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"two")
    return folder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model-00002-of-00002.safetensors"])
def test_the_digest_of_a_base_hangs_on_its_files(base: Path, name: str) -> None:
    before = versions.base_digest(base)
    assert before == versions.base_digest(base)
    (base / name).write_bytes((base / name).read_bytes() + b" ")
    assert versions.base_digest(base) != before


def test_the_digest_of_a_base_hangs_on_nothing_else(base: Path, tmp_path: Path) -> None:
    before = versions.base_digest(base)
    (base / "README.md").write_text("read me")
    moved = base.rename(tmp_path / "moved")
    assert versions.base_digest(moved) == before


def test_a_base_in_the_hub_s_cache_is_made_of_links(base: Path, tmp_path: Path) -> None:
    before = versions.base_digest(base)
    blobs = base.rename(tmp_path / "blobs")
    base.mkdir()
    for blob in blobs.iterdir():
        (base / blob.name).symlink_to(blob)
    assert versions.base_digest(base) == before
    (blobs / "tokenizer.json").unlink()
    with pytest.raises(AdapterError, match=r"tokenizer\.json"):
        versions.base_digest(base)


def test_a_base_that_is_none(base: Path, tmp_path: Path) -> None:
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (base / name).unlink()
    with pytest.raises(AdapterError, match="safetensors"):
        versions.base_digest(base)
    with pytest.raises(AdapterError, match=r"config\.json"):
        versions.base_digest(tmp_path / "missing")


# -- on the way to another node ---------------------------------------------------------------------------------------


def test_what_was_sent_is_the_version(tmp_path: Path) -> None:
    version = versions.read(published(tmp_path))
    arrived = versions.unpacked(version, versions.packed(version), tmp_path / "elsewhere")
    assert arrived == version._replace(path=str(tmp_path / "elsewhere" / "policy-v12"))
    assert versions.verify(arrived, BASE) == versions.verify(version, BASE)


def test_what_has_changed_on_disk_is_not_sent(tmp_path: Path) -> None:
    version = versions.read(published(tmp_path))
    (Path(version.path) / versions.WEIGHTS).write_bytes(weights(content=b"\x01\x02\x03\x05"))
    with pytest.raises(DigestError, match=f"{version.path}.*policy-v12"):
        versions.packed(version)


@pytest.mark.parametrize("name", [versions.CONFIG, versions.WEIGHTS, versions.MARKER])
def test_what_has_changed_on_the_way_is_refused(tmp_path: Path, name: str) -> None:
    """Each of the three files: cut short, empty, or missing."""
    version = versions.read(published(tmp_path))
    sent = versions.packed(version)
    without = {other: content for other, content in sent.items() if other != name}
    for number, files in enumerate([sent | {name: sent[name][:-1]}, sent | {name: b""}, without]):
        arrived = versions.unpacked(version, files, tmp_path / str(number))
        with pytest.raises(AdapterError, match="policy-v12"):
            versions.verify(arrived)


def test_the_digest_that_is_taken_beside_writing_is_that_of_the_files_on_disk(tmp_path: Path) -> None:
    content = {versions.CONFIG: b"{}\n", versions.WEIGHTS: weights()}
    for number, kind in enumerate((bytes, bytearray, memoryview)):
        version = versions.publish(tmp_path, number, BASE, {name: kind(one) for name, one in content.items()})
        assert version.digest == versions.digest(Path(version.path))
        assert versions.verify(version).digest == version.digest


def test_what_is_sent_on_is_what_would_be_read_and_is_checked_where_it_arrives(tmp_path: Path) -> None:
    content = {versions.CONFIG: b"{}\n", versions.WEIGHTS: weights()}
    version = versions.publish(tmp_path / "here", 3, BASE, content)
    sent = versions.sent_on(version, content)
    assert sent == versions.packed(version)
    arrived = versions.unpacked(version, sent, tmp_path / "there")
    assert versions.verify(arrived, BASE).digest == version.digest
    damaged = {**sent, versions.WEIGHTS: weights(content=b"\x00\x00\x00\x00")}
    with pytest.raises(DigestError):
        versions.verify(versions.unpacked(version, damaged, tmp_path / "damaged"), BASE)
