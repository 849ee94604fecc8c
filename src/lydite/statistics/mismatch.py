"""Audits that match or do not, tested for more mismatches than honesty explains.

Pure arithmetic on two counts. Knows nothing of what was compared.
"""

import math
from collections.abc import Iterable, Iterator

from lydite.errors import FormatError
from lydite.statistics.beta import log_upper

_HALF = 0.5
"""Both parameters of the Beta mixture over rates above the honest one."""


def log_e(mismatches: int, audits: int, rate: float) -> float:
    """Return the log e-value of so many mismatches in so many audits.

    The likelihood ratio against ``rate``, averaged over true rates drawn from a Beta(1/2, 1/2)
    truncated to (rate, 1), in closed form; with u(k, n) the integral of
    ``t^(k-1/2) (1-t)^(n-k-1/2)`` from ``rate`` to 1,
    ``ln E = ln u(k, n) - ln u(0, 0) - k ln rate - (n - k) ln(1 - rate)``.

    Guarantee (Ville): if P(mismatch | past) <= rate at every audit, the probability that E ever
    reaches 1/alpha is at most alpha, at any stopping time. Never NaN: u is a tail that is computed
    in logarithms.

    Raises:
        FormatError: the rate is not between 0 and 1, or the counts are none.
    """
    if not 0.0 < rate < 1.0:
        raise FormatError(f"honest rate of {rate}, expected between 0 and 1")
    if not 0 <= mismatches <= audits:
        raise FormatError(f"{mismatches} mismatches in {audits} audits")
    matches = audits - mismatches
    tail = log_upper(rate, mismatches + _HALF, matches + _HALF)
    paid = mismatches * math.log(rate) + matches * math.log1p(-rate)
    return tail - log_upper(rate, _HALF, _HALF) - paid


def running(missed: Iterable[bool], rate: float) -> Iterator[float]:
    """Yield ``log_e`` after each audit; true stands for a mismatch."""
    mismatches = 0
    for audits, miss in enumerate(missed, 1):
        mismatches += miss
        yield log_e(mismatches, audits, rate)
