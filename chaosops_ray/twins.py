"""Figures over twins: how well the guilty are told from the innocent by the suspicion that an episode ends with.

A statement is the probability that a policy gave at the end for "there is a culprit". Figures are computed for many
resamples at once: a row of `times` says how often each statement is drawn, and a row of ones gives the figure itself.
docs/evaluation.md defines them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chaosops_ray.resampling import CONFIDENCE, bounds, resampled_means, times_drawn
from chaosops_ray.sim.contract import Scenario

# Keys of an evaluation.
BY_SETTING = "by_setting"
OVERALL = "twins"

FALSE_ALARMS = 0.01  # the share of the innocent that may be accused
BINS = 10
MAX_POINTS = 200  # of a curve
# Beyond it, certainty is taken for this much: the logit of 0 or 1 is infinite.
CERTAIN = 0.999
# Logits closer than this are the same.
_SAME = 1e-9
_DIGITS = 12

Values: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]


class Statement(NamedTuple):
    """What a policy held of a scenario at the end, the truth, and the weight of the scenario under the prior."""

    scenario: Scenario
    suspicion: float
    guilty: bool
    weight: float


class Figure(NamedTuple):
    """A figure's name, and its title in tables."""

    name: str
    title: str
    is_share: bool


AUROC = Figure("auroc", "AUROC", is_share=False)
TOLD_APART = Figure("told_apart", "told apart", is_share=True)
CATCH = Figure("tpr_at_1_fpr", "TPR at 1 % FPR", is_share=True)
ALARMS = Figure("fpr_found", "FPR found", is_share=True)
BRIER = Figure("brier", "Brier", is_share=False)
CALIBRATION = Figure("calibration_error", "calibration error", is_share=False)
FIGURES = (AUROC, TOLD_APART, CATCH, ALARMS, BRIER, CALIBRATION)


@dataclass(frozen=True)
class _Sample:
    """Statements as arrays, by rising suspicion."""

    suspicion: Values
    guilty: NDArray[np.bool_]
    weight: Values
    cluster: Places
    bins: Places  # the bin of each statement; they rise without gaps

    @property
    def logits(self) -> Values:
        """The logits of suspicion."""
        clipped = np.clip(self.suspicion, 1 - CERTAIN, CERTAIN)
        found: Values = np.log(clipped / (1 - clipped))
        return found

    @property
    def has_both(self) -> bool:
        """Whether some are guilty and some innocent."""
        return bool(self.guilty.any() and not self.guilty.all())


def figures(statements: Sequence[Statement]) -> dict[str, Any]:
    """Return each of FIGURES with its interval; None where the statements do not define it."""
    sample = _sample(statements)
    noise = _noise(sample)
    values = _values(sample, _once(sample), noise)
    # A resample has the noise of the sample, and its own on top.
    resampled = [
        _values(sample, drawn[:, sample.cluster], 2 * noise)
        for drawn in times_drawn(int(sample.cluster.max()) + 1, len(sample.suspicion))
    ]
    found: dict[str, Any] = {key: None for figure in FIGURES for key in (figure.name, f"{figure.name}_ci")}
    for figure, (value,) in values.items():
        found |= _with_interval(figure, value, np.concatenate([one[figure] for one in resampled]))
    pairs = _told_apart(sample)
    if len(pairs):
        found |= _with_interval(TOLD_APART, pairs.mean(), resampled_means(pairs, np.ones(len(pairs))))
    return found


def overall(statements: Sequence[Statement]) -> dict[str, Any]:
    """Return the figures over all statements of a policy, and what the plots of suspicion show."""
    sample = _sample(statements)
    found = {"episodes": len(statements), "pairs": len(_told_apart(sample)), **figures(statements)}
    return found | {"threshold": _threshold(sample), "curve": _curve(sample), "calibration": _reliability(sample)}


def _once(sample: _Sample) -> Values:
    return np.ones((1, len(sample.suspicion)))


