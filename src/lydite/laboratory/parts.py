"""Cheating on a share of the requests: how many it takes to find out, and how few could do.

The bound is Wald's: ``ln(1/alpha)`` over the growth of the best bet that knows the share, the cheat
and the nearest honest distribution, all of which the provider's judge does not know. Evidence so
strong that one bad answer is enough cannot go below the wait for that answer, so that the bet which
knows all is run on the same streams besides.
"""

import math
import random
import statistics
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.laboratory import wealth
from lydite.laboratory.judging import Kept
from lydite.laboratory.nulls import Null
from lydite.laboratory.streams import seed_of
from lydite.statistics import bins, channel, tails
from lydite.statistics.merging import log_sum
from lydite.statistics.nearest import smoothed

SHARE, RATE = 0.05, 0.05
"""Of the requests that are answered by the cheat, and of those that are audited."""
PART_ALPHAS = (0.005, 0.001, 0.0001)
CHEATS_IN_PART = ("smaller-model", "int4-weights", "int8-weights", "fp8-cache")
EVIDENCE = ("tokens/margin", "activations/sketch-2", "activations/sketch-4")
STREAMS, MOST_AUDITS = 60, 2000
_POOL = 400


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One cheat on 5 % of the requests, 5 % of which are audited."""

    cheat: str
    evidence: str
    alpha: float
    found: float
    """Share of the streams that are accused within ``MOST_AUDITS`` audits."""
    requests: float | None
    """Mean until the verdict, over streams; none if some are not accused."""
    knowing: float | None
    """The same for the bet that knows everything."""
    least: float | None
    """Wald's bound on the mean; none where the cheat looks honest."""
    ratio: float | None
    """``requests`` over the larger of ``least`` and ``knowing``."""


def mixed(honest: Sequence[Kept], cheap: Sequence[Kept], share: float, label: str) -> list[Kept]:
    """Return answers of which about ``share`` come from ``cheap``, as who mixes gives."""
    dice = random.Random(seed_of("mixed", label))
    size = min(_POOL, int(len(cheap) / share), int(len(honest) / (1 - share)))
    count = max(1, round(share * size))
    return dice.sample(cheap, count) + dice.sample(honest, size - count)


def measure(
    cheat: str, evidence: str, null: Null, honest: Sequence[Kept], cheap: Sequence[Kept]
) -> list[Part]:
    """Return how many requests it takes at each level, by the arithmetic of verdicts.

    ``null`` bets on every measured cheat, this one among them, from answers that are not judged.
    """
    known = {each.name: smoothed(each.counts) for each in null.binned.cheats}
    weights, bets = channel.wagers(null.survival, list(known.values()))
    bet = tails.on(known[cheat], null.survival)
    good, bad = (_gains(null, evidence, said, (*bets, bet)) for said in (honest, cheap))
    dice = random.Random(seed_of("parts", cheat, evidence))
    streams = [
        np.array([dice.choice(bad if dice.random() < SHARE else good) for _ in range(MOST_AUDITS)])
        for _ in range(STREAMS)
    ]
    growth = (1 - SHARE) * _growth(good[:, -1]) + SHARE * _growth(bad[:, -1])
    ours = [_first(wealth.of_gains(stream[:, :-1], weights)) for stream in streams]
    knowing = [_first(_known(stream[:, -1])) for stream in streams]
    return [
        _part(cheat, evidence, place, growth, ours, knowing) for place in range(len(PART_ALPHAS))
    ]


def _gains(
    null: Null, evidence: str, said: Sequence[Kept], bets: Sequence[tails.Factors]
) -> NDArray[np.float64]:
    """Return what each answer makes of each bet; shape (answers, bets)."""
    edges = null.binned.edges
    counts = np.array([bins.count(edges, each.scores[evidence]) for each in said])
    gains: NDArray[np.float64] = counts @ np.array(bets).T / null.effect()
    return gains


def _known(gains: NDArray[np.float64]) -> Iterator[float]:
    total = 0.0
    for gain in gains.tolist():
        total += _step(gain)
        yield total


def _step(gain: float) -> float:
    return log_sum([math.log1p(-SHARE), math.log(SHARE) + gain])


def _growth(gains: NDArray[np.float64]) -> float:
    return statistics.fmean(map(_step, gains.tolist()))


def _first(logs: Iterator[float]) -> list[int | None]:
    found: list[int | None] = []
    for number, log in enumerate(logs, 1):
        while len(found) < len(PART_ALPHAS) and log >= -math.log(PART_ALPHAS[len(found)]):
            found.append(number)
        if len(found) == len(PART_ALPHAS):
            break
    return found + [None] * (len(PART_ALPHAS) - len(found))


def _part(
    cheat: str,
    evidence: str,
    place: int,
    growth: float,
    ours: Sequence[Sequence[int | None]],
    knowing: Sequence[Sequence[int | None]],
) -> Part:
    alpha = PART_ALPHAS[place]
    needed, ideal = _mean([each[place] for each in ours]), _mean([e[place] for e in knowing])
    least = -math.log(alpha) / growth / RATE if growth > 0 else None
    bound = max(least or 0.0, ideal or 0.0)
    return Part(
        cheat=cheat,
        evidence=evidence,
        alpha=alpha,
        found=sum(each[place] is not None for each in ours) / len(ours),
        requests=needed,
        knowing=ideal,
        least=least,
        ratio=needed / bound if needed and bound else None,
    )


def _mean(audits: Sequence[int | None]) -> float | None:
    known = [each for each in audits if each is not None]
    return statistics.fmean(known) / RATE if len(known) == len(audits) else None
