"""What the libraries are told before they are loaded: not to phone home, not to talk over the display, not to spin."""

from __future__ import annotations

import os
import warnings

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
    # They warn of each other's old spellings; nobody who reads a terminal can mend that.
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


def set_variables() -> None:
    """For this process and those that it starts."""
    os.environ.update(ENVIRONMENT)
    warnings.filterwarnings("ignore", category=FutureWarning)
