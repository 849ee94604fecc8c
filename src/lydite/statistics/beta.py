"""The incomplete Beta function in logarithms, where neither tail underflows.

By Lentz's evaluation of its continued fraction (DLMF 8.17.22). Knows nothing of what it is for.
"""

import math

from lydite.errors import FormatError

_TINY = 1e-300
_CLOSE = 1e-15
_MOST_STEPS = 200_000


def log_upper(x: float, a: float, b: float) -> float:
    """Return the log of the integral of ``t^(a-1) (1-t)^(b-1)`` from x to 1; -inf at x = 1.

    Relative error about 1e-13 of ``lgamma(a + b)``; a and b up to about 1e9.

    Raises:
        FormatError: x is outside [0, 1], or a or b not positive and finite.
    """
    if not (0.0 <= x <= 1.0 and 0.0 < a < math.inf and 0.0 < b < math.inf):
        raise FormatError(f"incomplete Beta function of {x}, {a}, {b}")
    whole = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    if x in (0.0, 1.0):
        return whole if x == 0.0 else -math.inf
    front = a * math.log(x) + b * math.log1p(-x)
    if x * (a + b + 2.0) > a + 1.0:  # the tail itself converges, however small it is
        return front - math.log(b) + math.log(_fraction(1.0 - x, b, a))
    rest = front - math.log(a) + math.log(_fraction(x, a, b)) - whole
    return whole + math.log1p(-min(math.exp(rest), 1.0 - _CLOSE))


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of I_x(a, b), which converges where x < (a+1) / (a+b+2)."""
    c, d = 1.0, _inverse(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _MOST_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        change = 1.0
        for term in (even, odd):
            d = _inverse(1.0 + term * d)
            c = 1.0 + term / c
            c = c if abs(c) > _TINY else _TINY
            change = c * d
            value *= change
        if abs(change - 1.0) < _CLOSE:
            return value
    raise FormatError("incomplete Beta function: counts beyond what it converges for")


def _inverse(value: float) -> float:
    return 1.0 / (value if abs(value) > _TINY else _TINY)
