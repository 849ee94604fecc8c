"""The honest null of several implementations at once: in every bin, the highest of their rates.

One implementation alone as the null convicts every other honest one, only later. So a null is the
worst of those that are accepted, each with the error of its own calibration. Knows nothing of
models or of what a bin means.
"""

from collections.abc import Sequence

from lydite.errors import FormatError
from lydite.messages.calibration import Binned, Histogram
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
    edges = channel.edges
    if list(edges) != sorted(set(edges)) or not channel.histograms:
        raise FormatError("reference: edges must ascend, and some implementation must be there")
    z = rates.quantile(error_ppm / 1e6, bins * len(channel.histograms))
    columns = zip(*(_ceilings(one, bins, z) for one in channel.histograms), strict=True)
    return tuple(max(column) for column in columns)


def log_e(channel: Binned, answers: Sequence[Sequence[int]], null: Sequence[float]) -> float:
    """Return the log e-value of ``answers[i][b]`` scores of answer i in bin b: all bets averaged.

    ``null`` is what ``ceilings`` made of the channel; the guarantee is that of
    ``statistics.channel``, whose bets on named cheats are those on ``channel.cheats``.

    Raises:
        FormatError: an answer or a cheat has other bins than the null.
    """
    return betting.log_e(answers, null, [smoothed(cheat.counts) for cheat in channel.cheats])


def _ceilings(histogram: Histogram, bins: int, z: float) -> list[float]:
    rows = (histogram.counts, histogram.counts_squared, histogram.crosses)
    if any(len(row) != bins for row in rows):
        raise FormatError(f"reference: {histogram.name} does not have {bins} bins")
    if sum(histogram.counts) != histogram.tokens:
        raise FormatError(f"reference: the bins of {histogram.name} do not sum to its tokens")
    head = (histogram.responses, histogram.tokens, histogram.tokens_squared)
    clusters = (rates.Clusters(*head, *row) for row in zip(*rows, strict=True))
    return [rates.ceiling(cluster, bins, z) for cluster in clusters]
