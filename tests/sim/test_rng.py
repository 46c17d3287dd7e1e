"""Streams are functions of their name, and uniform enough."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim.rng import Stream, stream


def test_draws_are_those_of_splitmix64() -> None:
    """The published test vector of the algorithm for the key 1234567."""
    draws = Stream(1234567)
    assert [draws.bits() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_stream_is_named_by_all_three_parts() -> None:
    first = stream(3, "fleet", 0).bits()
    assert stream(3, "fleet", 0).bits() == first
    assert len({first, stream(4, "fleet", 0).bits(), stream(3, "words", 0).bits(), stream(3, "fleet", 1).bits()}) == 4


@given(st.integers(0, 2**63), st.text(max_size=20), st.integers(0, 10**6), st.integers(1, 1000))
def test_draws_stay_in_their_range(seed: int, name: str, index: int, n: int) -> None:
    draws = stream(seed, name, index)
    assert 0 <= draws.below(n) < n
    assert 2.0 <= draws.uniform(2.0, 3.0) < 3.0
    assert draws.choice(range(n)) in range(n)
    assert sorted(draws.shuffled(range(n))) == list(range(n))


def test_draws_are_even() -> None:
    """A thousand expected in each of ten bins; none strays by more than six standard deviations."""
    draws = stream(0, "even")
    counts = Counter(draws.below(10) for _ in range(10_000))
    assert all(abs(counts[value] - 1000) < 180 for value in range(10))
    first = Counter(draws.shuffled(range(4))[0] for _ in range(4000))
    assert all(abs(first[value] - 1000) < 165 for value in range(4))
