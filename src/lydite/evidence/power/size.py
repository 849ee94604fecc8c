"""How many parameters a window's model may have: a number with an interval, never without.

Ridge on a logarithm and a conformal bound over sessions that were left out; and classes that are
enrolled from a few windows each. Knows nothing of power; the interval is as wide as it must be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from lydite.errors import FormatError
from lydite.evidence.power import openset
from lydite.evidence.power.arrays import Arrays
from lydite.evidence.power.forest import Linear
from lydite.evidence.power.trace import Values

LEAST_WINDOWS = 3


class Interval(NamedTuple):
    """A quantity, and where it lies with the stated error."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Size:
    """A regression of the natural logarithm of parameters."""

    linear: Linear
    half: float
    """Half of the interval, as a logarithm: the conformal bound of left-out sessions."""

    @classmethod
    def of(cls, several: Arrays) -> Self:
        """Return the regression that ``arrays`` holds."""
        return cls(Linear.of(several.under("linear")), float(several.get("half", 1)[0]))

    def arrays(self) -> Arrays:
        """Return the regression as plain arrays."""
        linear = {f"linear.{k}": v for k, v in self.linear.arrays().arrays.items()}
        return Arrays({}, {**linear, "half": np.array([self.half])})

    def of_rows(self, rows: Values) -> list[Interval]:
        """Return the billions of parameters of each row's model."""
        logs = self.linear.predict(rows)[:, 0]
        return [
            Interval(*(float(np.exp(log + step)) for step in (0.0, -self.half, self.half)))
            for log in logs
        ]


def ridge(rows: Values, targets: Values, penalty: float) -> Linear:
    """Return the linear model of least squares with ``penalty`` on standardised weights."""
    mean, scale = openset.standard(rows)
    plain = (rows - mean) / scale
    bias = targets.mean(axis=0)
    left = plain.T @ plain + penalty * np.eye(plain.shape[1])
    weights = np.linalg.solve(left, plain.T @ (targets - bias))
    return Linear(mean, scale, weights, bias)


def fit(rows: Values, billions: Values, sessions: Sequence[str], error: float) -> Size:
    """Return a size regression whose interval covers a left-out session with ``1 - error``.

    Each session is left out once; its score is the median of its windows' errors, so that sessions
    and not windows are counted.

    Raises:
        UnavailableError: too few sessions for the error.
    """
    names = np.asarray(sessions)
    logs = np.log(billions)[:, None]
    scores = []
    for name in np.unique(names):
        out = names == name
        guess = ridge(rows[~out], logs[~out], 10.0).predict(rows[out])
        scores.append(float(np.median(np.abs(guess - logs[out]))))
    return Size(ridge(rows, logs, 10.0), openset.quantile(scores, error))


@dataclass(frozen=True, eq=False)
class Gallery:
    """Classes by their mean windows in a space that was learnt from other classes.

    The space is standardised by the spread within known classes, shrunk to its diagonal; a new
    class costs a few windows and no training.
    """

    whitening: Values
    means: Mapping[str, Values]

    @classmethod
    def learn(cls, rows: Values, classes: Sequence[str], shrink: float = 0.5) -> Self:
        """Return a gallery of known classes."""
        names = np.asarray(classes)
        means = {str(name): rows[names == name].mean(axis=0) for name in np.unique(names)}
        within = rows - np.array([means[str(name)] for name in names])
        spread = within.T @ within / len(rows)
        diagonal = np.diag(np.maximum(np.diag(spread), 1e-9))
        values, vectors = np.linalg.eigh((1 - shrink) * spread + shrink * diagonal)
        whitening = vectors / np.sqrt(np.maximum(values, 1e-12))
        return cls(whitening, {name: mean @ whitening for name, mean in means.items()})

    def enrol(self, name: str, rows: Values) -> Self:
        """Return the gallery with one more class, from a few windows of it.

        Raises:
            FormatError: the class is there already, or fewer than ``LEAST_WINDOWS`` windows.
        """
        if name in self.means or len(rows) < LEAST_WINDOWS:
            raise FormatError(f"{name}: known, or {len(rows)} windows of {LEAST_WINDOWS}")
        return type(self)(self.whitening, {**self.means, name: rows.mean(axis=0) @ self.whitening})

    def nearest(self, rows: Values) -> list[tuple[str, float]]:
        """Return for each row the nearest class and the distance to it."""
        names = list(self.means)
        centres = np.array([self.means[name] for name in names])
        placed = rows @ self.whitening
        apart = np.sqrt(((placed[:, None, :] - centres[None]) ** 2).sum(axis=-1))
        best = np.argmin(apart, axis=1)
        return [(names[i], float(row[i])) for i, row in zip(best, apart, strict=True)]
