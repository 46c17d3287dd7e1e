"""Settings for libraries before they are loaded: no telemetry, no output over the display, no spinning threads."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

ENVIRONMENT = {
    # Ray, the hub and vLLM phone home unless they are told not to.
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that wait for each other give their core away; where cores are few and shared, spinning costs minutes.
    "OMP_WAIT_POLICY": "PASSIVE",
    # They warn of each other's old spellings; nobody who reads a terminal can fix that.
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


def set_variables() -> None:
    """Set the variables for this process and those that it starts."""
    os.environ.update(ENVIRONMENT)
    warnings.filterwarnings("ignore", category=FutureWarning)


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Make installed packages look as if they were not, to libraries that are imported in this block.

    Libraries import what they find, whether anybody needs it or not, and some of it takes seconds. None in sys.modules
    is Python's own way to say that there is no such package: imports of it fail, and importlib.util.find_spec finds
    none. After the block the packages can be imported as usual.
    """
    loaded = {name: sys.modules[name] for name in packages if name in sys.modules}
    sys.modules.update(dict.fromkeys(packages))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in packages:
            del sys.modules[name]
        sys.modules.update(loaded)
