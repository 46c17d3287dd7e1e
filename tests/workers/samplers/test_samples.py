"""Answers that no working engine gives are told from those that one may give."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.wire import Decoding, PolicyVersion, Sample, SampleRequest
from chaosops_ray.workers.actors import checked_answer
from chaosops_ray.workers.samplers.sampler import ImpossibleError, check_samples

VERSION = PolicyVersion(3, "abc", "")
DECODING = Decoding(1.0, 4, (0,))
VOCABULARY = 10
FREE = SampleRequest(0, (5,), 1)
CHOICE = SampleRequest(1, (5,), 2, ((7, 0), (8, 9, 0)))
GOOD = Sample((7, 0), (-1.0, -0.5), 3, "abc", stopped=True)


def check(*samples: Any, requests: tuple[SampleRequest, ...] = (FREE,)) -> None:
    check_samples(requests, list(samples), DECODING, VERSION, VOCABULARY)


@pytest.mark.parametrize(
    "sample",
    [
        GOOD,
        GOOD._replace(tokens=(1, 2, 3, 4), log_probs=(-0.1,) * 4, stopped=False),
        GOOD._replace(tokens=(9,), log_probs=(0.0,), stopped=False),  # the context ended
        GOOD._replace(tokens=(0,), log_probs=(1e-6,)),  # rounding
    ],
)
def test_what_an_engine_may_answer(sample: Sample) -> None:
    check(sample)


def test_choices() -> None:
    """Of several tokens or not: one log-probability for each choice that was made."""
    whole = GOOD._replace(log_probs=(-1.0,))
    check(whole, whole._replace(tokens=(8, 9, 0)), requests=(CHOICE, CHOICE))
    check(whole._replace(tokens=(0,)), requests=(CHOICE._replace(choices=((0,), (7,))),))
    with pytest.raises(ImpossibleError, match="choices"):
        check(whole._replace(tokens=(8, 0)), requests=(CHOICE,))
    with pytest.raises(ImpossibleError, match="log-probabilities"):
        check(GOOD, requests=(CHOICE,))


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (GOOD._replace(tokens=(), log_probs=()), "0 tokens"),
        (GOOD._replace(tokens=(1,) * 4 + (0,), log_probs=(-1.0,) * 5), "5 tokens"),
        (GOOD._replace(log_probs=(-1.0,)), "log-probabilities"),
        (GOOD._replace(log_probs=(-1.0, math.nan)), "finite"),
        (GOOD._replace(log_probs=(-1.0, -math.inf)), "finite"),
        (GOOD._replace(log_probs=(-1.0, 0.5)), "finite"),
        (GOOD._replace(log_probs=(-1.0, None)), "finite"),
        (GOOD._replace(tokens=(VOCABULARY, 0)), "vocabulary"),
        (GOOD._replace(tokens=(-1, 0)), "vocabulary"),
        (GOOD._replace(tokens=(1.0, 0)), "vocabulary"),
        (GOOD._replace(version=2), "policy-v2"),
        (GOOD._replace(digest="abd"), "abd"),
        (GOOD._replace(stopped=False), "end"),
        (GOOD._replace(tokens=(0, 7), stopped=False), "end"),
        (GOOD._replace(tokens=[7, 0]), "no completion"),
        (tuple(GOOD), "no completion"),
        (None, "no completion"),
    ],
)
def test_what_no_engine_answers(sample: Any, said: str) -> None:
    with pytest.raises(ImpossibleError, match=said):
        check(sample)


@pytest.mark.parametrize(
    "found", [[GOOD], ([GOOD],), ([GOOD], None), ([GOOD], math.nan), ([GOOD], "1"), ([GOOD], 1.0, 2)]
)
def test_a_batch_comes_with_the_time_that_it_took(found: Any) -> None:
    with pytest.raises(ImpossibleError, match="sampler-0 answered"):
        checked_answer("sampler-0", found)
    assert checked_answer("sampler-0", ([GOOD], 0.5)) == ([GOOD], 0.5)


@pytest.mark.parametrize("found", [[], [GOOD, GOOD], (GOOD,), None, "garbage", {0: GOOD}])
def test_not_as_many_as_were_asked_for(found: Any) -> None:
    with pytest.raises(ImpossibleError, match="for 1 requests"):
        check_samples([FREE], found, DECODING, VERSION, VOCABULARY)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


@given(st.builds(Sample, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING) | ANYTHING)
def test_whatever_is_answered_is_taken_or_refused_by_name(found: Any) -> None:
    """And what is taken has tokens, as many finite log-probabilities, and the version that was asked."""
    try:
        check(found)
    except ImpossibleError:
        return
    assert found.tokens
    assert all(math.isfinite(one) for one in found.log_probs)
    assert len(found.log_probs) == len(found.tokens)
    assert (found.version, found.digest) == (3, "abc")
