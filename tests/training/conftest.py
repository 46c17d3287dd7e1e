"""The tiny model, which most tests of this folder train, evaluate or export, or start processes that do."""

from __future__ import annotations

import pytest

from tests.support.models import tiny_base


@pytest.fixture(scope="session", autouse=True)
def tiny_model() -> None:
    """Build it once, in one process, before the first test."""
    tiny_base()
