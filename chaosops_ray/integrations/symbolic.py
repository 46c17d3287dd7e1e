"""Views as vectors of one size and actions as numbers, for learners that read no text.

A feature's name is hashed to a place in the vector and to a sign, so that two features which share a place cancel as
often as they add. The hash is CRC-32, which is the same in every process.
"""

from __future__ import annotations

from functools import lru_cache
from math import copysign, log1p
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError

SIZE = 512
# No vector has an entry beyond it: a figure of 10,000 counts as 9.2.
BOUND = 32.0


def features(environment: AnyEnvironment, view: Any, size: int = SIZE) -> NDArray[np.float32]:
    """Return the view's symbols as a vector; figures are squashed to their logarithms, with their signs."""
    found = [0.0] * size
    for name, value in environment.symbols(view).items():
        index, sign = _place(name, size)
        found[index] += sign * copysign(log1p(abs(value)), value)
    return np.clip(np.array(found, np.float32), -BOUND, BOUND)


@lru_cache(maxsize=1 << 16)
def _place(name: str, size: int) -> tuple[int, float]:
    number = crc32(name.encode("utf-8", "surrogatepass"))
    return (number >> 1) % size, 1.0 if number & 1 else -1.0


def vocabulary(environment: AnyEnvironment, role: str) -> tuple[str, ...]:
    """Return the actions that the numbers of this role stand for; InputError where its world has no such list."""
    found = environment.vocabulary(role)
    if found is None:
        raise InputError(
            f"world {environment.name} has no fixed list of actions for {role}; give it `vocabulary`, or play by text"
        )
    return found


def mask(environment: AnyEnvironment, view: Any) -> NDArray[np.int8]:
    """Return, for each action of the vocabulary, 1 if it is permitted on this view and 0 if it is not."""
    numbers = _numbers(environment, view.role)
    found = np.zeros(len(numbers), np.int8)
    for kind in environment.permitted(view) or ():
        for action in kind:
            found[numbers[environment.format_action(action, "compact")]] = 1
    return found


@lru_cache(maxsize=256)
def _numbers(environment: AnyEnvironment, role: str) -> dict[str, int]:
    return {spelling: number for number, spelling in enumerate(vocabulary(environment, role))}


def action(environment: AnyEnvironment, role: str, number: Any) -> Any:
    """Return the action that a number stands for."""
    listed = vocabulary(environment, role)
    place = int(number)
    if not 0 <= place < len(listed):
        raise InputError(f"action {place} of {role} is not from 0 to {len(listed) - 1}")
    return environment.parse_action(listed[place])
