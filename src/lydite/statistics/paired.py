"""Two rows of numbers for each question, one from each side: who said which, as a bet.

If both sides answer alike, whichever way that is, either order of the two rows is as likely as the
other. The bet learns from earlier questions in which direction the two differ, and stakes on the
next. Nothing is calibrated. Knows nothing of what the numbers are.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from lydite.errors import FormatError
from lydite.statistics.merging import log_mean

SHRINK = 0.9
"""No pair costs more than nine tenths of the capital."""

Row = Mapping[str, float]
"""Numbers by name; a name that a row lacks counts there with the least of that row."""


def log_steps(pairs: Iterable[tuple[Row, Row]]) -> Iterator[float]:
    """Yield the log e-value of each pair of rows (ours, theirs) to one and the same question.

    ``e = 1 + .9 s / (|s| + m)``: s is the inner product of this difference and of the sum of all
    earlier ones, m the mean of earlier |s|; 1 at the first pair.

    Guarantee: if swapping the two rows of a pair changes no probability given the past, e is
    exactly 1 on average, since s then changes its sign and nothing else. Products of such steps
    reach 1/alpha with probability at most alpha, at any stopping time.

    Raises:
        FormatError: an empty row, or a number that is not finite.
    """
    direction: dict[str, float] = {}
    seen, total = 0, 0.0
    for ours, theirs in pairs:
        apart = difference(ours, theirs)
        s = math.fsum(value * direction.get(name, 0.0) for name, value in apart.items())
        scale = abs(s) + (total / seen if seen else 0.0)
        yield math.log1p(SHRINK * s / scale) if scale > 0.0 else 0.0
        for name, value in apart.items():
            direction[name] = direction.get(name, 0.0) + value
        if s != 0.0:
            seen, total = seen + 1, total + abs(s)


def log_e(questions: Mapping[str, Iterable[tuple[Row, Row]]]) -> float:
    """Return the log e-value over several questions, fixed beforehand: the average of theirs.

    Raises:
        FormatError: no question, an empty row, or a number that is not finite.
    """
    if not questions:
        raise FormatError("no question was asked")
    return log_mean([math.fsum(log_steps(pairs)) for pairs in questions.values()])


def difference(ours: Row, theirs: Row) -> dict[str, float]:
    """Return ours less theirs for every name that either has, the missing at the other's least.

    Raises:
        FormatError: an empty row, or a number that is not finite.
    """
    every = [*ours.values(), *theirs.values()]
    if not ours or not theirs or not all(map(math.isfinite, every)):
        raise FormatError("a row without numbers, or with one that is not finite")
    low, least = min(ours.values()), min(theirs.values())
    names = sorted({*ours, *theirs})
    return {name: ours.get(name, low) - theirs.get(name, least) for name in names}
