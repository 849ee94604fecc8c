"""Bets that only larger scores win: fair to every provider whose scores are no larger than honest.

The null is a survival function: whatever happened before, the next score lies in bin k or beyond
with probability at most ``null[k]``. A bet is a factor for each bin that never falls from one bin
to the next. Lay such a factor g out in steps: under any provider within the null,

    E[g(b)] = g(0) + sum over k > 0 of (g(k) - g(k-1)) P(b >= k)
           <= g(0) + sum over k > 0 of (g(k) - g(k-1)) null[k]  =  1,

since no step is negative. So every product of such factors is a supermartingale, and Ville's
inequality holds at once for each measured implementation, for any that lies between them or mixes
them from one token to the next, and for every quieter one. Ceilings in every bin (``bins``) promise
none of this to a stack between two others, and pay for a null that spans loud and quiet machines;
this null is no wider for having quiet ones in it.

It is blind, by the same token, to whatever makes scores smaller, and to cheats that are no louder
than the loudest honest machine. Knows nothing of what a bin means.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

from lydite.errors import FormatError

STRETCHES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
"""Powers to which a cheat that nobody measured may have raised the survival function."""
RARE = (0.1, 0.01)
"""Shares of the tokens on which such a cheat may show alone, then with the last of the powers."""

Factors = tuple[float, ...]
"""The logarithm of what a token in each bin multiplies a bet by, never falling."""


def check(null: Sequence[float]) -> None:
    """Check that ``null`` is a survival function over bins.

    Raises:
        FormatError: no bins, the first is not 1, a value is not above 0, or one exceeds the last.
    """
    falls = all(more >= less for more, less in pairwise(null))
    if not null or null[0] != 1.0 or not falls or not null[-1] > 0.0:
        raise FormatError("a survival function begins at 1, never rises, and stays above 0")


def guesses(null: Sequence[float]) -> tuple[Factors, ...]:
    """Return bets on cheats that nobody measured: the survival function, raised to powers below 1.

    ``g = slope of h`` from ``null[b+1]`` to ``null[b]``, ``h(x) = x^c`` or ``(1 - f) x + f x^c``.
    As h is concave, its slopes rise towards smaller x, so that g never falls; as ``h(0) = 0`` and
    ``h(1) = 1``, g costs exactly one under the null.

    Raises:
        FormatError: ``null`` is no survival function.
    """
    check(null)
    whole = [(1.0, power) for power in STRETCHES]
    partly = [(share, STRETCHES[-1]) for share in RARE]
    return tuple(_stretched(null, share, power) for share, power in (*whole, *partly))


def on(alternative: Sequence[float], null: Sequence[float]) -> Factors:
    """Return the best bet on a measured cheat: ``ln g``, g the never falling fit to q / p.

    p is the distribution whose survival function is the null, and g the isotonic regression of
    ``q(b) / p(b)`` with weights p (pool adjacent violators). ``q / g`` is the honest distribution
    nearest to q, so that no test of the same counts against this null gains more nats a token than
    ``sum of q ln g`` (the reverse information projection; see ``statistics.nearest``). All 0, a bet
    that never moves, where the cheat is no louder than honesty.

    Raises:
        FormatError: lengths differ, or q is no distribution without gaps.
    """
    check(null)
    sound = all(share > 0.0 for share in alternative)
    if len(alternative) != len(null) or not sound or not _is_one(math.fsum(alternative)):
        raise FormatError(f"a bet needs a distribution over {len(null)} bins, without gaps")
    blocks: list[tuple[float, float, int]] = []
    for share, mass in zip(alternative, _masses(null), strict=True):
        block = (share, mass, 1)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        blocks.append(block)
    if len(blocks) == 1:
        return (0.0,) * len(null)
    return tuple(math.log(q / p) for q, p, size in blocks for _ in range(size))


def nats(alternative: Sequence[float], null: Sequence[float]) -> float:
    """Return what the best bet gains a token: 0 where an honest provider may look like q.

    Raises:
        FormatError: as ``on``.
    """
    pairs = zip(alternative, on(alternative, null), strict=True)
    return max(0.0, math.fsum(share * log for share, log in pairs))


def gain(counts: Sequence[int], factors: Factors) -> float:
    """Return the log of what a bet makes of ``counts[b]`` tokens in bin b, in whatever order."""
    return math.fsum(n * log for n, log in zip(counts, factors, strict=True) if n)


def _stretched(null: Sequence[float], share: float, power: float) -> Factors:
    """Return the slopes of ``(1 - f) x + f x^c``, made to rise and to cost one in floats too.

    No slope of ``x^c`` up to 1 is less than c. A bin in which the null stays level has the slope
    after it: whatever lies there is as rare.
    """
    masses = _masses(null)
    slopes: list[float] = []
    for high, mass in zip(reversed(null), reversed(masses), strict=True):
        low = max(0.0, high - mass)
        raised = max(power, (high**power - low**power) / mass) if mass > 0.0 else 0.0
        slopes.append((1.0 - share) + share * raised if mass > 0.0 else slopes[-1])
    rising = list(accumulate(reversed(slopes), max))
    cost = math.fsum(slope * mass for slope, mass in zip(rising, masses, strict=True))
    return tuple(math.log(slope / cost) for slope in rising)


def _masses(null: Sequence[float]) -> list[float]:
    """Return the distribution whose survival function is the null."""
    return [high - low for high, low in zip(null, (*null[1:], 0.0), strict=True)]


def _is_one(total: float) -> bool:
    return math.isclose(total, 1.0, abs_tol=1e-9)
