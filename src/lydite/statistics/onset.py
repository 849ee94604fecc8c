"""Evidence whose beginning nobody knows: a mixture of e-values over every start.

An honest past shrinks an e-value that runs over all of it, so that whoever was honest long enough
could cheat as long again before it grows. Mixed over starts, a past costs the logarithm of its
length instead. Pure arithmetic; knows nothing of what the steps are.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

from lydite.errors import FormatError
from lydite.statistics.merging import log_add, log_mean, log_sum


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


def running(steps: Iterable[Sequence[float]]) -> Iterator[float]:
    """Yield ``log_mixture`` after each step for fixed bets, in constant time a step.

    Each step holds the log of one e-value a bettor, always the same bettors, none of whom changes
    the bet: as ``betting.log_wealths``, ``bounded.log_wealths`` or ``shares.log_steps`` give them.
    ``A_t = (A_(t-1) + 1 / (t (t + 1))) e_t``, ``M_t = A_t + 1 / (t + 1)``, averaged over bettors.
    Same guarantee: averages and mixtures may change places.

    Raises:
        FormatError: no bettor, another number of them than before, or NaN.
    """
    logs: list[float] = []
    for t, step in enumerate(steps, 1):
        logs = logs or [-math.inf] * len(step)
        if not step or len(step) != len(logs):
            raise FormatError(f"{len(step)} bettors, {len(logs)} before")
        prior = -math.log(t * (t + 1))
        logs = [log_sum([log, prior]) + gain for log, gain in zip(logs, step, strict=True)]
        yield log_sum([log_mean(logs), -math.log(t + 1)])


def last(steps: Iterable[Sequence[float]], bettors: int) -> list[float]:
    """Return ``ln M_t`` of each bettor of ``running`` by itself, after the last step; 0 before any.

    A weighted average of them is the mixture of the average: weights and starts may change places.

    Raises:
        FormatError: another number of bettors than said.
    """
    logs, count = [-math.inf] * bettors, 0
    for step in steps:
        count += 1
        prior = -math.log(count * (count + 1))
        if len(step) != bettors:
            raise FormatError(f"{len(step)} bettors, not {bettors}")
        logs = [log_add(log, prior) + gain for log, gain in zip(logs, step, strict=True)]
    return [log_add(-math.log(count + 1), log) for log in logs]
