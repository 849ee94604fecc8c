"""How much evidence a verdict takes, before and when it is given: by arithmetic, not by resampling.

From the histogram of a cheat and the null: the tokens by which 90 % of such cheats would have been
accused, and the fewest that any method could need on the same counts. Whoever saw fewer has learnt
nothing from silence. Knows nothing of which cheats there are.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

from lydite.errors import FormatError
from lydite.statistics import bins
from lydite.statistics.nearest import divergence, log_ratios

MOST = 10**9
"""More than this is answered by None: never."""


_ROUNDING = 1e-20
"""Squares of differences between logarithms below this are those of equal ones."""


class Goal(NamedTuple):
    """What a channel's e-value has to reach, and how surely."""

    log_level: float
    """ln(1/alpha), in nats."""
    power: float = 0.9
    weight: float = 1.0
    """The channel's share in the average: it costs ln(1/weight)."""
    onset: int | None = None
    """Honest steps before the cheat began, for ``statistics.onset``; None without that mixture."""

    def nats(self) -> float:
        """Return the log e-value that the channel by itself has to reach.

        Raises:
            FormatError: a number that makes no sense.
        """
        sound = self.log_level > 0.0 and 0.0 < self.power < 1.0 and 0.0 < self.weight <= 1.0
        if not sound or (self.onset is not None and self.onset < 0):
            raise FormatError(f"not a goal: {self}")
        prior = 0.0 if self.onset is None else math.log((self.onset + 1) * (self.onset + 2))
        return self.log_level - math.log(self.weight) + prior


def least(goal: Goal, nats_each: float) -> float:
    """Return ``ln(1/alpha) / KL``: what an ideal test needs on average; infinite for 0 nats.

    By Wald's identity no sequential test of level alpha that accuses every such cheat needs fewer
    on average. Print sizes as a ratio to it: they say how far a method is from what is there.
    """
    goal.nats()
    return goal.log_level / nats_each if nats_each > 0.0 else math.inf


def needed(gain: Callable[[int], float], variance: float, goal: Goal) -> int | None:
    """Return the smallest m with ``gain(m) - z sqrt(m variance) >= goal.nats()``, or None.

    ``gain(m)`` is the log e-value to expect from m observations, ``variance`` that of one
    observation's logarithm, z the normal quantile of the power. None beyond a thousand million.

    Raises:
        FormatError: not a goal, or a variance that is negative or not a number.
    """
    if not variance >= 0.0:
        raise FormatError(f"variance of {variance}")
    nats, z = goal.nats(), NormalDist().inv_cdf(goal.power)

    def reached(m: int) -> bool:
        return gain(m) - z * math.sqrt(m * variance) >= nats

    high = 1
    while not reached(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def learnt(
    alternative: Sequence[float], null: Sequence[float], goal: Goal, effect: float = 1.0
) -> int | None:
    """Return by how many tokens ``statistics.bins``, which learns the cheat, accuses it.

    The gain is that of the counts to expect, so that the price of learning and of ceilings that
    do not sum to one is the real one. ``effect``: see ``design_effect``. A cheat that hides below
    the ceilings is never found: None.

    Raises:
        FormatError: not a distribution, not ceilings, or not a goal.
    """
    logs = _logs(alternative, null)
    paid = math.fsum(q * log for q, log in zip(alternative, logs, strict=True))
    if paid <= 0.0:
        return None

    def gain(m: int) -> float:
        return bins.log_e([m * q for q in alternative], null)

    return needed(gain, effect * _variance(alternative, logs), goal)


def wagered(
    alternative: Sequence[float], null: Sequence[float], goal: Goal, effect: float = 1.0
) -> int | None:
    """Return by how many tokens a fixed bet on this very cheat accuses it (``statistics.nearest``).

    Raises:
        FormatError: not a distribution without gaps, not ceilings, or not a goal.
    """
    logs = log_ratios(alternative, null)
    nats = divergence(alternative, null)
    return needed(lambda m: m * nats, effect * _variance(alternative, logs), goal)


def audits(missed: float, rate: float, goal: Goal) -> int | None:
    """Return by how many audits ``statistics.mismatch`` accuses who misses a share ``missed``.

    Gain ``m KL(missed, rate) - ln(m)/2 - 1/2``: what its mixture costs. Whoever cheats on a share f
    and is seen with power beta misses ``f beta + (1 - f) rate``. None if not above the honest rate.

    Raises:
        FormatError: rates that are not between 0 and 1, or not a goal.
    """
    if not (0.0 < rate < 1.0 and 0.0 < missed < 1.0):
        raise FormatError(f"rates of {missed} and {rate}, expected between 0 and 1")
    if missed <= rate:
        return None
    up, down = math.log(missed / rate), math.log1p(-missed) - math.log1p(-rate)
    nats = missed * up + (1.0 - missed) * down
    variance = missed * (1.0 - missed) * (up - down) ** 2
    return needed(lambda m: m * nats - math.log(m) / 2 - 0.5, variance, goal)


def design_effect(responses: Sequence[Sequence[int]], logs: Sequence[float]) -> float:
    """Return by how much clustering widens the sum of ``logs[bin]`` over tokens; at least 1.

    ``responses[r][b]``: tokens of response r in bin b. The variance of sums over responses, against
    that of as many independent tokens.

    Raises:
        FormatError: fewer than two responses, other bins than logs, or no tokens.
    """
    if len(responses) < 2 or any(len(row) != len(logs) for row in responses):
        raise FormatError("a design effect needs two responses with counts in the same bins")
    totals = [sum(column) for column in zip(*responses, strict=True)]
    tokens = sum(totals)
    if tokens <= 0:
        raise FormatError("no tokens")
    mean = _dot(totals, logs) / tokens
    apart = [log - mean for log in logs]
    clustered = math.fsum(_dot(row, apart) ** 2 for row in responses)
    alone = _dot(totals, [difference**2 for difference in apart])
    scale = len(responses) / (len(responses) - 1)
    return max(1.0, scale * clustered / alone) if alone > _ROUNDING * tokens else 1.0


def _dot(counts: Sequence[int], logs: Sequence[float]) -> float:
    return math.fsum(count * log for count, log in zip(counts, logs, strict=True))


def _logs(alternative: Sequence[float], null: Sequence[float]) -> list[float]:
    """Return ``ln(alternative / null)``, 0 where the alternative never is."""
    divergence(alternative, null)  # refuses what is no distribution or no ceilings
    pairs = zip(alternative, null, strict=True)
    return [math.log(q / ceiling) if q > 0.0 else 0.0 for q, ceiling in pairs]


def _variance(alternative: Sequence[float], logs: Sequence[float]) -> float:
    pairs = list(zip(alternative, logs, strict=True))
    mean = math.fsum(q * log for q, log in pairs)
    return math.fsum(q * (log - mean) ** 2 for q, log in pairs)
