"""Betting on centred scores: whether a bounded score has mean zero, whatever came before.

The scores are integers in millionths, so that anyone recomputes the same e-value from a record.
Knows nothing of what a score measures.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

from lydite.errors import FormatError
from lydite.statistics.merging import log_mean

MICRO = 1_000_000
BETS = (0.07, 0.15, 0.3, 0.6, -0.07, -0.15, -0.3, -0.6)
"""Stakes: the share of the capital that each bettor risks on a score of one."""


def log_e(values_micro: Sequence[int], drift_micro: int) -> float:
    """Return the natural log of the e-value of scores X in [-1, 1], given in millionths.

    ``E = mean over lambda of prod_t (1 + lambda X_t - |lambda| drift)``.

    Guarantee (Ville): if |E[X_t | past]| <= drift for every token, the probability that E ever
    reaches 1/alpha is at most alpha, at any stopping time. With drift 0 this asks for an exactly
    centred score; the drift pays for honest implementations that differ in the last digits, whose
    bias would otherwise convict beyond some 10^4 tokens.

    Raises:
        FormatError: a score is outside [-1, 1], or the drift outside [0, 1/2].
    """
    return log_mean(log_wealths(values_micro, drift_micro))


def log_wealths(values_micro: Sequence[int], drift_micro: int) -> tuple[float, ...]:
    """Return the log of what each of ``BETS`` makes of the scores.

    Those of several runs add up to those of all their scores; ``log_mean`` of them is ``log_e``.

    Raises:
        FormatError: a score is outside [-1, 1], or the drift outside [0, 1/2].
    """
    _check(values_micro, drift_micro)
    return tuple(_log_wealth(values_micro, drift_micro, bet) for bet in BETS)


def running(values_micro: Iterable[int], drift_micro: int) -> Iterator[float]:
    """Yield ``log_e`` after each token, for streams that are watched as they grow."""
    logs = [0.0] * len(BETS)
    for value in values_micro:
        _check((value,), drift_micro)
        for i, bet in enumerate(BETS):
            logs[i] += _log_wealth((value,), drift_micro, bet)
        yield log_mean(logs)


def _log_wealth(values_micro: Sequence[int], drift_micro: int, bet: float) -> float:
    toll = abs(bet) * drift_micro
    return math.fsum(math.log1p((bet * value - toll) / MICRO) for value in values_micro)


def _check(values_micro: Sequence[int], drift_micro: int) -> None:
    if not 0 <= drift_micro <= MICRO // 2:
        raise FormatError(f"drift of {drift_micro} millionths, expected 0 to {MICRO // 2}")
    if values_micro and not -MICRO <= min(values_micro) <= max(values_micro) <= MICRO:
        raise FormatError("a centred score lies outside -1 to 1")
