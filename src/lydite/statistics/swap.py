"""A provider against a reference asked at the same time: who drew what, as a bet.

Both give one of some categories (the first token of an answer, say) to the same prompt. If both
draw alike, whichever distribution that is, either order of the two draws is as likely as the
other; the bet is on the order. Nothing is calibrated, no distribution is known. Knows nothing of
prompts or tokens.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from lydite.errors import FormatError
from lydite.statistics.merging import log_mean

SHRINK = 0.9
"""How far the forecast is believed: no pair costs more than nine tenths of the capital."""
_PSEUDO = 0.5
MICRO = 1_000_000

Pair = tuple[int, int]
"""What the provider drew and what the reference drew, as numbers of categories."""


def log_steps(pairs: Iterable[Pair], drift_micro: int = 0) -> Iterator[float]:
    """Yield the log e-value of each pair (x of the provider, y of the reference).

    ``e = 2 r``, ``r = 1/2 + .9 (A / (A + B) - 1/2)``, ``A = a(x) b(y)``, ``B = a(y) b(x)``, with a
    and b the counts so far of the provider and of the reference, each plus 1/2; 1 if x = y.

    Guarantee: if provider and reference draw independently from one distribution, which may be
    unknown and differ from pair to pair as long as it is the same for both, e is exactly 1 on
    average given the past, and products of them reach 1/alpha with probability at most alpha, at
    any stopping time. With a drift the two may differ by that total variation, in millionths, at
    every pair: the bet lies within a range of ``2 SHRINK``, so e is at most ``1 + 2 SHRINK drift``
    on average, by which each pair is divided.

    Raises:
        FormatError: a drift outside [0, 1].
    """
    book, toll = _Book(), _toll(drift_micro)
    return (book.step(x, y) - toll for x, y in pairs)


def log_e(prompts: Mapping[str, Iterable[Pair]], drift_micro: int = 0) -> float:
    """Return the log e-value over several prompts: the average of what each prompt's pairs make.

    Guarantee: as for ``log_steps``, for prompts that were fixed beforehand.

    Raises:
        FormatError: no prompt.
    """
    if not prompts:
        raise FormatError("no prompt was asked")
    return log_mean([math.fsum(log_steps(pairs, drift_micro)) for pairs in prompts.values()])


def running(
    asked: Iterable[tuple[str, int, int]], prompts: int, drift_micro: int = 0
) -> Iterator[float]:
    """Yield ``log_e`` after each pair of a stream (prompt, x, y) over a fixed number of prompts.

    Prompts that were not asked yet count as 1, hence their number has to be fixed beforehand.

    Raises:
        FormatError: more prompts than announced.
    """
    toll = _toll(drift_micro)
    books: dict[str, _Book] = {}
    logs: dict[str, float] = {}
    for prompt, x, y in asked:
        book = books.setdefault(prompt, _Book())
        if len(books) > prompts:
            raise FormatError(f"more than the {prompts} prompts that were announced")
        logs[prompt] = logs.get(prompt, 0.0) + book.step(x, y) - toll
        yield log_mean([*logs.values(), *[0.0] * (prompts - len(logs))])


def _toll(drift_micro: int) -> float:
    if not 0 <= drift_micro <= MICRO:
        raise FormatError(f"drift of {drift_micro} millionths, expected 0 to {MICRO}")
    return math.log1p(2 * SHRINK * drift_micro / MICRO)


class _Book:
    """What both sides drew so far for one prompt."""

    def __init__(self) -> None:
        self._ours: Counter[int] = Counter()
        self._theirs: Counter[int] = Counter()

    def step(self, x: int, y: int) -> float:
        """Return the log e-value of the next pair, then write the pair down."""
        ours, theirs = self._ours, self._theirs
        as_is = (ours[x] + _PSEUDO) * (theirs[y] + _PSEUDO)
        swapped = (ours[y] + _PSEUDO) * (theirs[x] + _PSEUDO)
        ours[x] += 1
        theirs[y] += 1
        return math.log1p(SHRINK * (as_is - swapped) / (as_is + swapped))
