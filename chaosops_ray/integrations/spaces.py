"""The spaces of Gymnasium in which views and actions lie."""

from __future__ import annotations

import string

import numpy as np
from gymnasium import spaces

from chaosops_ray.integrations.symbolic import BOUND

# The longest text of a turn is far below it.
MAX_TEXT = 100_000
# What worlds, baselines and the listed actions write is plain text.
_CHARACTERS = frozenset(string.printable)


def of_features(size: int) -> spaces.Box:
    """Return the space of vectors."""
    return spaces.Box(-BOUND, BOUND, (size,), np.float32)


def of_text() -> spaces.Text:
    """Return the space of texts."""
    return spaces.Text(MAX_TEXT, charset=_CHARACTERS)


def of_mask(actions: int) -> spaces.Box:
    """Return the space of masks, where they are a part of the observation."""
    return spaces.Box(0, 1, (actions,), np.int8)
