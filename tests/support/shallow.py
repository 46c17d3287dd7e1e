"""Shallow learners that look for tells, and how well they tell pairs apart: boosted trees, and a bag of words.

Both are small and deterministic. Scores are cross-fitted: no pair is scored by a model that has seen either of its halves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Table: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = NDArray[np.float64]
# Fits on a table and its labels, and scores another table.
Learner: TypeAlias = Callable[[Table, Scores, Table], Scores]

FOLDS: Final = 4
RESAMPLES: Final = 400
LEVEL: Final = 0.95
_BINS: Final = 24
_TREES: Final = 80
_DEPTH: Final = 3
_RATE: Final = 0.15
_LEAST: Final = 12  # rows of a leaf
_RIDGE: Final = 1.0
_WORDS: Final = 3000
_STEPS: Final = 200
_WORD: Final = re.compile(r"[a-z_]+|[-+]?\d+")


class Told(NamedTuple):
    """How well something tells the two halves of pairs apart: the area under the curve, and its interval over pairs."""

    area: float
    low: float
    high: float


# -- boosted trees ----------------------------------------------------------------------------------------------------


def boosted_trees(seen: Table, labels: Scores, unseen: Table, trees: int = _TREES) -> Scores:
    """Boost trees of a fixed depth on histograms of the columns, by the gradient of the logistic loss."""
    edges = [np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1])) for column in seen.T]
    binned, other = _binned(seen, edges), _binned(unseen, edges)
    columns = np.arange(seen.shape[1]) * _BINS
    margin, found = np.zeros(len(seen)), np.zeros(len(unseen))
    for _ in range(trees):
        chance = 1 / (1 + np.exp(-margin))
        gradient, curvature = labels - chance, chance * (1 - chance)
        grown, elsewhere = _grown(binned, columns, gradient, curvature, other)
        margin += _RATE * grown
        found += _RATE * elsewhere
    return found


def _binned(table: Table, edges: list[Table]) -> NDArray[np.int64]:
    return np.column_stack(
        [np.searchsorted(cuts, column, side="right") for cuts, column in zip(edges, table.T, strict=True)]
    )


def _grown(
    binned: NDArray[np.int64], columns: NDArray[np.int64], gradient: Scores, curvature: Scores, other: NDArray[np.int64]
) -> tuple[Scores, Scores]:
    """Grow one tree, level by level; return what it says of both tables."""
    node, there = np.zeros(len(binned), int), np.zeros(len(other), int)
    width = binned.shape[1] * _BINS
    cells = binned + columns
    for _ in range(_DEPTH):
        nodes = int(node.max()) + 1
        where = (cells + (node * width)[:, None]).ravel()
        sums = [
            np.bincount(where, np.repeat(weights, binned.shape[1]), nodes * width).reshape(nodes, -1, _BINS).cumsum(2)
            for weights in (gradient, curvature, np.ones(len(binned)))
        ]
        column, cut = _splits(*sums)
        node = 2 * node + (binned[np.arange(len(binned)), column[node]] > cut[node])
        there = np.minimum(there, nodes - 1)
        there = 2 * there + (other[np.arange(len(other)), column[there]] > cut[there])
    leaves = 2**_DEPTH
    value = np.bincount(node, gradient, leaves) / (np.bincount(node, curvature, leaves) + _RIDGE)
    return value[node], value[there]


def _splits(gradient: Table, curvature: Table, count: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the best column and cut of each node; a node that no cut improves is cut behind its last bin."""
    g, h, n = gradient[:, :, -1:], curvature[:, :, -1:], count[:, :, -1:]
    gain = gradient**2 / (curvature + _RIDGE) + (g - gradient) ** 2 / (h - curvature + _RIDGE) - g**2 / (h + _RIDGE)
    gain[(count < _LEAST) | (n - count < _LEAST)] = 0.0
    gain[:, 0, -1] = np.maximum(gain[:, 0, -1], 1e-9)
    best = gain.reshape(len(gain), -1).argmax(1)
    return best // _BINS, best % _BINS


