"""An engine that gets anything wrong about an adapter does not pass: an error names cause and version."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chaosops_ray.store import versions
from chaosops_ray.wire import Ids, PolicyVersion, Probe, Sample
from chaosops_ray.workers.adoption import Adoption, AdoptionError, Cause, Scores, check_adoption, judge
from chaosops_ray.workers.samplers.sampler import Sampler, SamplerError

TEXTS = ((1, 2, 3), (4, 5))
BASE: Scores = ((-1.0, -2.0), (-3.0,))
EXPECTED: Scores = ((-1.5, -2.0), (-2.0,))
BEFORE: Scores = ((-1.2, -2.0), (-2.5,))
PROBE = Probe(TEXTS, EXPECTED, BASE, modules=14, tolerance=0.01)
AT_FIRST = replace(PROBE, expected=BASE)
VERSION = PolicyVersion(12, "ab" * 32, "/runs/a/adapters/policy-v12")
PREVIOUS = PolicyVersion(11, "cd" * 32, "/runs/a/adapters/policy-v11")


class Engine(Sampler):
    """Scripted engine: answers with the scores that it has under a number; honest by default."""

    def __init__(self, *, bound: int = 14, checks: bool = False) -> None:
        self.scores: dict[int | None, Scores] = {None: BASE, 11: BEFORE}
        self.learnt: Scores = EXPECTED  # what it answers for a version that it adopts
        self.bound = bound
        self.checks = checks
        self.loads_as: int | None = 12

    async def adopt(self, version: PolicyVersion) -> int:
        if self.checks:
            versions.verify(version)
        if self.loads_as is not None:
            self.scores[self.loads_as] = self.learnt
        return self.bound

    async def retire(self, number: int) -> None:
        del self.scores[number]

    async def score(self, texts: Sequence[Ids], number: int | None) -> Scores:
        assert tuple(texts) == TEXTS
        if number not in self.scores:
            raise SamplerError(f"policy version {number} is not loaded here")
        return self.scores[number]

    async def sample(self, *_: object) -> list[Sample]:
        raise AssertionError("a proof samples nothing")

    async def release(self) -> None:
        self.scores.clear()


class Broken(Engine):
    """An engine that cannot load."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def adopt(self, _: PolicyVersion) -> int:
        raise self.error


def proven(engine: Engine, previous: PolicyVersion | None = PREVIOUS, probe: Probe = PROBE) -> Adoption:
    return asyncio.run(check_adoption(engine, VERSION, probe, previous))


def refused(engine: Engine, cause: Cause, *words: str, version: PolicyVersion = VERSION) -> AdoptionError:
    """Assert that the check fails for this cause, in one line that names the version."""
    with pytest.raises(AdoptionError) as caught:
        proven(engine)
    error = caught.value
    said = str(error)
    assert error.cause == cause, said
    assert error.version == version
    assert "\n" not in said
    for word in (version.name, version.digest[:12], cause, "; ", *words):
        assert word in said, said
    return error


# -- what is right ----------------------------------------------------------------------------------------------------


def test_an_honest_engine_proves_the_version() -> None:
    assert proven(Engine()) == Adoption(VERSION, 0.0, 1.0, 0.5, decisive=True)


def test_small_differences_of_arithmetic_are_tolerated() -> None:
    engine = Engine()
    engine.learnt = ((-1.505, -2.0), (-1.996,))
    proof = proven(engine)
    assert proof.error == pytest.approx(0.005)
    assert proof.decisive


def test_without_a_version_before_the_base_decides() -> None:
    assert proven(Engine(), previous=None) == Adoption(VERSION, 0.0, 1.0, None, decisive=True)


def test_an_adapter_that_does_nothing_yet_is_proven_and_not_decisive() -> None:
    """B = 0: the scores are the base's, rightly; the proof says that it could not tell."""
    engine = Engine()
    engine.learnt = BASE
    assert proven(engine, None, AT_FIRST) == Adoption(VERSION, 0.0, 0.0, None, decisive=False)


def test_a_step_too_small_to_see_is_not_decisive() -> None:
    """The version before lies within tolerance: that it answers instead cannot be ruled out, and is not claimed."""
    engine = Engine()
    engine.scores[11] = ((-1.501, -2.0), (-2.0,))
    proof = proven(engine)
    assert not proof.decisive
    assert proof.from_previous == pytest.approx(0.001)


# -- sabotage ---------------------------------------------------------------------------------------------------------


def test_an_adapter_that_is_not_loaded() -> None:
    refused(Broken(SamplerError("out of memory")), "not_loaded", "out of memory")


