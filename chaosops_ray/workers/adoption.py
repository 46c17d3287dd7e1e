"""The adoption check: a sampler may serve a version only after its scores have shown that this version answers.

Engines fail here without an error: if an adapter binds no module, or has another name, the base model answers, and a
cache may still hold the version before. So the learner scores fixed texts with the adapter and without it, and the
sampler must get the same scores.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

from chaosops_ray.plain_text import one_line
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
    """A sampler did not pass the check of a version and may not serve it; the text says why, and the remedy."""

    def __init__(self, cause: Cause, version: PolicyVersion, text: str) -> None:
        # All three are the arguments, so that the error arrives whole when it crosses a process.
        super().__init__(cause, version, text)
        self.cause = cause
        self.version = version
        self.text = text

    def __str__(self) -> str:
        return f"{self.version.name} ({self.version.digest[:12]}) is not proven, {self.cause}: {self.text}"


class Adoption(NamedTuple):
    """The result of a passed check. Distances are the largest over all tokens of the probe."""

    version: PolicyVersion
    error: float  # from the learner's scores
    from_base: float
    from_previous: float | None
    # False if these scores do not tell the adapter from its base or from the version before: digest and bound modules
    # are right then, but one of those may answer instead.
    decisive: bool


async def check_adoption(
    sampler: Sampler, version: PolicyVersion, probe: Probe, previous: PolicyVersion | None
) -> Adoption:
    """Let the sampler adopt the version, and check it; `previous` is a version that the sampler still holds, if any.

    If the engine cannot score its own base model, its `SamplerError` passes through: the version is not the cause.
    """
    try:
        bound = await sampler.adopt(version)
    except DigestError as error:
        said = "its bytes on disk have changed"
        raise _failed("digest_mismatch", version, said, error, "publish it again") from error
    except (AdapterError, SamplerError) as error:
        said = "the engine has not loaded it"
        raise _failed("not_loaded", version, said, error, "fix that and adopt it again") from error
    _check_bound(version, probe, bound)
    # The base comes first: an engine that scores it and then not the version works and does not know the name.
    served_base = await sampler.score(probe.texts, None)
    try:
        served = await sampler.score(probe.texts, version.number)
    except SamplerError as error:
        said = "the engine loaded the adapter under another name"
        raise _failed("wrong_name", version, said, error, f"load it as {version.name}") from error
    if previous is None:
        return judge(version, probe, served, served_base, None)
    try:
        served_previous = await sampler.score(probe.texts, previous.number)
    except SamplerError as error:
        said = "the engine no longer holds it for comparison"
        raise _failed("not_loaded", previous, said, error, "check the new version without it") from error
    return judge(version, probe, served, served_base, served_previous)


def _failed(cause: Cause, version: PolicyVersion, said: str, error: Exception, remedy: str) -> AdoptionError:
    # An error that crossed a process carries a traceback before its last line.
    return AdoptionError(cause, version, f"{said} ({one_line(error, part='last')}); {remedy}")


def judge(
    version: PolicyVersion, probe: Probe, served: Scores, served_base: Scores, served_previous: Scores | None
) -> Adoption:
    """Check these scores of the version; raise AdoptionError with the likeliest cause if they do not fit."""
    _check_probe(probe)
    error = _distance(served, probe.expected)
    from_base = _distance(served, served_base)
    from_previous = None if served_previous is None else _distance(served, served_previous)
    visible = _distance(probe.expected, probe.base) > 2 * probe.tolerance
    base_error = _distance(served_base, probe.base)
    if error > probe.tolerance and (visible or base_error <= probe.tolerance):
        raise _version_differs(version, probe, error, from_base, from_previous)
    if base_error > probe.tolerance:
        raise _base_differs(version, probe, base_error, is_same=visible and from_base <= probe.tolerance)
    # Both agree with the learner, so if the learner's scores tell adapter and base apart, the sampler's do, too: two
    # scores more than twice the tolerance apart are not both within the tolerance of a third.
    apart = from_previous is None or from_previous > 2 * probe.tolerance
    return Adoption(version, error, from_base, from_previous, decisive=visible and apart)


def _check_probe(probe: Probe) -> None:
    """Refuse a probe that no sampler could fail: a defect of the caller."""
    wanted = [len(text) - 1 for text in probe.texts]
    if not wanted or min(wanted) < 1:
        raise ValueError("the probe needs texts of two tokens or more; the first token of a text has no score")
    for name, scores in (("expected", probe.expected), ("base", probe.base)):
        if [len(row) for row in scores] != wanted or not math.isfinite(_distance(scores, scores)):
            raise ValueError(f"the probe's {name} scores must be finite, one for each token but the first of each text")
    if not 0 < probe.tolerance < math.inf or probe.modules < 1:
        raise ValueError(
            f"the probe's tolerance and modules must be above 0, got {probe.tolerance} and {probe.modules}"
        )


def _check_bound(version: PolicyVersion, probe: Probe, bound: int) -> None:
    if bound == 0:
        said = f"the engine bound none of its {probe.modules} modules; check target modules and model class"
        raise AdoptionError("nothing_bound", version, said)
    if bound != probe.modules:
        said = f"the engine bound {bound} modules of {probe.modules}; let it serve every target module of the adapter"
        raise AdoptionError("partly_bound", version, said)


def _version_differs(
    version: PolicyVersion, probe: Probe, error: float, from_base: float, from_previous: float | None
) -> AdoptionError:
    """Return the error for scores that differ: the base or the version before answers if its scores are the same."""
    off = f"its scores are {error:.2g} from the learner's; the tolerance is {probe.tolerance:.2g}"
    previous = math.inf if from_previous is None else from_previous
    cause: Cause = "scores_differ"
    remedy = "they are not the base model's either: give learner and sampler the same base model and scaling"
    if from_base <= min(previous, probe.tolerance):
        cause, remedy = "base_served", f"the base model answers instead: load the adapter as {version.name}"
    elif previous <= probe.tolerance:
        cause, remedy = "previous_served", "the version before answers instead: load it under a new name"
    return AdoptionError(cause, version, f"{off}; {remedy}")


def _base_differs(version: PolicyVersion, probe: Probe, error: float, *, is_same: bool) -> AdoptionError:
    off = f"the base model's scores are {error:.2g} from the learner's; the tolerance is {probe.tolerance:.2g}"
    if is_same:
        said = f"{off}, and version and base model answer alike: keep the adapter out of the base model"
        return AdoptionError("base_served", version, said)
    return AdoptionError("scores_differ", version, f"{off}: give learner and sampler the same base model")


def _distance(these: Scores, those: Scores) -> float:
    """The largest difference of two scores; infinite if they do not pair up or are not finite."""
    if [len(row) for row in these] != [len(row) for row in those]:
        return math.inf
    pairs = [pair for rows in zip(these, those, strict=True) for pair in zip(*rows, strict=True)]
    if not all(math.isfinite(a) and math.isfinite(b) for a, b in pairs):
        return math.inf
    return max([abs(a - b) for a, b in pairs], default=math.inf)
