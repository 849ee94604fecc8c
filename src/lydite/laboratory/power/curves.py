"""How often a score errs, at every threshold and over sessions: ROC, operating points, calibration.

Knows nothing of what the score is of.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.evidence.power.trace import Values
from lydite.laboratory.power import splits
from lydite.laboratory.power.splits import Interval, Mask, Names

POINTS = (0.001, 0.01, 0.05)


class Roc(NamedTuple):
    """True positives at each rate of false ones, on one grid, with what sessions make of it."""

    false: Values
    true: Values
    low: Values
    high: Values
    area: Interval


def area(scores: Values, positive: Mask) -> float:
    """Return the chance that a positive scores above a negative; ties count half."""
    if positive.all() or not positive.any():
        return float("nan")
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    for value, count in zip(*np.unique(scores, return_counts=True), strict=True):
        if count > 1:
            same = scores == value
            ranks[same] = ranks[same].mean()
    hits, misses = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def true_rate(scores: Values, positive: Mask, false_rate: float) -> float:
    """Return the share of positives above the threshold that so many negatives exceed at most."""
    negatives = np.sort(scores[~positive])[::-1]
    if not len(negatives) or not positive.any():
        return float("nan")
    threshold = negatives[int(false_rate * len(negatives))]
    return float(np.mean(scores[positive] > threshold))


def roc(scores: Values, positive: Mask, session: Names, draws: int = 200) -> Roc:
    """Return the curve, its area, and both over drawn sessions."""
    grid = np.concatenate([[0.0], np.logspace(-3, 0, 40)[:-1], [1.0 - 1e-9]])
    kinds = np.where(positive, "positive", "negative")

    def curve(index: NDArray[np.int64]) -> Values:
        return np.array([true_rate(scores[index], positive[index], rate) for rate in grid])

    found = []
    random = np.random.default_rng(0)
    for places in splits.draws(session, kinds, random, draws):
        found.append(curve(places))
    low, high = np.nanquantile(found, [0.025, 0.975], axis=0)
    whole = splits.bootstrap(
        lambda places: area(scores[places], positive[places]), session, draws, strata=kinds
    )
    return Roc(grid, curve(np.arange(len(scores), dtype=np.int64)), low, high, whole)


class Reliability(NamedTuple):
    """What is said and what holds, in bins of what is said."""

    said: Values
    held: Values
    counts: Values
    error: float
    """Mean distance of the two, by count: the expected calibration error."""


def reliability(confidence: Values, right: Mask, bins: int = 10) -> Reliability:
    """Return how often answers of each confidence are right."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    used = np.unique(place)
    said = np.array([confidence[place == one].mean() for one in used])
    held = np.array([right[place == one].mean() for one in used])
    counts = np.array([float(np.count_nonzero(place == one)) for one in used])
    error = float(np.sum(np.abs(said - held) * counts) / counts.sum())
    return Reliability(said, held, counts, error)