def test_an_adapter_that_is_not_there(tmp_path: Path) -> None:
    missing = VERSION._replace(path=str(tmp_path / "policy-v12"))
    with pytest.raises(AdoptionError, match=r"policy-v12 .* not_loaded: .*No such file") as caught:
        asyncio.run(check_adoption(Engine(checks=True), missing, PROBE, None))
    assert caught.value.version == missing


def test_an_adapter_under_a_wrong_name() -> None:
    """Loaded and bound, only not as what it will be asked for."""
    engine = Engine()
    engine.loads_as = 21
    refused(engine, "wrong_name", "policy version 12 is not loaded here", "load it as policy-v12")


def test_an_engine_that_answers_from_the_base_for_names_it_does_not_know() -> None:
    """vLLM with HTTP 200: the name is wrong and nothing says so."""
    engine = Engine()
    engine.loads_as = None
    engine.scores[12] = BASE
    refused(engine, "base_served", "base model answers")


def test_no_module_is_bound() -> None:
    refused(Engine(bound=0), "nothing_bound", "none of its 14 modules")


@pytest.mark.parametrize("bound", [-1, 1, 13, 15, 28])
def test_some_modules_are_not_bound(bound: int) -> None:
    """More than there are is as wrong as fewer, even where the scores agree."""
    refused(Engine(bound=bound), "partly_bound", f"{bound} modules of 14")


def test_the_version_before_is_still_served() -> None:
    engine = Engine()
    engine.learnt = BEFORE
    refused(engine, "previous_served", "version before", "new name")


def test_the_version_before_is_still_served_and_not_there_to_compare() -> None:
    """Then it cannot be named; it is no less wrong."""
    engine = Engine()
    engine.learnt = BEFORE
    with pytest.raises(AdoptionError, match="scores_differ"):
        proven(engine, previous=None)


def test_the_base_model_is_served() -> None:
    engine = Engine()
    engine.learnt = BASE
    refused(engine, "base_served", "base model")


def test_the_base_model_is_served_and_lies_between_one_and_two_tolerances() -> None:
    """Too near to see the adapter, far enough to see that it is not the learner's."""
    engine = Engine()
    engine.learnt = BASE
    probe = Probe(TEXTS, ((-1.015, -2.0), (-3.0,)), BASE, modules=14, tolerance=0.01)
    with pytest.raises(AdoptionError, match="base_served"):
        proven(engine, probe=probe)


def test_the_adapter_is_served_for_the_base_model_too() -> None:
    """Merged into the base, or a cache that knows no adapters: the version's own scores are right, and prove nothing."""
    engine = Engine()
    engine.scores[None] = EXPECTED
    refused(engine, "base_served", "alike")


def test_another_base_model() -> None:
    engine = Engine()
    engine.scores[None] = ((-9.0, -9.0), (-9.0,))
    refused(engine, "scores_differ", "base model")
    engine.learnt = ((-9.5, -9.0), (-8.0,))
    refused(engine, "scores_differ")


def test_another_base_model_under_an_adapter_that_does_nothing_yet() -> None:
    """The base answers for both, rightly, and it is the base that is wrong."""
    engine = Engine()
    engine.scores[None] = engine.learnt = ((-9.0, -9.0), (-9.0,))
    with pytest.raises(AdoptionError, match=r"scores_differ: .*base model"):
        proven(engine, None, AT_FIRST)


@pytest.mark.parametrize(
    "scores",
    [
        ((-1.5, -2.0), (-2.5,)),
        ((-1.5, -2.0), (math.nan,)),
        ((-1.5, -2.0), (-math.inf,)),
        ((-1.5, -2.0),),
        ((-1.5, -2.0, -2.0), ()),
        ((-1.5, -2.0), (-2.0,), (-2.0,)),
        (),
    ],
)
def test_scores_that_are_anything_else(scores: Scores) -> None:
    engine = Engine()
    engine.learnt = scores
    refused(engine, "scores_differ")