def _values(sample: _Sample, times: Values, noise: Values) -> dict[Figure, Values]:
    """Return the figures of each resample, those of guilty and innocent only where there are both."""
    found = {BRIER: _brier(sample, times)}
    if sample.has_both:
        found[CALIBRATION] = _calibration_error(sample, times, noise)
        thresholds = _thresholds(sample, times)
        found[AUROC] = _auroc(sample, times)
        found[CATCH] = _above(sample, times, sample.guilty, thresholds)
        found[ALARMS] = _above(sample, times, ~sample.guilty, thresholds)
    return found


def _with_interval(figure: Figure, value: float, resampled: Values) -> dict[str, Any]:
    # The sums of a resample are rounded otherwise than those of the sample: a figure that is certain has no width.
    return {figure.name: round(float(value), _DIGITS), f"{figure.name}_ci": bounds(resampled.round(_DIGITS))}


def _sample(statements: Sequence[Statement]) -> _Sample:
    ordered = sorted(statements, key=lambda one: one.suspicion)
    places = {name: place for place, name in enumerate(dict.fromkeys([one.scenario.cluster for one in statements]))}
    suspicion = np.array([one.suspicion for one in ordered])
    return _Sample(
        suspicion,
        np.array([one.guilty for one in ordered]),
        np.array([one.weight for one in ordered]),
        np.array([places[one.scenario.cluster] for one in ordered]),
        _bins(suspicion),
    )


def _bins(suspicion: Values) -> Places:
    """Return the bin of each statement: equally many in each, but equal statements in the same."""
    first, last = (np.searchsorted(suspicion, suspicion, side) for side in ("left", "right"))
    middle = (first + last) / 2
    wide = np.floor(BINS * middle / len(suspicion))
    return np.unique(wide, return_inverse=True)[1].astype(np.int64)


def _auroc(sample: _Sample, times: Values) -> Values:
    """Return the chance that a guilty scenario has more suspicion than an innocent one; ties count half."""
    innocent = sample.suspicion[~sample.guilty]
    guilty = sample.suspicion[sample.guilty]
    of_guilty, of_innocent = times[:, sample.guilty], times[:, ~sample.guilty]
    below = np.concatenate([np.zeros((len(times), 1)), np.cumsum(of_innocent, axis=1)], axis=1)
    lower, upper = (np.searchsorted(innocent, guilty, side) for side in ("left", "right"))
    won = (of_guilty * (below[:, lower] + below[:, upper])).sum(axis=1) / 2
    return _ratio(won, of_guilty.sum(axis=1) * of_innocent.sum(axis=1))


def _above(sample: _Sample, times: Values, among: NDArray[np.bool_], thresholds: Values) -> Values:
    """Return the share of these statements that are above the threshold of each resample."""
    of_these = times[:, among]
    above = sample.logits[among] > thresholds[:, None] + _SAME
    return _ratio((of_these * above).sum(axis=1), of_these.sum(axis=1))


def _thresholds(sample: _Sample, times: Values) -> Values:
    """Return the logit that so few of a normal distribution pass, which is fitted to the logits of the innocent."""
    of_innocent, logits = times[:, ~sample.guilty], sample.logits[~sample.guilty]
    count = of_innocent.sum(axis=1)
    mean = _ratio(of_innocent @ logits, count)
    squares = (of_innocent * (logits - mean[:, None]) ** 2).sum(axis=1)
    # One innocent scenario alone has no spread.
    found: Values = mean + NormalDist().inv_cdf(1 - FALSE_ALARMS) * np.sqrt(squares / np.maximum(count - 1, 1))
    return found


def _threshold(sample: _Sample) -> float | None:
    """Return the threshold of the sample as a probability."""
    if not sample.has_both:
        return None
    (threshold,) = _thresholds(sample, _once(sample))
    return float(1 / (1 + np.exp(-threshold)))


def _brier(sample: _Sample, times: Values) -> Values:
    squares = (sample.suspicion - sample.guilty) ** 2
    found: Values = times @ (sample.weight * squares) / (times @ sample.weight)
    return found


