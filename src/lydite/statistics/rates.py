"""Upper bounds on how often honest tokens fall into a bin, from counts clustered by response.

Tokens of one response resemble each other, so the error of a rate is that of a ratio of sums over
responses, not of a binomial. Sums of squares are all that it takes, and they are integers.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

from lydite.errors import FormatError
from lydite.statistics.beta import log_upper


class Clusters(NamedTuple):
    """One bin over R responses: response r has n_r tokens, k_r of them in the bin."""

    responses: int
    tokens: int
    """Sum of n_r."""
    tokens_squared: int
    """Sum of n_r^2."""
    inside: int
    """Sum of k_r."""
    inside_squared: int
    """Sum of k_r^2."""
    cross: int
    """Sum of k_r n_r."""

    def rate(self) -> float:
        """Return the share of tokens in the bin."""
        return self.inside / self.tokens

    def standard_error(self) -> float:
        """Return the standard error of the rate, clustered by response (ratio estimator)."""
        rate = self.rate()
        squares = self.inside_squared - 2 * rate * self.cross + rate * rate * self.tokens_squared
        spread = max(squares, 0.0) * self.responses / (self.responses - 1)
        return math.sqrt(spread) / self.tokens


def ceiling(clusters: Clusters, bins: int, z: float) -> float:
    """Return an upper bound on the rate of one of ``bins`` bins, in (0, 1].

    The larger of the add-one estimate, which an empty bin still has, and the rate plus ``z``
    standard errors.

    Raises:
        FormatError: fewer than two responses, or no tokens.
    """
    _check(clusters)
    return raised(clusters, bins, z * clusters.standard_error())


def raised(clusters: Clusters, bins: int, error: float) -> float:
    """Return the same bound where the error, z standard errors, is known by other means.

    Raises:
        FormatError: fewer than two responses, or no tokens.
    """
    _check(clusters)
    smoothed = (clusters.inside + 1) / (clusters.tokens + bins)
    return min(1.0, max(smoothed, clusters.rate() + error))


def _check(clusters: Clusters) -> None:
    if clusters.responses < 2 or clusters.tokens <= 0:
        raise FormatError("a rate needs at least two responses and some tokens")


def quantile(error: float, comparisons: int) -> float:
    """Return z such that ``comparisons`` bounds all hold but with probability ``error``.

    Bonferroni over a normal approximation: ``z = Phi^-1(1 - error / comparisons)``.
    """
    if not 0.0 < error < 1.0 or comparisons < 1:
        raise FormatError("a calibration error lies between 0 and 1")
    return NormalDist().inv_cdf(1.0 - error / comparisons)


def highest(hits: int, trials: int, error: float = 0.05) -> float:
    """Return an upper bound on a chance of which ``hits`` of ``trials`` came true, in [0, 1].

    Exact (Clopper and Pearson): the chance at which so few hits have probability ``error``; for no
    hits ``1 - error^(1/trials)``. Found by halving, to 2^-50.

    Raises:
        FormatError: counts that are none, or an error not between 0 and 1.
    """
    if not 0 <= hits <= trials or trials < 1 or not 0.0 < error < 1.0:
        raise FormatError(f"a rate of {hits} in {trials} trials with error {error}")
    if hits == trials:
        return 1.0
    whole = log_upper(0.0, hits + 1.0, float(trials - hits))
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        few = log_upper(middle, hits + 1.0, float(trials - hits)) - whole
        low, high = (middle, high) if few > math.log(error) else (low, middle)
    return high
