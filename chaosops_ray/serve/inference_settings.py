"""The settings of an inference run: from the environment, and from the options of its command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chaosops_ray.sim import InputError

ENDPOINT = "API_BASE_URL"
MODEL = "MODEL_NAME"
# The first of these that is set holds the endpoint's key.
KEYS = ("API_KEY", "HF_TOKEN", "HUGGINGFACE_API_KEY")
SERVER = "ENV_URL"
IMAGE = "LOCAL_IMAGE_NAME"
MAX_TIMEOUT = 3600
MAX_RETRIES = 100
MAX_TOKENS = 1_000_000
# The options of a reset that are whole numbers; the others are text.
_NUMBERS = ("seed", "index")
_MAX_DIGITS = 18


class Settings(NamedTuple):
    """What to ask, and where the world is served: at a URL, or from an image that is started here."""

    endpoint: str
    model: str
    key_variable: str | None
    server: str | None
    image: str | None


class Asking(NamedTuple):
    """How the endpoint is asked: seconds for a try, how often it is repeated, the longest answer, with tools or not."""

    timeout: float
    retries: int
    max_tokens: int
    with_tools: bool

    def checked(self) -> Asking:
        """Return itself; InputError names an option that is out of its range."""
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise InputError(f"--timeout must be above 0 and at most {MAX_TIMEOUT} seconds, got {self.timeout:g}")
        if not 0 <= self.retries <= MAX_RETRIES:
            raise InputError(f"--retries must be 0-{MAX_RETRIES}, got {self.retries}")
        if not 0 < self.max_tokens <= MAX_TOKENS:
            raise InputError(f"--max-tokens must be 1-{MAX_TOKENS}, got {self.max_tokens}")
        return self


def settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings; InputError names the ones that are missing."""
    given = {name: value.strip() for name, value in environ.items()}
    missing = [name for name in (ENDPOINT, MODEL) if not given.get(name)]
    if not (given.get(SERVER) or given.get(IMAGE)):
        missing.append(f"either {SERVER} or {IMAGE}")
    if missing:
        raise InputError(f"set {', and '.join(missing)} in the environment")
    server = given.get(SERVER) or None
    image = None if server else given[IMAGE]
    return Settings(given[ENDPOINT], given[MODEL], key_variable(environ), server, image)


def key_variable(environ: Mapping[str, str]) -> str | None:
    """Return the name of the variable that holds the endpoint's key; None if no key is set."""
    return next((name for name in KEYS if environ.get(name, "").strip()), None)


def reset_options(given: Sequence[str]) -> dict[str, str | int]:
    """Read KEY=VALUE as options of a reset."""
    chosen: dict[str, str | int] = {}
    for item in given:
        name, is_pair, value = item.partition("=")
        if not (is_pair and name.isidentifier()):
            raise InputError(f"--reset must be KEY=VALUE, such as difficulty=hard, got {item[:80]!r}")
        if name in _NUMBERS:
            if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS):
                raise InputError(f"--reset {name} must be a whole number, got {value[:80]!r}")
            chosen[name] = int(value)
        else:
            chosen[name] = value
    return chosen
