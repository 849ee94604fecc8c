"""A test of binned scores against a composite honest null, valid at any stopping time.

Each token falls into one of K bins. The null says only that, whatever happened before, bin b has
probability at most ``null[b]``; those ceilings come from several honest implementations and need
not sum to one. The bet on the next bin is a Dirichlet-multinomial forecast started near the null,
so that the product of all bets depends on the counts alone, and closed-form gammas replace a
loop over tokens. Knows nothing of how scores become bins.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from lydite.errors import FormatError
from lydite.statistics.merging import log_mean

BETTORS = ((10.0, 3.0), (100.0, 5.0), (1000.0, 10.0))
"""The three bettors: pseudo-counts that each puts on the null, and that it spreads evenly.

The first number says how slowly a bettor leaves the null. The second lets it gain from the first
unlikely token on, which a forecast at the null itself cannot; it halves the tokens to a verdict.
"""


def log_e(counts: Sequence[float], null: Sequence[float]) -> float:
    """Return the natural log of the e-value of ``counts[b]`` tokens in bin b.

    Counts that are only expected, as for ``statistics.sizing``, may be fractions.

    ``E = mean over (c, s) of prod_t q(b_t | past) / null(b_t)`` with
    ``q(b | past) = (c p(b) + s/K + count_b) / (c + s + t)`` and ``p = null / sum(null)``.

    Guarantee (Ville): if under the provider's implementation P(bin b | past) <= null[b] for every
    token and bin, then the probability that E ever reaches 1/alpha is at most alpha, at any
    stopping time. The price of ceilings that do not sum to one is ln(sum(null)) nats a token.

    Raises:
        FormatError: lengths differ, a count is negative, or a ceiling is not in (0, 1].
    """
    priors = _priors(null)
    if len(counts) != len(null):
        raise FormatError(f"{len(counts)} counts for {len(null)} bins")
    if any(count < 0 for count in counts):
        raise FormatError("a bin holds a negative number of tokens")
    paid = math.fsum(count * math.log(ceiling) for count, ceiling in zip(counts, null, strict=True))
    return log_mean([_log_forecast(counts, prior) for prior in priors]) - paid


def running(bins: Iterable[int], null: Sequence[float]) -> Iterator[float]:
    """Yield ``log_e`` after each token, for streams that are watched as they grow."""
    priors = _priors(null)
    totals = [math.fsum(prior) for prior in priors]
    counts = [0] * len(null)
    logs = [0.0] * len(priors)
    for seen, bin_ in enumerate(bins):
        for i, (prior, total) in enumerate(zip(priors, totals, strict=True)):
            forecast = (prior[bin_] + counts[bin_]) / (total + seen)
            logs[i] += math.log(forecast / null[bin_])
        counts[bin_] += 1
        yield log_mean(logs)


def count(edges: Sequence[int], values: Iterable[int]) -> tuple[int, ...]:
    """Return how many of ``values`` fall into each of the bins that begin at ``edges``.

    One bin more than there are edges: values below the first of them are in bin 0.
    """
    counted = [0] * (len(edges) + 1)
    for value, times in Counter(values).items():
        counted[bisect_right(edges, value)] += times
    return tuple(counted)


def suffixes(steps: Sequence[Sequence[int]], null: Sequence[float]) -> list[float]:
    """Return for each step ``log_e`` of the counts of that step and all later ones together."""
    totals = (0,) * len(null)
    logs = []
    for more in reversed(steps):
        totals = tuple(have + new for have, new in zip(totals, more, strict=True))
        logs.append(log_e(totals, null))
    return logs[::-1]


def _priors(null: Sequence[float]) -> list[list[float]]:
    """Return for each bettor its pseudo-counts in every bin."""
    if not null or not all(0.0 < ceiling <= 1.0 for ceiling in null):
        raise FormatError("every bin needs a ceiling above 0 and at most 1")
    total, size = math.fsum(null), len(null)
    return [[c * ceiling / total + s / size for ceiling in null] for c, s in BETTORS]


def _log_forecast(counts: Sequence[float], prior: Sequence[float]) -> float:
    """Return the log of the probability that a forecast gave to one order of ``counts``."""
    gained = math.fsum(
        math.lgamma(pseudo + count) - math.lgamma(pseudo)
        for pseudo, count in zip(prior, counts, strict=True)
        if count
    )
    total = math.fsum(prior)
    return gained - math.lgamma(total + sum(counts)) + math.lgamma(total)
