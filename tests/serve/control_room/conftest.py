"""Fixtures of the control room's tests."""

from tests.support.control_room import filled

__all__ = ["filled"]
