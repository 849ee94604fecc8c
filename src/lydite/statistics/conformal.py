"""Evidence response by response, for scores whose tokens resemble their neighbours.

One number a response is ranked among those of an honest pool; the rank is a p-value, whatever the
distribution, if the response is exchangeable with the pool. That asks for **equal length and like
prompts**: score the first 128 tokens only (``first_tokens``), and compare within one stratum (one
kind of prompt and of sampling) only. Knows nothing of what a score measures; higher is worse.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.statistics import calibrators, ties

TOKENS = 128
"""Every response is scored on this many tokens, its first."""
LEAST_POOL = 200
"""Fewer honest responses than this rank nobody, whatever the level."""
_CHECKED_LEVEL = 1e-3
"""The level at which ``LEAST_POOL`` is enough."""
_PURPOSE = "conformal"


class Response(NamedTuple):
    """One response that is judged."""

    stratum: str
    """Which pool it belongs to."""
    score: int
    """In any fixed unit, as ``first_tokens`` makes it."""
    digest: bytes
    """32 bytes that break ties: see ``statistics.ties`` on whose they may be."""


def first_tokens(values_micro: Sequence[int], cap_micro: int) -> int:
    """Return the score of a response: the sum of its first 128 scores, each capped.

    A sum of as many integers ranks as their mean does, and is exact.

    Raises:
        UnavailableError: the response is shorter, so its score is not comparable
            (``Reason.TOO_SHORT``).
    """
    if len(values_micro) < TOKENS:
        raise UnavailableError(
            f"{len(values_micro)} tokens; responses are compared on {TOKENS}", Reason.TOO_SHORT
        )
    return sum(min(value, cap_micro) for value in values_micro[:TOKENS])


def pool_needed(level: float) -> int:
    """Return how many honest responses a pool needs to accuse at ``level``.

    200 at .001 and above, beyond that in proportion to the square of ln(1/level): the pool's own
    error tilts the odds by a factor exp(c ln^2(1/level) / n), which so stays what it is at .001.

    Raises:
        FormatError: the level is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise FormatError(f"level of {level}, expected between 0 and 1")
    ratio = math.log(level) / math.log(_CHECKED_LEVEL)
    return max(LEAST_POOL, math.ceil(LEAST_POOL * ratio * ratio - 1e-9))


def p_value(pool: Sequence[int], score: int, tie: float) -> float:
    """Return ``(#{pool > score} + tie (#{pool = score} + 1)) / (n + 1)`` for an ascending pool.

    Guarantee: exactly uniform if score and pool are exchangeable and ``tie`` is uniform.

    Raises:
        FormatError: the pool is empty, or the tie not strictly between 0 and 1.
    """
    if not pool or not 0.0 < tie < 1.0:
        raise FormatError("ranks need a pool, and ties a number between 0 and 1")
    below, until = bisect_left(pool, score), bisect_right(pool, score)
    above, equal = len(pool) - until, until - below
    return (above + tie * (equal + 1)) / (len(pool) + 1)


def log_steps(
    pools: Mapping[str, Sequence[int]], responses: Iterable[Response], level: float
) -> Iterator[float]:
    """Yield the log e-value of each response by itself, against the pool of its stratum.

    The e-value depends on the response's own p-value only. It must not adapt: p-values from one
    fixed pool depend on each other through the pool's error, which a bettor that learns from the
    past would learn, and convict honest providers of. Sums over responses may be watched at any
    time, and go through ``statistics.onset``.

    Guarantee: each step is an e-value, exactly. Their product would be an e-process if the pool
    were endless; with ``pool_needed`` responses the false accusations stay below the level in
    simulation (``tests/statistics/test_conformal.py``), which is evidence and not a proof.

    Raises:
        UnavailableError: a stratum has no pool (``Reason.UNCALIBRATED``), or too small a one for
            the level (``Reason.POOL_TOO_SMALL``).
    """
    needed = pool_needed(level)
    ranked: dict[str, list[int]] = {}
    for response in responses:
        if response.stratum not in ranked:
            ranked[response.stratum] = _pool(pools, response.stratum, needed)
        tie = ties.uniform(_PURPOSE, response.digest)
        yield calibrators.log_mixed(p_value(ranked[response.stratum], response.score, tie))


def log_e(pools: Mapping[str, Sequence[int]], responses: Iterable[Response], level: float) -> float:
    """Return the log of the product of what ``log_steps`` yields, 0 without a response."""
    return math.fsum(log_steps(pools, responses, level))


def running(
    pools: Mapping[str, Sequence[int]], responses: Iterable[Response], level: float
) -> Iterator[float]:
    """Yield ``log_e`` after each response."""
    return accumulate(log_steps(pools, responses, level))


def _pool(pools: Mapping[str, Sequence[int]], stratum: str, needed: int) -> list[int]:
    if stratum not in pools:
        raise UnavailableError(f"no honest pool for stratum {stratum}", Reason.UNCALIBRATED)
    pool = pools[stratum]
    if len(pool) < needed:
        raise UnavailableError(
            f"stratum {stratum} has {len(pool)} honest responses; this level takes {needed}",
            Reason.POOL_TOO_SMALL,
        )
    return sorted(pool)