# -- a bag of words ---------------------------------------------------------------------------------------------------


def words(texts: Sequence[str]) -> Table:
    """Count the words and figures of each text and which follow each other: those that most texts but not all have."""
    counted: list[dict[str, int]] = []
    spread: dict[str, int] = {}
    for text in texts:
        found = _WORD.findall(text.lower())
        bag: dict[str, int] = {}
        for word in (*found, *[f"{one} {two}" for one, two in pairwise(found)]):
            bag[word] = bag.get(word, 0) + 1
        counted.append(bag)
        for word in bag:
            spread[word] = spread.get(word, 0) + 1
    kept = sorted(spread, key=lambda word: (-spread[word], word))[:_WORDS]
    place = {word: number for number, word in enumerate(kept)}
    table = np.zeros((len(texts), len(kept)))
    for row, bag in enumerate(counted):
        for word, times in bag.items():
            if word in place:
                table[row, place[word]] = np.log1p(times)
    return table[:, table.std(0) > 0]


def logistic(seen: Table, labels: Scores, unseen: Table, penalty: float = 0.02) -> Scores:
    """Fit a logistic regression with a ridge, by accelerated gradient steps on standardised columns."""
    mean, scale = seen.mean(0), seen.std(0) + 1e-9
    table = ((seen - mean) / scale).astype(np.float32)
    weights = np.zeros(table.shape[1], np.float32)
    ahead = weights.copy()
    direction = np.ones(table.shape[1], np.float32)
    for _ in range(8):  # the largest curvature, by the power method
        direction = table.T @ (table @ direction)
        direction /= np.linalg.norm(direction) + 1e-12
    rate = 1 / (0.25 * float(np.linalg.norm(table @ direction) ** 2) / len(table) + penalty)
    for step in range(_STEPS):
        error = 1 / (1 + np.exp(-(table @ ahead))) - labels.astype(np.float32)
        next_one = ahead - rate * (table.T @ error / len(table) + penalty * ahead)
        ahead = next_one + step / (step + 3) * (next_one - weights)
        weights = next_one
    found: Scores = ((unseen - mean) / scale) @ weights.astype(np.float64)
    return found


# -- how well ---------------------------------------------------------------------------------------------------------


def cross_fitted(learner: Learner, table: Table, labels: Scores, pairs: NDArray[np.int64]) -> Scores:
    """Score every row by a model that was fitted without its pair, as a rank among the rows of its fold."""
    fold = pairs % FOLDS
    scores = np.zeros(len(table))
    for held_out in range(FOLDS):
        out = fold == held_out
        scores[out] = _ranked(learner(table[~out], labels[~out], table[out])) / max(1, out.sum())
    return scores


def _ranked(scores: Scores) -> Scores:
    """Return ranks, in which equal scores share theirs."""
    _, place, times = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(times) - (times - 1) / 2)[place]


def area(scores: Scores, labels: Scores) -> float:
    """Return the area under the curve: how often one half scores above the other, ties counted half."""
    ones = labels > 0.5
    high, low = int(ones.sum()), int((~ones).sum())
    return float((_ranked(scores)[ones].sum() - high * (high + 1) / 2) / (high * low))


def told(scores: Scores, labels: Scores, pairs: NDArray[np.int64], resamples: int = RESAMPLES) -> Told:
    """Return the area with a bootstrap interval over pairs."""
    order = np.argsort(pairs, kind="stable")
    halves = order.reshape(-1, 2)  # both halves of each pair
    draw = np.random.default_rng(0)
    areas = []
    for _ in range(resamples):
        rows = halves[draw.integers(0, len(halves), len(halves))].ravel()
        areas.append(area(scores[rows], labels[rows]))
    tail = (1 - LEVEL) / 2
    return Told(area(scores, labels), float(np.quantile(areas, tail)), float(np.quantile(areas, 1 - tail)))
