"""The weather of a world: which calls meet a fault, and what a fault does that depends on no world's facts.

A call is anything that is asked of a source: a tool in one world, a look at a service in another. A world numbers the
calls of each subject by itself and draws before it answers:

    kind = drawn(seed, subject, number, tier)

`seed` is the scenario's and `tier` one of TIERS. `subject` names what is asked, and `number` counts its calls so far,
so that a call changes the weather of no other subject. The draw depends on nothing else: two policies that make the
same call meet the same fault. It is None, or one of KINDS:

- TIMEOUT, RATE_LIMIT (ANNOUNCED): the world refuses the call, and says why.
- SILENT_DROP: one of several parts of the answer is missing: `without_one`.
- TRUNCATION: the last third of the parts is missing: `truncated`.
- STALE, CORRUPTION: the answer is what another source would say, out of date or wrong. That source is the world's to
  make, since only the world knows what hangs together; `wrong_figure` makes a single figure wrong.

The last four are SILENT: what they leave has the shape and the precision of a clean answer. A fault that changes
nothing did not happen, and a world records none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from chaosops_ray.sim.rng import Stream, stream

TIMEOUT = "timeout"
RATE_LIMIT = "rate_limit"
STALE = "stale"
SILENT_DROP = "silent_drop"
TRUNCATION = "truncation"
CORRUPTION = "corruption"
KINDS = (TIMEOUT, RATE_LIMIT, STALE, SILENT_DROP, TRUNCATION, CORRUPTION)
ANNOUNCED = (TIMEOUT, RATE_LIMIT)
SILENT = (STALE, SILENT_DROP, TRUNCATION, CORRUPTION)

# By tier, in the order of KINDS; drawn cumulatively.
Rates: TypeAlias = Mapping[str, tuple[float, ...]]

# One source alone is wrong often enough that asking a second one pays. What only goes missing shows more easily than
# what is wrong, and is rare.
STRICT_RATES: Rates = {
    "warmup": (0.08, 0.04, 0.0, 0.0, 0.0, 0.0),
    "beginner": (0.08, 0.05, 0.10, 0.0, 0.0, 0.06),
    "intermediate": (0.06, 0.04, 0.14, 0.02, 0.02, 0.14),
    "expert": (0.05, 0.04, 0.20, 0.02, 0.02, 0.20),
}
TIERS = tuple(STRICT_RATES)

# By what share of itself a wrong figure differs at least, so that rounding hides no difference.
APART = 0.03
# Rounding may undo a difference; a figure that is still the same after so many draws is too small to show one.
_TRIES = 64

Parts = TypeVar("Parts", list[Any], tuple[Any, ...])


def drawn(seed: int, subject: str, number: int, tier: str, rates: Rates = STRICT_RATES) -> str | None:
    """Draw the fault of this call."""
    left = stream(seed, f"weather {subject}", number).uniform()
    for kind, rate in zip(KINDS, rates[tier], strict=True):
        left -= rate
        if left < 0:
            return kind
    return None


# -- what goes missing ----------------------------------------------------------------------------------------------


def without_one(items: Parts, draw: Stream) -> Parts:
    """Leave out one of several items; an only one stays."""
    if len(items) <= 1:
        return items
    gone = draw.below(len(items))
    return items[:gone] + items[gone + 1 :]


def truncated(items: Parts) -> Parts:
    """Keep the first two thirds of the items; an only one stays."""
    return items[: max(1, (2 * len(items)) // 3)]


# -- a wrong figure -------------------------------------------------------------------------------------------------


def rounded_like(before: float, after: float) -> float:
    """Round the new figure like the old one: to its decimals, at most four, or to its zeros at the end."""
    if isinstance(before, float):
        return round(after, min(4, len(repr(before).partition(".")[2])))
    digits = str(before)
    noughts = len(digits) - len(digits.rstrip("0"))
    while noughts and round(after / 10**noughts) * 10**noughts == before:
        noughts -= 1
    return int(round(after / 10**noughts) * 10**noughts)


def wrong_figure(
    draw: Stream,
    value: float,
    by: tuple[float, float],
    span: tuple[float, float],
    rounded: Callable[[float, float], float] = rounded_like,
) -> float:
    """Draw another value of a figure, off by such a factor, up or down alike. At the ends of its span it turns back.

    A span from 0 to infinity has no ends. A figure that is not above zero stays, and so does one that is so small that
    rounding leaves no other.
    """
    if value <= 0:
        return value
    low, high = span
    for _ in range(_TRIES):
        factor = draw.uniform(*by)
        after = value * factor if draw.uniform() < 0.5 else value / factor
        after = high * high / after if after > high else low * low / after if after < low else after
        after = rounded(value, after)
        if abs(after - value) > APART * value:
            return after
    return value
