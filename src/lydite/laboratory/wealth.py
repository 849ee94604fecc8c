"""What streams of scores are worth token by token, by the very arithmetic of verdicts, in arrays.

``statistics.channel`` says what a log of answers is worth; here the same number is followed inside
of answers too, for all bets at once, as thousands of streams are watched. A test holds the two
together. Knows nothing of cheats or of who made the scores.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lydite.statistics import betting, channel
from lydite.statistics.shares import SHARES

Floats = NDArray[np.float64]
_SHARES, _PARTS = np.array(SHARES), np.array(channel.PARTS)
with np.errstate(divide="ignore"):
    _RESTS = np.log1p(-_SHARES)


def binned(
    answers: Sequence[NDArray[np.int64]],
    null: Sequence[float],
    cheats: Sequence[Sequence[float]] = (),
    effect: float = 1.0,
) -> Iterator[Floats]:
    """Yield for each answer ``channel.log_e_tails`` after each of its tokens, given their bins."""
    weights, bets = channel.wagers(null, cheats)
    table = np.array(bets).T / effect
    staked = np.log(np.outer(weights, _PARTS))
    logs = np.full(staked.shape, -math.inf)
    for number, places in enumerate(answers, 1):
        logs, levels = _shared(logs, np.cumsum(table[places], axis=0), staked, number)
        yield levels


def of_gains(gains: Floats, weights: Sequence[float]) -> Iterator[float]:
    """Yield ``channel.log_e_tails`` after each answer, from what it makes of each bet.

    ``gains`` has shape (answers, bets); ``weights`` are those of the bets.
    """
    staked = np.log(np.outer(weights, _PARTS))
    logs = np.full(staked.shape, -math.inf)
    for number, gain in enumerate(gains, 1):
        logs, levels = _grown(logs, _on_shares(gain)[None], staked, number)
        yield float(levels[0])


def centred(answers: Sequence[NDArray[np.int64]], drift_micro: int) -> Iterator[Floats]:
    """Yield for each answer ``channel.log_e_centred`` after each of its tokens."""
    bets = np.array(betting.BETS)
    tolls = np.abs(bets) * drift_micro
    count = len(bets) + len(SHARES)
    staked = np.log([0.5 / len(bets)] * len(bets) + [0.5 / len(SHARES)] * len(SHARES))
    logs = np.full(count, -math.inf)
    for number, values in enumerate(answers, 1):
        gains = np.cumsum(np.log1p((np.outer(values, bets) - tolls) / betting.MICRO), axis=0)
        alone = _log_sum(gains - math.log(len(bets)))
        steps = np.concatenate([gains, _on_shares(alone)], axis=1)
        logs, levels = _grown(logs, steps, staked, number)
        yield levels


def _shared(logs: Floats, gains: Floats, staked: Floats, number: int) -> tuple[Floats, Floats]:
    """Return what ``_grown`` does of the gains' shares, at the cost of one sum for all shares.

    A share s of a bet is worth ``1 - s + s e^gain``, so its rest is the same after every token.
    """
    begun = np.logaddexp(logs, -math.log(number * (number + 1)))
    resting = _log_sum((begun + staked + _RESTS)[None])
    at_stake = _log_sum(begun + staked + np.log(_SHARES))
    rests = np.broadcast_to(resting, (len(gains), 1))
    levels = _log_sum(np.concatenate([rests, gains + at_stake], axis=1))
    after = begun + _on_shares(gains[-1]) if len(gains) else begun
    return after, np.logaddexp(levels, -math.log(number + 1))


def _grown(logs: Floats, steps: Floats, staked: Floats, number: int) -> tuple[Floats, Floats]:
    """Return what the bets have after answer ``number``, and their mixture after each token."""
    begun = np.logaddexp(logs, -math.log(number * (number + 1)))
    paths = begun + steps
    levels = np.logaddexp(_log_sum(paths + staked), -math.log(number + 1))
    return (paths[-1] if len(paths) else begun), levels


def _on_shares(gains: Floats) -> Floats:
    """Return ``shares.log_steps`` of each gain, in a new last axis."""
    steps: Floats = np.logaddexp(_RESTS, np.log(_SHARES) + gains[..., None])
    return steps


def _log_sum(logs: Floats) -> Floats:
    """Return the log of the sum over all but the first axis."""
    flat = logs.reshape(len(logs), math.prod(logs.shape[1:]))
    top = flat.max(axis=1)
    total: Floats = top + np.log(np.exp(flat - top[:, None]).sum(axis=1))
    return total
