"""Libraries that are hidden from others while these are imported."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from chaosops_ray.process_environment import hidden


def test_a_hidden_package_cannot_be_found_or_imported_and_can_afterwards() -> None:
    sys.modules.pop("colorsys", None)
    with hidden("colorsys"):
        assert find_spec("colorsys") is None
        with pytest.raises(ModuleNotFoundError):
            __import__("colorsys")
    assert __import__("colorsys").rgb_to_hsv


def test_what_was_loaded_before_is_there_afterwards() -> None:
    before = sys.modules["json"]
    with hidden("json"):
        assert sys.modules["json"] is None
    assert sys.modules["json"] is before
