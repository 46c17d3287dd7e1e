"""The proof of adoption: before a sampler may serve a version, it shows that this version is what answers.

Engines fail here without saying so: an adapter that binds to nothing, or under another name, leaves the base model
answering, and a cache may keep the version before alive. So the learner scores a fixed text with the adapter and
without, and the sampler has to come to the same figures.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

from chaosops_ray.store.versions import AdapterError, DigestError
from chaosops_ray.wire import PolicyVersion, Probe
from chaosops_ray.workers.samplers.sampler import Sampler, SamplerError

Scores: TypeAlias = tuple[tuple[float, ...], ...]
Cause: TypeAlias = Literal[
    "digest_mismatch",
    "not_loaded",
    "wrong_name",
    "nothing_bound",
    "partly_bound",
    "base_served",
    "previous_served",
    "scores_differ",
]


class AdoptionError(RuntimeError):
    """A sampler has not proven a version, and may not serve it: which version, for what cause, and what to do."""

    def __init__(self, cause: Cause, version: PolicyVersion, words: str) -> None:
        # All three are the arguments, so that the error arrives whole when it crosses a process.
        super().__init__(cause, version, words)
        self.cause = cause
        self.version = version
        self.words = words

    def __str__(self) -> str:
        return f"{self.version.name} ({self.version.digest[:12]}) is not proven, {self.cause}: {self.words}"


class Adoption(NamedTuple):
    """What a sampler has shown. Distances are the largest over all tokens of the probe."""

    version: PolicyVersion
    error: float  # from the learner's scores
    from_base: float
    from_previous: float | None
    # False while the adapter is too close to its base or to the version before to be told apart by these scores:
    # then digest and bound modules stand, and that one of those answers instead is not ruled out.
    decisive: bool


async def check_adoption(
    sampler: Sampler, version: PolicyVersion, probe: Probe, previous: PolicyVersion | None
) -> Adoption:
    """Let the sampler adopt the version and prove it; `previous` is one that it still holds, where it holds one.

    What the engine says of its own base model passes through as `SamplerError`: that is no matter of the version.
    """
    bound = await _adopt(sampler, version)
    _check_bound(version, probe, bound)
    # The base comes first: an engine that answers for it and then not for the version is alive and lacks the name.
    served_base = await sampler.score(probe.texts, None)
    try:
        served = await sampler.score(probe.texts, version.number)
    except SamplerError as error:
        raise AdoptionError(
            "wrong_name",
            version,
            f"the engine took the adapter and does not know it by its name ({_said(error)}); load it as {version.name}",
        ) from error
    served_previous = None if previous is None else await _score_previous(sampler, previous, probe)
    return judge(version, probe, bound, served, served_base, served_previous)


async def _adopt(sampler: Sampler, version: PolicyVersion) -> int:
    try:
        return await sampler.adopt(version)
    except DigestError as error:
        raise AdoptionError(
            "digest_mismatch", version, f"its bytes on disk have changed ({_said(error)}); publish it again"
        ) from error
    except (AdapterError, SamplerError) as error:
        raise AdoptionError(
            "not_loaded", version, f"the engine has not loaded it ({_said(error)}); mend that and adopt it again"
        ) from error


async def _score_previous(sampler: Sampler, previous: PolicyVersion, probe: Probe) -> Scores:
    try:
        return await sampler.score(probe.texts, previous.number)
    except SamplerError as error:
        raise AdoptionError(
            "not_loaded",
            previous,
            f"it was to be compared with and is not loaded any more ({_said(error)}); prove the new one without it",
        ) from error


def _said(error: Exception) -> str:
    """The error's own line; one that crossed a process carries a traceback ahead of it."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


# -- judgement --------------------------------------------------------------------------------------------------------


