"""The settings of an inference run, which come from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chaosops_ray.sim import InputError

ENDPOINT = "API_BASE_URL"
MODEL = "MODEL_NAME"
# The first of these that is set holds the endpoint's key.
KEYS = ("API_KEY", "HF_TOKEN", "HUGGINGFACE_API_KEY")
SERVER = "ENV_URL"
IMAGE = "LOCAL_IMAGE_NAME"


class Settings(NamedTuple):
    """What to ask, and where the world is served: at a URL, or from an image that is started here."""

    endpoint: str
    model: str
    key_variable: str | None
    server: str | None
    image: str | None


def settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings; InputError names the ones that are missing."""
    given = {name: value.strip() for name, value in environ.items()}
    missing = [name for name in (ENDPOINT, MODEL) if not given.get(name)]
    if not (given.get(SERVER) or given.get(IMAGE)):
        missing.append(f"{SERVER} or {IMAGE}")
    if missing:
        raise InputError(f"set {', '.join(missing)} in the environment")
    server = given.get(SERVER) or None
    image = None if server else given[IMAGE]
    return Settings(given[ENDPOINT], given[MODEL], key_variable(environ), server, image)


def key_variable(environ: Mapping[str, str]) -> str | None:
    """Return the name of the variable that holds the endpoint's key; None if no key is set."""
    return next((name for name in KEYS if environ.get(name, "").strip()), None)
