"""The honest null of several implementations at once: the highest of their rates.

In every bin, for bets that learn (``ceilings``), or in every tail, for bets that only larger scores
win (``tails``).
One implementation alone as the null convicts every other honest one, only later. So a null is the
worst of those that are accepted, each with the error of its own calibration. Knows nothing of
models or of what a bin means.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

from lydite.errors import FormatError
from lydite.messages.calibration import BY_BINS, Binned, Histogram, Method
from lydite.statistics import channel as betting
from lydite.statistics import rates
from lydite.statistics.nearest import smoothed


def ceilings(channel: Binned, bins: int, error_ppm: int) -> tuple[float, ...]:
    """Return for each of ``bins`` bins the highest rate that an honest implementation may have.

    The maximum over the implementations, each raised by its clustered calibration error; all of
    these bounds hold together but with probability ``error_ppm`` millionths. Not renormalised.

    Raises:
        FormatError: the edges do not ascend, no implementation is there, or a histogram does not
            have as many bins, or bins that do not sum to its tokens.
    """
    _check(channel)
    z = rates.quantile(error_ppm / 1e6, bins * len(channel.histograms))
    columns = zip(*(_ceilings(one, bins, z) for one in channel.histograms), strict=True)
    return tuple(max(column) for column in columns)


def tails(channel: Binned, bins: int, error_ppm: int) -> tuple[float, ...]:
    """Return for each of ``bins`` bins how many honest scores may lie in it or beyond: a survival.

    The maximum over the implementations of the rate of each tail, raised by its clustered
    calibration error, as for ``ceilings``; then the smallest function above that which never rises.
    What ``statistics.tails`` bets against. A histogram without the squares of its tails has their
    error bounded by the sum of those of its bins, on whichever side of the edge that is less.

    Raises:
        FormatError: as ``ceilings``.
    """
    _check(channel)
    z = rates.quantile(error_ppm / 1e6, bins * len(channel.histograms))
    columns = zip(*(_tails(one, bins, z) for one in channel.histograms), strict=True)
    highest = list(accumulate((max(column) for column in reversed(list(columns))), max))
    return (1.0, *reversed(highest))


def log_e(channel: Binned, answers: Sequence[Sequence[int]], null: Sequence[float]) -> float:
    """Return the log e-value of ``answers[i][b]`` scores of answer i in bin b: all bets averaged.

    ``null`` is what ``ceilings`` made of the channel; the guarantee is that of
    ``statistics.channel``, whose bets on named cheats are those on ``channel.cheats``.

    Raises:
        FormatError: an answer or a cheat has other bins than the null.
    """
    return betting.log_e(answers, null, [smoothed(cheat.counts) for cheat in channel.cheats])


def log_e_tails(channel: Binned, answers: Sequence[Sequence[int]], null: Sequence[float]) -> float:
    """Return the same by bets that only larger scores win, ``null`` being what ``tails`` made.

    Raises:
        FormatError: an answer or a cheat has other bins than the null.
    """
    cheats = [smoothed(cheat.counts) for cheat in channel.cheats]
    return betting.log_e_tails(answers, null, cheats, effect(channel))


def effect(channel: Binned) -> float:
    """Return by how much answers differ beyond what their tokens explain: the worst of all."""
    return max(one.effect_milli for one in channel.histograms) / 1000


def log_e_by(
    method: Method, channel: Binned, answers: Sequence[Sequence[int]], bins: int, error_ppm: int
) -> float:
    """Return the log e-value by the arithmetic that a policy names, against the null of that.

    Raises:
        FormatError: as ``ceilings``, or an answer or a cheat has other bins.
    """
    if method == BY_BINS:
        return log_e(channel, answers, ceilings(channel, bins, error_ppm))
    return log_e_tails(channel, answers, tails(channel, bins, error_ppm))


def _check(channel: Binned) -> None:
    edges = channel.edges
    if list(edges) != sorted(set(edges)) or not channel.histograms:
        raise FormatError("reference: edges must ascend, and some implementation must be there")


def _tails(histogram: Histogram, bins: int, z: float) -> list[float]:
    """Return an upper bound on the rate of each tail of one implementation, but for the whole."""
    clusters = _clusters(histogram, bins)
    errors = [one.standard_error() for one in clusters]
    squares = histogram.tails_squared
    if squares and len(squares) != bins:
        raise FormatError(f"reference: {histogram.name} does not have {bins} tails")
    found = []
    for k in range(1, bins):
        inside, cross = (sum(getattr(one, n) for one in clusters[k:]) for n in ("inside", "cross"))
        tail = clusters[k]._replace(inside=inside, cross=cross)
        if squares:
            error = tail._replace(inside_squared=squares[k]).standard_error()
        else:
            error = min(math.fsum(errors[:k]), math.fsum(errors[k:]))
        found.append(rates.raised(tail, 2, z * error))
    return found


def _ceilings(histogram: Histogram, bins: int, z: float) -> list[float]:
    return [rates.ceiling(cluster, bins, z) for cluster in _clusters(histogram, bins)]


def _clusters(histogram: Histogram, bins: int) -> list[rates.Clusters]:
    rows = (histogram.counts, histogram.counts_squared, histogram.crosses)
    if any(len(row) != bins for row in rows):
        raise FormatError(f"reference: {histogram.name} does not have {bins} bins")
    if sum(histogram.counts) != histogram.tokens:
        raise FormatError(f"reference: the bins of {histogram.name} do not sum to its tokens")
    head = (histogram.responses, histogram.tokens, histogram.tokens_squared)
    return [rates.Clusters(*head, *row) for row in zip(*rows, strict=True)]
