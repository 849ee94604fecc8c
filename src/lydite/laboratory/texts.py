"""What text alone can tell, for comparison: how likely it is, and whether it is distributed alike.

Both are tests of a fixed number of answers, which may be looked at once only. Peers to measure
beside; lydite accuses nobody by them.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZES = (2, 4, 8, 16, 32, 48, 64, 96)
"""Numbers of answers that are tried."""
PERMUTATIONS = 2000
WIDTH = 256
"""Characters of a text that are compared."""


class Likelihood(NamedTuple):
    """Mean of an answer's mean surprise, honest: its range over implementations, its spread."""

    lowest: float
    highest: float
    spread: float
    """Standard deviation of one answer's mean, of the widest implementation."""

    def accuses(self, means: Sequence[float], alpha: float) -> bool:
        """Say whether the mean of answers' means lies outside of what honest ones have."""
        reach = NormalDist().inv_cdf(1 - alpha / 2) * self.spread / len(means) ** 0.5
        mean = float(np.mean(means))
        return not self.lowest - reach <= mean <= self.highest + reach


def likelihood(honest: Sequence[Sequence[float]]) -> Likelihood:
    """Return what mean surprise, in nats a token, honest answers of each implementation have."""
    means = [float(np.mean(each)) for each in honest]
    spread = max(float(np.std(each, ddof=1)) for each in honest)
    return Likelihood(min(means), max(means), spread)


def unlike(
    told: Sequence[str], known: Sequence[str], dice: np.random.Generator, *, width: int = WIDTH
) -> float:
    """Return the p-value of MMD with a Hamming kernel between texts of two sides, by permutation.

    The kernel of Model Equality Testing (arXiv 2410.20247): the share of places, padded, at which
    two texts have the same character. Prompts are left out, as each is asked once only.
    """
    codes = np.stack([_padded(text, width) for text in (*told, *known)])
    kernel = (codes[:, None] == codes[None]).mean(axis=2)
    side = np.array([1 / len(told)] * len(told) + [-1 / len(known)] * len(known))
    permuted = dice.permuted(np.tile(side, (PERMUTATIONS, 1)), axis=1)
    signs = np.concatenate([side[None], permuted])
    statistics = np.einsum("pi,pi->p", signs @ kernel, signs)
    return float((1 + np.sum(statistics[1:] >= statistics[0])) / (1 + PERMUTATIONS))


def _padded(text: str, width: int) -> NDArray[np.uint32]:
    return np.array([ord(letter) for letter in text[:width].ljust(width, "\0")], dtype=np.uint32)
