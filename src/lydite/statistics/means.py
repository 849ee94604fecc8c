"""Upper bounds on the mean of bounded scores, from honest ones: what a null may be declared as.

The scores are integers in millionths. Knows nothing of what a score measures.
"""

import math
from collections.abc import Sequence

from lydite.errors import FormatError
from lydite.statistics import bounded, rates
from lydite.statistics.bounded import MICRO


def highest(values_micro: Sequence[int], error: float) -> int:
    """Return an upper bound on the mean of scores in [0, 1], in millionths, at least 1.

    The smaller of two, each wrong with half of the probability ``error``:

    1. every m at which betting that the mean of 1 - X is above 1 - m would have won 2/error
       (``bounded.log_e``) is excluded: for scores that vary;
    2. the exact bound on how often a score is above nought (``rates.highest``): for scores that
       nearly always are nought.

    Guarantee: for independent scores of one mean, the bound is below it with probability at most
    ``error``. Scores of one session are one score.

    Raises:
        FormatError: no scores, one outside [0, 1], or an error not between 0 and 1.
    """
    if not values_micro or not 0.0 < error < 1.0:
        raise FormatError("a bound on a mean needs scores, and an error between 0 and 1")
    above = sum(value > 0 for value in values_micro)
    seldom = math.ceil(MICRO * rates.highest(above, len(values_micro), error / 2))
    return max(min(_by_betting(values_micro, error / 2), seldom, MICRO), 1)


def _by_betting(values_micro: Sequence[int], error: float) -> int:
    """Return the least mean, in millionths, that the scores speak against; all of it if none."""
    turned = [MICRO - value for value in values_micro]
    wanted = -math.log(error)
    low, high = 0, MICRO
    while high - low > 1:
        middle = (low + high) // 2
        if bounded.log_e(turned, MICRO - middle) >= wanted:
            high = middle
        else:
            low = middle
    return high
