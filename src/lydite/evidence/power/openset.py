"""Whether a window is like anything that was learnt, and how sure an answer may be.

Distances to known windows, sets of classes at a stated error, intervals of a regression, and an
alarm when the windows of a site stop resembling its calibration. The guarantees ask that windows
are exchangeable with the calibration's, one a session: windows of one session are not. Knows
nothing of power.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.power.arrays import Arrays
from lydite.evidence.power.trace import Values

NEIGHBOURS = 5
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Support:
    """Windows that were learnt from, in a space of standardised columns.

    Raises:
        FormatError: fewer than ``NEIGHBOURS``, or shapes that do not fit.
    """

    mean: Values
    scale: Values
    known: Values
    """A row a window, standardised."""
    radius: float
    """The distance up to which a window counts as like them: a quantile over left-out sessions."""

    def __post_init__(self) -> None:
        """Refuse what gives no distance."""
        width = self.known.shape[1:]
        if len(self.known) < NEIGHBOURS or self.mean.shape != width or self.scale.shape != width:
            raise FormatError(f"a support of {self.known.shape}")
        if not self.radius > 0 or np.any(self.scale <= 0):
            raise FormatError("a support without a radius, or with a scale of 0")

    @classmethod
    def of(cls, several: Arrays) -> Self:
        """Return the support that ``arrays`` holds."""
        mean, scale, known = (
            several.get(n, d) for n, d in (("mean", 1), ("scale", 1), ("known", 2))
        )
        return cls(mean, scale, known, float(several.get("radius", 1)[0]))

    def arrays(self) -> Arrays:
        """Return the support as plain arrays."""
        radius = np.array([self.radius])
        held = {"mean": self.mean, "scale": self.scale, "known": self.known, "radius": radius}
        return Arrays({}, held)

    def distances(self, rows: Values) -> Values:
        """Return the distance of each row to its fifth nearest known window."""
        return nearest((rows - self.mean) / self.scale, self.known)


def standard(rows: Values) -> tuple[Values, Values]:
    """Return mean and scale of each column; a column that never moves has scale 1."""
    scale = rows.std(axis=0)
    return rows.mean(axis=0), np.where(scale > 1e-12, scale, 1.0)


def nearest(rows: Values, known: Values, neighbours: int = NEIGHBOURS) -> Values:
    """Return the distance of each row to the ``neighbours``-th nearest of ``known``."""
    found = []
    squares = (known * known).sum(axis=1)
    for at in range(0, len(rows), _AT_ONCE):
        some = rows[at : at + _AT_ONCE]
        apart = (some * some).sum(axis=1)[:, None] + squares - 2 * some @ known.T
        ranked = np.partition(apart, neighbours - 1, axis=1)[:, neighbours - 1]
        found.append(np.sqrt(np.maximum(ranked, 0.0)))
    return np.concatenate(found) if found else np.zeros(0)


def quantile(scores: Sequence[float], error: float) -> float:
    """Return the ``ceil((n + 1)(1 - error))``-th smallest score: the bound of split conformal.

    Guarantee: a new score that is exchangeable with these exceeds it with probability at most
    ``error`` (Vovk, Gammerman and Shafer 2005). Give one score a session.

    Raises:
        UnavailableError: too few scores for the error (``Reason.POOL_TOO_SMALL``).
        FormatError: the error is not between 0 and 1.
    """
    if not 0 < error < 1:
        raise FormatError(f"an error of {error}, expected between 0 and 1")
    place = math.ceil((len(scores) + 1) * (1 - error) - 1e-9)
    if place > len(scores):
        raise UnavailableError(
            f"{len(scores)} scores bound nothing at an error of {error:g}", Reason.POOL_TOO_SMALL
        )
    return sorted(scores)[max(place, 1) - 1]


def label_sets(probabilities: Values, bound: float) -> NDArray[np.bool_]:
    """Return for each row the classes whose ``1 - probability`` is at most ``bound``.

    With a bound by ``quantile`` over ``1 - probability`` of true classes, the true class is inside
    with its guarantee (least ambiguous sets, Sadinle, Lei and Wasserman 2019).
    """
    return np.asarray(1.0 - probabilities <= bound)


def p_values(pool: Sequence[float], scores: Iterable[float], ties: Iterable[float]) -> list[float]:
    """Return the conformal p-value of each score by itself against a pool; higher is stranger."""
    ranked = np.sort(np.asarray(pool, np.float64))
    found = []
    for score, tie in zip(scores, ties, strict=True):
        below = int(np.searchsorted(ranked, score, side="left"))
        until = int(np.searchsorted(ranked, score, side="right"))
        found.append((len(ranked) - until + tie * (until - below + 1)) / (len(ranked) + 1))
    return found


def martingale(p: Iterable[float]) -> Iterator[float]:
    """Yield the log wealth of a bet that p-values are not uniform: the exchangeability alarm.

    The simple jumper of Vovk (2021) with stakes -1, 0 and 1 and jumps of .01, run on p-values
    that grow their own pool: each window is ranked among those before it and the calibration.

    Guarantee: if sessions stay exchangeable with the calibration, the wealth ever reaches 1/alpha
    with probability at most alpha. P-values from a pool that is fixed do not have it.
    """
    stakes, jump = np.array([-1.0, 0.0, 1.0]), 0.01
    held, grown = np.full(3, 1 / 3), 0.0
    for value in p:
        held = (1 - jump) * held + jump * held.sum() / 3
        held = held * (1 + stakes * (value - 0.5))
        total = float(held.sum())
        grown += math.log(total)
        held = held / total
        yield grown


def online_p_values(
    pool: Sequence[float], scores: Iterable[float], ties: Iterable[float]
) -> Iterator[float]:
    """Yield the p-value of each score among the pool and the scores before it."""
    known = list(pool)
    for score, tie in zip(scores, ties, strict=True):
        yield p_values(known, [score], [tie])[0]
        known.append(score)
