"""A provider who cheats on a share of the answers: a bet that most answers are honest.

One e-value over all tokens mixes the few bad answers into the many good ones and loses both. Here
each answer has an e-value of its own, and the bet on a share f stakes only f of the capital on
each: what an honest answer takes is bounded, what a bad one gives is kept. Pure arithmetic; knows
nothing of what an answer is.
"""

import math

from lydite.errors import FormatError
from lydite.statistics.merging import log_sum

SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
"""The shares that are bet on, each with an equal part of the capital."""


def log_steps(log_e: float) -> tuple[float, ...]:
    """Return for each of ``SHARES`` the log of ``1 - f + f E``, E the e-value of one answer.

    Sum them over answers, or let ``statistics.onset.running`` mix them over starts, then
    ``merging.log_mean`` them.

    Guarantee: if E is at most 1 on average given the past, so is every one of them, so that their
    products, and the average of those, reach 1/alpha with probability at most alpha, at any
    stopping time. E may be any e-value of one answer, averaged over channels, say.

    Raises:
        FormatError: the logarithm is NaN or plus infinity.
    """
    if math.isnan(log_e) or log_e == math.inf:
        raise FormatError("an answer's e-value is no finite number")
    return tuple(_log_step(log_e, share) for share in SHARES)


def _log_step(log_e: float, share: float) -> float:
    if share == 1.0:
        return log_e
    return log_sum([math.log1p(-share), math.log(share) + log_e])
