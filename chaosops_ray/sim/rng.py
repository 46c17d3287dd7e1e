"""Named, counter-based random streams.

A draw is a pure function of (seed, name, index, draws made before it in this stream). No generator is shared: a new
draw in one place shifts nothing in another, and a stream can be opened in mid-episode or in another process.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1
_WEYL = 0x9E3779B97F4A7C15


class Stream:
    """SplitMix64 over a 64-bit key: the n-th draw mixes key + n·weyl, nothing else."""

    __slots__ = ("_state",)

    def __init__(self, key: int) -> None:
        self._state = key & _MASK

    def bits(self) -> int:
        """Draw 64 uniform bits."""
        self._state = z = (self._state + _WEYL) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        """Draw a uniform integer in [0, n)."""
        return (self.bits() * n) >> 64

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw a uniform float in [low, high)."""
        return low + (high - low) * ((self.bits() >> 11) * 2.0**-53)

    def choice(self, options: Sequence[T]) -> T:
        """Draw one of the options."""
        return options[self.below(len(options))]

    def shuffled(self, items: Sequence[T]) -> tuple[T, ...]:
        """Return the same items in a drawn order."""
        deck = list(items)
        for last in range(len(deck) - 1, 0, -1):
            other = self.below(last + 1)
            deck[last], deck[other] = deck[other], deck[last]
        return tuple(deck)


def stream(seed: int, name: str, index: int = 0) -> Stream:
    """Open the stream of this name; the same arguments give the same draws in every process."""
    digest = blake2b(f"{seed}/{name}/{index}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Stream(int.from_bytes(digest, "big"))
