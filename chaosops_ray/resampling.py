"""Bootstrap intervals: whole clusters of scenarios are drawn again and again, with the same draws every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chaosops_ray.sim.contract import Scenario

RESAMPLES = 2000
CONFIDENCE = 0.95
# A resample holds one index for each cluster; drawing few at a time bounds the memory for large sets.
_INDICES_AT_ONCE = 4_000_000
# Rows of counts are worked on again and again; so many numbers stay in a processor's cache.
_COUNTS_AT_ONCE = 250_000

Weigh: TypeAlias = Callable[[Scenario], float]


def alike(_scenario: Scenario, /) -> float:
    """Give every scenario the same weight."""
    return 1.0


def interval(values: Iterable[tuple[Scenario, float]], weigh: Weigh = alike) -> list[float] | None:
    """Return a bootstrap interval of the weighted mean.

    Whole scenarios are resampled, or whole pairs: their episodes are not independent.
    """
    clusters: dict[str, list[tuple[float, float]]] = {}
    for scenario, value in values:
        weight = weigh(scenario)
        clusters.setdefault(scenario.cluster, []).append((weight * value, weight))
    if not clusters:
        return None
    sums = np.array([sum([value for value, _ in members]) for members in clusters.values()])
    weights = np.array([sum([weight for _, weight in members]) for members in clusters.values()])
    return bounds(resampled_means(sums, weights))


def bounds(resampled: NDArray[Any]) -> list[float] | None:
    """Return the interval that holds the middle of the resampled figures; undefined ones (NaN) do not count."""
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return None
    tail = 100 * (1 - CONFIDENCE) / 2
    return [float(bound) for bound in np.percentile(defined, [tail, 100 - tail])]


def resampled_means(sums: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Return the means of RESAMPLES draws of all clusters; the draws depend only on the number of clusters."""
    size = len(sums)
    drawn = _draws(size, _INDICES_AT_ONCE // size)
    return np.concatenate([sums[places].sum(axis=1) / weights[places].sum(axis=1) for places in drawn])


def times_drawn(clusters: int, width: int) -> Iterator[NDArray[np.float64]]:
    """Yield rows that say how often each cluster is drawn into a resample, RESAMPLES rows in all.

    They come a few at a time, so that arrays of so many rows and `width` columns are small.
    """
    for drawn in _draws(clusters, _COUNTS_AT_ONCE // width):
        places = drawn + clusters * np.arange(len(drawn))[:, None]
        counts = np.bincount(places.ravel(), minlength=clusters * len(drawn))
        yield counts.reshape(len(drawn), clusters).astype(np.float64)


def _draws(clusters: int, rows: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    at_once = max(1, rows)
    for start in range(0, RESAMPLES, at_once):
        yield generator.integers(0, clusters, size=(min(at_once, RESAMPLES - start), clusters))
