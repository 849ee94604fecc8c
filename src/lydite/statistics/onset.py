"""Evidence whose beginning nobody knows: a mixture of e-values over every start.

An honest past shrinks an e-value that runs over all of it, so that whoever was honest long enough
could cheat as long again before it grows. Mixed over starts, a past costs the logarithm of its
length instead. Pure arithmetic; knows nothing of what the steps are.
"""

import math
from collections.abc import Sequence

from lydite.statistics.merging import log_sum


def log_mixture(suffixes: Sequence[float]) -> float:
    """Return ``ln M_t`` of t steps, where ``suffixes[k]`` = ``ln E`` of steps k to t - 1 alone.

    ``M_t = sum over k < t of E_(k..t) / ((k + 1) (k + 2)) + 1 / (t + 1)``.

    Guarantee (Ville): if every E_(k..t), as t grows, is an e-process that starts from one at step
    k, then so is M, as the weights sum to one and were fixed before the first step: the
    probability that M ever reaches 1/alpha is at most alpha, at any stopping time. Evidence that
    begins at step k costs at most ``ln((k + 1) (k + 2))`` nats; ln 2 if from the start.

    Raises:
        FormatError: a logarithm is NaN.
    """
    weighted = [value - math.log((k + 1) * (k + 2)) for k, value in enumerate(suffixes)]
    return log_sum([*weighted, -math.log(len(suffixes) + 1)])
