"""Margins that may be large for two honest reasons' sake: none, or a seed that nobody looked at.

An engine that ignores its seed chooses tokens without looking at the noise, so that the noise hits
the chosen token exactly as often as that token is probable. Where it hits more often, the seed was
used, and what its margins show is the model. Pure arithmetic; knows nothing of tokens.
"""

import math
from collections.abc import Sequence

from lydite.errors import FormatError
from lydite.statistics import bins, nearest, onset, shares
from lydite.statistics.merging import log_mean

MICRO = 1_000_000
BETS = (0.15, 0.3, 0.6, 0.9)
"""Stakes on more hits than chance gives."""


def log_e(hits_micro: Sequence[int]) -> float:
    """Return the log e-value of centred hits X in [-1, 1], given in millionths.

    ``E = mean over lambda of prod_t (1 + lambda X_t)``, lambda above zero.

    Guarantee (Ville): if E[X_t | past] <= 0 for every token, the probability that E ever reaches
    1/alpha is at most alpha, at any stopping time. Tokens that were chosen without looking at the
    noise have E[X_t | past] = 0, whatever chose them.

    Raises:
        FormatError: a score is outside [-1, 1].
    """
    if hits_micro and not -MICRO <= min(hits_micro) <= max(hits_micro) <= MICRO:
        raise FormatError("a centred hit lies outside -1 to 1")
    return log_mean(
        [math.fsum(math.log1p(bet * value / MICRO) for value in hits_micro) for bet in BETS]
    )


def log_e_either(
    answers: Sequence[Sequence[int]],
    hits_micro: Sequence[Sequence[int]],
    null: Sequence[float],
    cheats: Sequence[Sequence[float]] = (),
) -> float:
    """Return the log e-value against answers each of which is honest or has an ignored seed.

    ``answers[i][b]`` tokens of answer i have their margin in bin b, ``null`` and ``cheats`` are
    those of ``statistics.channel``; ``hits_micro[i]`` are the hits of answer i, empty where none
    were recorded: then its seed counts as used. For each bet on margins an answer has the smaller
    of that bet's e-value and of ``log_e`` of its hits; bet by bet these are mixed over shares of
    the answers and over starts, and averaged at the end.

    Guarantee (Ville): if every answer either has P(bin b | past) <= null[b] for every token, or was
    chosen without looking at the noise, in whatever order, the probability that E ever reaches
    1/alpha is at most alpha, at whichever answer one stops: the smaller of two e-values is one
    against both.

    Raises:
        FormatError: an answer has other bins than the null, or other lengths.
    """
    bets = [nearest.log_ratios(cheat, null) for cheat in cheats]
    runs: list[list[float]] = [[] for _ in range(len(bets) + 1)]
    for answer, hits in zip(answers, hits_micro, strict=True):
        used = log_e(hits) if hits else math.inf
        gains = [bins.log_e(answer, null), *(_gain(answer, bet) for bet in bets)]
        for run, gain in zip(runs, gains, strict=True):
            run.append(min(gain, used))
    return log_mean([_mixed(run) for run in runs])


def _gain(answer: Sequence[int], bet: Sequence[float]) -> float:
    return math.fsum(count * log for count, log in zip(answer, bet, strict=True))


def _mixed(logs: Sequence[float]) -> float:
    level = 0.0
    for reached in onset.running(shares.log_steps(log) for log in logs):
        level = reached
    return level
