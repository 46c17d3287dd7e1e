"""Base models by name or path: where they lie, what digest they have, how their transcripts are laid out."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from chaosops_ray.config import MADE_HERE, ConfigError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store import versions
from chaosops_ray.training import tiny
from chaosops_ray.wire import Layout

WORLD = "incident"  # the world of a run that names none
_REAL = "chaosops_ray.training.layouts"


class BaseModel(NamedTuple):
    """A base model that is ready to be loaded."""

    name: str
    path: Path
    digest: str
    layout: Layout


def prepare(
    name: str, progress: Callable[[int, int], None] = lambda _done, _steps: None, world: str = WORLD
) -> BaseModel:
    """The model of this name: built for the world, found or fetched."""
    if name in MADE_HERE:
        path = tiny.ensure(environment_named(world), tiny.RECIPES[name], progress)
        return BaseModel(name, path, versions.base_digest(path), tiny.layout(path))
    # Imported here: it loads transformers, and a model that is made here needs none.
    found: BaseModel = import_module(_REAL).prepare(name)
    return found


def local(name: str) -> Path | None:
    """The folder of a model given by its path; None where the name can only be one of the hub."""
    try:
        path = Path(name).expanduser()
        is_folder = bool(name) and path.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, or somebody's home that there is not
        raise ConfigError(
            f"model: {name[:80]} is no folder ({error}); give a model's folder, a hub name, or tiny"
        ) from None
    if is_folder:
        if not (path / "config.json").is_file():
            raise ConfigError(f"model: {name} is a folder without a config.json; give a Hugging Face model's folder")
        return path.resolve()
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(f"model: there is no folder {name}; give a model's folder, a hub name, or tiny")
    return None