def test_a_byte_flipped_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "policy-v12"
    folder.mkdir()
    header = json.dumps({"q_proj.lora_A.weight": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (folder / versions.WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + b"abcd")
    (folder / versions.CONFIG).write_text("{}")
    versions.seal(folder, 12, "ef" * 32)
    version = versions.read(folder)
    engine = Engine(checks=True)
    assert asyncio.run(check_adoption(engine, version, PROBE, PREVIOUS)).version == version
    content = bytearray((folder / versions.WEIGHTS).read_bytes())
    content[-1] ^= 0x10
    (folder / versions.WEIGHTS).write_bytes(content)
    with pytest.raises(AdoptionError, match=r"policy-v12 .* digest_mismatch: .*; publish it again") as caught:
        asyncio.run(check_adoption(engine, version, PROBE, PREVIOUS))
    assert caught.value.cause == "digest_mismatch"
    assert caught.value.version == version


def test_a_version_before_that_is_not_loaded_any_more() -> None:
    """The caller is mistaken about what is loaded; the error says so."""
    engine = Engine()
    del engine.scores[11]
    refused(engine, "not_loaded", "without it", version=PREVIOUS)


def test_an_engine_whose_base_fails_is_no_matter_of_the_version() -> None:
    engine = Engine()
    del engine.scores[None]
    with pytest.raises(SamplerError, match="None is not loaded"):
        proven(engine)


def test_an_error_that_carries_a_traceback_is_told_in_one_line() -> None:
    """An error that comes out of an actor looks like this."""
    refused(
        Broken(SamplerError("Traceback:\n  File x\nSamplerError: no room\n")), "not_loaded", "(SamplerError: no room)"
    )
    refused(Broken(SamplerError()), "not_loaded", "(SamplerError)")


def test_the_error_crosses_a_process_whole() -> None:
    error = refused(Engine(bound=0), "nothing_bound")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(again), again.cause, again.version) == (str(error), error.cause, error.version)


# -- probes that prove nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "probe",
    [
        Probe((), (), (), 14, 0.01),
        Probe(((1,),), ((),), ((),), 14, 0.01),
        Probe(TEXTS, EXPECTED[:1], BASE, 14, 0.01),
        Probe(TEXTS, EXPECTED, ((-1.0,), (-3.0, -2.0)), 14, 0.01),
        Probe(TEXTS, ((math.nan, -2.0), (-2.0,)), BASE, 14, 0.01),
        Probe(TEXTS, EXPECTED, BASE, 0, 0.01),
        Probe(TEXTS, EXPECTED, BASE, 14, 0.0),
        Probe(TEXTS, EXPECTED, BASE, 14, math.inf),
        Probe(TEXTS, EXPECTED, BASE, 14, math.nan),
    ],
)
def test_a_probe_that_could_not_fail_is_refused(probe: Probe) -> None:
    with pytest.raises(ValueError, match="probe"):
        judge(VERSION, probe, probe.expected, probe.base, None)


figures = st.floats(-20, 0)
rows = st.tuples(st.tuples(figures, figures), st.tuples(figures))


def near(scores: Scores) -> st.SearchStrategy[Scores]:
    """Scores around these, up to some five tolerances away."""
    return st.lists(st.floats(-0.05, 0.05), min_size=3, max_size=3).map(
        lambda off: ((scores[0][0] + off[0], scores[0][1] + off[1] / 10), (scores[1][0] + off[2] / 10,))
    )


@given(served=near(EXPECTED), learners_base=near(EXPECTED), base=near(EXPECTED), before=near(EXPECTED))
def test_a_decisive_proof_would_have_failed_had_anything_else_answered(
    served: Scores, learners_base: Scores, base: Scores, before: Scores
) -> None:
    probe = replace(PROBE, base=learners_base)
    try:
        proof = judge(VERSION, probe, served, base, before)
    except AdoptionError:
        return
    assert proof.error <= probe.tolerance
    for other in (base, before) if proof.decisive else ():
        with pytest.raises(AdoptionError):
            judge(VERSION, probe, other, base, before)


@given(expected=rows, learners_base=rows, noise=st.floats(-0.99, 0.99), before=rows)
def test_an_honest_engine_is_never_refused(
    expected: Scores, learners_base: Scores, noise: float, before: Scores
) -> None:
    """Whatever the adapter does, as long as the engine's arithmetic stays within tolerance."""
    probe = Probe(TEXTS, expected, learners_base, 14, 0.01)
    off = noise * probe.tolerance
    served = tuple([tuple([score + off for score in row]) for row in expected])
    served_base = tuple([tuple([score - off for score in row]) for row in learners_base])
    judge(VERSION, probe, served, served_base, before)


@given(expected=rows, base=rows)
def test_an_adapter_that_can_be_seen_is_never_proven_by_the_base(expected: Scores, base: Scores) -> None:
    probe = Probe(TEXTS, expected, base, 14, 0.01)
    assume(max(abs(a - b) for x, y in zip(expected, base, strict=True) for a, b in zip(x, y, strict=True)) > 0.01)
    with pytest.raises(AdoptionError) as caught:
        judge(VERSION, probe, base, base, None)
    assert caught.value.cause == "base_served"
