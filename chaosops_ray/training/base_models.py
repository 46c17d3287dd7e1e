"""Base models by name or path: their folder, digest and transcript layout."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from chaosops_ray.config import MADE_HERE, SMOLLM2, TINY_MODELS, ConfigError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.store import versions
from chaosops_ray.training import smollm2, tiny
from chaosops_ray.wire import Layout

WORLD = "incident"  # the world of a run that names none
_PRETRAINED = "chaosops_ray.training.pretrained"
_HUB = "huggingface_hub"
_REMEDY = "give a model's folder, a hub name, smollm2, or tiny"


class BaseModel(NamedTuple):
    """A base model that is ready to be loaded."""

    name: str
    path: Path
    digest: str
    layout: Layout

    @property
    def public_name(self) -> str:
        """The name that adapters carry, which means something elsewhere: a path's folder, or what others call it."""
        if self.name == SMOLLM2:
            return smollm2.PUBLISHED
        return self.path.name if Path(self.name).expanduser().resolve() == self.path else self.name


def prepare(name: str, world: str = WORLD, say: Callable[[str], None] = lambda _text: None) -> BaseModel:
    """Return the model of this name: a tiny one is made for the world, smollm2 is made, any other found or fetched."""
    what = f"warming up {name}" if name in TINY_MODELS else f"loading {name}"
    say(what)
    if name in TINY_MODELS:
        environment = environment_named(world)
        recipe = tiny.recipe(environment, name)
        path = tiny.ensure(environment, recipe, lambda done, steps: say(f"{what} {done}/{steps}"))
        return BaseModel(name, path, versions.base_digest(path), tiny.layout(path))
    made = smollm2.ensure(say) if name == SMOLLM2 else None
    # Imported here: it loads transformers, which a tiny model does not need.
    pretrained = import_module(_PRETRAINED)
    found: BaseModel = pretrained.of(name, made or pretrained.locate(name))
    return found


def on_disk(name: str, world: str = WORLD) -> Path | None:
    """Return the folder of the model of this name; None if it is not on this machine yet."""
    if name in MADE_HERE:
        environment = environment_named(world)
        made = smollm2.folder() if name == SMOLLM2 else tiny.folder(environment, tiny.recipe(environment, name))
        return made if made.is_dir() else None
    found = local(name)
    if found is not None:
        return found
    # Imported here: it takes a second, which a model of this machine does not need.
    try:
        cached = import_module(_HUB).try_to_load_from_cache(name, "config.json")
    except ValueError as error:
        raise ConfigError(f"model: {name[:80]} is neither a folder nor a hub name ({error}); {_REMEDY}") from None
    return Path(cached).parent if isinstance(cached, str) else None


def local(name: str) -> Path | None:
    """Return the folder of a model given by its path; None for a name that only the hub can have."""
    try:
        path = Path(name).expanduser()
        is_folder = bool(name) and path.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, or the home of an unknown user
        raise ConfigError(f"model: {name[:80]} is not a folder ({error}); {_REMEDY}") from None
    if is_folder:
        if not (path / "config.json").is_file():
            raise ConfigError(f"model: {name} is a folder without a config.json; give a Hugging Face model's folder")
        return path.resolve()
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(f"model: there is no folder {name}; {_REMEDY}")
    return None
