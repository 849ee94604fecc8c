"""MiniRocket in plain arrays: shares of a window above a bias, after fixed kernels.

Dempster, Schmidt and Webb, KDD 2021. All kernels have nine weights, six of -1 and three of 2, so
that level drops out: append level features. Which dilations and biases are used is learnt from
windows and held as arrays. Knows nothing of classes.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.power.arrays import Arrays
from lydite.evidence.power.trace import Values

TAPS = 9
KERNELS = tuple(combinations(range(TAPS), 3))
"""Where the three weights of 2 are: 84 kernels."""
_GOLDEN = (math.sqrt(5) + 1) / 2
_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Rocket:
    """Kernels at dilations, each with its biases.

    Raises:
        FormatError: biases that are not a row a dilation and kernel, or a dilation too wide.
    """

    size: int
    """Places of a window."""
    dilations: NDArray[np.int32]
    biases: Values
    """By dilation, kernel and place."""

    def __post_init__(self) -> None:
        """Refuse kernels that do not fit into a window."""
        if self.biases.ndim != 3 or self.biases.shape[:2] != (len(self.dilations), len(KERNELS)):
            raise FormatError(f"biases of {self.biases.shape}")
        if np.any(self.dilations < 1) or np.any(self.dilations * (TAPS - 1) >= 2 * self.size):
            raise FormatError("a dilation that does not fit into a window")

    @classmethod
    def of(cls, several: Arrays) -> Self:
        """Return the kernels that ``arrays`` holds."""
        size = int(several.get("size", 1)[0])
        return cls(size, several.get("dilations", 1), several.get("biases", 3))

    def arrays(self) -> Arrays:
        """Return the kernels as plain arrays."""
        size = np.array([self.size], np.int32)
        return Arrays({}, {"size": size, "dilations": self.dilations, "biases": self.biases})

    @classmethod
    def learn(cls, windows: Values, features: int, seed: int) -> Self:
        """Return kernels whose biases are quantiles of what they make of drawn windows."""
        size = windows.shape[1]
        dilations, each = _dilations(size, max(features // len(KERNELS), 1))
        spread = (np.arange(1, len(KERNELS) * each * len(dilations) + 1) * _GOLDEN) % 1.0
        wanted = spread.reshape(len(dilations), len(KERNELS), each)
        random = np.random.default_rng(seed)
        biases = np.zeros(wanted.shape)
        for at, dilation in enumerate(dilations):
            drawn = windows[random.integers(len(windows), size=min(len(windows), 8))]
            for kernel, made in enumerate(_convolved(drawn, int(dilation))):
                biases[at, kernel] = np.quantile(made, wanted[at, kernel])
        return cls(size, dilations, biases)

    def transform(self, windows: Values) -> Values:
        """Return for each window the share of places above each bias, after each kernel.

        Raises:
            FormatError: windows of another size.
        """
        if windows.ndim != 2 or windows.shape[1] != self.size:
            raise FormatError(f"windows of {windows.shape}, not of {self.size} places")
        parts = [self._some(windows[at : at + _AT_ONCE]) for at in range(0, len(windows), _AT_ONCE)]
        width = self.biases.size
        return np.concatenate(parts) if parts else np.zeros((0, width))

    def _some(self, windows: Values) -> Values:
        found = []
        for at, dilation in enumerate(self.dilations):
            margin = int(dilation) * (TAPS // 2)
            for kernel, made in enumerate(_convolved(windows, int(dilation))):
                # Every other kernel is looked at without its padding, as published.
                inner = kernel % 2 == 1 and self.size > 2 * margin
                seen = made[:, margin : self.size - margin] if inner else made
                above = seen[:, :, None] > self.biases[at, kernel]
                found.append(np.count_nonzero(above, axis=1) / seen.shape[1])
        return np.concatenate(found, axis=1)


def _dilations(size: int, each: int) -> tuple[NDArray[np.int32], int]:
    """Return dilations that grow as powers up to the window, and how many biases each has."""
    most = min(each, 32)
    top = math.log2(max((size - 1) / (TAPS - 1), 1.0))
    powers = np.logspace(0, top, most, base=2).astype(np.int32)
    dilations = np.unique(powers).astype(np.int32)
    return dilations, max(each // len(dilations), 1)


def _convolved(windows: Values, dilation: int) -> list[Values]:
    """Return what each kernel makes of the windows, padded with nought."""
    size = windows.shape[1]
    margin = dilation * (TAPS // 2)
    padded = np.pad(windows, ((0, 0), (margin, margin)))
    taps = [padded[:, tap * dilation : tap * dilation + size] for tap in range(TAPS)]
    minus = -np.add.reduce(taps)
    return [minus + 3 * (taps[a] + taps[b] + taps[c]) for a, b, c in KERNELS]
