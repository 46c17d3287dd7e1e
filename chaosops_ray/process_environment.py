"""Settings for libraries before they are loaded: no telemetry, no output over the display, no spinning threads."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

ENVIRONMENT = {
    # Ray, the hub and vLLM send telemetry by default.
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # Waiting threads yield their core; where cores are few and shared, spinning costs minutes.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Tensors of more bytes than this go back to the system when they are freed. By default glibc keeps those of up to
    # 32 MiB for itself, in pieces that hardly fit anything else: a learner on a CPU takes almost twice the memory then.
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    # Libraries warn of deprecations in each other, which a user cannot fix.
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


# For a process that works on a GPU, before it loads torch. Micro-batches differ in size: with segments that can grow, a
# block that was freed serves a larger one, too.
_ALLOCATOR = "expandable_segments:True"
_ALLOCATOR_NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
# cuBLAS repeats its results only with a workspace of its own for each stream.
_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def set_for_a_gpu(*, deterministic: bool) -> None:
    """Set the variables that torch reads when it is loaded, for this process; a user's own values stay."""
    if not any(name in os.environ for name in _ALLOCATOR_NAMES):
        os.environ[_ALLOCATOR_NAMES[0]] = _ALLOCATOR
    if deterministic:
        os.environ.setdefault(*_WORKSPACE)


def set_variables() -> None:
    """Set the variables for this process and those that it starts."""
    os.environ.update(ENVIRONMENT)
    warnings.filterwarnings("ignore", category=FutureWarning)


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Make installed packages look missing to libraries that are imported in this block.

    Libraries import optional packages that they find, which can take seconds. With None in sys.modules, imports of a
    package fail and importlib.util.find_spec finds none. After the block the packages can be imported as usual.
    """
    loaded = {name: sys.modules[name] for name in packages if name in sys.modules}
    sys.modules.update(dict.fromkeys(packages))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in packages:
            del sys.modules[name]
        sys.modules.update(loaded)
