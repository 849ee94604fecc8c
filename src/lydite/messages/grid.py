"""Fixed fine grids that scores are counted on, so that any coarser bins follow from the counts.

A passport keeps counts and not scores; bins whose edges are edges of the grid can be derived from
them by anybody, at any time. Knows nothing of what a score measures.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal, get_args

from lydite.errors import FormatError

Grid = Literal["lydite/log/v1", "lydite/linear/v1"]
LOG: Grid
LINEAR: Grid
LOG, LINEAR = get_args(Grid)

OUTSIDE = -1
"""Recorded for what lies outside of anything that is scored; has the last cell of ``LOG``."""
_MANTISSAS = (100, 115, 133, 154, 178, 205, 237, 274, 316, 365, 422, 487, 562, 649, 750, 866)
"""Sixteen to the decade, rounded to three digits."""
_DECADES = 5
_LINEAR_STEP, _LINEAR_END = 50_000, 1_000_000
_EDGES: dict[Grid, tuple[int, ...]] = {
    LOG: (
        1,
        10,
        *(mantissa * 10**decade for decade in range(_DECADES) for mantissa in _MANTISSAS),
        10**7,
    ),
    LINEAR: tuple(range(_LINEAR_STEP - _LINEAR_END, _LINEAR_END, _LINEAR_STEP)),
}


def edges(grid: Grid) -> tuple[int, ...]:
    """Return where the cells of a grid begin, ascending; below the first is cell 0.

    ``LOG``: 1, 10, then sixteen a decade from 100 to 10^7, for scores from 0 on. ``LINEAR``: every
    50 000 from -950 000 to 950 000, for scores from -10^6 to 10^6.
    """
    return _EDGES[grid]


def cells(grid: Grid) -> int:
    """Return how many cells a grid has; the last one of ``LOG`` is for scores of ``OUTSIDE``."""
    return len(_EDGES[grid]) + (2 if grid == LOG else 1)


def edge_from(grid: Grid, value: int) -> int:
    """Return the first edge of a grid that is not below ``value``.

    Raises:
        FormatError: the grid ends below it.
    """
    known = _EDGES[grid]
    at = bisect_left(known, value)
    if at == len(known):
        raise FormatError(f"no edge of {grid} is at or beyond {value}")
    return known[at]


def coarse(grid: Grid, wanted: Sequence[int]) -> tuple[int, ...]:
    """Return for each cell of the grid which of the bins that begin at ``wanted`` it falls into.

    ``wanted`` are edges of the grid, ascending; the cell of ``OUTSIDE`` has a bin of its own, the
    last.

    Raises:
        FormatError: one is no edge of the grid, or they do not ascend.
    """
    known = _EDGES[grid]
    if list(wanted) != sorted(set(wanted)) or not set(wanted) <= set(known):
        raise FormatError(f"bins that do not begin at edges of {grid}")
    chosen = set(wanted)
    bins, current = [0], 0
    for edge in known:
        current += edge in chosen
        bins.append(current)
    return (*bins, current + 1) if grid == LOG else tuple(bins)
