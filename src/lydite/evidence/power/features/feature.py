"""What a feature is, and what all groups share: order statistics, standardised windows.

Windows are rows of one array. Every operation treats each row by itself and reduces along it, so
that a row's features are the same bits alone as among thousands. Knows no channel by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.evidence.power.trace import Values

LEVEL = "level"
"""Moves with the gain or offset of the sensor: needs calibration on the site."""
SHAPE = "shape"
"""Of the standardised window: the same under any gain and offset."""
FLAT = 1e-9
"""A window whose standard deviation is no more of its greatest value is constant: its z is 0."""


class Feature(NamedTuple):
    """One number of a window, in words."""

    name: str
    formula: str
    """With x the window's values, n their number, f its rate, z = (x - mean) / std."""
    unit: str
    scale: str
    source: str


class Group(NamedTuple):
    """Features that are computed together."""

    features: Callable[[float, int], list[Feature]]
    """By rate in Hz and places of a window: those that can be computed, in order."""
    compute: Callable[["Window"], Values]
    """A row a window, a column a feature."""


@dataclass(frozen=True, eq=False)
class Window:
    """Rows of values at one rate, with what several groups need of them."""

    rate_hz: float
    x: Values
    ordered: Values
    mean: Values
    std: Values
    scale: Values
    """The standard deviation; infinite where the row is constant."""
    z: Values

    @classmethod
    def of(cls, x: Values, rate_hz: float) -> "Window":
        """Return the rows ``x`` with what groups share."""
        x = np.ascontiguousarray(x)
        ordered = np.sort(x, axis=-1)
        mean = x.sum(axis=-1) / x.shape[-1]
        centred = x - mean[:, None]
        std = np.sqrt((centred * centred).sum(axis=-1) / x.shape[-1])
        greatest = np.maximum(np.abs(ordered[:, 0]), np.abs(ordered[:, -1]))
        scale = np.where(std > FLAT * greatest, std, np.inf)
        return cls(rate_hz, x, ordered, mean, std, scale, centred / scale[:, None])

    @property
    def size(self) -> int:
        """Return the places of a window."""
        return int(self.x.shape[-1])

    @cached_property
    def correlations(self) -> Values:
        """Return ``sum(z[i] z[i + k]) / n`` at every lag ``k`` up to half a window and one more."""
        length = 1 << (2 * self.size - 1).bit_length()
        transformed = np.fft.rfft(self.z, length, axis=-1)
        power = transformed.real * transformed.real + transformed.imag * transformed.imag
        return np.asarray(np.fft.irfft(power, length, axis=-1)[:, : self.size // 2 + 2] / self.size)

    def quantile(self, share: float) -> Values:
        """Return the order statistic at ``floor(share (n - 1))``: a value of the window itself."""
        return self.ordered[:, int(share * (self.size - 1))]


def middle(window: Window) -> Values:
    """Return the line between high and low: halfway from the tenth to the ninetieth percentile."""
    return np.asarray((window.quantile(0.1) + window.quantile(0.9)) / 2)


def columns(*several: Values) -> Values:
    """Return features side by side; each is one column, or several already."""
    return np.concatenate([one[:, None] if one.ndim == 1 else one for one in several], axis=1)


def ratio(above: Values, below: Values) -> Values:
    """Return ``above / below``, and 0 where ``below`` is 0."""
    safe = np.where(below == 0, 1.0, below)
    return np.asarray(np.where(below == 0, 0.0, above / safe))


def whole_steps(seconds: float, rate_hz: float) -> int:
    """Return how many steps of the grid ``seconds`` are, 0 if not a whole number."""
    steps = round(seconds * rate_hz)
    return steps if abs(steps - seconds * rate_hz) < 1e-9 else 0


Mask = NDArray[np.bool_]


def rises(mask: Mask) -> Mask:
    """Return where a run of true places begins."""
    found = mask.copy()
    found[:, 1:] &= ~mask[:, :-1]
    return found
