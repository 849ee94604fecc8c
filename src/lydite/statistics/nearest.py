"""The honest distribution that is hardest to tell from a given one, and a bet on telling them.

The null of ``statistics.bins`` is every distribution below its ceilings. Against an alternative q
the one that matters is its reverse information projection p*: q / p* is the best e-value for q
(Grünwald, de Heide and Koolen, arXiv 1906.07801; Larsson, Ramdas and Ruf, arXiv 2402.18810), and no
test of the same counts learns faster than KL(q, p*) a token. Knows nothing of what a bin means.
"""

import math
from collections.abc import Sequence

from lydite.errors import FormatError


def nearest(alternative: Sequence[float], null: Sequence[float]) -> tuple[float, ...]:
    """Return ``p*(b) = min(null[b], c q(b))``, with the c that makes it sum to one.

    Where q is 0, so is p*. Where the ceilings of all other bins sum to less than one, p* is those
    ceilings, and what is left lies where q is 0.

    Raises:
        FormatError: lengths differ, a ceiling is not in (0, 1], or q is no distribution.
    """
    _check(alternative, null)
    bins = [b for b, share in enumerate(alternative) if share > 0.0]
    bins.sort(key=lambda b: null[b] / alternative[b])
    held, free, scale = 0.0, 1.0, math.inf
    for b in bins:
        scale = (1.0 - held) / max(free, alternative[b])
        if scale * alternative[b] <= null[b]:
            break
        held, free, scale = held + null[b], free - alternative[b], math.inf
    pairs = zip(alternative, null, strict=True)
    return tuple(min(ceiling, scale * share) if share > 0.0 else 0.0 for share, ceiling in pairs)


def log_ratios(alternative: Sequence[float], null: Sequence[float]) -> tuple[float, ...]:
    """Return ``ln(q(b) / p*(b))``: what a token in each bin adds to the log of a bet on q.

    The bet is fixed, so that it adds up over tokens, and pays no toll where honesty may look like
    q: against the histogram of a known cheat it needs fewer tokens than a bet that has to learn it.

    Guarantee (Ville): if P(bin b | past) <= null[b] for every token, the exponential of the sum
    over tokens reaches 1/alpha with probability at most alpha, at any stopping time, for every q
    that was fixed beforehand; several are averaged with fixed weights.

    Raises:
        FormatError: as ``nearest``, or q is 0 somewhere, where one token would end the bet.
    """
    if not all(share > 0.0 for share in alternative):
        raise FormatError("a bet needs some chance in every bin: smooth the alternative")
    pairs = zip(alternative, nearest(alternative, null), strict=True)
    return tuple(math.log(share / honest) for share, honest in pairs)


def smoothed(counts: Sequence[int]) -> tuple[float, ...]:
    """Return the distribution ``(count + 1/2) / (N + K/2)`` of a stored histogram of K bins.

    Raises:
        FormatError: no bins, or a negative count.
    """
    if not counts or min(counts) < 0:
        raise FormatError("a histogram has bins, and no negative count")
    whole = sum(counts) + len(counts) / 2
    return tuple((count + 0.5) / whole for count in counts)


def divergence(alternative: Sequence[float], null: Sequence[float]) -> float:
    """Return KL(q, p*) in nats a token: 0 if an honest provider may look like q.

    Raises:
        FormatError: as ``nearest``.
    """
    pairs = zip(alternative, nearest(alternative, null), strict=True)
    return max(0.0, math.fsum(q * math.log(q / honest) for q, honest in pairs if q > 0.0))


def _check(alternative: Sequence[float], null: Sequence[float]) -> None:
    if len(alternative) != len(null):
        raise FormatError(f"an alternative of {len(alternative)} bins for {len(null)} ceilings")
    if not null or not all(0.0 < ceiling <= 1.0 for ceiling in null):
        raise FormatError("every bin needs a ceiling above 0 and at most 1")
    negative = not all(share >= 0.0 for share in alternative)
    if negative or not math.isclose(math.fsum(alternative), 1.0, abs_tol=1e-9):
        raise FormatError("an alternative is a distribution over the bins")
