"""One channel of binned scores: every way of betting on it, averaged into one e-value.

Three cheats need three bets: one that nobody measured, one that was measured, and either of them on
a share of the answers only. Knows nothing of what a bin means.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from lydite.errors import FormatError
from lydite.statistics import betting, bins, nearest, onset, shares
from lydite.statistics.merging import log_mean


def log_e(
    answers: Sequence[Sequence[int]],
    null: Sequence[float],
    cheats: Sequence[Sequence[float]] = (),
) -> float:
    """Return the log e-value of ``answers[i][b]`` tokens of answer i in bin b, in log order.

    The average, with equal weights, of up to three, each mixed over starts (``statistics.onset``):

    1. ``bins`` over all tokens, which learns what nobody measured;
    2. fixed bets on the histograms ``cheats`` (``nearest``), if there are any;
    3. bets on a share of the answers (``shares``), where an answer's own e-value is the average of
       what 1 and 2 make of it alone.

    Guarantee (Ville): if under the provider's implementation P(bin b | past) <= null[b] for every
    token and bin, and ``cheats`` were fixed beforehand, the probability that E ever reaches 1/alpha
    is at most alpha, at whichever answer one stops. It costs ln 3 nats against the best of them.

    Raises:
        FormatError: an answer has other bins than the null, or a cheat is no distribution.
    """
    if any(len(answer) != len(null) for answer in answers):
        raise FormatError(f"an answer without the {len(null)} bins of the null")
    bets = [nearest.log_ratios(cheat, null) for cheat in cheats]
    gains = [[_gain(answer, bet) for bet in bets] for answer in answers]
    parts = [
        onset.log_mixture(bins.suffixes(answers, null)),
        _last(
            shares.log_steps(log_mean([bins.log_e(answer, null), *gain]))
            for answer, gain in zip(answers, gains, strict=True)
        ),
    ]
    return log_mean([*parts, _last(iter(gains))] if bets else parts)


def log_e_centred(answers: Sequence[Sequence[int]], drift_micro: int) -> float:
    """Return the log e-value of the centred scores of answers, in millionths, in log order.

    The average, with equal weights, of two, each mixed over starts: ``betting`` over all tokens,
    and bets on a share of the answers (``shares``), with the e-value that each answer has alone.

    Guarantee (Ville): if |E[X_t | past]| <= drift for every token, the probability that E ever
    reaches 1/alpha is at most alpha, at whichever answer one stops. It costs ln 2 nats against the
    better of them.

    Raises:
        FormatError: a score is outside -1 to 1, or the drift outside [0, 1/2].
    """
    wealths = [_wealths(tuple(answer), drift_micro) for answer in answers]
    alone = (shares.log_steps(log_mean(wealth)) for wealth in wealths)
    return log_mean([_last(iter(wealths)), _last(alone)])


@lru_cache(maxsize=1 << 14)
def _wealths(answer: tuple[int, ...], drift_micro: int) -> tuple[float, ...]:
    """Return ``betting.log_wealths``: a log that grows is judged from its start again and again."""
    return betting.log_wealths(answer, drift_micro)


def _gain(answer: Sequence[int], bet: Sequence[float]) -> float:
    return sum(count * log for count, log in zip(answer, bet, strict=True) if count)


def _last(steps: Iterator[Sequence[float]]) -> float:
    levels = list(onset.running(steps))
    return levels[-1] if levels else 0.0
