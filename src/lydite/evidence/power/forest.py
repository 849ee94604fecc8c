"""Trees and linear models from plain arrays: what they say of rows of features.

Learning is elsewhere; here is only what a verifier needs to run again, to the last bit. Knows
nothing of what a column or a class means.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.power.arrays import Arrays
from lydite.evidence.power.trace import Values

LEAF = -1
DEEPEST = 64
_AT_ONCE = 256
"""So many rows walk down all trees together, so that they stay in the cache."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Binary trees whose leaves hold numbers: shares of classes, or one quantity.

    A row goes left where its feature is at most the threshold, both rounded to 32 bits. What the
    forest says is the mean over its trees.

    Raises:
        FormatError: a child that is not further on in its own arrays, or shapes that differ.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    """``LEAF`` in a leaf."""
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaves: NDArray[np.float32]
    """A row a node."""
    columns: int

    def __post_init__(self) -> None:
        """Refuse trees that a walk could leave, or never end in."""
        nodes = len(self.feature)
        alike = all(len(one) == nodes for one in (self.threshold, self.left, self.right))
        if not alike or self.leaves.shape[:1] != (nodes,) or not nodes or not len(self.roots):
            raise FormatError("trees whose arrays differ in length, or none")
        inner = self.feature != LEAF
        places = np.arange(nodes)[inner]
        for child in (self.left[inner], self.right[inner]):
            if np.any(child <= places) or np.any(child >= nodes):
                raise FormatError("a tree with a child before its parent")
        if np.any(self.roots < 0) or np.any(self.roots >= nodes):
            raise FormatError("a tree without a root")
        if np.any(self.feature < LEAF) or np.any(self.feature >= self.columns):
            raise FormatError(f"a tree that asks for more than {self.columns} columns")

    @classmethod
    def of(cls, several: Arrays) -> Self:
        """Return the forest that ``arrays`` holds."""
        return cls(
            roots=several.get("roots", 1),
            feature=several.get("feature", 1),
            threshold=several.get("threshold", 1),
            left=several.get("left", 1),
            right=several.get("right", 1),
            leaves=several.get("leaves", 2),
            columns=int(several.get("columns", 1)[0]),
        )

    def arrays(self) -> Arrays:
        """Return the forest as plain arrays."""
        return Arrays(
            {},
            {
                "roots": self.roots,
                "feature": self.feature,
                "threshold": self.threshold,
                "left": self.left,
                "right": self.right,
                "leaves": self.leaves,
                "columns": np.array([self.columns], np.int32),
            },
        )

    def predict(self, rows: Values) -> Values:
        """Return the mean of the leaves that each row falls into.

        Raises:
            FormatError: rows of another width, or with a value that is not finite.
        """
        if rows.ndim != 2 or rows.shape[1] != self.columns or not np.all(np.isfinite(rows)):
            raise FormatError(f"rows of {rows.shape}, not of {self.columns} finite columns")
        asked = rows.astype(np.float32)
        parts = [self._walk(asked[at : at + _AT_ONCE]) for at in range(0, len(asked), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, self.leaves.shape[1]))

    def _walk(self, rows: NDArray[np.float32]) -> Values:
        """Return the means for a few rows."""
        count, trees = len(rows), len(self.roots)
        node = np.tile(self.roots.astype(np.int64), count)
        base = np.repeat(np.arange(count, dtype=np.int64) * rows.shape[1], trees)
        flat = rows.ravel()
        walking = np.flatnonzero(self.feature[node] != LEAF)
        for _ in range(DEEPEST):
            if not len(walking):
                break
            here = node[walking]
            smaller = flat[base[walking] + self.feature[here]] <= self.threshold[here]
            there = np.where(smaller, self.left[here], self.right[here])
            node[walking] = there
            walking = walking[self.feature[there] != LEAF]
        else:
            raise FormatError(f"a tree deeper than {DEEPEST}")
        fallen = self.leaves[node].astype(np.float64).reshape(count, trees, -1)
        return np.asarray(fallen.sum(axis=1) / trees)


@dataclass(frozen=True, eq=False)
class Linear:
    """Standardised columns times weights, plus a bias: one number or one a class."""

    mean: Values
    scale: Values
    weights: Values
    """A column a class."""
    bias: Values

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit."""
        width, classes = self.weights.shape
        fits = self.mean.shape == self.scale.shape == (width,) and self.bias.shape == (classes,)
        if not fits or np.any(self.scale <= 0):
            raise FormatError("a linear model whose arrays do not fit, or a scale of 0")

    @classmethod
    def of(cls, several: Arrays) -> Self:
        """Return the model that ``arrays`` holds."""
        mean, scale = several.get("mean", 1), several.get("scale", 1)
        return cls(mean, scale, several.get("weights", 2), several.get("bias", 1))

    def arrays(self) -> Arrays:
        """Return the model as plain arrays."""
        held = {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}
        return Arrays({}, held)

    def predict(self, rows: Values) -> Values:
        """Return the numbers of each row.

        Raises:
            FormatError: rows of another width, or with a value that is not finite.
        """
        if rows.ndim != 2 or rows.shape[1:] != self.mean.shape or not np.all(np.isfinite(rows)):
            raise FormatError(f"rows of {rows.shape}, not of {len(self.mean)} finite columns")
        return np.asarray(((rows - self.mean) / self.scale) @ self.weights + self.bias)


def shares(numbers: Values) -> Values:
    """Return the softmax of each row."""
    grown = np.exp(numbers - numbers.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
