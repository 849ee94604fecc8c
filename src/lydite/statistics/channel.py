"""One channel of binned scores: every way of betting on it, averaged into one e-value.

Three cheats need three bets: one that nobody measured, one that was measured, and either of them on
a share of the answers only. Knows nothing of what a bin means.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from lydite.errors import FormatError
from lydite.statistics import betting, bins, nearest, onset, shares, tails
from lydite.statistics.merging import log_average, log_mean


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


PARTS = (0.5, 0.125, 0.125, 0.125, 0.125)
"""How much of the capital is staked on each of ``shares.SHARES`` of the answers."""


def log_e_tails(
    answers: Sequence[Sequence[int]],
    null: Sequence[float],
    cheats: Sequence[Sequence[float]] = (),
    effect: float = 1.0,
) -> float:
    """Return the log e-value of ``answers[i][b]``, as ``log_e``, by bets only larger scores win.

    Each of the bets of ``wagers``, on each of ``shares.SHARES`` of the answers, is mixed over
    starts; they are averaged with the weights of the bet and of the share. Who cheats on some
    answers is found by one bet that stays the same from one bad answer to the next, so that the
    choice among bets is paid for once, not in every answer.

    Guarantee (Ville): if under the provider's implementation P(bin b or beyond | past) <= null[b]
    for every token and bin, and ``cheats`` were fixed beforehand, the probability that E ever
    reaches 1/alpha is at most alpha, at whichever token one stops. So with every ``effect``.

    Some honest answers are noisier throughout, and then the past of an answer tells of its next
    token. Where that widens sums of bets over honest answers ``effect`` times, as measured on them
    (``sizing.design_effect``), each token counts for one part in so many: a sum of mean -v/2 and
    variance v has an exponential of mean one if it is normal; with variance ``effect v`` its
    ``effect``-th part does. That is a correction of the first order, not a proof, and holds for
    answers about as long as those that it was measured on.

    Raises:
        FormatError: an answer has other bins than the null, a cheat is no distribution, or the
            effect is below one.
    """
    if any(len(answer) != len(null) for answer in answers):
        raise FormatError(f"an answer without the {len(null)} bins of the null")
    weights, bets = wagers(null, cheats)
    if not effect >= 1.0:
        raise FormatError(f"an effect of {effect}")
    gains = ([tails.gain(answer, bet) / effect for answer in answers] for bet in bets)
    parts = (onset.last(map(shares.log_steps, row), len(PARTS)) for row in gains)
    return log_average([log_average(part, PARTS) for part in parts], weights)


def wagers(
    null: Sequence[float], cheats: Sequence[Sequence[float]] = ()
) -> tuple[tuple[float, ...], tuple[tails.Factors, ...]]:
    """Return the weights and the factors of all bets that are placed against a survival function.

    Half is staked on what nobody measured (``tails.guesses``), half on those of ``cheats`` that are
    louder than honesty, in equal parts; all on the former where there are none of the latter.
    """
    guesses = tails.guesses(null)
    known = [bet for bet in (tails.on(cheat, null) for cheat in cheats) if any(bet)]
    half = 0.5 if known else 1.0
    staked = [half / len(guesses)] * len(guesses) + [half / len(known) for _ in known]
    return tuple(staked), (*guesses, *known)


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