def judge(
    version: PolicyVersion,
    probe: Probe,
    bound: int,
    served: Scores,
    served_base: Scores,
    served_previous: Scores | None,
) -> Adoption:
    """Whether these figures prove the version; `ProofError` if not, with the likeliest cause."""
    _check_probe(probe)
    _check_bound(version, probe, bound)
    error = _distance(served, probe.expected)
    from_base = _distance(served, served_base)
    from_previous = None if served_previous is None else _distance(served, served_previous)
    visible = _distance(probe.expected, probe.base) > 2 * probe.tolerance
    base_error = _distance(served_base, probe.base)
    if error > probe.tolerance and (visible or base_error <= probe.tolerance):
        raise _diagnosed(version, probe, error, from_base, from_previous)
    if base_error > probe.tolerance:
        raise _base_differs(version, probe, base_error, is_same=visible and from_base <= probe.tolerance)
    # Both agree with the learner, so where the learner sees the adapter, the sampler sees it too: two figures that lie
    # more than twice the tolerance apart cannot both be within it of one answer.
    apart = from_previous is None or from_previous > 2 * probe.tolerance
    return Adoption(version, error, from_base, from_previous, decisive=visible and apart)


def _check_probe(probe: Probe) -> None:
    """A probe that could never fail is a mistake of ours, not a proof of theirs."""
    wanted = [len(text) - 1 for text in probe.texts]
    if not wanted or min(wanted) < 1:
        raise ValueError("the probe needs texts of two tokens or more; without a token to score it proves nothing")
    for name, scores in (("expected", probe.expected), ("base", probe.base)):
        if [len(row) for row in scores] != wanted or not math.isfinite(_distance(scores, scores)):
            raise ValueError(f"the probe's {name} scores must be finite, one for each token but the first of each text")
    if not 0 < probe.tolerance < math.inf or probe.modules < 1:
        raise ValueError(f"tolerance {probe.tolerance} and {probe.modules} modules are no probe; both must be above 0")


def _check_bound(version: PolicyVersion, probe: Probe, bound: int) -> None:
    if bound == 0:
        raise AdoptionError(
            "nothing_bound",
            version,
            f"the engine bound none of its {probe.modules} modules; check target modules and model class",
        )
    if bound != probe.modules:
        raise AdoptionError(
            "partly_bound",
            version,
            f"the engine bound {bound} modules of {probe.modules}; let it serve every target module of the adapter",
        )


def _diagnosed(
    version: PolicyVersion, probe: Probe, error: float, from_base: float, from_previous: float | None
) -> AdoptionError:
    """What answers instead: whatever the scores lie nearest to, as long as that is as near as the same answer would."""
    off = f"its scores are {error:.2g} from the learner's, where {probe.tolerance:.2g} is tolerated"
    previous = math.inf if from_previous is None else from_previous
    if min(from_base, previous) > probe.tolerance:
        return AdoptionError(
            "scores_differ",
            version,
            f"{off}, and not the base model's either; give learner and sampler the same base model and scaling",
        )
    if from_base <= previous:
        return AdoptionError(
            "base_served", version, f"the base model answers instead ({off}); load the adapter as {version.name}"
        )
    return AdoptionError(
        "previous_served",
        version,
        f"the version before answers instead ({off}); load it under a new name, past what is cached",
    )


def _base_differs(version: PolicyVersion, probe: Probe, error: float, *, is_same: bool) -> AdoptionError:
    off = f"{error:.2g} from the learner's, where {probe.tolerance:.2g} is tolerated"
    if is_same:
        return AdoptionError(
            "base_served",
            version,
            f"base model and version answer alike, and the base's scores are {off}; keep the adapter out of the base",
        )
    return AdoptionError(
        "scores_differ",
        version,
        f"the engine's base model is another one, its scores are {off}; give learner and sampler the same",
    )


def _distance(these: Scores, those: Scores) -> float:
    """The largest difference of two scores; without end where they do not pair up or are no figures."""
    if [len(row) for row in these] != [len(row) for row in those]:
        return math.inf
    pairs = [pair for rows in zip(these, those, strict=True) for pair in zip(*rows, strict=True)]
    if not all(math.isfinite(a) and math.isfinite(b) for a, b in pairs):
        return math.inf
    return max([abs(a - b) for a, b in pairs], default=math.inf)
