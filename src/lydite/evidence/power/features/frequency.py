"""Features of a window in frequency: spectrum, entropy, dominant frequency, Haar wavelets.

All of them are of the standardised window. Knows nothing of what ran.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lydite.evidence.power.features.feature import SHAPE, Feature, Group, Window, columns, ratio
from lydite.evidence.power.trace import Values

EDGES_HZ = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Bands between two; those that begin below half the rate."""
ROLL_OFF = 0.85
TIE = 1e-9
"""Of two bins whose powers differ by no more of the greatest, the lower one is dominant."""
WAVELET_LEVELS = 8
TINY = 1e-300
"""A share of 0 has the logarithm of this, and adds nothing."""


@lru_cache(16)
def _hann(size: int) -> Values:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size))


def spectrum(window: Window) -> Values:
    """Return each row's share of power by frequency, without the mean: rows of 0 if constant."""
    transformed = np.fft.rfft(window.z * _hann(window.size), axis=-1)[:, 1:]
    power = transformed.real * transformed.real + transformed.imag * transformed.imag
    return ratio(power, power.sum(axis=-1)[:, None])


@lru_cache(16)
def frequencies(rate_hz: float, size: int) -> Values:
    """Return the frequency of each bin of ``spectrum``."""
    return np.asarray(np.arange(1, size // 2 + 1) * (rate_hz / size), np.float64)


def bands(rate_hz: float) -> list[tuple[float, float]]:
    """Return the bands that a rate shows, in Hz."""
    return [(low, high) for low, high in pairwise(EDGES_HZ) if low < rate_hz / 2]


@lru_cache(16)
def _band_edges(rate_hz: float, size: int) -> NDArray[np.intp]:
    """Return how many bins lie up to each edge of the bands."""
    ends = [low for low, _ in bands(rate_hz)] + [bands(rate_hz)[-1][1]]
    return np.searchsorted(frequencies(rate_hz, size), ends, side="right")


def _spectral(rate_hz: float, _size: int) -> list[Feature]:
    shares = "p: power of the Hann-windowed FFT of z over its sum, without frequency 0"
    return [
        Feature("spectral_entropy", f"-sum(p ln p) / ln(bins); {shares}", "1", SHAPE,
                "Shannon 1948; Inouye et al. 1991"),
        Feature("dominant_frequency", "lowest frequency with p >= max(p) (1 - 1e-9)", "Hz", SHAPE,
                "definition"),
        Feature("dominant_share", "max(p)", "1", SHAPE, "definition"),
        Feature("spectral_centroid", "sum(p f)", "Hz", SHAPE, "definition"),
        Feature("spectral_width", "sqrt(sum(p f^2) - centroid^2)", "Hz", SHAPE, "definition"),
        Feature("spectral_rolloff", f"lowest frequency with sum of p up to it over {ROLL_OFF:g}",
                "Hz", SHAPE, "definition"),
        *(
            Feature(f"band_{low:g}_{high:g}hz", f"sum of p over {low:g} < f <= {high:g} Hz", "1",
                    SHAPE, "definition")
            for low, high in bands(rate_hz)
        ),
    ]  # fmt: skip


def _spectral_values(window: Window) -> Values:
    shares = spectrum(window)
    at_hz = frequencies(window.rate_hz, window.size)
    bins = shares.shape[-1]
    entropy = -_entropies(shares) / np.log(max(bins, 2))
    top = shares.max(axis=-1)
    moving = top > 0
    first = np.argmax(shares >= (top * (1 - TIE))[:, None], axis=-1)
    centroid = (shares * at_hz).sum(axis=-1)
    squares = (shares * (at_hz * at_hz)).sum(axis=-1)
    total = np.zeros((len(shares), bins + 1))
    np.cumsum(shares, axis=-1, out=total[:, 1:])
    rolled = np.argmax(total[:, 1:] > ROLL_OFF, axis=-1)
    parts = np.diff(total[:, _band_edges(window.rate_hz, window.size)], axis=-1)
    return columns(
        entropy,
        np.where(moving, at_hz[first], 0.0),
        top,
        centroid,
        np.sqrt(np.maximum(squares - centroid * centroid, 0.0)),
        np.where(moving, at_hz[rolled], 0.0),
        parts,
    )


def _entropies(shares: Values) -> Values:
    """Return the sums of ``p ln p``."""
    return np.asarray((shares * np.log(np.maximum(shares, TINY))).sum(axis=-1))


SPECTRAL = Group(_spectral, _spectral_values)


def levels(size: int) -> int:
    """Return how many levels of wavelets a window of ``size`` places has."""
    return min(WAVELET_LEVELS, size.bit_length() - 1)


def haar(rows: Values, count: int) -> list[Values]:
    """Return the details of ``count`` levels, finest first; an odd last place is left out.

    Those of level ``k`` are larger than the orthonormal ones by the square root of ``2^k``.
    """
    found = []
    smooth = rows
    for _ in range(count):
        even = smooth.shape[-1] // 2 * 2
        left, right = smooth[:, 0:even:2], smooth[:, 1:even:2]
        found.append(left - right)
        smooth = left + right
    return found


def _wavelets(_rate_hz: float, size: int) -> list[Feature]:
    return [
        *(
            Feature(f"haar_{level}", f"sum(d^2) / n of the Haar details at level {level} of z"
                    f" (differences of means over {2 ** (level - 1)} places)", "1", SHAPE,
                    "Haar 1910; Mallat 1989")
            for level in range(1, levels(size) + 1)
        ),
        Feature("haar_entropy", "-sum(w ln w) / ln(levels), w the shares of the levels", "1", SHAPE,
                "Rosso et al. 2001"),
    ]  # fmt: skip


def _wavelet_values(window: Window) -> Values:
    count = levels(window.size)
    details = haar(window.z, count)
    energies = columns(*((one * one).sum(axis=-1) for one in details))
    energies *= 0.5 ** np.arange(1, count + 1) / window.size
    shares = ratio(energies, energies.sum(axis=-1)[:, None])
    return columns(energies, -_entropies(shares) / np.log(max(count, 2)))


WAVELETS = Group(_wavelets, _wavelet_values)
