"""Joules over any span of a series, and how much of the span they are known for.

A counter of energy is differenced between its own changes, power is held from sample to sample.
Spans that share an end add up. Knows nothing of what the joules were for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.power.channels import Nature
from lydite.evidence.power.trace import Series, Times, Values


class Energy(NamedTuple):
    """What a span took."""

    joules: float
    covered_ns: int
    """The part of the span that the joules are known for."""


def energy(series: Series, spans: Sequence[tuple[int, int]], gap_ns: int) -> list[Energy]:
    """Return the energy of each span, in joules.

    A step between samples of power that is longer than ``gap_ns`` is not covered; nor is one in
    which a counter started again. A counter spans any gap, evenly.

    Raises:
        FormatError: the channel is neither power nor energy.
    """
    if series.channel.unit == "J" and series.channel.nature is Nature.COUNTER:
        t_ns, values = _updates(series)
        gained = np.diff(values)
        known = gained >= 0
    elif series.channel.unit == "W":
        t_ns, values = series.t_ns, series.values
        steps = np.diff(t_ns)
        held = values[1:] if series.channel.nature is Nature.INTERVAL else values[:-1]
        gained, known = held * (steps / 1e9), steps <= gap_ns
    else:
        raise FormatError(f"{series.channel.name}: neither power nor energy")
    covered = np.where(known, np.diff(t_ns), 0).astype(np.float64)
    ends = np.array(spans, dtype=np.int64).reshape(-1, 2)
    joules = _between(t_ns, np.where(known, gained, 0.0), ends)
    spent = _between(t_ns, covered, ends)
    return [Energy(float(one), round(float(time))) for one, time in zip(joules, spent, strict=True)]


def _updates(series: Series) -> tuple[Times, Values]:
    """Return the samples at which a counter showed a new value, and the first."""
    fresh = np.diff(series.values, prepend=np.nan) != 0
    return series.t_ns[fresh], series.values[fresh]


def _between(t_ns: Times, gained: Values, ends: NDArray[np.int64]) -> Values:
    """Return how much is gained between each pair of ends, evenly within a step."""
    if not len(gained):
        return np.zeros(len(ends))
    total = np.concatenate([[0.0], np.cumsum(gained)])
    at = np.interp((ends - t_ns[0]).astype(np.float64), (t_ns - t_ns[0]).astype(np.float64), total)
    return np.asarray(at[:, 1] - at[:, 0])
