"""Scores between 0 and 1, tested for a mean above what honesty explains.

The scores are integers in millionths, so that anyone recomputes the same e-value from a record.
Knows nothing of what a score measures.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from lydite.errors import FormatError
from lydite.statistics.merging import log_mean

MICRO = 1_000_000
STAKES = tuple((2 + 4 * i) / 100 for i in range(25))
"""lambda times the honest mean: 25 evenly spaced from .02 to .98, equally weighted."""


def log_e(values_micro: Sequence[int], mean_micro: int) -> float:
    """Return the log e-value of scores X in [0, 1], given in millionths.

    ``E = mean over lambda of prod_t (1 + lambda (X_t - m))``, m the honest mean.

    Guarantee (Ville): if E[X_t | past] <= m at every step, the probability that E ever reaches
    1/alpha is at most alpha, at any stopping time. m is an upper confidence bound from calibration,
    whose own error adds to alpha.

    Source: Waudby-Smith and Ramdas, arXiv 2010.09686 (betting, a grid of bets).

    Raises:
        FormatError: a score is outside [0, 1], or the mean outside (0, 1].
    """
    return log_mean(log_wealths(values_micro, mean_micro))


def log_wealths(values_micro: Sequence[int], mean_micro: int) -> tuple[float, ...]:
    """Return the log of what each of ``STAKES`` makes of the scores.

    Those of several runs add up, and are steps for ``statistics.onset.running``.

    Raises:
        FormatError: a score is outside [0, 1], or the mean outside (0, 1].
    """
    if not 0 < mean_micro <= MICRO:
        raise FormatError(f"honest mean of {mean_micro} millionths, expected above 0 to {MICRO}")
    if values_micro and not 0 <= min(values_micro) <= max(values_micro) <= MICRO:
        raise FormatError("a bounded score lies outside 0 to 1")
    counted = sorted(Counter(values_micro).items())
    gains = [(value / mean_micro - 1.0, times) for value, times in counted]
    return tuple(math.fsum(n * math.log1p(stake * gain) for gain, n in gains) for stake in STAKES)


def running(values_micro: Iterable[int], mean_micro: int) -> Iterator[float]:
    """Yield ``log_e`` after each score, for streams that are watched as they grow."""
    logs = [0.0] * len(STAKES)
    for value in values_micro:
        steps = log_wealths((value,), mean_micro)
        logs = [log + step for log, step in zip(logs, steps, strict=True)]
        yield log_mean(logs)