def _calibration_error(sample: _Sample, times: Values, noise: Values) -> Values:
    """Return the root of the mean square, over bins, of stated less true frequency, without the part that is noise."""
    in_bins = np.eye(len(noise))[sample.bins] * sample.weight[:, None]
    of_bins = times @ in_bins
    gaps = _ratio(times @ (in_bins * (sample.suspicion - sample.guilty)[:, None]), of_bins)
    squares = np.where(of_bins > 0, gaps**2 - noise, 0)
    found: Values = np.sqrt(np.maximum((of_bins * squares).sum(axis=1) / of_bins.sum(axis=1), 0))
    return found


def _noise(sample: _Sample) -> Values:
    """Return for each bin the variance of its gap, as it comes from drawing whole clusters."""
    off = sample.suspicion - sample.guilty
    of_bins = np.bincount(sample.bins, sample.weight)
    gaps = np.bincount(sample.bins, sample.weight * off) / of_bins
    sums = np.zeros((len(of_bins), int(sample.cluster.max()) + 1))
    np.add.at(sums, (sample.bins, sample.cluster), sample.weight * (off - gaps[sample.bins]))
    members = np.zeros(sums.shape, dtype=bool)
    members[sample.bins, sample.cluster] = True
    clusters = members.sum(axis=1)
    found: Values = (sums**2).sum(axis=1) / of_bins**2 * clusters / np.maximum(clusters - 1, 1)
    return found


def _told_apart(sample: _Sample) -> Values:
    """Return for each pair the chance that its guilty twin has more suspicion than the other; ties count half."""
    by_cluster = np.argsort(sample.cluster, kind="stable")
    found = []
    for members in np.split(by_cluster, np.cumsum(np.bincount(sample.cluster))[:-1]):
        guilty, innocent = (sample.suspicion[members[sample.guilty[members] == kind]] for kind in (True, False))
        if len(guilty) and len(innocent):
            found.append(np.mean((np.sign(np.subtract.outer(guilty, innocent)) + 1) / 2))
    return np.array(found)


def _curve(sample: _Sample) -> list[list[float]]:
    """Return false alarms and catches, as shares, at each threshold, from the highest on; at most MAX_POINTS."""
    if not sample.has_both:
        return []
    count = sample.guilty.sum()
    last = np.append(np.flatnonzero(np.diff(sample.suspicion[::-1])), len(sample.guilty) - 1)
    catches = np.cumsum(sample.guilty[::-1])[last] / count
    alarms = np.cumsum(~sample.guilty[::-1])[last] / (len(sample.guilty) - count)
    points = np.vstack([[0.0, 0.0], np.column_stack([alarms, catches])])
    kept = np.unique(np.linspace(0, len(points) - 1, min(len(points), MAX_POINTS)).round().astype(int))
    return [[float(alarm), float(catch)] for alarm, catch in points[kept]]


def _reliability(sample: _Sample) -> list[dict[str, Any]]:
    """Return for each bin the mean suspicion, and the share of the guilty with an interval, weighted by the prior."""
    found = []
    for place in range(int(sample.bins.max()) + 1):
        here = sample.bins == place
        weights = sample.weight[here]
        share = round(float(np.average(sample.guilty[here], weights=weights)), _DIGITS)
        found.append(
            {
                "suspicion": float(np.average(sample.suspicion[here], weights=weights)),
                "guilty": share,
                # As many equal weights would leave the mean as uncertain.
                "guilty_ci": _wilson(share, weights.sum() ** 2 / (weights**2).sum()),
                "episodes": int(here.sum()),
            }
        )
    return found


def _wilson(share: float, count: float) -> list[float]:
    """Return Wilson's interval of a share; unlike a bootstrap's it has a width where all are alike."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return [max(0.0, round(float(middle - half), _DIGITS)), min(1.0, round(float(middle + half), _DIGITS))]


def _ratio(above: Values, below: Values) -> Values:
    """Divide; NaN where a resample has nothing to divide by."""
    found: Values = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return found
