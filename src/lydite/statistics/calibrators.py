"""Between p-values and e-values: calibrators, and how much no calibrator can give.

A p-value p may be turned into an e-value only by a function that was fixed before p was seen and
whose integral over [0, 1] is at most one (Shafer and others, arXiv 0912.4269; Vovk and Wang, arXiv
1912.06116). Knows nothing of where a p-value comes from.
"""

import math

from lydite.errors import FormatError

_SMALL = 1e-2
"""Below this, powers of -ln p are summed: the closed form would cancel away."""


def log_power(p: float, kappa: float) -> float:
    """Return ``ln(kappa p^(kappa - 1))``, a calibrator for any fixed kappa in (0, 1).

    Guarantee: if P(p <= x) <= x for all x, the e-value is at most one on average.

    Raises:
        FormatError: p is not in (0, 1], or kappa not in (0, 1).
    """
    if not 0.0 < kappa < 1.0:
        raise FormatError(f"kappa of {kappa}, expected between 0 and 1")
    return math.log(kappa) + (1.0 - kappa) * _surprise(p)


def log_mixed(p: float) -> float:
    """Return the log of ``(1 - p + p ln p) / (p ln^2 p)``: ``log_power`` averaged over kappa.

    In terms of x = -ln p it is ``(e^x - 1 - x) / x^2``; 1/2 at p = 1. It depends on p alone, not
    on earlier p-values, and asks nobody to choose kappa. Same guarantee.

    Raises:
        FormatError: p is not in (0, 1].
    """
    x = _surprise(p)
    if x < _SMALL:
        return math.log(0.5 + x / 6 + x * x / 24 + x**3 / 120 + x**4 / 720)
    return x + math.log1p(-(1.0 + x) * math.exp(-x)) - 2.0 * math.log(x)


def log_most(p: float) -> float:
    """Return the log of ``-1 / (e p ln p)``, the most that any kappa gives; 0 from p = 1/e on.

    A bound, not an e-value: kappa would have to be chosen after p was seen (Sellke, Bayarri and
    Berger, 2001).

    Raises:
        FormatError: p is not in (0, 1].
    """
    x = _surprise(p)
    return x - 1.0 - math.log(x) if x > 1.0 else 0.0


def p_of(log_e: float) -> float:
    """Return ``min(1, 1/E)``, the only admissible way from an e-value to a p-value.

    Raises:
        FormatError: the logarithm is NaN.
    """
    if math.isnan(log_e):
        raise FormatError("an e-value that is not a number")
    return math.exp(min(0.0, -log_e))


def _surprise(p: float) -> float:
    """Return -ln p."""
    if not 0.0 < p <= 1.0:
        raise FormatError(f"p-value of {p}, expected above 0 and at most 1")
    return -math.log(p)
