"""What follows from the counts of a passport: bins, dependence, false alarms. Pure arithmetic.

Anyone with the passport gets the same numbers. Knows nothing of models, keys or clocks.
"""

import math
from collections.abc import Sequence

from lydite.errors import FormatError
from lydite.messages import grid as grids
from lydite.messages.calibration import Binned, Histogram
from lydite.messages.grid import Grid
from lydite.messages.passport import Channel, Predicate, Row, Streams
from lydite.statistics import bins, composite
from lydite.statistics.dependence import Dependence

FOLDS = 20
"""Honest streams that a stack is divided into, each judged by the others."""


def channel(said: Predicate, name: str) -> Channel | None:
    """Return the channel called ``name``, None where a passport has none."""
    return next((each for each in said.channels if each.name == name), None)


def tables(rows: Sequence[Row], grid: Grid, edges: Sequence[int]) -> list[tuple[int, ...]]:
    """Return for each answer how many tokens fall into each bin that begins at ``edges``.

    On a grid that has a cell for what lies outside, the last bin is that cell.

    Raises:
        FormatError: the edges are none of the grid.
    """
    into = grids.coarse(grid, edges)
    size = into[-1] + 1
    every = []
    for row in rows:
        counted = [0] * size
        for cell, count in zip(row.cells, row.counts, strict=True):
            counted[into[cell]] += count
        every.append(tuple(counted))
    return every


def histogram(name: str, table: Sequence[Sequence[int]]) -> Histogram:
    """Return the sums over answers that a Reference Value keeps of their counts in bins."""
    lengths = [sum(row) for row in table]
    columns = list(zip(*table, strict=True))
    pairs = [list(zip(column, lengths, strict=True)) for column in columns]
    return Histogram(
        name=name,
        responses=len(table),
        tokens=sum(lengths),
        tokens_squared=sum(length * length for length in lengths),
        counts=tuple(sum(column) for column in columns),
        counts_squared=tuple(sum(value * value for value in column) for column in columns),
        crosses=tuple(sum(value * length for value, length in pair) for pair in pairs),
    )


def total(rows: Sequence[Row]) -> dict[int, int]:
    """Return how many tokens of all answers fall into each cell that is not empty."""
    counted: dict[int, int] = {}
    for row in rows:
        for cell, count in zip(row.cells, row.counts, strict=True):
            counted[cell] = counted.get(cell, 0) + count
    return dict(sorted(counted.items()))


def quantile_edges(rows: Sequence[Row], grid: Grid, shares: Sequence[float]) -> tuple[int, ...]:
    """Return the edges of the grid that leave at least these shares of the tokens below them.

    Each at most once, and none that leaves no token above it.
    """
    counted, known = total(rows), grids.edges(grid)
    tokens = sum(counted.values())
    found, below = [], 0
    wanted = sorted(shares)
    for cell, count in counted.items():
        below += count
        reached = [share for share in wanted if below >= share * tokens]
        wanted = wanted[len(reached) :]
        if reached and below < tokens and cell < len(known):
            found.append(known[cell])
    return tuple(found)


def quantile(rows: Sequence[Row], grid: Grid, share: float) -> int:
    """Return the first edge of the grid that at least a share of the tokens lies below."""
    counted, known = total(rows), grids.edges(grid)
    left = share * sum(counted.values())
    for cell, count in counted.items():
        left -= count
        if left <= 0:
            return known[min(cell, len(known) - 1)]
    return known[-1]


def dependence(rows: Sequence[Row]) -> Dependence:
    """Return how far the cells of tokens follow those before, as ``statistics.dependence`` does.

    From sums alone: a row keeps its counts, its ends and the products of its neighbours.

    Raises:
        FormatError: fewer than two answers of two tokens or more.
    """
    kept = [row for row in rows if row.tokens > 1]
    if len(kept) < 2:
        raise FormatError("autocorrelation needs two answers of two tokens or more")
    mean = sum(_moment(row, 1) for row in kept) / sum(row.tokens for row in kept)
    parts = [_about(row, mean) for row in kept]
    whole = math.fsum(square for _, square in parts)
    pairs = sum(row.tokens - 1 for row in kept)
    if whole <= 1e-9:
        return Dependence(0.0, 0.0, len(kept), pairs)
    rho = math.fsum(product for product, _ in parts) / whole
    spread = math.fsum((product - rho * square) ** 2 for product, square in parts)
    error = math.sqrt(spread * len(kept) / (len(kept) - 1)) / whole
    return Dependence(rho, error, len(kept), pairs)


def score_of(row: Row, grid: Grid) -> int:
    """Return the score of a whole answer: the sum of where the cells of its tokens begin.

    Rank such scores among one another, never among those of ``conformal.first_tokens``.
    """
    starts = (0, *grids.edges(grid), grids.edges(grid)[-1])
    return sum(starts[cell] * count for cell, count in zip(row.cells, row.counts, strict=True))


def streams(table: Sequence[Sequence[int]], error_ppm: int, level_milli: int) -> Streams:
    """Judge twenty disjoint honest streams of one stack, each by the null that the others make.

    Raises:
        FormatError: fewer than two answers a stream.
    """
    if len(table) < 2 * FOLDS:
        raise FormatError(f"{len(table)} answers, at least {2 * FOLDS} make {FOLDS} streams")
    alarms = 0
    for fold in range(FOLDS):
        others = [row for number, row in enumerate(table) if number % FOLDS != fold]
        known = Binned(edges=tuple(range(len(table[0]) - 1)), histograms=(histogram("x", others),))
        null = composite.ceilings(known, len(table[0]), error_ppm)
        alarms += _alarmed(table[fold::FOLDS], null, level_milli / 1000 * math.log(10))
    tokens = sum(map(sum, table)) // FOLDS
    return Streams(run=FOLDS, tokens=tokens, false_alarms=alarms, log10_level_milli=level_milli)


def _alarmed(stream: Sequence[Sequence[int]], null: Sequence[float], level: float) -> int:
    """Return 1 if the e-value of a stream reaches the level after any answer, else 0."""
    counts = [0] * len(null)
    for row in stream:
        counts = [have + more for have, more in zip(counts, row, strict=True)]
        if bins.log_e(counts, null) >= level:
            return 1
    return 0


def _moment(row: Row, power: int) -> int:
    return sum(cell**power * count for cell, count in zip(row.cells, row.counts, strict=True))


def _about(row: Row, mean: float) -> tuple[float, float]:
    """Return the sums over neighbours of their product and of their mean square, about a mean."""
    first, second, pairs = _moment(row, 1), _moment(row, 2), row.tokens - 1
    ends = 2 * first - row.first - row.last
    product = row.products - mean * ends + mean * mean * pairs
    squares = 2 * second - row.first**2 - row.last**2
    return product, (squares - 2 * mean * ends) / 2 + mean * mean * pairs
