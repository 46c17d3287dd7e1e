"""What all tests share: the order they run in, one thread each, and property tests that draw the same every time."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

from chaosops_ray.process_environment import set_variables

# Before anything is imported that reads it: progress bars have no place in what a command is asserted to print.
set_variables()
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.register_profile("searching", max_examples=3000, database=None, deadline=None)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files first that start a Ray or an engine: with several workers, what takes longest must not come last."""
    long = {item.path for item in items if item.get_closest_marker("cluster") or item.get_closest_marker("vllm")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Models as small as those of tests are faster on one thread; an engine sets the number for the whole process."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
