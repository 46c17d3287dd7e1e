"""The sampler of the tests behaves as an engine does in whatever its callers rely on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from chaosops_ray.wire import Decoding, PolicyVersion, Sample, SampleRequest
from chaosops_ray.workers.samplers.sampler import Sampler, SamplerError
from tests.support.scripted_sampler import Call, ScriptedSampler

Answer = TypeVar("Answer")
ONE, TWO = PolicyVersion(1, "aa", "/1"), PolicyVersion(2, "bb", "/2")
DECODING = Decoding(1.0, 3, (9,))


def run(call: Coroutine[Any, Any, Answer]) -> Answer:
    return asyncio.run(call)


def echo(request: SampleRequest) -> tuple[int, ...]:
    return (*request.prompt, request.row)


def test_it_meets_the_protocol_and_says_what_the_script_says() -> None:
    sampler: Sampler = ScriptedSampler(echo, modules=14)
    assert run(sampler.adopt(ONE)) == 14
    requests = [SampleRequest(row, (5,), 0) for row in (0, 1)]
    assert run(sampler.sample("cohort", requests, DECODING, 1)) == [
        Sample((5, 0), (-1.0, -1.0), 1, "aa", stopped=False),
        Sample((5, 1), (-1.0, -1.0), 1, "aa", stopped=False),
    ]
    assert run(sampler.score([(1, 2, 3), (4,)], None)) == ((-1.0, -1.0), ())


def test_samples_say_which_version_they_are_of() -> None:
    sampler = ScriptedSampler(echo)
    for version in (ONE, TWO):
        run(sampler.adopt(version))
    found = [run(sampler.sample("c", [SampleRequest(0, (5,), 0)], DECODING, number))[0] for number in (2, 1)]
    assert [(sample.version, sample.digest) for sample in found] == [(2, "bb"), (1, "aa")]


@pytest.mark.parametrize(
    ("said", "heard", "stopped"),
    [((1, 9, 2), (1, 9), True), ((1, 2, 3, 9), (1, 2, 3), False), ((9,), (9,), True)],
)
def test_it_ends_where_an_engine_would(said: tuple[int, ...], heard: tuple[int, ...], stopped: bool) -> None:
    sampler = ScriptedSampler(lambda _: said)
    run(sampler.adopt(ONE))
    (sample,) = run(sampler.sample("c", [SampleRequest(0, (5,), 0)], DECODING, 1))
    assert (sample.tokens, sample.stopped, len(sample.log_probs)) == (heard, stopped, len(heard))


def test_log_probabilities_and_scores_can_be_given() -> None:
    sampler = ScriptedSampler(
        echo,
        log_probs=lambda request, tokens: tuple(-0.1 * (request.row + token) for token in tokens),
        scores=lambda text, number: tuple(-float(number or 0) for _ in text[1:]),
    )
    run(sampler.adopt(ONE))
    (sample,) = run(sampler.sample("c", [SampleRequest(2, (5,), 0)], DECODING, 1))
    assert sample.log_probs == pytest.approx((-0.7, -0.4))
    assert run(sampler.score([(1, 2)], 1)) == ((-1.0,),)
    assert run(sampler.score([(1, 2)], None)) == ((0.0,),)
    assert run(ScriptedSampler(echo, log_prob=-2.5).score([(1, 2)], None)) == ((-2.5,),)


def test_unknown_retired_and_released_versions_raise() -> None:
    sampler = ScriptedSampler(echo)
    for version in (ONE, TWO):
        run(sampler.adopt(version))
    run(sampler.retire(1))
    with pytest.raises(SamplerError, match=r"policy-v1 is not loaded here \(loaded: \[2\]\)"):
        run(sampler.sample("c", [SampleRequest(0, (5,), 0)], DECODING, 1))
    run(sampler.retire(1))
    run(sampler.release())
    with pytest.raises(SamplerError, match="policy-v2 is not loaded"):
        run(sampler.score([(1, 2)], 2))


def test_a_script_that_leaves_the_choices_or_says_nothing_is_wrong() -> None:
    for script, reason in ((echo, "none of the request's choices"), (lambda _: (), "says nothing")):
        sampler = ScriptedSampler(script)
        run(sampler.adopt(ONE))
        with pytest.raises(SamplerError, match=reason):
            run(sampler.sample("c", [SampleRequest(0, (5,), 0, ((1,), (2,)))], DECODING, 1))
    chooser = ScriptedSampler(lambda request: request.choices[-1] if request.choices else ())
    run(chooser.adopt(ONE))
    assert run(chooser.sample("c", [SampleRequest(0, (5,), 0, ((1,), (2,)))], DECODING, 1))[0].tokens == (2,)


def test_every_call_is_kept_in_order_also_one_that_fails() -> None:
    sampler = ScriptedSampler(echo)
    request = SampleRequest(0, (5,), 0)
    run(sampler.adopt(ONE))
    run(sampler.sample("cohort", [request], DECODING, 1))
    with pytest.raises(SamplerError):
        run(sampler.score([(1, 2)], 7))
    run(sampler.retire(1))
    run(sampler.release())
    assert sampler.calls == [
        Call("adopt", 1),
        Call("sample", 1, "cohort", (request,)),
        Call("score", 7, texts=((1, 2),)),
        Call("retire", 1),
        Call("release"),
    ]
